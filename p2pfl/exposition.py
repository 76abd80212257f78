"""What a real node shows to Prometheus under /metrics: its own registry, read when somebody asks.

Gauges and most counters are read from the node's state at that moment; what no state holds (times, sizes,
sums) is counted from the events that the node observes. Labels take values of ours alone, of which there are
few: never a peer's id, never a text that a peer chose. A simulated node has none of this.

Names, units and help: https://prometheus.io/docs/practices/naming/. Sizes are bytes, durations seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from platform import python_version
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from p2pfl import __version__
from p2pfl.errors import PeerError
from p2pfl.events import (
    Checkpointed,
    CheckpointFailed,
    Diverged,
    Event,
    Exchanged,
    Merged,
    Mode,
    RoundCompleted,
    Served,
    Trained,
)
from p2pfl.gossip.merge.distance import relative_distances
from p2pfl.gossip.messages import NodeState, Standing, Vector
from p2pfl.gossip.protocol import Gossip
from p2pfl.gossip.view import ContactState
from p2pfl.service import INBOX_FULL, NodeService

MODES = get_args(Mode)
# Seconds: from a probe on a local network to a big model on a slow link.
DURATIONS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
# Bytes: a hello; softmax, mlp and cnn in f16 and f32; ResNet-18.
SIZES = (1e3, 1e4, 1e5, 2.5e5, 5e5, 1e6, 2.5e6, 1e7, 2.5e7, 5e7, 1e8, 1e9)
# The reason of what is refused for none of our own reasons.
OTHER = "other"


class Exposition:
    """One node's. note: to be called with every event; metrics: the page."""

    def __init__(self, gossip: Gossip, service: NodeService) -> None:
        self._registry = _Registry(auto_describe=False)
        self._observed = _Observed(self._registry)
        self._registry.register(_State(gossip, service, self._observed))
        # Of this process alone; where training has one of its own, not of that.
        ProcessCollector(namespace="p2pfl", registry=self._registry)
        gossip.watch_merge = self._observed.met

    def note(self, event: Event) -> None:
        self._observed.note(event)

    def metrics(self) -> tuple[str, bytes]:
        """(content type, body) in the text format 0.0.4, which every Prometheus reads."""
        return CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self._registry)


class _Registry(CollectorRegistry):
    """Without the times at which counters were made: a series more for each, which nobody asks for."""

    def collect(self) -> Iterable[Metric]:
        for metric in super().collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric


