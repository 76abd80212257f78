"""Fuzzed frames: the generator reaches every rule of the codec, and what the codec does wrong is found."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from typing import Any

import pytest

from p2pfl import errors
from p2pfl.gossip import compress, fields
from soak import frames, guided
from soak.frames import LAYOUT, TASK, generated, measure, of_hypothesis, outcome, resealed
from soak.mutations import Mutator, packed_hello, packed_model, valid_pairs
from soak.options import Options

# The rules that a frame by itself can break, but for those that a generator hardly ever hits upon.
RULES = (
    errors.Truncated, errors.TooLarge, errors.Malformed, errors.DuplicateKey, errors.MissingField,
    errors.BadField, errors.WrongVersion, errors.WrongKind, errors.WrongLength, errors.BadChecksum,
    errors.NotFinite, errors.BadSignature,
)  # fmt: skip


def test_ten_thousand_frames_are_taken_or_refused(tmp_path: Path) -> None:
    figures = {figure.name: figure for figure in measure(Options(tmp_path, small=True))}
    assert [figure for figure in figures.values() if figure.holds is False] == []
    assert figures["frames: decoded"].measured == "10,000"


def test_the_generator_breaks_every_rule_and_keeps_some_frames_good() -> None:
    reasons = generated(5, 4000).outcomes
    assert {rule.reason for rule in RULES} <= set(reasons)
    assert reasons["taken"] > 200


def test_equal_seeds_give_equal_frames() -> None:
    def drawn(seed: int) -> list[tuple[str, bytes]]:
        mutator = Mutator(TASK, LAYOUT, seed)
        return [mutator.frame() for _ in range(200)]

    assert drawn(1) == drawn(1) != drawn(2)


def test_the_frames_that_are_changed_are_good() -> None:
    pairs, payload = valid_pairs("model", TASK, LAYOUT)
    assert outcome("model", [packed_model(pairs, payload)]) == "taken"
    hello = packed_hello(valid_pairs("hello", TASK, LAYOUT)[0])
    assert outcome("hello", [hello]) == "taken"
    damaged = hello.replace(b"mallory", b"malloru")
    assert outcome("hello", [damaged]) == "bad-checksum"
    assert outcome("hello", [resealed("hello", damaged)]) == "taken"


# -- bugs


def an_error_of_python(patch: pytest.MonkeyPatch) -> None:
    """A field is used before its type is known."""
    patch.setattr(fields, "age", lambda entries: float(entries["age"]))


def a_length_that_is_not_checked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(compress.Codec, "length_fits", lambda self, length, size: True)


def texts_of_any_type(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fields, "_text", lambda key, value, most, least=0: value[:most])


@pytest.mark.parametrize("plant", [an_error_of_python, a_length_that_is_not_checked])
def test_a_planted_bug_is_found_by_the_generator(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    tally = generated(0, 2000)
    assert tally.wrong
    assert ", seed 0, frame " in tally.wrong[0]
    bytes.fromhex(tally.wrong[0].rpartition(": ")[2])


def test_a_planted_bug_is_found_by_hypothesis(monkeypatch: pytest.MonkeyPatch) -> None:
    texts_of_any_type(monkeypatch)
    assert of_hypothesis(0, 200).wrong


def test_memory_that_a_frame_takes_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    count = itertools.count()
    original = frames.outcome

    def greedy(kind: Any, pieces: Any) -> str:
        hoard = bytes(frames.MOST_BYTES * 2) if next(count) == frames.WATCHED else b""
        return original(kind, pieces) if len(hoard) < 9 else "taken"

    monkeypatch.setattr(frames, "outcome", greedy)
    assert generated(0, 2 * frames.WATCHED).most_bytes > frames.MOST_BYTES


# -- atheris


def test_without_atheris_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result, why = guided.guided(100, 0)
    assert result is None
    assert why.startswith("atheris is not installed: pip install -e '.[fuzz]'")
    monkeypatch.setattr(frames, "FEW", 100)
    found = list(measure(Options(tmp_path, small=True)))
    assert found[0].measured == "100"  # the generator makes up for it


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_guided_frames_reach_the_codec() -> None:
    result, why = guided.guided(500, 1)
    assert result is not None, why
    assert (result.runs, result.wrong) == (500, [])
    assert result.covered > 100
