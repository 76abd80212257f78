"""A million hostile frames through the codec: every one is decoded, or refused by an error of the tree.

Three sources, each seeded: a generator that knows a frame's parts (mutations.py), Hypothesis, and atheris,
which is guided by what the codec's code has not run yet (guided.py). A frame that is taken has to be good:
finite, of the layout's length, and the same when it is sent on.

    python -m soak.frames SEED COUNT SECONDS    what one process of the first source does; prints JSON
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import hypothesis
import numpy as np
from hypothesis import strategies

from p2pfl.errors import FrameError
from p2pfl.gossip.codec import ModelDecoder, decode_hello, encode_hello, encode_model, encode_weights
from p2pfl.gossip.frame import MAX_HEAD, HeadScanner
from p2pfl.gossip.messages import Layout, Task, TensorSpec
from soak.figures import Figure, at_least, at_most, explains, none_of
from soak.guided import guided
from soak.mutations import Kind, Mutator, packed_hello, packed_model, sealed, valid_pairs
from soak.options import SECONDS, Options
from soak.processes import resident

FRAMES, FEW = 1_000_000, 10_000
HYPOTHESIS_SHARE, GUIDED_SHARE = 0.02, 0.2
"""Of all frames: Hypothesis takes a millisecond for each, coverage guidance a fifth of one."""
WATCHED = 200
"""One in so many frames is decoded under tracemalloc, which makes it several times slower."""
MOST_BYTES = 40 * MAX_HEAD
"""Of memory for one frame: what its head may take, as objects; small values take many times their bytes."""
MOST_GROWTH = 20e6
"""Bytes by which a process may have grown after its frames: nothing of them is kept."""

TASK = Task("toy", ("no", "yes", "perhaps"), (2,), (0.5,), (0.25,))
LAYOUT = Layout("softmax", (TensorSpec("weight", (3, 2)), TensorSpec("bias", (3,))))


@dataclass
class Tally:
    """What became of the frames. wrong: what should not have been, with the frame in hex."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    most_bytes: int = 0
    growth: int = 0
    seconds: float = 0.0

    def add(self, other: Tally) -> None:
        self.outcomes += other.outcomes
        self.wrong += other.wrong
        self.most_bytes = max(self.most_bytes, other.most_bytes)
        self.growth = max(self.growth, other.growth)
        self.seconds += other.seconds


def outcome(kind: Kind, pieces: Iterable[bytes | memoryview]) -> str:
    """Decode one frame: "taken", or the reason of its refusal. Any other exception leaves this function."""
    try:
        if kind == "hello":
            hello = decode_hello(b"".join(pieces), TASK, LAYOUT)
            if hello.envelope is not None:
                return "taken"  # nobody else can send it on
            again = decode_hello(encode_hello(hello), TASK, LAYOUT)
            _expect(again == hello, "a hello is another one when it is sent on")
        else:
            decoder = ModelDecoder(TASK, LAYOUT)
            for piece in pieces:
                decoder.feed(piece)
            model = decoder.finish()
            _expect(model.weights.shape == (LAYOUT.size,), "weights of another length are taken")
            _expect(bool(np.isfinite(model.weights).all()), "weights that are not finite are taken")
            if model.head.envelope is not None:
                return "taken"
            decoder = ModelDecoder(TASK, LAYOUT)
            for chunk in encode_model(model.head, encode_weights(model.weights)):
                decoder.feed(chunk)
            _expect(decoder.finish().head == model.head, "a head is another one when it is sent on")
    except FrameError as error:
        _expect(str(error).isprintable(), "a refusal cannot be printed")
        return error.reason
    return "taken"


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)


def scan(kind: Kind, pieces: Iterable[memoryview]) -> None:
    """The head's scanner alone; a FrameError is a good outcome."""
    scanner = HeadScanner(kind)
    try:
        for piece in pieces:
            if scanner.feed(piece) is not None:
                scanner.entries()
                scanner.check_sum()
                return
    except FrameError:
        return


def resealed(kind: Kind, body: bytes) -> bytes:
    """The frame with a sum that is right for the bytes before it, if it has a sum at all."""
    at = body.rfind(b"\xa3sum\xc4\x08")
    return body if at < 0 else sealed(body[:at]) + (body[at + 14 :] if kind == "model" else b"")


def generated(seed: int, count: int, limit: float = math.inf) -> Tally:
    """`count` frames of the generator, in this process; fewer if they take more than `limit` seconds."""
    mutator, tally = Mutator(TASK, LAYOUT, seed), Tally()
    before, began = 0, time.perf_counter()
    for number in range(count):
        if time.perf_counter() - began > limit:
            break
        kind, body = mutator.frame()
        pieces = mutator.pieces(body)
        watched = number % WATCHED == 0
        try:
            if watched:
                tracemalloc.start()
            tally.outcomes[outcome(kind, pieces)] += 1
            scan(kind, pieces)
        except Exception as error:  # noqa: BLE001 - what is looked for here
            tally.wrong.append(f"{error!r} of a {kind}, seed {seed}, frame {number}: {body[:2000].hex()}")
        finally:
            if watched:
                tally.most_bytes = max(tally.most_bytes, tracemalloc.get_traced_memory()[1])
                tracemalloc.stop()
        if number == count // 10:  # by now all caches are as large as they get
            before = resident(os.getpid())
    tally.growth = resident(os.getpid()) - before
    tally.seconds = time.perf_counter() - began
    return tally


