"""What one exchange of the MLP costs in the simulated network, in microseconds of CPU, and where they go.

Two nodes' gossip, services, applications and clients on netsim's network in virtual time; no training. Each
part is timed by itself with what it gets in an exchange:

    HTTP     client, transport, scheduler, application: an exchange of a model of 16 weights, less what its
             head, view and inbox cost
    codec    packing the head
    checks   reading and checking the head; the hash at the sender; finiteness at the receiver
    view     noting the sender and the eight nodes it names; the inbox
    merge    one model's share of merging own and four others

A push-pull moves two models: it has every part but HTTP twice. "Whole" is a complete exchange, measured; what
it takes beyond the sum of the parts is cache misses and what the parts leave out. Within one process the
receiver takes the sender's snapshot as it is; what comes over a wire costs `copy` and `receive_hash` besides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import trio
import xxhash

from benchmarks.figures import Figure, median_seconds
from netsim.jumping import JumpingClock
from netsim.network import SimulatedNetwork, UniformLinks
from p2pfl.clock import Clock
from p2pfl.config import GossipConfig
from p2pfl.gossip import compress
from p2pfl.gossip.codec import ModelDecoder, encode_weights
from p2pfl.gossip.identity import Identity
from p2pfl.gossip.messages import Layout, Model, Task, TensorSpec, Vector
from p2pfl.gossip.protocol import Gossip
from p2pfl.gossip.snapshot import all_finite
from p2pfl.network.app import make_app
from p2pfl.network.client import PeerClient
from p2pfl.service import NodeService

TASK = Task("mnist", tuple("0123456789"), (1, 28, 28), (0.1307,), (0.3081,))
SIZES = (784 * 256, 256, 256 * 128, 128, 128 * 10, 10)
MLP = Layout("mlp", tuple(TensorSpec(f"part{i}", (size,)) for i, size in enumerate(SIZES)))
SMALL = Layout("small", (TensorSpec("part", (16,)),))
PEERS = 32  # contacts of each node: more than one message names
KEPT = 64  # vectors that are alive while another is made, as models wait in inboxes
MERGED = 4  # models that a merge usually finds


def _gossip(layout: Layout, index: int, *, sign: bool = False) -> Gossip:
    """A node that knows PEERS others and has published its weights."""
    identity = Identity(bytes([index]) * 32) if sign else None
    rng = np.random.default_rng(index)
    peers = tuple(f"http://10.1.0.{i + 1}:8470" for i in range(PEERS))
    weights: Vector = rng.standard_normal(layout.size, dtype=np.float32)
    gossip = Gossip(
        GossipConfig(), id=identity.id if identity else f"{index:032x}", name=f"n{index}", task=TASK,
        layout=layout, weights=weights, samples=600, peers=peers, rng=rng, identity=identity,
    )  # fmt: skip
    for i, contact in enumerate(gossip.view.contacts()):
        gossip.view.answered(contact, f"{1000 + i:032x}", f"10.1.0.{i + 1}")
    gossip.publish()
    return gossip


@dataclass(frozen=True)
class _Parts:
    """Seconds of one model's parts, and of HTTP for one exchange of either kind."""

    pack: float
    copy: float
    head: float
    send_hash: float
    receive_hash: float
    finite: float
    view: float
    merge: float
    http_push: float
    http_push_pull: float

    def of_model(self) -> float:
        """In the simulator, where `copy` and `receive_hash` are not needed."""
        return sum((self.pack, self.head, self.send_hash, self.finite, self.view, self.merge))


def measure(quick: bool) -> Iterator[Figure]:
    runs, inner = (3, 50) if quick else (9, 200)

    def timed(work: Callable[[], object], calls: int = inner) -> float:
        return median_seconds(time.process_time, work, runs, calls)

    parts = _parts(timed, runs, inner)
    for mode, models in (("push", 1), ("push-pull", 2)):
        http = parts.http_push if mode == "push" else parts.http_push_pull
        whole = _exchange(MLP, mode == "push-pull", runs, inner) + models * parts.merge
        groups = {
            "HTTP": http,
            "codec": models * parts.pack,
            "checks": models * (parts.head + parts.send_hash + parts.finite),
            "view": models * parts.view,
            "merge": models * parts.merge,
        }
        made_of = {key: 1e6 * seconds for key, seconds in groups.items()}
        made_of["sum"] = sum(made_of.values())
        yield Figure(f"one {mode} of the MLP, whole", 1e6 * whole, "us", details=made_of)
        signed = _exchange(MLP, mode == "push-pull", runs, inner, sign=True) + models * parts.merge
        yield Figure(f"one {mode} of the MLP, signed, whole", 1e6 * signed, "us")
    for what, sign in (("one hello, whole", False), ("one hello, signed, whole", True)):
        yield Figure(what, 1e6 * _exchange(SMALL, None, runs, inner, sign=sign), "us")
    each = {key: 1e6 * seconds for key, seconds in vars(parts).items() if not key.startswith("http")}
    yield Figure("one model's parts", 1e6 * parts.of_model(), "us", details=each)


