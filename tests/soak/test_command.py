"""`python -m soak`: what it prints, keeps, and says to a mistake."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from soak import __main__ as command
from soak import frames
from soak.figures import Figure, at_most, explains
from soak.options import Options


def part(value: float) -> object:
    def measure(options: Options) -> Iterator[Figure]:
        (options.folder / "log").write_text("kept", encoding="utf-8")
        yield at_most("frames: something", value, 2.0, "MB")
        yield explains("frames: seed and seconds", f"{options.seed}, {options.seconds:g}")

    return measure


def run(monkeypatch: pytest.MonkeyPatch, *words: str, value: float = 1.0) -> int:
    monkeypatch.setattr(frames, "measure", part(value))
    monkeypatch.setattr(sys, "argv", ["soak", *words])
    return command.main()


def test_figures_are_printed_and_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = [
        "frames",
        "--seed",
        "3",
        "--seconds",
        "7",
        "--json",
        str(tmp_path / "f"),
        "--keep",
        str(tmp_path / "k"),
    ]
    assert run(monkeypatch, *words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("python -m soak frames: ")
    assert lines[-1] == "1 of 1 figures hold"
    assert any("at most 2 MB" in line and "| 1 MB" in line and "holds" in line for line in lines)
    assert any("3, 7" in line for line in lines)
    document = json.loads((tmp_path / "f").read_text(encoding="utf-8"))
    assert document["figures"]["frames"][0]["holds"] is True
    assert (tmp_path / "k" / "frames" / "log").read_text(encoding="utf-8") == "kept"


def test_a_figure_that_misses_is_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "frames", value=3.0) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["flod"], "there is no part 'flod'; choose from frames, kills, flood, chaos"),
        (["frames", "--seconds", "601"], "--seconds is more than 0 and at most 600"),
        (["frames", "--seconds", "-1"], "--seconds is more than 0 and at most 600"),
    ],
)
def test_a_mistake_is_a_line(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, *words)
    assert said in capsys.readouterr().err
