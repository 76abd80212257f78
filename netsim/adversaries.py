"""Who lies, how and when: the tables [[adversaries]] of a scenario, and its flags --attack and --liars."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from netsim.attacks import catalogue
from netsim.attacks.attack import Attack
from netsim.attacks.data import BackDoor
from netsim.attacks.liar import Window
from netsim.config import SimConfig
from netsim.units import parse_share, quantities_as_text
from p2pfl.config import build, check, flatten, option
from p2pfl.errors import ConfigError

# Nodes by name, or so many of the candidates: (nodes, amount, candidates) -> nodes. ConfigError.
Choose = Callable[[str | None, str | None, Sequence[int]], tuple[int, ...]]


@dataclass(frozen=True)
class Adversary:
    """Nodes with one attack, in some rounds. name: of the attack.  options: as they were written."""

    nodes: tuple[int, ...]
    name: str
    attack: Attack
    window: Window = field(default_factory=Window)
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class AdversaryTable:
    """Further keys are the attack's own options."""

    attack: str = option("", "A name, or package.module:Class of your own.")
    nodes: str | None = option(None, "Who: nodes or a group.")
    amount: str | None = option(None, "How many, drawn at random of those who are honest so far: 3 or 40%.")
    first: str = option("1", "The first round in which they lie: 5, or 30% of the rounds.")
    last: str | None = option(None, "The last one. [default: to the end]")


# As they are written -> fields of AdversaryTable: Python reserves "from".
_COMMON = {"attack": "attack", "nodes": "nodes", "amount": "amount", "from": "first", "until": "last"}


def liars(adversaries: Iterable[Adversary]) -> frozenset[int]:
    return frozenset(node for adversary in adversaries for node in adversary.nodes)


def back_doors(adversaries: Iterable[Adversary]) -> list[BackDoor]:
    """Each once, in order."""
    found = [a.attack for a in adversaries if isinstance(a.attack, BackDoor) and a.nodes]
    return list(dict.fromkeys(found))


def make_adversaries(
    config: SimConfig, tables: Iterable[Mapping[str, object]], choose: Choose
) -> tuple[Adversary, ...]:
    """From the tables as they are written, and --attack with --liars after them. ConfigError."""
    found: list[Adversary] = []

    def add(table: Mapping[str, object]) -> None:
        common, options = _split(table)
        flat = build(AdversaryTable, quantities_as_text(AdversaryTable, common))
        check(flat.attack != "", f"attack: which one? One of {', '.join(catalogue.ATTACKS)}")
        taken = liars(found)
        free = [node for node in range(config.nodes) if node not in taken]
        attack = catalogue.make(flat.attack, options)
        nodes = choose(flat.nodes, flat.amount, free)
        if not nodes:
            return
        attack.check(config.nodes, len(nodes))
        check(
            attack.sees == "itself" or config.engine == "virtual",
            f"attack {flat.attack}: its nodes have to know models of others, and processes do not; "
            "take engine virtual",
        )
        window = _window(config, flat.first, flat.last)
        found.append(Adversary(nodes, flat.attack, attack, window, options))
        _check_together(config, found)

    for table in tables:
        add(table)
    if config.attack.attack is not None:
        add({"attack": config.attack.attack, "amount": config.attack.liars})
    return tuple(found)


def recorded(adversaries: Iterable[Adversary]) -> list[dict[str, object]]:
    """As the journal holds them: with the nodes that amounts came to, and every option."""
    rows = []
    for adversary in adversaries:
        row: dict[str, object] = {"nodes": adversary.nodes, "attack": adversary.name}
        row |= flatten(adversary.attack)
        if adversary.window.first > 1:
            row["from"] = adversary.window.first
        if adversary.window.last < math.inf:
            row["until"] = int(adversary.window.last)
        rows.append(row)
    return rows


def _split(table: Mapping[str, object]) -> tuple[dict[str, object], dict[str, object]]:
    """The keys that every table has, and the options of its attack, spelled out or in the attack's spec."""
    common: dict[str, object] = {}
    options: dict[str, object] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name in _COMMON:
            common[_COMMON[name]] = value
        else:
            options[key] = value
    spec = common.get("attack")
    if isinstance(spec, str):
        common["attack"], spelled = catalogue.from_spec(spec)
        for key in spelled:
            check(key not in options, f"{key} is given twice, in attack and by itself")
        options |= spelled
    return common, options


def _window(config: SimConfig, first: str, last: str | None) -> Window:
    """Rounds, from texts."""
    begin = _round(config, "from", first, begins=True)
    end = math.inf if last is None else _round(config, "until", last, begins=False)
    check(begin <= end, f"until: they would end with round {end:g}, before they begin with round {begin}")
    return Window(begin, end)


def _round(config: SimConfig, key: str, text: str, *, begins: bool) -> int:
    text = text.strip()
    if text.endswith("%"):
        rounds = config.training.rounds
        check(rounds > 0, f"{key} {text}: a run without a number of rounds has no share of them")
        through = int(parse_share(key, text) * rounds + 1e-9)  # rounds that are over by then
        return through + 1 if begins else through
    is_round = text.isdecimal() and int(text) >= 1
    check(is_round, f"{key} {text!r} is neither a round, counted from 1, nor a share: 5 or 30%")
    return int(text)


def _check_together(config: SimConfig, adversaries: Sequence[Adversary]) -> None:
    honest = config.nodes - len(liars(adversaries))
    check(honest > 0, "nodes: nobody is left who is honest; take fewer adversaries")
    poisoned: set[int] = set()
    for adversary in adversaries:
        if adversary.attack.poisons:
            for node in sorted(poisoned & set(adversary.nodes)):
                raise ConfigError(f"nodes: node {node} would have two attacks on its data; give it one")
            poisoned |= set(adversary.nodes)
