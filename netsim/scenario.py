"""An experiment: every scalar key (config.py), and what only a file's tables can say.

Tables name nodes by number ("0-4,7"), by the name of a group, or "*". What they leave to chance (an amount of
nodes) is drawn from the scenario's seed, so that both engines get the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar, get_args

from netsim import adversaries
from netsim.adversaries import Adversary, liars
from netsim.config import FaultsConfig, SimConfig
from netsim.links import LinkRule
from netsim.units import (
    Distribution,
    Moment,
    parse_amount,
    parse_distribution,
    parse_duration,
    parse_moment,
    parse_nodes,
    parse_rate,
    quantities_as_text,
)
from p2pfl.config import GossipConfig, TrainingConfig, build, check, flatten, keys, option
from p2pfl.errors import ConfigError

T = TypeVar("T")

EventKind = Literal["crash", "restart", "leave", "join", "hang", "resume", "cut", "heal"]

# What a group may set differently: what a node decides for itself. Model, data and rounds belong to the run.
_OF_THE_RUN = {"model", "init_seed", "rounds"}
OVERRIDES = {
    key.name: section
    for section, kind in (("training", TrainingConfig), ("gossip", GossipConfig))
    for key in keys(kind)
    if key.name not in _OF_THE_RUN
}


_LOSSES = ("loss", "duplication", "reordering", "corruption")


@dataclass(frozen=True)
class Group:
    """Nodes that differ from the others. overrides: keys of TrainingConfig and GossipConfig, with dashes.

    nat: they can call and cannot be called.  uplink, downlink: bytes a second.
    """

    name: str
    nodes: tuple[int, ...]
    overrides: Mapping[str, object] = field(default_factory=dict)
    nat: bool = False
    speed: Distribution | None = None
    uplink: float | None = None
    downlink: float | None = None


@dataclass(frozen=True)
class PlannedEvent:
    """A fault at a moment. lasting: until its opposite follows (restart, resume, heal); None: for good.

    nodes: whom it strikes.  parts: of a cut.
    """

    kind: EventKind
    at: Moment
    nodes: tuple[int, ...] = ()
    parts: tuple[tuple[int, ...], ...] = ()
    lasting: Moment | None = None


@dataclass(frozen=True)
class Scenario:
    """One run, whole. tables: as the user wrote them, for the copy that is kept with the run."""

    config: SimConfig
    groups: tuple[Group, ...] = ()
    rules: tuple[LinkRule, ...] = ()
    events: tuple[PlannedEvent, ...] = ()
    adversaries: tuple[Adversary, ...] = ()
    tables: Mapping[str, Sequence[Mapping[str, object]]] = field(default_factory=dict)

    @property
    def honest(self) -> tuple[int, ...]:
        """The nodes whose accuracies count."""
        lying = liars(self.adversaries)
        return tuple(node for node in range(self.config.nodes) if node not in lying)

    @property
    def nat(self) -> frozenset[int]:
        """The nodes that nobody can call."""
        return frozenset(node for group in self.groups if group.nat for node in group.nodes)

    def without_faults(self) -> Scenario:
        """The same without faults, losses and stragglers; latencies, bandwidths and devices stay."""
        config = replace(
            self.config,
            links=replace(self.config.links, loss=0.0, duplication=0.0, reordering=0.0, corruption=0.0),
            devices=replace(self.config.devices, stragglers="0"),
            faults=FaultsConfig(),
        )
        rules = tuple(
            replace(rule, loss=None, duplication=None, reordering=None, corruption=None)
            for rule in self.rules
        )
        lossless = [
            {key: value for key, value in row.items() if key not in _LOSSES}
            for row in self.tables.get("rules", ())
        ]
        tables = {key: rows for key, rows in self.tables.items() if key != "events"}
        if lossless:
            tables["rules"] = lossless
        return replace(self, config=config, rules=rules, events=(), tables=tables)

    def training_of(self, node: int) -> TrainingConfig:
        overrides = self._overrides(node, "training")
        if not overrides:
            return self.config.training
        return build(TrainingConfig, flatten(self.config.training) | overrides)

    def gossip_of(self, node: int) -> GossipConfig:
        overrides = self._overrides(node, "gossip")
        if not overrides:
            return self.config.gossip
        return build(GossipConfig, flatten(self.config.gossip) | overrides)

    def _overrides(self, node: int, section: str) -> dict[str, object]:
        """Of all groups that the node is in, later ones over earlier."""
        found: dict[str, object] = {}
        for group in self.groups:
            if node in group.nodes:
                for key, value in group.overrides.items():
                    if OVERRIDES[key.replace("-", "_")] == section:
                        if key in ("local-steps", "local-epochs"):  # they exclude each other
                            found |= {"local-steps": None, "local-epochs": None}
                        found[key] = value
        return found


# -- tables as they are written


@dataclass(frozen=True, kw_only=True)
class GroupTable:
    name: str = option("", "For other tables to name it.")
    nodes: str | None = option(None, "Which: 0-4,7.")
    amount: str | None = option(None, "How many, drawn at random of those in no group before: 10 or 20%.")
    nat: bool = option(False, "They can call and cannot be called.")
    speed: str | None = option(None, "Samples a second; a number or a distribution.")
    uplink: str | None = option(None, "For all that one sends.")
    downlink: str | None = option(None, "For all that one receives.")


@dataclass(frozen=True, kw_only=True)
class RuleTable:
    sender: str = option("*", "From whom: nodes, a group or *.")
    receiver: str = option("*", "To whom.")
    latency: str | None = option(None, "As in [links].")
    jitter: str | None = option(None, "As in [links].")
    bandwidth: str | None = option(None, "As in [links].")
    loss: float | None = option(None, "As in [links].")
    duplication: float | None = option(None, "As in [links].")
    reordering: float | None = option(None, "As in [links].")
    corruption: float | None = option(None, "As in [links].")


@dataclass(frozen=True, kw_only=True)
class EventTable:
    kind: str = option("", f"One of {', '.join(get_args(EventKind))}.")
    at: str = option("", "When: 12s, or 30% of the rounds.")
    nodes: str | None = option(None, "Whom: nodes or a group.")
    amount: str | None = option(None, "How many, drawn at random: 3 or 30%.")
    lasting: str | None = option(None, "How long: 12s, or 20% of the rounds.")
    parts: int | None = option(None, "cut: into so many random parts of equal size.")
    between: tuple[str, ...] = option(
        (), "cut: the parts, each a group or nodes; whoever is in none is one more."
    )


Draw = Any  # permutation(n: int) -> sequence of int: numpy's Generator


def _build(kind: type[T], table: Mapping[str, object]) -> T:
    return build(kind, quantities_as_text(kind, table))


def make_groups(config: SimConfig, tables: Iterable[Mapping[str, object]], rng: Draw) -> tuple[Group, ...]:
    """ConfigError for what cannot be; the caller adds where in the file."""
    groups: list[Group] = []
    for table in tables:
        own = {key.name for key in keys(GroupTable)}
        overrides = {
            key.replace("_", "-"): value for key, value in table.items() if key.replace("-", "_") not in own
        }
        for key in overrides:
            name = key.replace("-", "_")
            check(name not in _OF_THE_RUN, f"{key} belongs to the whole run; a group cannot set it")
        flat = _build(
            GroupTable, {key: value for key, value in table.items() if key.replace("-", "_") in own}
        )
        check(flat.name != "", "name: a group needs one")
        check(not flat.name[:1].isdigit() and flat.name != "*", f"name {flat.name!r} reads as node numbers")
        check(all(group.name != flat.name for group in groups), f"name {flat.name!r} is taken")
        for key in overrides:
            if key.replace("-", "_") not in OVERRIDES:
                build(GroupTable, {key: None})  # raises: unknown, with the nearest name
        taken = {node for group in groups for node in group.nodes}
        free = [node for node in range(config.nodes) if node not in taken]
        group = Group(
            flat.name,
            _select(config, groups, flat.nodes, flat.amount, free, rng),
            overrides,
            nat=flat.nat,
            speed=parse_distribution("speed", flat.speed, "number") if flat.speed else None,
            uplink=parse_rate("uplink", flat.uplink) if flat.uplink else None,
            downlink=parse_rate("downlink", flat.downlink) if flat.downlink else None,
        )
        scenario = Scenario(config, (*groups, group))
        for node in group.nodes[:1]:  # raises ConfigError for values out of range
            scenario.training_of(node), scenario.gossip_of(node)
        groups.append(group)
    return tuple(groups)


def make_rules(
    config: SimConfig, groups: Sequence[Group], tables: Iterable[Mapping[str, object]]
) -> tuple[LinkRule, ...]:
    rules = []
    for table in tables:
        flat = _build(RuleTable, table)
        for key in ("loss", "duplication", "reordering", "corruption"):
            share = getattr(flat, key)
            check(share is None or 0 <= share <= 1, f"{key} must be a share between 0 and 1")
            possible = key == "loss" or not share or config.engine == "virtual"
            check(possible, f"{key} is not possible with engine process; use virtual")
        rules.append(
            LinkRule(
                named_nodes(config, groups, "from", flat.sender),
                named_nodes(config, groups, "to", flat.receiver),
                latency=parse_distribution("latency", flat.latency, "duration") if flat.latency else None,
                jitter=parse_duration("jitter", flat.jitter) if flat.jitter else None,
                bandwidth=parse_rate("bandwidth", flat.bandwidth) if flat.bandwidth else None,
                loss=flat.loss,
                duplication=flat.duplication,
                reordering=flat.reordering,
                corruption=flat.corruption,
            )
        )
    return tuple(rules)


def make_events(
    config: SimConfig, groups: Sequence[Group], tables: Iterable[Mapping[str, object]], rng: Draw
) -> tuple[PlannedEvent, ...]:
    events = []
    for table in tables:
        flat = _build(EventTable, table)
        check(flat.kind in get_args(EventKind), f"kind must be one of {', '.join(get_args(EventKind))}")
        check(flat.at != "", "at: when does it strike? For example 12s or 30%")
        lasting = parse_moment("lasting", flat.lasting) if flat.lasting else None
        check(
            lasting is None or flat.kind in ("crash", "hang", "cut"),
            f"lasting has no meaning for {flat.kind}; crash, hang and cut can last",
        )
        nodes: tuple[int, ...] = ()
        parts: tuple[tuple[int, ...], ...] = ()
        every = range(config.nodes)
        if flat.kind == "cut":
            check(flat.nodes is None and flat.amount is None, "nodes: of a cut, give parts or between")
            parts = _parts(config, groups, flat, rng)
        else:
            check(
                flat.parts is None and not flat.between,
                f"parts and between belong to a cut, not to {flat.kind}",
            )
            if flat.kind != "heal":
                nodes = _select(config, groups, flat.nodes, flat.amount, every, rng)
        events.append(PlannedEvent(flat.kind, parse_moment("at", flat.at), nodes, parts, lasting))  # type: ignore[arg-type]
    return tuple(events)


def make_adversaries(
    config: SimConfig, groups: Sequence[Group], tables: Iterable[Mapping[str, object]], rng: Draw
) -> tuple[Adversary, ...]:
    def choose(nodes: str | None, amount: str | None, candidates: Sequence[int]) -> tuple[int, ...]:
        return _select(config, groups, nodes, amount, candidates, rng)

    return adversaries.make_adversaries(config, tables, choose)


def named_nodes(config: SimConfig, groups: Sequence[Group], key: str, text: str) -> tuple[int, ...]:
    """ "edge" -> the nodes of that group; otherwise as parse_nodes."""
    for group in groups:
        if group.name == text:
            return group.nodes
    if not text[:1].isdigit() and text != "*":
        known = ", ".join(group.name for group in groups) or "none is defined"
        raise ConfigError(f"{key}: there is no group {text!r}; groups: {known}")
    return parse_nodes(key, text, config.nodes)


def _select(
    config: SimConfig,
    groups: Sequence[Group],
    nodes: str | None,
    amount: str | None,
    candidates: Sequence[int],
    rng: Draw,
) -> tuple[int, ...]:
    """The nodes named, or so many random ones of `candidates`; exactly one of the two is given."""
    check((nodes is None) != (amount is None), "nodes or amount: say who, by one of the two")
    if nodes is not None:
        return named_nodes(config, groups, "nodes", nodes)
    count = parse_amount("amount", str(amount), config.nodes)
    check(count <= len(candidates), f"amount {amount} is more than there are left: {len(candidates)}")
    order = rng.permutation(len(candidates))[:count]
    return tuple(sorted(candidates[int(i)] for i in order))


def _parts(
    config: SimConfig, groups: Sequence[Group], flat: EventTable, rng: Draw
) -> tuple[tuple[int, ...], ...]:
    if flat.between:
        check(flat.parts is None, "parts and between exclude each other; give one of them")
        parts = tuple(named_nodes(config, groups, "between", text) for text in flat.between)
        everyone = [node for part in parts for node in part]
        check(len(set(everyone)) == len(everyone), "between: a node is in two parts")
        return parts
    count = 2 if flat.parts is None else flat.parts
    check(2 <= count <= config.nodes, "parts must be at least 2 and at most as many as nodes")
    order = [int(i) for i in rng.permutation(config.nodes)]
    return tuple(tuple(sorted(order[i::count])) for i in range(count))