def in_processes(seed: int, count: int, processes: int, limit: float) -> Tally:
    """The same on so many processes, each with a seed of its own. RuntimeError if one of them dies."""
    each = -(-count // processes)
    line = [sys.executable, "-m", "soak.frames"]
    running = [
        subprocess.Popen([*line, str(seed + i), str(each), str(limit)], stdout=subprocess.PIPE, text=True)
        for i in range(processes)
    ]
    tally = Tally()
    try:
        for process in running:
            told, _ = process.communicate()
            if process.returncode:
                raise RuntimeError(f"a process of frames ended with {process.returncode}")
            values = json.loads(told)
            tally.add(Tally(**{**values, "outcomes": Counter(values["outcomes"])}))
    finally:
        for process in running:
            process.kill()
            process.wait()
    return tally


def of_hypothesis(seed: int, count: int) -> Tally:
    """`count` frames of values that Hypothesis draws, packed with right checksums or as they are."""
    plain = strategies.one_of(
        strategies.none(), strategies.booleans(), strategies.integers(-(2**63), 2**64 - 1),
        strategies.floats(), strategies.text(max_size=20), strategies.binary(max_size=20),
    )  # fmt: skip
    values = strategies.recursive(
        plain,
        lambda inner: strategies.one_of(
            strategies.lists(inner, max_size=4),
            strategies.dictionaries(strategies.text(max_size=6), inner, max_size=4),
        ),
        max_leaves=8,
    )
    kinds = strategies.sampled_from(["model", "hello"])
    keys = strategies.sampled_from([str(key) for key, _ in valid_pairs("model", TASK, LAYOUT)[0]])
    changes = strategies.dictionaries(keys, values, max_size=3)
    tally, began = Tally(), time.perf_counter()

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(kinds, changes, strategies.binary(max_size=40), strategies.integers(0, 9))
    def check(kind: Kind, changed: dict[str, object], raw: bytes, choice: int) -> None:
        pairs, payload = valid_pairs(kind, TASK, LAYOUT)
        pairs = [(key, changed.get(str(key), value)) for key, value in pairs]
        if choice == 0:
            body = raw
        elif kind == "hello":
            body = packed_hello(pairs)
        else:
            body = packed_model(pairs, raw if choice == 1 else payload)
        try:
            tally.outcomes[outcome(kind, [body])] += 1
        except Exception as error:  # noqa: BLE001 - what is looked for here
            tally.wrong.append(f"{error!r} of a {kind} from Hypothesis, seed {seed}: {body[:2000].hex()}")

    check()
    tally.seconds = time.perf_counter() - began
    return tally


def measure(options: Options) -> Iterator[Figure]:
    """The figures of `python -m soak frames`."""
    count = FEW if options.small else FRAMES
    cores = 1 if options.small else os.cpu_count() or 1
    began = time.perf_counter()
    by_hand = of_hypothesis(options.seed, int(count * HYPOTHESIS_SHARE))
    led, why_not = guided(int(count * GUIDED_SHARE), options.seed)
    rest = count - sum(by_hand.outcomes.values()) - (0 if led is None else led.runs)
    left = SECONDS - (time.perf_counter() - began)
    drawn = (
        in_processes(options.seed, rest, cores, left) if cores > 1 else generated(options.seed, rest, left)
    )
    total = Tally()
    for part in (by_hand, drawn):
        total.add(part)
    runs = sum(total.outcomes.values()) + len(total.wrong) + (0 if led is None else led.runs)
    wrong = total.wrong + ([] if led is None else led.wrong)
    taken, refused = total.outcomes["taken"], sum(total.outcomes.values()) - total.outcomes["taken"]
    yield at_least("frames: decoded", runs, count)
    yield none_of("frames: exceptions outside the error tree", wrong)
    yield at_most("frames: largest memory for one frame", drawn.most_bytes / 1e6, MOST_BYTES / 1e6, "MB")
    yield at_most("frames: growth of a process over its frames", drawn.growth / 1e6, MOST_GROWTH / 1e6, "MB")
    yield explains("frames: taken, refused, reasons", f"{taken:,}, {refused:,}, {len(total.outcomes) - 1}")
    yield explains(
        "frames: generator", f"{sum(drawn.outcomes.values()) / drawn.seconds:,.0f} a second and core"
    )
    yield explains("frames: Hypothesis", f"{sum(by_hand.outcomes.values()):,}")
    said = why_not if led is None else f"{led.runs:,}, {led.covered} places of the codec's code reached"
    yield explains("frames: atheris", said)


def main() -> None:
    seed, count = map(int, sys.argv[1:3])
    print(json.dumps(vars(generated(seed, count, float(sys.argv[3])))))


if __name__ == "__main__":
    main()
