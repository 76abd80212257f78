"""Kill -9 at random instants during real training, each followed by a restart: is anything ever lost?

A node with a state directory trains as fast as it can beside a companion, and saves after every round. At an
instant drawn from the seed it is killed; then everything in its state directory is read and compared with its
journal, and the node is started again, with no peer named to it. What must hold after each kill:

- every checkpoint is whole, and the newest is of the last round that the journal calls saved, or of the next;
- the database is whole, knows the companion, and has a row of every round up to there;
- every line of the journal can be read, but for a last one that the kill cut short;
- the next life has the same id and resumes at exactly that round, and nothing was set aside as damaged.

Run as `python -m soak.kills --kills 100 --seed 1`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from p2pfl.storage.checkpoint import Checkpoint, Damaged, decode
from p2pfl.storage.database import Database
from soak.folder_events import FolderEvents
from soak.warm_nodes import HUNG, WarmNode, WarmNodes

Must = Callable[[bool, str], None]

# Longest time between a node's being ready and its death, in seconds: a dozen rounds, each of them saved.
LIFE = 0.6
# Share of the kills that strike while a node is starting, which is most of a second on a busy machine.
EARLY = 0.25
# Share of the kills that strike in the middle of a save, which takes little time: at once after one of so
# many things that happen to the files.
AIMED = 0.4
STEPS = 40

TRAINING = {
    "dataset": "digits",
    "model": "mlp",
    "rounds": 0,
    "local-steps": 8,
    "momentum": 0.9,
    "evaluate-samples": 50,
    "listen": "127.0.0.1:0",
    "log-level": "warning",
}
VICTIM = {"name": "victim", "shard": "0/2", "interval": 0.0}
COMPANION = {"name": "companion", "shard": "1/2", "interval": 0.1, "evaluate-every": 0}


@dataclass(frozen=True)
class Kills:
    """lost: completed rounds that a restart did not have, at most; 1 is the round that was being saved.

    unsaved: kills after which a round was completed that was not saved yet.  torn: kills in the middle of a
    write, as a file left half written shows.  rejoined: lives that found the companion by themselves.
    faults: what must not be, in words; none if all is well.  seconds: of wall time.
    """

    kills: int
    rounds: int
    lost: int
    unsaved: int
    torn: int
    rejoined: int
    faults: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.kills} kills in {self.seconds:.0f} s, {self.rounds} rounds trained: "
            f"{self.lost} saved rounds lost at most, {len(self.faults)} faults; {self.unsaved} kills struck "
            f"between a round and its save, {self.torn} in a write; {self.rejoined} lives rejoined"
        )


@dataclass
class Known:
    """What is known of the victim so far. saved, completed: rounds, by its journal; the rest as in Kills."""

    id: str = ""
    saved: int = 0
    completed: int = 0
    resumed: int = 0  # where the next life has to go on
    read: int = 0  # bytes of the journal
    aside: int = 0  # files, that were already told of
    kills: int = 0
    unsaved: int = 0
    torn: int = 0
    lost: int = 0
    joined: int = 0
    faults: list[str] = field(default_factory=list)


def run(kills: int, seed: int, folder: Path | None = None) -> Kills:
    """folder: where states, journals and logs go; a temporary one by default."""
    began = time.monotonic()
    known = Known()
    with tempfile.TemporaryDirectory(prefix="kills-") as temporary:
        place = folder or Path(temporary)
        try:
            _live_and_die(place, known, kills, np.random.default_rng(seed))
        except RuntimeError as error:
            known.faults.append(str(error))
        log = place / "victim.log"
        if log.exists():
            known.faults += [f"the log says: {line}" for line in log.read_text("utf-8").splitlines()[:3]]
    return Kills(
        kills=known.kills,
        rounds=known.completed,
        lost=known.lost,
        unsaved=known.unsaved,
        torn=known.torn,
        rejoined=known.joined,
        faults=tuple(known.faults),
        seconds=time.monotonic() - began,
    )


def _live_and_die(place: Path, known: Known, kills: int, rng: np.random.Generator) -> None:
    """RuntimeError if a node ends by itself, hangs, or does not find its companion again."""
    victim = {
        **TRAINING,
        **VICTIM,
        "log": str(place / "victim.log"),
        "state-dir": str(place / "state"),
        "journal": str(place / "victim.jsonl"),
    }
    with WarmNodes() as nodes:
        companion = nodes.start({**TRAINING, **COMPANION, "log": str(place / "companion.log")})
        first = nodes.start({**victim, "peers": [companion.wait_listening()]})
        _until_joined(first.wait_listening(), first)
        first.kill()
        examine(place, known)
        for _ in range(kills):
            life = nodes.start(victim)
            kind, share = rng.random(), rng.random()
            if kind >= EARLY:
                life.wait_listening()
            if kind >= 1 - AIMED:
                with FolderEvents(place / "state") as events:
                    events.wait(1 + int(share * STEPS), HUNG)
            else:
                time.sleep(share * LIFE)  # the experiment itself: when it strikes
            life.kill()
            known.kills += 1
            examine(place, known)
        last = nodes.start(victim)
        _until_joined(last.wait_listening(), last)
        last.kill()
        examine(place, known)


def examine(place: Path, known: Known) -> None:
    """Compare what a kill left in `place` with the journal, and note in `known` what does not fit."""

    def must(ok: bool, what: str) -> None:
        if not ok:
            known.faults.append(f"kill {known.kills}: {what}")

    for event in _news(place / "victim.jsonl", known, must):
        match event["event"]:
            case "started":
                must(event["id"] == (known.id or event["id"]), "the id has changed")
                must(event["resumed_round"] == known.resumed, f"resumed at {event['resumed_round']}")
                known.id = event["id"]
                known.completed = known.saved = event["resumed_round"]
            case "checkpointed":
                known.saved = event["round"]
            case "round-completed":
                known.completed = event["round"]
            case "peer-added":
                known.joined += 1
            case "checkpoint-failed" | "state-damaged" | "lines-lost" | "diverged":
                must(False, f"the journal says {event}")
    state = place / "state"
    names = sorted(path.name for path in state.iterdir())
    known.torn += any(name.endswith(".new") for name in names)
    aside = [name for name in names if ".damaged" in name]
    must(len(aside) <= known.aside, f"set aside: {aside}")
    known.aside = len(aside)
    checkpoints = [c for path in sorted(state.glob("checkpoint-*.safetensors")) if (c := _whole(path, must))]
    must(1 <= len(checkpoints) <= 3, f"{len(checkpoints)} checkpoints: {names}")
    newest = max((checkpoint.round for checkpoint in checkpoints), default=0)
    must(all(checkpoint.id == known.id for checkpoint in checkpoints), "a checkpoint has another id")
    must(known.saved <= newest <= known.saved + 1, f"saved round {known.saved}, found {newest}")
    must(newest <= known.completed <= newest + 1, f"completed round {known.completed}, found {newest}")
    known.unsaved += known.completed > newest
    known.lost = max(known.lost, known.saved - newest)
    known.resumed = newest
    _examine_database(place, newest, must)


def _news(journal: Path, known: Known, must: Must) -> Iterator[dict[str, Any]]:
    """The journal's new lines."""
    content = journal.read_bytes()
    lines = content[known.read :].split(b"\n")
    known.read = len(content)
    for index, line in enumerate(lines):
        try:
            if line:
                yield json.loads(line)
        except ValueError:
            must(index == len(lines) - 1, f"a line of the journal cannot be read: {line[:80]!r}")


