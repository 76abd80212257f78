"""Everybody's lies in one process: who lies, from which chance, knowing of whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from netsim.adversaries import Adversary, liars
from netsim.attacks.liar import Circle, Liar, Lie
from netsim.population import stream


class Company:
    """seed: of the scenario.  purpose: the stream that the lies draw from.  nodes: how many there are."""

    def __init__(self, seed: int, adversaries: Sequence[Adversary], nodes: int, purpose: int) -> None:
        self._seed = seed
        self._adversaries = adversaries
        self._nodes = nodes
        self._purpose = purpose
        self.liars = liars(adversaries)
        honest = frozenset(range(nodes)) - self.liars
        self._circles: list[Circle | None] = []
        for adversary in adversaries:
            members = {"itself": None, "group": frozenset(adversary.nodes), "honest": honest}
            seen = members[adversary.attack.sees]
            self._circles.append(None if seen is None else Circle(seen))

    def maker(self, node: int) -> Callable[[int], Liar] | None:
        """Makes what lies for the node in each of its lives, counted from 0; None if nothing has to."""
        heard = any(a.attack.sees == "honest" for a in self._adversaries)
        return partial(self.liar, node) if node in self.liars or heard else None

    def liar(self, node: int, life: int = 0) -> Liar:
        """What lies for the node; of an honest one it lets others know what the node has."""
        if node in self.liars:
            # With one generator for all its lies each would depend on the others.
            seeded = stream(self._seed, node, self._purpose, life).spawn(len(self._adversaries))
            lies = [
                Lie(adversary.attack, adversary.window, len(adversary.nodes), rng, circle)
                for adversary, rng, circle in zip(self._adversaries, seeded, self._circles, strict=True)
                if node in adversary.nodes
            ]
            return Liar(node, self._nodes, lies)
        heard_by = [
            circle
            for adversary, circle in zip(self._adversaries, self._circles, strict=True)
            if circle is not None and adversary.attack.sees == "honest"
        ]
        return Liar(node, self._nodes, (), heard_by)
