"""docs/protocol.md says what the code does: its code runs, its frame decodes, its tables are the code's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.exceptions import InvalidSignature

from p2pfl import errors
from p2pfl.gossip import codec, fields, frame, messages, replay
from p2pfl.gossip.identity import Identity
from p2pfl.gossip.messages import Layout, Task, TensorSpec

from .packing import good_hello, good_model, good_signed_model
from .samples import LAYOUT, TASK

TEXT = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The names that the document's code blocks define, run one after another."""
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(compile(block, "protocol.md", "exec"), names)
    return names


def ours(document: dict[str, Any]) -> tuple[Task, Layout]:
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in document["task"].items()
    }
    tensors = tuple(
        TensorSpec(t["name"], tuple(t["shape"]), t["dtype"]) for t in document["layout"]["tensors"]
    )
    return Task(**values), Layout(document["layout"]["model"], tensors)


def rows(first: str) -> list[list[str]]:
    """The cells of the table whose header row begins with `first`, without header and rule."""
    table = TEXT[TEXT.index(f"| {first} |") :].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_digests_are_ours(document: dict[str, Any]) -> None:
    task, layout = ours(document)
    assert document["digest"](document["task"]) == task.digest
    assert document["digest"](document["layout"]) == layout.fingerprint
    assert document["size"] == layout.size


def test_frame_decodes(document: dict[str, Any]) -> None:
    decoder = codec.ModelDecoder(*ours(document))
    decoder.feed(document["frame"])
    model = decoder.finish()
    assert model.weights.tolist() == [0.5, -0.5, 0.25, -0.25, 1.0, -1.0]
    assert model.head.sender == messages.Sender("n1", "http://192.0.2.7:8470", "training")
    assert model.head.wants_reply


def test_frame_is_the_one_that_we_write(document: dict[str, Any]) -> None:
    decoder = codec.ModelDecoder(*ours(document))
    decoder.feed(document["frame"])
    model = decoder.finish()
    assert b"".join(codec.encode_model(model.head, codec.encode_weights(model.weights))) == document["frame"]


def test_hexadecimal_bytes_are_those_of_the_frame(document: dict[str, Any]) -> None:
    (block,) = re.findall(r"```hex\n(.*?)```", TEXT, re.DOTALL)
    assert bytes.fromhex(block) == document["frame"]


def test_hello_decodes(document: dict[str, Any]) -> None:
    hello = codec.decode_hello(document["hello"], *ours(document))
    assert hello.round == 3
    assert codec.encode_hello(hello) == document["hello"]


def test_signed_frames_are_those_that_we_write(document: dict[str, Any]) -> None:
    task, layout = ours(document)
    identity = Identity(bytes(range(32)))
    hello = codec.decode_hello(document["signed_hello"], task, layout)
    assert hello.envelope == identity.envelope("")
    assert codec.encode_hello(hello, identity.sign) == document["signed_hello"]
    decoder = codec.ModelDecoder(task, layout)
    decoder.feed(document["signed_frame"])
    model = decoder.finish()
    assert model.head.envelope == identity.envelope(document["them"])
    chunks = codec.encode_model(model.head, codec.encode_weights(model.weights), identity.sign)
    assert b"".join(chunks) == document["signed_frame"]
    assert codec.imprint(chunks[0], weights=chunks[1].nbytes) == model.head.imprint
    pull = codec.decode_pull(document["header"])
    assert pull.envelope == identity.envelope(document["them"])
    assert codec.pull_header(codec.encode_pull(pull, identity.sign)) == document["header"]
    assert pull.imprint == document["asked"] == codec.imprint(document["signed_pull"])


def test_it_verifies_what_we_sign(document: dict[str, Any]) -> None:
    task, layout = ours(document)
    identity, sender = Identity(bytes(32), 5), messages.Sender(Identity(bytes(32)).id, "", "done")
    hello = messages.Hello(sender, task, layout.fingerprint, 3, envelope=identity.envelope("n1", bytes(32)))
    frame = codec.encode_hello(hello, identity.sign)
    entries = document["verify"](frame)
    assert (entries["inc"], entries["seq"], entries["to"], entries["re"]) == (5, 1, "n1", bytes(32))
    with pytest.raises((InvalidSignature, AssertionError)):
        document["verify"](frame.replace(b"done", b"dome"))


def test_account_of_age_is_ours(document: dict[str, Any]) -> None:
    from p2pfl.gossip import merge

    shares, ages = np.array([0.5, 0.25, 0.25]), [10.0, 20.0, 4000.0]
    assert document["merged_age"](shares, ages) == merge.merged_age(shares, ages)


def test_parameters_are_the_codes() -> None:
    for name, value, _ in rows("name | value | meaning"):
        places = [
            vars(module) for module in (fields, frame, codec, replay) if name.strip("`") in vars(module)
        ]
        assert float(value) == places[0][name.strip("`")], name


def test_entries_are_those_of_our_frames_in_order() -> None:
    table = rows("key | in | type | meaning")
    keys = [(row[0].strip("`"), row[1]) for row in table if row[1] != "hello"]
    model, _ = good_model(TASK, LAYOUT)
    assert [key for key, where in keys if where in ("both", "model")] == [*model, "sum", "w"]
    signed, _ = good_signed_model(TASK, LAYOUT)
    assert [key for key, where in keys if where != "pull"] == [*signed, "sig", "sum", "w"]
    assert tuple(key for key, where in keys if where == "signed") == fields.SIGNED
    assert [key for key, where in keys if where == "signed model"] == ["sha256"]
    assert [key for key, where in keys if where == "both"] == [*good_hello(TASK, LAYOUT), "sum"]


def test_refusals_are_the_error_tree() -> None:
    table = {row[0].strip("`"): int(row[1]) for row in rows("reason | status | the request or its frame")}
    tree: list[type[errors.FrameError]] = [errors.FrameError, *errors.FrameError.__subclasses__()]
    assert table == {error.reason: error.status for error in tree}


def test_nouns_are_class_names() -> None:
    for noun in re.findall(r"\*\*([A-Z]\w+)\*\*", TEXT):
        assert hasattr(messages, noun) or hasattr(codec, noun), noun
