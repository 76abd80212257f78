"""A model out of one state directory, used in plain PyTorch, and into another."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from p2pfl.config import DataConfig
from p2pfl.errors import ConfigError, StorageError
from p2pfl.exporting import export, import_
from p2pfl.learning.data import load
from p2pfl.learning.torch_learner import TorchLearner
from p2pfl.storage.checkpoint import Checkpoint
from p2pfl.storage.directory import StateDirectory, newest

DIGITS = DataConfig()
# Its factory is here; batch normalisation has buffers of floats and one of integers.
NORMED = f"{__name__}:normed"


def normed(task) -> torch.nn.Module:
    features = int(np.prod(task.input_shape))
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.BatchNorm1d(features), torch.nn.Linear(features, len(task.classes))
    )


@pytest.fixture
def learner() -> TorchLearner:
    return TorchLearner(load(DIGITS), NORMED)


@pytest.fixture
def state(tmp_path: Path, learner: TorchLearner) -> Path:
    """A state directory with a model that was made somehow."""
    weights = learner.initial_weights(5)
    saved = Checkpoint(
        "me", 7, 700.0, weights, np.ones(3, np.float32), learner.task, learner.layout, version=9
    )
    directory = StateDirectory(tmp_path / "state")
    directory.save(saved)
    directory.close()
    return tmp_path / "state"


def test_an_exported_model_is_one_in_plain_pytorch(
    state: Path, tmp_path: Path, learner: TorchLearner
) -> None:
    file = tmp_path / "model.safetensors"
    assert export(str(state), file, overwrite=False).round == 7
    with safe_open(file, framework="pt") as opened:
        task = json.loads(opened.metadata()["task"])
    module = normed(learner.task)
    module.load_state_dict(load_file(file))
    dataset = load(DIGITS)
    mean, std = (torch.tensor(task[key]).view(-1, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        inputs = (torch.from_numpy(dataset.test_images) / 255 - mean) / std
        guessed = module.eval()(inputs).argmax(1)
    accuracy = float((guessed == torch.from_numpy(dataset.test_labels)).float().mean())
    ours = learner.evaluate(learner.initial_weights(5), 0, lambda: False)
    assert accuracy == pytest.approx(ours.accuracy)
    assert task["classes"] == list(learner.task.classes)


def test_a_model_goes_out_and_into_a_new_state(state: Path, tmp_path: Path, learner: TorchLearner) -> None:
    file = tmp_path / "model.safetensors"
    export(str(state), file, overwrite=False)
    import_(str(tmp_path / "new"), file, data=None, model=None, overwrite=False)
    made, _ = newest(tmp_path / "new")
    assert made is not None
    assert (made.id, made.round, made.age, made.version) == ("", 0, 700.0, 0)
    assert (made.task, made.layout) == (learner.task, learner.layout)
    assert made.weights.tobytes() == learner.initial_weights(5).tobytes()
    assert made.optimiser.size == 0


def test_an_existing_state_is_replaced_only_if_told_and_stays_the_same_node(
    state: Path, tmp_path: Path, learner: TorchLearner
) -> None:
    file = tmp_path / "model.safetensors"
    export(str(state), file, overwrite=False)
    with pytest.raises(StorageError, match=r"holds a state already, .* of digits after round 7; give"):
        import_(str(state), file, data=None, model=None, overwrite=False)
    assert newest(state)[0].round == 7  # type: ignore[union-attr]
    import_(str(state), file, data=None, model=None, overwrite=True)
    made, _ = newest(state)
    assert made is not None
    assert (made.id, made.round, made.version) == ("me", 0, 10)


def test_anybodys_weights_are_taken_if_it_is_said_what_they_are(
    tmp_path: Path, learner: TorchLearner
) -> None:
    file = tmp_path / "model.safetensors"
    module = normed(learner.task)
    save_file(module.state_dict(), file)
    with pytest.raises(ConfigError, match="does not say what it was trained for; give --dataset and --model"):
        import_(str(tmp_path / "new"), file, data=None, model=None, overwrite=False)
    import_(str(tmp_path / "new"), file, data=DIGITS, model=NORMED, overwrite=False)
    made, _ = newest(tmp_path / "new")
    assert made is not None
    assert made.layout == learner.layout
    with torch.no_grad():
        assert made.weights[:64].tolist() == module[1].weight.tolist()
    with pytest.raises(StorageError, match=r"does not fit: the file has .* softmax has not"):
        import_(str(tmp_path / "other"), file, data=DIGITS, model="softmax", overwrite=False)


def test_flags_that_contradict_the_file_are_an_error(state: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    export(str(state), file, overwrite=False)
    with pytest.raises(ConfigError, match=r"is of the model .*normed, not mlp"):
        import_(str(tmp_path / "new"), file, data=None, model="mlp", overwrite=False)
    other = DataConfig(task="letters")
    with pytest.raises(ConfigError, match="another task: name is 'letters' here, 'digits' there"):
        import_(str(tmp_path / "new"), file, data=other, model=None, overwrite=False)
    assert not (tmp_path / "new").exists()


def test_a_file_that_is_there_is_not_written_over_unless_told(state: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_text("something else")
    with pytest.raises(StorageError, match="is there already; give --overwrite"):
        export(str(state), file, overwrite=False)
    assert file.read_text() == "something else"
    export(str(state), file, overwrite=True)
    assert set(load_file(file)) > {"1.weight"}


def test_the_model_of_a_running_node_is_exported_and_never_imported_over(state: Path, tmp_path: Path) -> None:
    running = StateDirectory(state)
    file = tmp_path / "model.safetensors"
    export(str(state), file, overwrite=False)
    with pytest.raises(StorageError, match="in use by process"):
        import_(str(state), file, data=None, model=None, overwrite=True)
    running.close()


def test_of_a_damaged_state_the_one_before_is_exported(state: Path, tmp_path: Path, caplog) -> None:
    (state / "checkpoint-2.safetensors").write_bytes(b"")
    assert export(str(state), tmp_path / "model.safetensors", overwrite=False).round == 7
    assert "checkpoint-2.safetensors is damaged" in caplog.text
    assert (state / "checkpoint-2.safetensors").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        (b"PK\x03\x04", "is a PyTorch file"),
        (b"x" * 99, "is not a model"),
    ],
)
def test_a_file_that_is_no_model_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "model.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(StorageError, match=said):
        import_(str(tmp_path / "new"), file, data=None, model=None, overwrite=False)
    assert not (tmp_path / "new").exists()


def test_there_has_to_be_something_to_export(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="holds no checkpoint; is it the --state-dir of a node"):
        export(str(tmp_path), tmp_path / "model.safetensors", overwrite=False)
