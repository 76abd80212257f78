"""What must hold of every run, whatever its network and its faults did: read from the journal alone.

| invariant | says |
|---|---|
| lives | a node stops only when a fault stops it, and is not heard of again until it starts again |
| progress | a node that is up completes a round within 20 times its modelled cost, and the run ends |
| finite | models, losses and distances stay finite |
| models | each model received is merged, superseded, repeated or displaced |
| messages | each message is delivered, lost, refused or still in flight |
| signatures | nobody is refused as a forger, and nobody as a replay of what was sent once |
| consensus | after the last fault has healed, settling brings the models together (settling.py) |

These hold of well-behaved nodes and learning rates; with a minority of adversaries, of nodes that merge
robustly, but for consensus. Those who merge by a mean may be made to diverge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from netsim.network import Account
from netsim.population import Device, devices
from netsim.scenario import Scenario
from netsim.settling import Settled
from p2pfl import arrival, courier
from p2pfl.errors import (
    BadSignature,
    MissingSignature,
    NotAllowed,
    Replayed,
    SignatureRequired,
    Unasked,
    WrongKey,
)
from p2pfl.gossip import deadlines
from p2pfl.learning.learner import FitPlan

Line = Mapping[str, Any]  # of the journal: t, node, event and the event's own fields

# A live node completes a round within this many times its modelled cost.
PATIENCE = 20
_RECEIVING = ("push", "push-pull")


@dataclass(frozen=True)
class Violation:
    """at: seconds of the run's clock.  node: index, None for the run as a whole."""

    invariant: str
    at: float
    node: int | None
    detail: str

    def __str__(self) -> str:
        who = "" if self.node is None else f" node {self.node}"
        return f"{self.invariant}: at {self.at:.3f} s{who} {self.detail}"


def check(lines: Sequence[Line], scenario: Scenario, end: Settled) -> list[Violation]:
    """All that a whole journal of the virtual engine breaks, in the order of the table.

    end: what settling.settled says of it.
    """
    return [
        *lives(lines),
        *progress(lines, scenario),
        *finite(lines),
        *models(lines),
        *signatures(lines, scenario),
        *consensus(end),
    ]


def lives(lines: Iterable[Line]) -> Iterator[Violation]:
    """Nodes stop by a fault alone, and those that are gone are silent."""
    up: set[int] = set()
    leaving: set[int] = set()
    for line in lines:
        index, event = line["node"], line["event"]
        if event == "fault-struck":
            if line["fault"] == "crash":
                up.difference_update(line["nodes"])
            elif line["fault"] == "leave":
                leaving.update(line["nodes"])
        elif not isinstance(index, int):
            continue
        elif event == "started":
            up.add(index)
            leaving.discard(index)
        elif event == "stopped":
            if index not in leaving:
                yield Violation("lives", line["t"], index, f"stopped by itself, {line['state']}")
            up.discard(index)
        elif index not in up and event != "model-evaluated":
            yield Violation("lives", line["t"], index, f"is down, and has {event}")
            up.add(index)  # said once


# -- progress


@dataclass(frozen=True)
class Budget:
    """The longest that a node may take for each stage, in true seconds during which it does not hang."""

    waiting: float
    training: float  # one round
    settling: float

    def of(self, state: str) -> float:
        return float(getattr(self, state, float("inf")))


def budget(scenario: Scenario, index: int, device: Device, started: Line) -> Budget:
    """started: the node's own event. Its clock may be fast or slow; its deadlines are by that clock."""
    training, gossip = scenario.training_of(index), scenario.gossip_of(index)
    size = 4 * started["parameters"]
    held = started["samples"]
    plan = FitPlan(np.arange(held), training.steps(held), training.batch_size, 0.0, 0.0, 0.0, 0)
    exchange = deadlines.longest(size)
    # One settle exchange: the pause before it, one under way to wait for, a hello if need be, the exchange.
    settle = gossip.interval + 2 * exchange + deadlines.longest(courier.HELLO_BYTES)
    joining = 2 * arrival.JOIN_DEADLINE + size / arrival.JOIN_RATE
    return Budget(
        waiting=joining / device.rate,
        training=PATIENCE * (plan.samples / device.speed + gossip.interval / device.rate),
        settling=max(1, gossip.settle) * settle / device.rate,
    )


@dataclass
class _Stage:
    """What a node has been doing since `since`, a time which time spent hanging moves on."""

    budget: Budget
    state: str
    round: int
    since: float
    hung: float | None = None

    def overdue(self, now: float) -> str | None:
        """What it should have done by now."""
        took = (now if self.hung is None else self.hung) - self.since
        most = self.budget.of(self.state)
        if took <= most + 1e-3:  # the journal rounds times
            return None
        what = f"round {self.round + 1}" if self.state == "training" else self.state
        return f"{what} takes {took:.1f} s, at most {most:.1f} are expected"


def progress(lines: Iterable[Line], scenario: Scenario) -> Iterator[Violation]:
    """Every node that is up gets on, also at the end of the run, which ends because all are done."""
    hardware = devices(scenario)
    stages: dict[int, _Stage] = {}
    ended = False
    for line in lines:
        index, event, now = line["node"], line["event"], line["t"]
        if event == "fault-struck":
            _strike(stages, line)
        elif event == "run-ended":
            ended = True
            yield from (
                Violation("progress", now, unfinished, late)
                for unfinished, stage in sorted(stages.items())
                if (late := stage.overdue(now))
            )
            if line["reason"] == "time" and scenario.config.training.rounds:
                waiting = [str(i) for i, stage in sorted(stages.items()) if stage.state != "done"]
                yield Violation("progress", now, None, f"the run does not end: nodes {', '.join(waiting)}")
        elif event == "started":
            least = budget(scenario, index, hardware[index], line)
            stages[index] = _Stage(least, "waiting", line["resumed_round"], now)
        elif event in ("state-changed", "round-completed") and index in stages:
            stage = stages[index]
            if (late := stage.overdue(now)) is not None:
                yield Violation("progress", now, index, late)
            stage.since = now
            if stage.hung is not None:
                stage.hung = now
            if event == "state-changed":
                stage.state = line["state"]
            else:
                stage.round = line["round"]
    if not ended:
        yield Violation("progress", 0.0, None, "the run broke off: its journal has no end")


