"""A small task, layout and messages that the codec's tests share."""

from __future__ import annotations

import numpy as np
from hypothesis import settings

from p2pfl.errors import FrameError
from p2pfl.gossip.codec import ModelDecoder, encode_model, encode_weights
from p2pfl.gossip.messages import Hello, Layout, Model, ModelHead, Sender, Task, TensorSpec, Vector, ViewEntry

# The same examples in every run, and no time limit: a busy machine must not fail a test.
quick = settings(max_examples=60, deadline=None, derandomize=True)

TASK = Task("toy", ("no", "yes", "perhaps"), (2,), (0.5,), (0.25,))
LAYOUT = Layout("softmax", (TensorSpec("weight", (3, 2)), TensorSpec("bias", (3,))))
SENDER = Sender("n1", "http://192.0.2.7:8470", "training", "Ada")
VIEW = (ViewEntry("n2", "http://192.0.2.8:8470"), ViewEntry("n3", "https://[2001:db8::1]:443"))
HEAD = ModelHead(SENDER, TASK, LAYOUT.fingerprint, 4, 3, 1500.0, 500, True, VIEW)
HELLO = Hello(SENDER, TASK, LAYOUT.fingerprint, 3, VIEW)


def weights_of(layout: Layout, seed: int = 0) -> Vector:
    return np.random.default_rng(seed).normal(size=layout.size).astype(np.float32)


def frame(head: ModelHead = HEAD, weights: Vector | None = None, codec: str = "f32") -> bytes:
    return b"".join(
        encode_model(head, encode_weights(weights_of(LAYOUT) if weights is None else weights, codec))
    )


def decode(body: bytes, step: int | None = None, task: Task = TASK, layout: Layout = LAYOUT) -> Model:
    """Feed `step` bytes at a time, or all at once."""
    decoder = ModelDecoder(task, layout)
    for start in range(0, len(body), step or len(body) or 1):
        decoder.feed(body[start : start + (step or len(body))])
    return decoder.finish()


def refusal(body: bytes, step: int | None = None) -> type[FrameError] | None:
    """The class of the refusal, None if the frame is good."""
    try:
        decode(body, step)
    except FrameError as error:
        return type(error)
    return None
