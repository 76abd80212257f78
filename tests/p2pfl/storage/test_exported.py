"""Exported models: names, shapes and what they are of go out; anything that does not fit is named."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save as to_bytes

from p2pfl.storage.exported import decode, encode, flatten
from tests.p2pfl.storage.states import LAYOUT, TASK, checkpoint


def tensors(**changed: Any) -> dict[str, Any]:
    """Those of LAYOUT. None: without it."""
    given = {"weight": np.zeros((2, 3), np.float32), "bias": np.zeros((), np.float32), **changed}
    return {name: tensor for name, tensor in given.items() if tensor is not None}


def test_what_was_exported_comes_back() -> None:
    back = decode(encode(checkpoint()))
    assert (back.task, back.layout, back.age) == (TASK, LAYOUT, checkpoint().age)
    assert {name: tensor.shape for name, tensor in back.tensors.items()} == {"weight": (2, 3), "bias": ()}
    assert flatten(back.tensors, LAYOUT).tobytes() == checkpoint().weights.tobytes()


def test_other_programs_find_what_they_need(tmp_path) -> None:
    (tmp_path / "model.safetensors").write_bytes(encode(checkpoint()))
    with safe_open(tmp_path / "model.safetensors", framework="np") as file:
        assert sorted(file.keys()) == ["bias", "weight"]
        assert file.get_tensor("weight").tolist() == checkpoint().weights[:6].reshape(2, 3).tolist()
        metadata = file.metadata()
    assert (metadata["format"], metadata["model"], metadata["round"]) == ("pt", "small", "3")
    assert json.loads(metadata["task"]) == {
        "name": "tiny",
        "classes": ["no", "yes"],
        "input_shape": [2],
        "mean": [0.5],
        "std": [0.25],
    }


def test_a_file_that_says_nothing_of_itself_is_anybodys() -> None:
    back = decode(to_bytes(tensors()))
    assert (back.task, back.layout, back.age) == (None, None, 0.0)


def test_integer_buffers_are_left_out() -> None:
    back = decode(to_bytes({**tensors(), "norm.num_batches_tracked": np.array(3), "mask": np.array([True])}))
    assert flatten(back.tensors, LAYOUT).tolist() == [0.0] * 7


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"bias": None}, "small has bias, the file has not"),
        ({"bias": None, "weight": None}, "small has weight, bias, the file has not"),
        ({"scale": np.zeros(2, np.float32)}, "the file has scale, small has not"),
        (
            {f"x{i}": np.zeros(1, np.float32) for i in range(5)},
            "the file has x0, x1, x2 and 2 more, small has",
        ),
        (
            {"weight": np.zeros((3, 2), np.float32)},
            "weight has shape (3, 2) in the file, small has (2, 3)",
        ),
        ({"bias": np.full((), np.nan, np.float32)}, "bias holds NaN or infinity"),
    ],
)
def test_what_does_not_fit_is_named(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r"has|holds") as caught:
        flatten(decode(to_bytes(tensors(**changed))).tensors, LAYOUT)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "header too small"),
        (b"PK\x03\x04 what torch.save writes", "it is a PyTorch file; save it with safetensors"),
        (b"\x80\x02 what it wrote before", "it is a PyTorch file"),
        (to_bytes(tensors(bias=np.zeros((), np.float16))), "'bias' is F16; convert it to F32"),
        (to_bytes(tensors(), {"task": "{", "layout": "{}"}), "Expecting"),
        (to_bytes(tensors(), {"task": "[]", "layout": "{}"}), "its metadata is not"),
        (to_bytes(tensors(), {"task": "{}", "layout": "{}"}), "its task is not a task"),
        (encode(checkpoint())[:-4], ""),
    ],
    # Named, for safetensors writes the metadata in an order of its own each time.
    ids=["empty", "zip", "pickle", "F16", "half a task", "a list", "no task", "cut off"],
)
def test_bytes_that_are_no_model_are_refused(content: bytes, said: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  - what it says is compared below
        decode(content)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("task", {"name": 3}),
        ("task", {"input_shape": [1.5]}),
        ("task", {"classes": None}),
        ("layout", {"model": None}),
        ("layout", {"tensors": [{"name": "w", "shape": [-1], "dtype": "float32"}]}),
        ("layout", {"tensors": [{"name": "w", "shape": [1], "dtype": "float64"}]}),
        ("layout", {"tensors": [7]}),
    ],
)
def test_a_description_of_something_else_is_refused(key: str, value: dict[str, Any]) -> None:
    entries = {"task": TASK.as_dict(), "layout": LAYOUT.as_dict()}
    entries[key] = entries[key] | value
    content = to_bytes(tensors(), {name: json.dumps(entry) for name, entry in entries.items()})
    with pytest.raises(ValueError, match=f"its {key} is not|its layout is not"):
        decode(content)
