"""`p2pfl audit`: what it prints and leaves, and its errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from p2pfl.storage import exported
from p2pfl.storage.checkpoint import Checkpoint
from tests.cli.outcome import Run, error_line

DIGIT = ("audit", "leak", "--dataset", "digits", "--pictures", "1", "--iterations", "5")


def test_a_case_leaves_a_picture_and_its_figures(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    out = tmp_path / "found"
    done = run(*DIGIT, "--out", str(out))
    assert done.exit_code == 0
    assert "labels    100% recovered\n" in done.stdout
    again = json.loads(run(*DIGIT, "--out", str(out), "--json").stdout)
    kept = json.loads((out / "leak.json").read_text())
    assert again == kept
    assert kept["config"]["dataset"] == "digits"
    assert [picture["found"] == picture["label"] for picture in kept["each"]] == [True]
    with Image.open(out / "pictures.png") as image:
        assert image.size == (56, 2 * 56 + 2)


def test_a_table_is_made_in_parts(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    words = ("audit", "table", "--quick", "--out", str(tmp_path), "--only", "fashion")
    first = run(*words)
    assert first.exit_code == 0
    assert first.stdout.startswith("| row | ")
    assert first.stdout == (tmp_path / "table.md").read_text()
    stamp = (tmp_path / "fashion.json").stat().st_mtime_ns
    both = run(*words, "--only", "fashion-noise-1e-3", "--json")
    assert [row["row"] for row in json.loads(both.stdout)] == ["fashion", "fashion-noise-1e-3"]
    assert (tmp_path / "fashion.json").stat().st_mtime_ns == stamp  # not run again
    run(*words, "--seed", "1")
    assert (tmp_path / "fashion.json").stat().st_mtime_ns != stamp  # another case
    (tmp_path / "fashion.json").write_text("{")
    broken = run(*words)
    assert broken.exit_code == 1
    assert "is not a row's figures" in broken.stderr


def test_weights_from_a_nodes_export_are_taken(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    from p2pfl.config import DataConfig
    from p2pfl.learning.data import load
    from p2pfl.learning.torch_learner import TorchLearner

    learner = TorchLearner(load(DataConfig(dataset="digits")), "cnn-sigmoid")
    file = tmp_path / "model.safetensors"
    weights = learner.initial_weights(3)
    checkpoint = Checkpoint("", 1, 1.0, weights, np.empty(0, np.float32), learner.task, learner.layout, 0, ())
    file.write_bytes(exported.encode(checkpoint))
    given = run(*DIGIT, "--weights", str(file), "--json", "--out", str(tmp_path / "a"))
    seeded = run(*DIGIT, "--init-seed", "3", "--json", "--out", str(tmp_path / "b"))
    assert json.loads(given.stdout)["each"] == json.loads(seeded.stdout)["each"]
    other = run(*DIGIT, "--model", "mlp", "--weights", str(file), "--out", str(tmp_path / "c"))
    assert other.exit_code == 1
    assert "does not hold weights of mlp: mlp has" in error_line(other)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--pictures", "3", "--batch", "2"), 2, "pictures must be a multiple of 2"),
        (
            ("--nodes", "2", "--pictures", "2"),
            2,
            "a gradient is of one batch of one node; give --local-steps",
        ),
        (("--method", "guess"), 2, "'guess' is not one of 'idlg', 'dlg', 'cosine'"),
        (("--draw", "all"), 2, "'all' is not one of 'any', 'one-class', 'distinct'"),
        (("--codec", "f8"), 2, "'f8' is not one of 'f32', 'f16'"),
        (("--lr", "0"), 2, "lr must be above 0"),
        (("--known-labels", "--method", "dlg"), 2, "dlg seeks the labels"),
        (("--tv", "0.1"), 2, "tv is part of --method cosine alone"),
        (("--device", "tpu9"), 2, "device 'tpu9' cannot compute here in float64"),
        (("--device", "cuda:77"), 2, "device 'cuda:77' cannot compute here in float64"),
        (("--weights", "none.safetensors"), 1, "none.safetensors cannot be read: No such file or directory"),
        (("--weights", "{junk}"), 1, "does not hold weights of cnn-sigmoid"),
        (("--weights", "x", "--init-seed", "1"), 2, "weights and init-seed exclude each other"),
        (("--model", "nosuch"), 1, "unknown model 'nosuch'"),
        (("--model", "tests.p2pfl.audit.test_functional:once"), 1, "has no second derivative"),
        (("--batch", "11", "--pictures", "11", "--draw", "distinct"), 2, "no further 11 pictures"),
        (("--out", "{junk}"), 1, "cannot make the folder"),
        (("--dataset", "nosuch.npz"), 1, "data set 'nosuch.npz' is none of"),
    ],
)
def test_mistakes_are_one_line(
    words: tuple[str, ...], code: int, said: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("skimage")
    monkeypatch.chdir(tmp_path)
    junk = tmp_path / "junk"
    junk.write_bytes(b"junk" * 100)
    done = run(*DIGIT, *(word.format(junk=junk) for word in words))
    assert done.exit_code == code
    assert said in error_line(done)


def test_a_row_that_is_not_there_and_a_negative_seed_are_one_line(run: Run) -> None:
    assert "no row is called 'fashon'; there are fashion, " in error_line(
        run("audit", "table", "--only", "fashon")
    )
    assert "seed must be 0 or more" in error_line(run("audit", "table", "--seed", "-1"))


def test_a_missing_extra_is_one_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    done = run(*DIGIT, "--out", str(tmp_path))
    assert done.exit_code == 1
    assert error_line(done) == "p2pfl audit needs scikit-image: pip install 'p2pfl-gossip[audit]'"
