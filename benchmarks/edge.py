"""A small device: what `--profile edge` takes with `cnn` on MNIST, and what it does with half a core.

Without MNIST in P2PFL_DATA it is downloaded, as a node would.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.cage import cage
from benchmarks.figures import Figure
from benchmarks.processes import NodeProcess
from netsim.memory import tree_pss

RESIDENT = 450e6  # bytes
ROOM, CORES = 512 * 2**20, 0.5
ROUNDS = 3
TIMEOUT = 540.0  # seconds
MIB = 2**20
# A hundredth of MNIST: what a small device may have collected. No interval, so that it does something.
WORKLOAD = ("--dataset", "mnist", "--model", "cnn", "--interval", "0", "--settle", "2", "--local-steps", "20")
TORCH = "import torch; print(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1])"


def measure(quick: bool) -> Iterator[Figure]:
    rounds = 1 if quick else ROUNDS
    done = subprocess.run([sys.executable, "-c", TORCH], capture_output=True, text=True, check=True)
    torch = 1024.0 * int(done.stdout)
    yield Figure("import torch alone: resident", torch / 1e6, "MB")
    with tempfile.TemporaryDirectory() as folder:
        figures = _run(Path(folder), rounds, ())
    yield Figure(
        f"--profile edge, cnn, MNIST, {rounds} rounds: resident",
        figures.pop("resident") / 1e6,
        "MB",
        "at most",
        RESIDENT / 1e6,
        figures,
    )
    with tempfile.TemporaryDirectory() as folder, cage(ROOM, CORES) as held:
        if held is None:
            print("  no control group can be made here: 512 MB and half a core were not tried", flush=True)
            return
        figures = _run(Path(folder), rounds, held.before)
        figures["peak of the group, MB"] = (held.most_bytes() or 0) / 1e6
        figures["control groups, version"] = held.version
    name = f"the same in {ROOM // MIB} MiB and {CORES:g} core: rounds done"
    yield Figure(name, figures.pop("rounds"), "", "at least", rounds, figures)


def _run(folder: Path, rounds: int, before: tuple[str, ...]) -> dict[str, float]:
    """A node of the profile with a peer that has all the machine: the most it took, and what it did."""
    flags = (*WORKLOAD, "--rounds", str(rounds))
    with NodeProcess(folder, "peer", *flags, "--shard", "1/100", "--codec", "f16") as peer:
        url, _ = peer.listening()
        own = ("--profile", "edge", *flags, "--shard", "0/100", "--min-peers", "1", "--peers", url)
        with NodeProcess(folder, "edge", *own, before=before) as node:
            _, listening = node.listening()
            most = 0
            while node.entered("done") is None and time.perf_counter() < node.started + TIMEOUT:
                most = max(most, tree_pss(node.pid) or 0)
                time.sleep(0.25)
            events = node.events()
            asked = [
                event for event in events if event["event"] == "exchanged" and event["mode"] == "push-pull"
            ]
            return {
                "resident": _high_water(node.pid),
                "PSS, MB": most / 1e6,
                "rounds": sum(event["event"] == "round-completed" for event in events),
                "exchanges answered": sum(event["outcome"] == "ok" for event in asked),
                "models served": sum(
                    event["event"] == "served" and event["sent"] > 10_000 for event in events
                ),
                "seconds to listen": listening - node.started,
                "seconds in all": time.perf_counter() - node.started,
                "CPU seconds": node.cpu_seconds(),
            }


def _high_water(pid: int) -> float:
    """Most bytes that a process had resident at a time."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return 1024.0 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
