"""Every scalar of a scenario: how many nodes, over which network, with which failures.

Each key is a flag of `p2pfl sim run` and a key of a scenario file; scenario.py adds the tables that only a
file can hold. The groups of a node's own configuration are the ones that real nodes take.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from netsim import methods
from netsim.units import (
    Distribution,
    parse_amount,
    parse_distribution,
    parse_duration,
    parse_rate,
    parse_window,
)
from p2pfl.config import (
    DataConfig,
    EvaluationConfig,
    GossipConfig,
    TrainingConfig,
    check,
    group,
    option,
)
from p2pfl.errors import ConfigError

Engine = Literal["virtual", "process"]
EvaluateMode = Literal["nodes", "sample", "mean", "end"]
TopologyKind = Literal[
    "sampling", "complete", "ring", "torus", "random-regular", "erdos-renyi", "small-world", "scale-free",
    "star", "edges",
]  # fmt: skip
State = Literal["kept", "lost"]
ATTACKS = (
    "label-flip", "random-labels", "back-door", "sign-flip", "noise", "scaled", "nan", "stale", "free-rider",
    "a-little", "inner-product", "sybil",
)  # fmt: skip
# Up to this many nodes each is evaluated by default; of more, a random sample of as many.
EVALUATED_NODES = 50

# How many others a node knows at the start, if there are as many.
BOOTSTRAP = 8

# Keys of the configuration that concern only the host and must not change a journal.
HOST_KEYS = ("workers", "job_limit", "out")


@dataclass(frozen=True, kw_only=True)
class TopologyConfig:
    """Who may talk to whom."""

    topology: TopologyKind = option(
        "sampling",
        "sampling: random peers of the node's own view, which grows by gossip; or a fixed graph: complete, "
        "ring, torus, random-regular, erdos-renyi, small-world, scale-free, star, edges (from --edge-list).",
    )
    bootstrap: int | None = option(
        None,
        f"sampling: random other nodes that each node knows at the start. [default: {BOOTSTRAP}, or all]",
    )
    degree: int = option(
        4, "Neighbours of a node: random-regular, small-world; scale-free: edges of each new node."
    )
    edge_probability: float = option(0.1, "erdos-renyi: probability of each edge.")
    rewiring: float = option(0.1, "small-world: probability that an edge is rewired.")
    edge_list: str | None = option(None, "edges: file with two node numbers on each line.")
    redraw: str | None = option(None, "Draw the random graph anew after each such time, e.g. 10s.")

    def __post_init__(self) -> None:
        check(self.bootstrap is None or self.bootstrap >= 0, "bootstrap must be 0 or more")
        check(
            self.bootstrap is None or self.topology == "sampling",
            f"bootstrap has no effect on topology {self.topology}; leave it out, or take topology sampling",
        )
        check(self.degree >= 1, "degree must be at least 1")
        check(0 <= self.edge_probability <= 1, "edge-probability must be in [0, 1]")
        check(0 <= self.rewiring <= 1, "rewiring must be in [0, 1]")
        check(
            (self.edge_list is not None) == (self.topology == "edges"),
            "topology edges and edge-list need each other",
        )
        if self.redraw is not None:
            check(parse_duration("redraw", self.redraw) > 0, "redraw must be above 0")
            drawn = ("random-regular", "erdos-renyi", "small-world", "scale-free")
            check(self.topology in drawn, f"redraw needs a random graph: {', '.join(drawn)}")


@dataclass(frozen=True, kw_only=True)
class LinksConfig:
    """What lies between the nodes. Rates are of each message, requests and responses alike."""

    latency: str = option("20ms", "One-way delay: 20ms, uniform:10ms,50ms or lognormal:20ms,0.5 (sigma).")
    jitter: str = option("0ms", "Further delay, uniform between 0 and this.")
    bandwidth: str | None = option(None, "Of each pair, each way, e.g. 1Mbit/s; shared by what is under way.")
    uplink: str | None = option(None, "Of each node for all that it sends.")
    downlink: str | None = option(None, "Of each node for all that it receives.")
    loss: float = option(0.0, "Share of messages that vanish.")
    duplication: float = option(0.0, "Share of requests that are delivered twice (virtual engine).")
    reordering: float = option(
        0.0, "Share of messages held back so that later ones overtake (virtual engine)."
    )
    corruption: float = option(0.0, "Share of messages with a flipped bit in the body (virtual engine).")

    def __post_init__(self) -> None:
        parse_distribution("latency", self.latency, "duration")
        parse_duration("jitter", self.jitter)
        for key in ("bandwidth", "uplink", "downlink"):
            if (text := getattr(self, key)) is not None:
                parse_rate(key, text)
        for key in ("loss", "duplication", "reordering", "corruption"):
            check(0 <= getattr(self, key) <= 1, f"{key} must be a share between 0 and 1")

    @property
    def latency_of(self) -> Distribution:
        return parse_distribution("latency", self.latency, "duration")


@dataclass(frozen=True, kw_only=True)
class DevicesConfig:
    """What the nodes run on."""

    speed: str = option(
        "1000", "Samples that a device trains in a second (virtual engine): 1000, uniform:500,1500 or "
        "lognormal:1000,0.5."
    )  # fmt: skip
    speed_jitter: float = option(0.05, "A fit takes this share more or less, uniformly (virtual engine).")
    stragglers: str = option("0", "Slow devices: a number, or a share such as 20%.")
    slowdown: float = option(10.0, "How many times slower a straggler is.")
    skew: str = option("0s", "Clocks are set apart by up to this, either way (virtual engine).")
    drift: float = option(0.0, "Clocks run fast or slow by up to this share (virtual engine).")
    state: State = option("kept", "Of a node that restarts: kept, or lost with its identity.")

    def __post_init__(self) -> None:
        speed = parse_distribution("speed", self.speed, "number")
        check(speed.first > 0, "speed must be above 0 samples a second")
        check(0 <= self.speed_jitter < 1, "speed-jitter must be in [0, 1)")
        check(1 <= self.slowdown < float("inf"), "slowdown must be 1 or more")
        parse_duration("skew", self.skew)
        check(0 <= self.drift < 1, "drift must be in [0, 1)")

    @property
    def speed_of(self) -> Distribution:
        return parse_distribution("speed", self.speed, "number")


@dataclass(frozen=True, kw_only=True)
class FaultsConfig:
    """Random faults: who and when is drawn from the seed. Amounts are a number or a share such as 30%."""

    crash: str = option("0", "Nodes that crash, once each.")
    restart: str = option("0", "How many of those start again.")
    restart_after: str = option("5s", "Time until then; a duration or a distribution.")
    leave: str = option("0", "Nodes that stop in good order and do not return.")
    join_late: str = option("0", "Nodes that start only during the run.")
    hang: str = option("0", "Nodes that accept and never answer for a while.")
    hang_for: str = option("5s", "How long; a duration or a distribution.")
    window: str = option("10%-70%", "When these strike: of the rounds, or times such as 5s-60s.")
    uptime: str | None = option(
        None, "Churn: every node crashes again and again, after this time on average."
    )
    downtime: str = option("5s", "Churn: and is away for this time on average (both exponential).")
    trace: str | None = option(None, "Churn by a recorded trace: CSV lines node,seconds,on or off.")

    def __post_init__(self) -> None:
        for key in ("restart_after", "hang_for"):
            parse_distribution(key.replace("_", "-"), getattr(self, key), "duration")
        parse_window("window", self.window)
        if self.uptime is not None:
            check(parse_duration("uptime", self.uptime) > 0, "uptime must be above 0")
            check(self.trace is None, "uptime and trace both say when nodes are away; give one of them")
        parse_duration("downtime", self.downtime)


@dataclass(frozen=True, kw_only=True)
class AttackConfig:
    """One attack of nodes drawn at random; [[adversaries]] of a file can say more."""

    attack: str | None = option(
        None,
        f"What adversaries do: {', '.join(ATTACKS)}; options as in a-little:z=1.5,knows=honest.",
    )
    liars: str | None = option(None, "How many nodes are adversaries: a number, or a share such as 40%.")

    def __post_init__(self) -> None:
        check((self.attack is None) == (self.liars is None), "attack and liars need each other")


@dataclass(frozen=True, kw_only=True)
class BaselinesConfig:
    """Other ways to train on the same split, with the same local training, in the same pictures."""

    baselines: tuple[str, ...] = option(
        (),
        f"Any of {', '.join(methods.FORMS)}; RULE, as of --merge, is what the server makes of what it was "
        "sent. [default: by claimed samples]",
    )
    server_share: float = option(1.0, "fedavg: share C of the clients that the server asks in a round.")
    cyclic_order: tuple[str, ...] = option((), "cyclic: nodes in the order of the tour. [default: 0, 1, ...]")
    baseline_rounds: int | None = option(None, "Rounds that these train for. [default: as many as the nodes]")
    baseline_local_epochs: int | None = option(
        None, "Passes over a node's data in a round of these. [default: as the nodes]"
    )
    baseline_local_steps: int | None = option(None, "Batches in a round of these. [default: as the nodes]")

    def __post_init__(self) -> None:
        for key in ("baseline_rounds", "baseline_local_epochs", "baseline_local_steps"):
            value = getattr(self, key)
            check(value is None or value >= 1, f"{key.replace('_', '-')} must be at least 1")
        check(
            self.baseline_local_epochs is None or self.baseline_local_steps is None,
            "baseline-local-epochs and baseline-local-steps exclude each other; give one of them",
        )
        named = [methods.parse(name) for name in self.baselines]
        check(len(set(named)) == len(named), "baselines names one twice")
        check(0 < self.server_share <= 1, "server-share must be in (0, 1]")
        for item in self.cyclic_order:
            check(item.isdecimal(), f"cyclic-order: {item!r} is not a node number")

    def training(self, nodes: TrainingConfig) -> TrainingConfig:
        """How they train locally, where nodes do it so."""
        changes: dict[str, int | None] = {}
        if self.baseline_rounds is not None:
            changes["rounds"] = self.baseline_rounds
        if self.baseline_local_epochs is not None or self.baseline_local_steps is not None:
            changes["local_epochs"] = self.baseline_local_epochs
            changes["local_steps"] = self.baseline_local_steps
        return replace(nodes, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class StopConfig:
    """When a run ends before its nodes have completed their rounds."""

    virtual_time: str | None = option(None, "At this time of the run's clock, e.g. 300s.")
    target_accuracy: float | None = option(
        None, "Once the mean accuracy of those nodes that evaluate themselves is this."
    )

    def __post_init__(self) -> None:
        if self.virtual_time is not None:
            check(parse_duration("virtual-time", self.virtual_time) > 0, "virtual-time must be above 0")
        check(
            self.target_accuracy is None or 0 < self.target_accuracy <= 1,
            "target-accuracy must be above 0, at most 1",
        )


@dataclass(frozen=True, kw_only=True)
class SimConfig:
    """One simulated run, but for the tables of a scenario file. Determined, byte for byte, by its values."""

    nodes: int = option(20, "How many nodes.")
    seed: int = option(0, "Seed of everything random except the split and the initial weights.")
    signed: bool = option(
        False, "Nodes sign what they say and take nothing unsigned; their keys come from the seed."
    )
    engine: Engine = option("virtual", "virtual: in virtual time; process: real node processes on loopback.")
    workers: str | None = option(
        None, "Processes that train and evaluate; or ray, or ray:ADDRESS of a cluster. [default: the cores]"
    )
    job_limit: str = option("10min", "A training job that takes longer ends the run: its worker hangs.")
    evaluate: EvaluateMode | None = option(
        None,
        "nodes: every node in every round; sample: 50 random ones; mean: only the mean model; "
        "end: only after the run. [default: nodes up to 50 nodes, else sample]",
    )
    out: str | None = option(None, "Folder for journal, summary and pictures. [default: runs/TIME]")
    data: DataConfig = group(DataConfig)
    training: TrainingConfig = group(TrainingConfig)
    gossip: GossipConfig = group(GossipConfig)
    evaluation: EvaluationConfig = group(EvaluationConfig)
    topology: TopologyConfig = group(TopologyConfig)
    links: LinksConfig = group(LinksConfig)
    devices: DevicesConfig = group(DevicesConfig)
    faults: FaultsConfig = group(FaultsConfig)
    attack: AttackConfig = group(AttackConfig)
    baselines: BaselinesConfig = group(BaselinesConfig)
    stop: StopConfig = group(StopConfig)

    def __post_init__(self) -> None:
        check(self.nodes >= 1, "nodes must be at least 1")
        check(self.seed >= 0, "seed must be 0 or more")
        check(parse_duration("job-limit", self.job_limit) > 0, "job-limit must be above 0")
        bootstrap = self.topology.bootstrap
        check(
            bootstrap is None or bootstrap < self.nodes,
            f"bootstrap must be below nodes: a node can know {self.nodes - 1} others",
        )
        check(
            self.training.rounds >= 1 or self.stop.virtual_time is not None,
            "rounds must be at least 1, or virtual-time be given: a simulated run has to end",
        )
        if self.attack.liars is not None:
            parse_amount("liars", self.attack.liars, self.nodes)
        for key in ("stragglers", "crash", "leave", "join_late", "hang"):
            section = self.devices if key == "stragglers" else self.faults
            parse_amount(key.replace("_", "-"), getattr(section, key), self.nodes)
        crashing = parse_amount("crash", self.faults.crash, self.nodes)
        parse_amount("restart", self.faults.restart, crashing)
        for item in self.baselines.cyclic_order:
            check(int(item) < self.nodes, f"cyclic-order: there is no node {item}")
        if self.workers is not None:
            ray = self.workers == "ray" or self.workers.startswith("ray:")
            if not ray and not (self.workers.isdecimal() and int(self.workers) >= 1):
                raise ConfigError("workers must be a number, at least 1, or ray, or ray:ADDRESS")
        if self.engine == "process":
            for key in ("duplication", "reordering", "corruption"):
                check(not getattr(self.links, key), f"{key} is not possible with engine process; use virtual")
            for key in ("skew", "drift"):
                given = parse_duration(key, self.devices.skew) if key == "skew" else self.devices.drift
                check(not given, f"{key} is not possible with engine process; use virtual")

    @property
    def bootstrap_peers(self) -> int:
        given = self.topology.bootstrap
        return min(BOOTSTRAP, self.nodes - 1) if given is None else given

    @property
    def evaluate_mode(self) -> EvaluateMode:
        if self.evaluate is not None:
            return self.evaluate
        return "nodes" if self.nodes <= EVALUATED_NODES else "sample"