def _strike(stages: dict[int, _Stage], line: Line) -> None:
    for index in line["nodes"]:
        if line["fault"] in ("crash", "leave"):
            stages.pop(index, None)
        elif index in stages and line["fault"] == "hang":
            stages[index].hung = line["t"]
        elif index in stages and line["fault"] == "resume":
            stage = stages[index]
            stage.since += line["t"] - (line["t"] if stage.hung is None else stage.hung)
            stage.hung = None


# -- numbers


_NUMBERS = ("loss", "distance", "age", "age_before", "accuracy")


def finite(lines: Iterable[Line]) -> Iterator[Violation]:
    """No model diverges. The journal writes what is not finite as null."""
    for line in lines:
        index = line["node"] if isinstance(line["node"], int) else None
        if line["event"] == "diverged":
            yield Violation("finite", line["t"], index, f"diverged in round {line['round']}")
        for name in _NUMBERS:
            if name in line and line[name] is None:
                yield Violation("finite", line["t"], index, f"{line['event']}: {name} is not finite")


# -- models and messages


@dataclass
class _Received:
    """Models that a node has received since its last merge. joining: what it pulls now is no inbox's."""

    models: int = 0
    joining: bool = True


def models(lines: Iterable[Line]) -> Iterator[Violation]:
    """What arrived since the last merge is what this merge says it was."""
    nodes: dict[int, _Received] = {}
    for line in lines:
        index, event = line["node"], line["event"]
        if event == "started":
            nodes[index] = _Received()
        if index not in nodes:
            continue
        received = nodes[index]
        if event == "state-changed":
            received.joining = False
        elif event == "served":
            received.models += line["mode"] in _RECEIVING
        elif event == "exchanged":
            received.models += line["got_model"] and not received.joining
        elif event == "merged":
            named = {key: line[key] for key in ("superseded", "repeated", "displaced")}
            told = len(line["senders"]) + sum(named.values())
            if told != received.models:
                parts = ", ".join(f"{count} {what}" for what, count in named.items())
                detail = f"received {received.models} models and merges {len(line['senders'])}, {parts}"
                yield Violation("models", line["t"], index, detail)
            received.models = 0


def messages(lines: Iterable[Line], account: Account) -> Iterator[Violation]:
    """What was sent is delivered, or accounted for; whoever was answered was heard.

    account: the network's, as the run ended. To be asked of the virtual engine alone.
    """
    told: Counter[str] = Counter()
    indices: dict[str, int] = {}  # of ids and of URLs
    answered: Counter[tuple[str, int, int]] = Counter()  # by mode, caller and callee
    heard: Counter[tuple[str, int, int]] = Counter()
    end = 0.0
    for line in lines:
        event = line["event"]
        end = max(end, line["t"])
        if event == "message-lost":
            told[line["cause"]] += 1
        elif event == "started":
            indices[line["id"]] = indices[line["url"]] = line["node"]
        elif event == "exchanged" and line["outcome"] == "ok" and line["mode"] != "pull":
            answered[line["mode"], line["node"], indices[line["url"]]] += 1
        elif event == "served" and line["mode"] != "pull":  # of a pull nobody says who it is
            heard[line["mode"], indices[line["peer"]], line["node"]] += 1
    if not account.balances:
        yield Violation("messages", end, None, f"do not add up: {account}")
    if +told != Counter(account.lost):
        yield Violation("messages", end, None, f"lost {dict(account.lost)}, and told of {dict(told)}")
    for (mode, caller, callee), missing in sorted((answered - heard).items()):
        detail = f"answered {missing} of node {caller}'s {mode} requests and never heard them"
        yield Violation("messages", end, callee, detail)


# What no network and no fault makes of an honest message: a damaged one has a wrong sum.
_FORGERIES = tuple(
    error.reason
    for error in (BadSignature, WrongKey, MissingSignature, SignatureRequired, NotAllowed, Unasked)
)


def signatures(lines: Iterable[Line], scenario: Scenario) -> Iterator[Violation]:
    """Honest nodes are never refused for what they sign, whatever overtakes what and whoever restarts.

    A message sent once is heard once. What a node sent in an earlier life may come after what it sends now.
    """
    doubled = scenario.config.links.duplication or any(rule.duplication for rule in scenario.rules)
    lives: Counter[str] = Counter()
    for line in lines:
        if line["event"] == "started":
            lives[line.get("id", "")] += 1
        elif line["event"] == "rejected":
            replay = line["reason"] == Replayed.reason and not doubled and lives[line["peer"]] < 2
            if replay or line["reason"] in _FORGERIES:
                detail = f"refuses a message of {line['peer'] or 'somebody'}: {line['detail']}"
                yield Violation("signatures", line["t"], line["node"], detail)


def consensus(seen: Settled) -> Iterator[Violation]:
    """Settling brings the models together, wherever that is claimed."""
    if seen.breaks and seen.left is not None:
        detail = f"{seen.left:.1%} of the consensus distance {seen.reference:.4g} is left after settling"
        yield Violation("consensus", seen.at, None, detail)
