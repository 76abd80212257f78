"""What a user waits for: the help, a node that listens; and what a node that has nothing to do takes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks.figures import Figure, median_seconds
from benchmarks.processes import NodeProcess, p2pfl

HELP, LISTENING, FIRST_ROUND, IDLE = 0.3, 3.0, 5.0, 0.02  # seconds thrice, share of a core
HEAVY = ("torch", "torchvision", "httpx", "matplotlib", "sklearn", "starlette")
WATCHED = 20.0  # seconds
TIMEOUT = 120.0  # seconds

_IMPORTED = f"""
import json, sys
from cli.main import main
sys.argv = ["p2pfl", "--help"]
try:
    main()
finally:
    print(json.dumps([name for name in {HEAVY} if name in sys.modules]), file=sys.stderr)
"""


def measure(quick: bool) -> Iterator[Figure]:
    line = [p2pfl(), "--help"]
    runs = 3 if quick else 9

    def show_help() -> None:
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL)

    show_help()  # the first one compiles and reads from disk
    yield Figure("p2pfl --help", median_seconds(time.perf_counter, show_help, runs), "s", "at most", HELP)
    result = subprocess.run([sys.executable, "-c", _IMPORTED], capture_output=True, text=True, check=True)
    heavy = json.loads(result.stderr.splitlines()[-1])
    yield Figure(
        "p2pfl --help: heavy modules imported", len(heavy), "", "at most", 0, dict.fromkeys(heavy, 1.0)
    )
    with tempfile.TemporaryDirectory() as folder:
        seconds = [_seconds_to_listen(Path(folder), str(run)) for run in range(1 if quick else 5)]
    yield Figure(
        "p2pfl node start: listens on digits after",
        statistics.median(seconds),
        "s",
        "at most",
        LISTENING,
        {"most": max(seconds)},
    )
    with tempfile.TemporaryDirectory() as folder:
        rounds = [_seconds_to_round(Path(folder), str(run)) for run in range(1 if quick else 5)]
    made_of = {"CPU seconds": statistics.median(cpu for _, cpu in rounds), "most": max(rounds)[0]}
    first = statistics.median(seconds for seconds, _ in rounds)
    yield Figure("p2pfl node start: first round on digits after", first, "s", "at most", FIRST_ROUND, made_of)
    watched = 3.0 if quick else WATCHED
    with tempfile.TemporaryDirectory() as folder:
        shares = _idle_shares(Path(folder), watched)
    yield Figure(
        f"done, two peers: share of a core, {watched:.0f} s",
        max(shares),
        "",
        "at most",
        IDLE,
        {"least of the three": min(shares)},
    )


def _seconds_to_listen(folder: Path, name: str) -> float:
    with NodeProcess(folder, name) as node:
        _, at = node.listening()
        return at - node.started


def _seconds_to_round(folder: Path, name: str) -> tuple[float, float]:
    """(wall, CPU) seconds from the command to the end of the first round, evaluated."""
    with NodeProcess(folder, f"round-{name}", "--rounds", "1") as node:
        _, listening = node.listening()
        node.wait_until("settling", TIMEOUT)
        ended = next(event["t"] for event in node.events() if event["event"] == "round-completed")
        return listening + float(ended) - node.started, node.cpu_seconds()


def _idle_shares(folder: Path, seconds: float) -> list[float]:
    """Of each of three nodes that know each other and are done."""
    flags = ["--rounds", "1", "--interval", "0", "--min-peers", "2"]
    with ExitStack() as stack:
        first = stack.enter_context(NodeProcess(folder, "node-0", *flags, "--shard", "0/3"))
        known, _ = first.listening()
        more = [(f"node-{index}", *flags, "--shard", f"{index}/3", "--peers", known) for index in (1, 2)]
        nodes = [first, *(stack.enter_context(NodeProcess(folder, *arguments)) for arguments in more)]
        for node in nodes:
            node.listening()
            node.wait_until("done", TIMEOUT)
        time.sleep(1.0)  # the last exchanges, and the evaluation of what they brought
        before = [node.cpu_seconds() for node in nodes]
        time.sleep(seconds)
        return [(node.cpu_seconds() - spent) / seconds for node, spent in zip(nodes, before, strict=True)]