class _Observed:
    """Counted from events since the process started."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, help: str, *labels: str) -> Counter:
            return Counter(f"p2pfl_{name}", help, labels, registry=registry)

        self.distances: list[float] = []  # of the models that were merged last
        self._requests = counter(
            "requests", "Requests to peers, by what they asked and how they ended.", "mode", "outcome"
        )
        self._served = counter("served_requests", "Requests of peers that were answered.", "mode")
        self._traffic = counter(
            "traffic_bytes", "Bytes of bodies of requests and answers, own and peers'.", "mode", "direction"
        )
        self._seconds = Histogram(
            "p2pfl_request_duration_seconds",
            "How long own requests took that were answered.",
            ["mode"],
            registry=registry,
            buckets=DURATIONS,
        )
        self._sizes = Histogram(
            "p2pfl_exchange_size_bytes",
            "Bodies of own exchanges of models that were answered, request and answer together.",
            ["mode"],
            registry=registry,
            buckets=SIZES,
        )
        self._merges = counter("merges", "Merges with models of peers.")
        self._merged = counter("merged_models", "Models of peers that were merged.")
        self._unmerged = counter("unmerged_models", "Models that came and were not merged.", "reason")
        self._clipped = counter("clipped_claims", "Senders whose claimed age or samples were beyond belief.")
        self._rounds = counter("rounds", "Rounds completed since the process started.")
        self._samples = counter("trained_samples", "Samples that local training has seen.")
        self._steps = counter("trained_steps", "Batches that local training has done.")
        self._training = counter("training_seconds", "Time that local training took.")
        self._diverged = counter("diverged_rounds", "Rounds whose training ended in NaN or infinity.")
        self._checkpoints = counter("checkpoints", "States saved.")
        self._unsaved = counter("checkpoint_failures", "States that could not be saved, or not wholly.")
        self._loss = math.nan

    @property
    def training_loss(self) -> float:
        """Of the last round, NaN before the first."""
        return self._loss

    def met(self, own: Vector, others: Sequence[Vector]) -> None:
        """A merge is about to happen of the own model with these."""
        self.distances = [found for found in relative_distances(own, others) if math.isfinite(found)]

    def note(self, event: Event) -> None:
        match event:
            case Exchanged():
                self._exchanged(event)
            case Served():
                self._served.labels(event.mode).inc()
                self._carried(event.mode, event.received, event.sent)
            case Merged():
                self._merges.inc()
                self._merged.inc(len(event.senders))
                for reason in ("superseded", "repeated", "displaced"):
                    self._unmerged.labels(reason).inc(getattr(event, reason))
                self._clipped.inc(event.clipped)
            case Trained():
                self._samples.inc(event.samples)
                self._steps.inc(event.steps)
                self._training.inc(max(0.0, event.seconds))
                self._loss = event.loss
            case Diverged():
                self._diverged.inc()
            case RoundCompleted():
                self._rounds.inc()
            case Checkpointed():
                self._checkpoints.inc()
            case CheckpointFailed():
                self._unsaved.inc()

    def _exchanged(self, event: Exchanged) -> None:
        self._requests.labels(event.mode, "ok" if event.outcome == "ok" else known(event.outcome)).inc()
        self._carried(event.mode, event.received, event.sent)
        if event.outcome == "ok":
            self._seconds.labels(event.mode).observe(event.seconds)
            if event.mode in ("push", "pull", "push-pull"):
                self._sizes.labels(event.mode).observe(event.sent + event.received)

    def _carried(self, mode: str, received: int, sent: int) -> None:
        self._traffic.labels(mode, "in").inc(received)
        self._traffic.labels(mode, "out").inc(sent)


class _State(Collector):
    """Read from the node when somebody asks."""

    def __init__(self, gossip: Gossip, service: NodeService, observed: _Observed) -> None:
        self._gossip = gossip
        self._service = service
        self._observed = observed

    def collect(self) -> Iterator[Metric]:
        gossip, service, score = self._gossip, self._service, self._service.score
        yield _labelled(
            "p2pfl_build_info",
            "1, with the versions of the program and of Python.",
            {"version": __version__, "python": python_version()},
        )
        yield _labelled(
            "p2pfl_node_info",
            "1, with what this node is and trains.",
            {"id": gossip.id, "task": gossip.task.name, "model": gossip.layout.model},
        )
        states = {state: float(state == gossip.state) for state in get_args(NodeState)}
        yield _gauges("state", "1 for what the node does now, 0 for the rest.", "state", states)
        yield _gauge("round", "Own rounds completed, over restarts.", score.round)
        yield _gauge("age_samples", "Training samples that the model's lineage has seen.", score.age)
        yield _gauge("held_out_accuracy_ratio", "Share of held-out samples that are right.", score.accuracy)
        yield _gauge("held_out_loss", "Mean loss on held-out samples.", score.loss)
        yield _gauge("training_loss", "Mean loss over the last round.", self._observed.training_loss)
        distances = self._observed.distances
        mean = sum(distances) / len(distances) if distances else None
        yield _gauge(
            "consensus_distance_ratio",
            "Mean distance of the models of the last merge from the own one, by the own one's norm.",
            mean,
        )
        yield _gauge("consensus_distance_max_ratio", "The largest of these.", max(distances, default=None))
        yield _gauge("held_samples", "Training samples that the node holds.", gossip.samples)
        yield _gauge("model_parameters", "Weights of the model.", gossip.layout.size)
        yield _gauge("inbox_models", "Models that wait to be merged.", len(gossip.inbox))
        membership = gossip.membership
        standings: dict[str, float] = dict.fromkeys(get_args(Standing), 0.0)
        for member in (*membership.members.values(), *membership.gone()):
            standings[member.standing] += 1
        yield _gauges("peers", "Other nodes, by what this one holds of them.", "standing", standings)
        contacts: dict[str, float] = dict.fromkeys(get_args(ContactState), 0.0)
        for contact in gossip.view.contacts():
            contacts[contact.state] += 1
        yield _gauges("contacts", "Addresses to call, by how they answered.", "state", contacts)
        yield _gauge("slowness", "0: answers in time; more: the node doubts itself.", membership.health)
        yield _counter("kept_own", "Merges for which a robust rule had too few models.", gossip.kept_own)
        refused = CounterMetricFamily("p2pfl_refused", "Messages refused, by reason.", labels=["reason"])
        for reason, count in _refusals(service.rejected()).items():
            refused.add_metric([reason], count)
        yield refused
        if (thrift := service.thrift) is not None:
            allowed = not thrift.closed() and service.state != "paused"
            yield _gauge("training_allowed", "0 while hours, load or an operator forbid it.", float(allowed))
            yield _gauge("metered", "1 if the link is paid for by volume.", float(thrift.metered))
            yield _counter("exchanges_put_off", "For want of bytes, or as the link is dear.", thrift.put_off)
            most, spent = thrift.bytes_of_hour()
            yield _gauge("hour_bytes", "Bytes of the last hour, in and out, if they are limited.", spent)
            yield _gauge("hour_limit_bytes", "Most bytes in an hour, if they are limited.", most)
        if (storage := service.storage) is not None:
            yield _gauge("checkpoint_round", "Round of the last state on disk.", storage.round)
            yield _gauge("storage_problem", "1 if the last save failed.", float(bool(storage.problem)))
            yield _counter("journal_lost_lines", "Lines that could not be written.", storage.lost_lines)
            yield _counter("damaged_files", "Files found damaged and set aside.", len(storage.damaged))


def _gauge(name: str, help: str, value: float | None) -> Metric:
    """Without a sample while nothing is known."""
    family = GaugeMetricFamily(f"p2pfl_{name}", help)
    if value is not None and not math.isnan(value):
        family.add_metric([], value)
    return family


def _gauges(name: str, help: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"p2pfl_{name}", help, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _counter(name: str, help: str, value: float) -> Metric:
    return CounterMetricFamily(f"p2pfl_{name}", help, value=value)


def _labelled(name: str, help: str, labels: Mapping[str, str]) -> Metric:
    family = GaugeMetricFamily(name, help, labels=list(labels))
    family.add_metric(list(labels.values()), 1.0)
    return family


def _refusals(rejected: Mapping[str, int]) -> dict[str, int]:
    """By our own reasons: a peer may refuse us for one that it made up."""
    counts: dict[str, int] = {}
    for reason, count in sorted(rejected.items()):
        counts[known(reason)] = counts.get(known(reason), 0) + count
    return counts


def known(reason: str) -> str:
    return reason if reason in _reasons() else OTHER


@cache
def _reasons() -> frozenset[str]:
    found, kinds = {INBOX_FULL}, [PeerError]
    while kinds:
        kind = kinds.pop()
        found.add(kind.reason)
        kinds.extend(kind.__subclasses__())
    return frozenset(found)
