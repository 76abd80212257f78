"""`p2pfl sim fuzz`: what it prints, and that the command it prints replays a failure to the byte."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from pathlib import Path

import pytest

from p2pfl.gossip.inbox import Inbox
from p2pfl.gossip.messages import Model
from tests.cli.outcome import Run, error_line

SEED = 7  # a small one


@pytest.fixture
def lossy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug: each eleventh model is lost on its way into the inbox."""
    original, count = Inbox.put, itertools.count(1)

    def put(self: Inbox, model: Model, source: str, *, known: bool) -> bool:
        return next(count) % 11 == 0 or original(self, model, source, known=known)

    monkeypatch.setattr(Inbox, "put", put)


def test_the_command_that_a_failing_seed_prints_replays_it_to_the_byte(
    run: Run, tmp_path: Path, lossy: None
) -> None:
    first = run("sim", "fuzz", "--first", str(SEED), "--seeds", "1", "--keep", str(tmp_path / "first"))
    assert first.exit_code == 1
    *failures, replay, figures = first.stdout.splitlines()
    assert failures[0].startswith(f"seed {SEED}: models: at ")
    assert figures.startswith("1 seeds, 1 failures")
    program, *arguments = shlex.split(replay.removeprefix("  replay: "))
    assert program == "p2pfl"
    again = run(*arguments, "--keep", str(tmp_path / "again"))
    assert again.exit_code == 1
    assert again.stdout.splitlines()[:-1] == [*failures, replay]
    for name in ("journal.jsonl", "scenario.toml"):
        one, two = (tmp_path / folder / f"seed-{SEED}" / name for folder in ("first", "again"))
        assert one.read_bytes() == two.read_bytes()


def test_a_seed_that_passes_says_what_became_of_it(run: Run) -> None:
    result = run("sim", "fuzz", "--seed", str(SEED))
    assert result.exit_code == 0
    told, figures = result.stdout.splitlines()
    assert re.match(rf"seed {SEED}: settling (left \d|need not)", told)
    assert figures.startswith("1 seeds, 0 failures")


def test_as_json_stdout_is_one_object_and_failures_go_to_stderr(run: Run, lossy: None) -> None:
    result = run("sim", "fuzz", "--seed", str(SEED), "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert (told["seeds"], told["failed"]) == (1, [SEED])
    assert {"settling_checked", "most_left", "seconds"} <= told.keys()
    assert f"  replay: p2pfl sim fuzz --seed {SEED}" in result.stderr.splitlines()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--seeds", "0"), "seeds must be at least 1"),
        (("--first", "-1"), "seeds are 0 or more"),
        (("--seed", "-1"), "seeds are 0 or more"),
        (("--limit", "0"), "limit must be above 0 seconds"),
        (("--limit", "nan"), "limit must be above 0 seconds"),
        (("--limit", "soon"), "should be a valid number"),
        (("--keep", "/dev/null/below"), "keep: cannot write to /dev/null/below"),
    ],
)
def test_wrong_flags_are_one_line(run: Run, flags: tuple[str, ...], says: str) -> None:
    result = run("sim", "fuzz", *flags)
    assert result.exit_code == 2
    assert says in error_line(result)
