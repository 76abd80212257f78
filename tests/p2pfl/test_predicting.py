"""What a model says of pictures: beside training, through a node, and from a file."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import trio
from PIL import Image
from typer.testing import CliRunner

from cli.main import app
from p2pfl.config import DataConfig
from p2pfl.errors import BadPicture, CannotPredict
from p2pfl.gossip.messages import Layout, Vector
from p2pfl.learning.data import load
from p2pfl.learning.learner import FitPlan
from p2pfl.learning.torch_learner import TorchLearner
from p2pfl.predicting import predictor
from p2pfl.storage import exported
from p2pfl.storage.checkpoint import Checkpoint
from tests.learners import NumpyLearner
from tests.p2pfl.village import Village

DATA = load(DataConfig(dataset="digits"))


@pytest.fixture(scope="module")
def learner() -> TorchLearner:
    return TorchLearner(DATA, "mlp")


def plan(steps: int, seed: int = 7) -> FitPlan:
    return FitPlan(np.arange(len(DATA.train_labels)), steps, 32, 0.1, 0.9, 0.0, seed)


@pytest.fixture(scope="module")
def weights(learner: TorchLearner) -> Vector:
    """After a few seconds of training: 0.95 and more."""
    fitted = learner.fit(learner.initial_weights(), np.empty(0, np.float32), plan(300), lambda: False)
    return fitted.weights


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def saved(weights: Vector, layout: Layout, file: Path) -> Path:
    content = exported.encode(Checkpoint("n", 3, 1.0, weights, np.empty(0, np.float32), DATA.task, layout, 1))
    file.write_bytes(content)
    return file


def test_probabilities_are_those_by_which_the_learner_is_judged(
    learner: TorchLearner, weights: Vector
) -> None:
    shares = learner.predict(weights, DATA.test_images)
    assert (shares.dtype, shares.shape) == (np.float32, (len(DATA.test_labels), 10))
    assert shares.sum(1) == pytest.approx(np.ones(len(shares)), abs=1e-5)
    right = float((shares.argmax(1) == DATA.test_labels).mean())
    assert right == pytest.approx(learner.evaluate(weights).accuracy)
    assert right > 0.9


def test_predicting_amid_training_changes_nothing_of_it(learner: TorchLearner, weights: Vector) -> None:
    """The answer is of the weights that were given, and the fit goes on with its own."""
    start, none = learner.initial_weights(), np.empty(0, np.float32)
    undisturbed = learner.fit(start, none, plan(12), lambda: False)
    expected = learner.predict(weights, DATA.test_images[:5])

    def stop() -> bool:
        assert np.array_equal(learner.predict(weights, DATA.test_images[:5]), expected)
        return False

    disturbed = learner.fit(start, none, plan(12), stop)
    assert np.array_equal(disturbed.weights, undisturbed.weights)


async def test_a_node_answers_with_its_own_model(learner: TorchLearner, weights: Vector) -> None:
    villager = Village().villager(0, task=learner.task, layout=learner.layout)
    service = villager.node.service
    villager.node.gossip.weights = weights
    service.predictor = predictor(learner)
    answer = await service.predict(png(DATA.test_images[0, 0]), False, "no")
    assert answer["predicted"] == str(DATA.test_labels[0])
    assert answer["seen"] == {"shape": [1, 8, 8], "pixels": DATA.test_images[0].reshape(-1).tolist()}
    with pytest.raises(BadPicture):
        await service.predict(b"nothing", False, "auto")
    name, content = service.exported()
    given = exported.decode(content)
    assert name == "digits-mlp.safetensors"
    assert np.array_equal(exported.flatten(given.tensors, learner.layout), weights)


@pytest.mark.virtual
async def test_a_node_whose_learner_cannot_predict_says_so() -> None:
    assert predictor(NumpyLearner()) is None
    with trio.fail_after(1), pytest.raises(CannotPredict, match="learner"):
        await Village().villager(0).node.service.predict(b"", False, "auto")


def test_the_command_says_what_it_sees(learner: TorchLearner, weights: Vector, tmp_path: Path) -> None:
    model = saved(weights, learner.layout, tmp_path / "digits.safetensors")
    picture = tmp_path / "digit.png"
    picture.write_bytes(png(DATA.test_images[1, 0]))
    result = CliRunner().invoke(app, ["predict", str(model), str(picture), "--top", "2"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"{picture}: {DATA.test_labels[1]} ")
    assert result.output.count("%") == 2
    result = CliRunner().invoke(app, ["predict", str(model), str(picture), "--json"])
    (said,) = json.loads(result.output)
    assert max(said["classes"], key=said["classes"].get) == str(DATA.test_labels[1])


def test_a_file_does_not_choose_code_to_run(learner: TorchLearner, weights: Vector, tmp_path: Path) -> None:
    layout = Layout("os:getcwd", learner.layout.tensors)
    model = saved(weights, layout, tmp_path / "theirs.safetensors")
    result = CliRunner().invoke(app, ["predict", str(model), str(model)])
    assert result.exit_code == 2
    assert "give --model os:getcwd" in result.output


def test_what_is_no_picture_is_named(learner: TorchLearner, weights: Vector, tmp_path: Path) -> None:
    model = saved(weights, learner.layout, tmp_path / "digits.safetensors")
    for arguments, said in (
        ([str(model), str(model)], "no picture in PNG or JPEG"),
        ([str(model), str(tmp_path / "nothing.png")], "cannot be read"),
        ([str(tmp_path / "nothing"), str(model)], "cannot be read"),
    ):
        result = CliRunner().invoke(app, ["predict", *arguments])
        assert result.exit_code == 1
        assert said in " ".join(result.output.split())
