"""`p2pfl sim fuzz` on the product's own seeds, and on products with a bug planted in them.

A bug is planted by monkeypatch in this process; the children that try the seeds are forks of it. One test
runs this very file as a program, to interrupt and to kill it.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import trio

import netsim.fuzz
from netsim.fuzz import Verdict, as_line, figures, fuzz
from netsim.fuzz_scenarios import random_scenario
from netsim.fuzz_trial import Findings
from netsim.settling import CONSENSUS_SHARE
from p2pfl.clock import Clock
from p2pfl.config import TrainingConfig
from p2pfl.courier import Courier
from p2pfl.errors import ConfigError
from p2pfl.gossip.inbox import Inbox
from p2pfl.gossip.messages import Model
from p2pfl.gossip.protocol import Gossip
from p2pfl.node import Node
from p2pfl.service import NodeService

Plant = Callable[[pytest.MonkeyPatch], None]


def broken(verdicts: list[Verdict]) -> dict[int, tuple[str, ...]]:
    return {verdict.seed: verdict.failures for verdict in verdicts if verdict.failures}


@cache
def small_seeds() -> list[int]:
    """The first few whose scenarios have few nodes, and so take little."""
    return [seed for seed in range(100) if random_scenario(seed).config.nodes <= 6][:4]


def test_twenty_seeds_break_nothing_and_most_have_to_come_together() -> None:
    verdicts = fuzz(range(20))
    assert broken(verdicts) == {}
    assert sorted(verdict.seed for verdict in verdicts) == list(range(20))
    due = [verdict.left for verdict in verdicts if not verdict.excuse]
    assert len(due) > 10
    assert all(left is not None and left < CONSENSUS_SHARE for left in due)


# -- planted bugs


def an_unbounded_wait(patch: pytest.MonkeyPatch) -> None:
    """Deadlines do not end: a node whose request is lost waits for the answer for ever."""
    patch.setattr(Clock, "deadline", lambda self, seconds: trio.CancelScope())


def a_handler_that_raises(patch: pytest.MonkeyPatch) -> None:
    """On some models only, and the application answers 500: the node goes on as if nothing were."""
    original = NodeService.receive_model

    def receive_model(self: NodeService, model: Model, source: str, size: int) -> Any:
        if model.head.round == 3:
            raise KeyError(model.head.round)
        return original(self, model, source, size)

    patch.setattr(NodeService, "receive_model", receive_model)


def a_lost_inbox_update(patch: pytest.MonkeyPatch) -> None:
    """Each eleventh model is taken for put, and is not."""
    original, count = Inbox.put, itertools.count(1)

    def put(self: Inbox, model: Model, source: str, *, known: bool) -> bool:
        return next(count) % 11 == 0 or original(self, model, source, known=known)

    patch.setattr(Inbox, "put", put)


def a_node_that_stops(patch: pytest.MonkeyPatch) -> None:
    async def leaves(self: Node, courier: Courier) -> None:
        await courier.finish()

    patch.setattr(Node, "_stay", leaves)


def a_rate_at_which_training_diverges(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TrainingConfig, "learning_rate", lambda self, round: float("nan"))


def a_request_that_is_answered_unheard(patch: pytest.MonkeyPatch) -> None:
    original = NodeService._served

    def served(self: NodeService, mode: str, *rest: Any) -> None:
        if mode != "hello":
            original(self, mode, *rest)

    patch.setattr(NodeService, "_served", served)


def settling_that_does_not_settle(patch: pytest.MonkeyPatch) -> None:
    async def settle(self: Courier) -> None:
        await trio.lowlevel.checkpoint()

    patch.setattr(Courier, "settle", settle)


@pytest.mark.parametrize(
    ("plant", "invariant"),
    [
        (an_unbounded_wait, "progress"),
        (a_handler_that_raises, "exception"),
        (a_lost_inbox_update, "models"),
        (a_node_that_stops, "lives"),
        (a_rate_at_which_training_diverges, "finite"),
        (a_request_that_is_answered_unheard, "messages"),
        (settling_that_does_not_settle, "consensus"),
    ],
    ids=lambda value: value.__name__ if callable(value) else str(value),
)
def test_a_planted_bug_is_found(plant: Plant, invariant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    failures = [failure for found in broken(fuzz(small_seeds())).values() for failure in found]
    assert [failure for failure in failures if failure.startswith(f"{invariant}: ")]


# -- children


def test_a_child_that_hangs_is_ended_at_its_limit_and_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def merge(self: Gossip) -> None:
        while True:
            pass

    monkeypatch.setattr(Gossip, "merge", merge)
    (verdict,) = fuzz([7], limit=1.5)
    assert verdict.seed == 7
    (failure,) = verdict.failures
    assert failure.startswith("stuck in real time: not over after 1.5 s, in ")
    assert verdict.command == "p2pfl sim fuzz --seed 7"


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "the process ended with SIGKILL: no word"),
        (lambda: sys.exit("a word"), "the process ended with status 70: SystemExit: a word"),
    ],
)
def test_a_child_that_ends_early_fails_and_the_others_go_on(
    end: Callable[[], None], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trial(seed: int, folder: Path, *, verbose: bool) -> Findings:
        if seed == 1:
            end()
        return Findings((), "", 0.0)

    monkeypatch.setattr(netsim.fuzz, "trial", trial)
    assert broken(fuzz(range(4))) == {1: (told,)}


def test_what_a_failing_seed_left_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trial(seed: int, folder: Path, *, verbose: bool) -> Findings:
        (folder / "journal.jsonl").write_text("{}\n")
        return Findings(("all wrong",) if seed == 2 else (), "")

    monkeypatch.setattr(netsim.fuzz, "trial", trial)
    fuzz(range(4), keep=tmp_path / "kept" / "here")
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    assert left == ["kept/here/seed-2/journal.jsonl", "kept/here/seed-2/log.txt"]


def test_a_folder_that_cannot_be_made_is_an_error_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="keep: cannot write to"):
        fuzz([0], keep=tmp_path / "file" / "below")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_no_child_outlives_us(end: signal.Signals, tmp_path: Path) -> None:
    """Each child holds the writing end of a pipe, which the reader sees closed once all of them are gone."""
    read, write = os.pipe()
    program = [sys.executable, str(Path(__file__)), str(write)]
    with subprocess.Popen(
        program,
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
        # A killed program leaves its temporary folder: in ours.
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(tmp_path)},
    ) as parent:
        os.close(write)
        with os.fdopen(read) as pipe:
            assert [pipe.readline(), pipe.readline()] == ["begun\n"] * 2
            parent.send_signal(end)
            assert pipe.read() == ""


# -- the figures


def test_the_figures_say_how_many_failed_and_how_many_had_to_come_together() -> None:
    verdicts = [
        Verdict(3, (), 1.0, "", 0.01),
        Verdict(2, ("models: one",), 1.0, "", 0.05),
        Verdict(1, ("stuck",), 1.0, "the run broke off"),
    ]
    seen = figures(verdicts)
    assert seen == {"seeds": 3, "failed": [1, 2], "settling_checked": 2, "most_left": 0.05}
    assert as_line(seen) == "3 seeds, 2 failures, settling checked in 2: at most 5.00% is left"
    assert as_line(figures(verdicts[2:])) == "1 seeds, 1 failures"
    assert verdicts[0].settling == "settling left 1.00% of the consensus distance"
    assert verdicts[2].settling == "settling need not bring the models together: the run broke off"


# -- the program that one test above starts


def main(pipe: int) -> None:
    def trial(seed: int, folder: Path, *, verbose: bool) -> Findings:
        os.write(pipe, b"begun\n")
        while True:
            signal.pause()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(netsim.fuzz, "trial", trial)
        fuzz(range(4), processes=2)


if __name__ == "__main__":
    main(int(sys.argv[1]))