def _whole(file: Path, must: Must) -> Checkpoint | None:
    try:
        return decode(file.read_bytes())
    except Damaged as error:
        must(False, f"{file.name} is damaged: {error}")
        return None


def _examine_database(place: Path, newest: int, must: Must) -> None:
    """A copy of it: whoever opens a database also repairs it, and that is for the next life to do."""
    with tempfile.TemporaryDirectory(dir=place, prefix="copy-") as copies:
        for suffix in ("", "-wal"):
            if (place / "state" / f"state.db{suffix}").exists():
                shutil.copy(place / "state" / f"state.db{suffix}", copies)
        copy = Path(copies) / "state.db"
        with closing(Database(copy)) as database:
            peers = database.peers()
            must(not database.damage, f"the database is damaged: {database.damage}")
        with closing(sqlite3.connect(copy)) as connection:
            rounds = [row[0] for row in connection.execute("SELECT round FROM round ORDER BY round")]
    must(len(peers) == 1, f"{len(peers)} peers in the database")
    must(rounds == [*range(1, len(rounds) + 1)], "a round is missing in the database")
    must(newest <= len(rounds) <= newest + 1, f"{len(rounds)} rounds in the database, saved {newest}")


def _until_joined(url: str, node: WarmNode) -> None:
    """Ask until it has a live peer and has saved a round; each look is a request that the node answers."""
    with httpx.Client(trust_env=False, timeout=HUNG) as client:
        deadline = time.monotonic() + HUNG
        while True:
            status = client.get(f"{url}/v1/status").json()
            if status["round"] > 1 and any(peer["state"] == "live" for peer in status["peers"]):
                return
            if time.monotonic() > deadline or node.gone(0):
                raise RuntimeError(f"the node at {url} has not found its companion again")


def main() -> int:
    """0 if nothing was lost, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m soak.kills", description=run.__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1, help="of the instants at which the kills strike")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep states, journals and logs there")
    given = parser.parse_args()
    if given.keep is not None:
        given.keep.mkdir(parents=True)
    result = run(given.kills, given.seed, given.keep)
    print(result)
    for fault in result.faults:
        print(f"  {fault}")
    return 1 if result.faults or result.lost else 0


if __name__ == "__main__":
    sys.exit(main())