def _parts(timed: Callable[..., float], runs: int, inner: int) -> _Parts:
    big, small, receiver = _gossip(MLP, 1), _gossip(SMALL, 2), _gossip(SMALL, 3)
    source = big.weights
    pieces = np.split(source, range(compress.BLOCK // 4, source.size, compress.BLOCK // 4))
    kept: list[object] = [None] * KEPT

    def keep(value: object) -> None:
        kept.append(value)
        del kept[0]

    def copy() -> None:
        vector = np.empty(source.size, np.float32)
        vector[:] = source
        keep(vector)

    def finite() -> None:
        all_finite(source)

    def receive_hash() -> None:
        digest = xxhash.xxh3_128()
        for piece in pieces:
            digest.update(piece.data)
        digest.digest()

    body = b"".join(small.frame())

    def decoded() -> Model:
        decoder = ModelDecoder(TASK, SMALL)
        decoder.feed(body)
        return decoder.finish()

    model = decoded()
    pack, head = timed(small.frame), timed(decoded)
    view = timed(lambda: receiver.receive(model, "10.0.0.2", 0.0))
    small_model = pack + head + view
    merging = _Merging()
    return _Parts(
        pack=pack,
        copy=timed(copy),
        head=head,
        send_hash=timed(lambda: encode_weights(source).digest),
        receive_hash=timed(receive_hash),
        finite=timed(finite),
        view=view,
        merge=merging.seconds(runs),
        http_push=_exchange(SMALL, False, runs, inner) - small_model,
        http_push_pull=_exchange(SMALL, True, runs, inner) - 2 * small_model,
    )


class _Merging:
    """A node's merge of its own model with MERGED others after a round of training."""

    def __init__(self) -> None:
        self._gossip = _gossip(MLP, 9)
        self._models = []
        for index in range(MERGED):
            decoder = ModelDecoder(TASK, MLP)
            for chunk in _gossip(MLP, 20 + index).frame():
                decoder.feed(chunk)
            self._models.append(decoder.finish())

    def seconds(self, runs: int) -> float:
        """For one of the models; without putting them into the inbox."""
        times = []
        for run in range(10 * runs):
            self._gossip.trained(self._gossip.weights + np.float32(0.001), 600)
            for index, model in enumerate(self._models):
                # A digest of its own, or the merge takes the model for one that it had already.
                digest = run.to_bytes(8, "big") + index.to_bytes(8, "big")
                self._gossip.receive(Model(model.head, model.weights, digest), f"10.0.0.{index + 1}", 0.0)
            start = time.process_time()
            self._gossip.merge()
            times.append((time.process_time() - start) / MERGED)
        return sorted(times)[len(times) // 2]


def _exchange(
    layout: Layout, wants_reply: bool | None, runs: int, inner: int, *, sign: bool = False
) -> float:
    """CPU seconds of one complete exchange without merging; both nodes publish anew before each.

    wants_reply: None for a hello, before which nothing is published.
    """
    clock = JumpingClock()
    return trio.run(_exchanges, layout, wants_reply, runs, inner, sign, clock=clock)


async def _exchanges(layout: Layout, wants_reply: bool | None, runs: int, inner: int, sign: bool) -> float:
    network = SimulatedNetwork(UniformLinks(0.02))
    clock = Clock()
    sender, receiver = _gossip(layout, 1, sign=sign), _gossip(layout, 2, sign=sign)
    admit = partial(sender.admission.answer, must_sign=sign)
    service = NodeService(
        receiver,
        data_fingerprint="0" * 32,
        now=clock.now,
        observe=lambda event: None,
        on_news=lambda: None,
    )
    client = PeerClient(network.host(0).transport(), TASK, layout)
    kept: list[object] = [None] * KEPT
    times = []
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        url = await nursery.start(network.host(1).serve, make_app(service, clock))
        for _ in range(runs):
            start = time.process_time()
            for _ in range(inner):
                if wants_reply is None:
                    greeting = sender.hello_frame(sender.hello(receiver.id), receiver.id)
                    theirs, _ = await client.hello(url, greeting, admit)
                    sender.heard(theirs, "10.0.0.2", 0.0)
                    continue
                sender.publish()
                receiver.publish()
                reply = await client.push(url, sender.frame(receiver.id, wants_reply=wants_reply), admit)
                if reply.model is not None:
                    sender.receive(reply.model, "10.0.0.2", clock.now())
                kept.append(reply.model)
                del kept[0]
            times.append((time.process_time() - start) / inner)
        nursery.cancel_scope.cancel()
    return sorted(times)[len(times) // 2]
