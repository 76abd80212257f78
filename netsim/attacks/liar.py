"""How one node lies: what it lets its peers have, beside the honest node that it is inside."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from netsim.attacks.attack import Attack, Scene, Truth
from p2pfl.gossip.messages import Statement, Vector
from p2pfl.gossip.protocol import Gossip


@dataclass(frozen=True)
class Window:
    """The rounds in which an adversary lies, first and last included, counted from 1.

    After its last round a node only exchanges; it goes on as in that round.
    """

    first: int = 1
    last: float = math.inf

    def __contains__(self, round: int) -> bool:
        return self.first <= round <= self.last


@dataclass
class Circle:
    """Those of whom an attack knows: the newest of each, by node number. What others say is not kept."""

    members: frozenset[int]
    truths: dict[int, Truth] = field(default_factory=dict)

    def hears(self, node: int, truth: Truth) -> None:
        if node in self.members:
            self.truths[node] = truth

    def known(self) -> list[Truth]:
        return [self.truths[node] for node in sorted(self.truths)]


@dataclass
class Lie:
    """One attack at one node. circle: None if it knows only itself.  group: how many nodes make it."""

    attack: Attack
    window: Window
    group: int
    rng: np.random.Generator
    circle: Circle | None = None
    past: deque[Truth] = field(default_factory=deque)

    def remember(self, truth: Truth) -> None:
        if self.attack.remembers:
            self.past.append(truth)
            while len(self.past) > self.attack.remembers:
                self.past.popleft()

    def tell(self, node: int, truth: Truth, nodes: int) -> Truth:
        """What it makes of the truth, or of what another lie has made of it before."""
        if self.circle is not None:
            self.circle.hears(node, truth)
        if truth.round not in self.window:
            return truth
        known = [truth] if self.circle is None else self.circle.known()
        scene = Scene(truth, tuple(self.past), known, self.group, nodes)
        said = self.attack.says(scene, self.rng)
        return replace(truth, weights=said.weights, age=said.age, samples=said.samples)


class Liar:
    """One node's lies, in order, each made of what the one before has told; none of an honest node.

    node: its number.  nodes: how many there are.  heard_by: circles that get to know its truths: those of
    attacks that know of all honest nodes.
    """

    def __init__(self, node: int, nodes: int, lies: Sequence[Lie], heard_by: Iterable[Circle] = ()) -> None:
        self._node = node
        self._nodes = nodes
        self._lies = tuple(lies)
        self._heard_by = tuple(heard_by)

    def idles(self, round: int) -> bool:
        """Whether it leaves out the training of its round `round`, counted from 1."""
        return any(lie.attack.idles and round in lie.window for lie in self._lies)

    def trained(self, truth: Truth) -> None:
        """A round of training is over, and this is what came of it."""
        for lie in self._lies:
            lie.remember(truth)

    def show(self, truth: Truth) -> None:
        """Let those know what it has who know of it; its own group's attacks among them."""
        for circle in (*self._heard_by, *(lie.circle for lie in self._lies)):
            if circle is not None:
                circle.hears(self._node, truth)

    def tell(self, truth: Truth) -> Truth:
        """What it sends instead of the truth: the same if it is honest now."""
        self.show(truth)
        for lie in self._lies:
            truth = lie.tell(self._node, truth, self._nodes)
        return truth


class LyingGossip(Gossip):
    """The gossip of a node that trains, merges and answers honestly, and publishes what its liar tells."""

    def __init__(self, *args: Any, liar: Liar, **more: Any) -> None:
        super().__init__(*args, **more)
        self._liar = liar
        self._change: Vector = np.zeros(self.layout.size, np.float32)
        self._remembered = self.round
        self._told: tuple[Vector, Statement] | None = None  # own weights, and what was told of them

    def trained(self, weights: Vector, samples: int) -> None:
        self._change = weights - self.weights
        super().trained(weights, samples)

    def statement(self) -> Statement:
        """One lie for one model: what has not changed is not told differently."""
        if self._told is not None and self._told[0] is self.weights and self._told[1].round == self.round:
            return self._told[1]
        truth = Truth(self.weights, self._change, self.age, self.samples, self.round)
        if self.round > self._remembered:
            self._liar.trained(truth)
            self._remembered = self.round
        told = self._liar.tell(truth)
        statement = Statement(told.weights, told.age, self.round, told.samples)
        self._told = self.weights, statement
        return statement
