"""What was published, and the scenario that repeats it. Figures are accuracies in per cent, as printed.

| part | source |
|---|---|
| A | a university modelling week with an industrial partner, 2020: three workers, MNIST, a cyclic method |
| B | a master's thesis, 2021: a star network over REST |
| C | a conference talk, 2019, and a lab's newsletter, 2020: federated averaging under label skew |
| D | a graduate course project, 2021: federated averaging, Byzantine clients, leakage |
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from p2pfl.errors import ConfigError

Part = Literal["A", "B", "C", "D"]
PARTS: tuple[Part, ...] = ("A", "B", "C", "D")

_SHARE = 'how much "mostly" is was not said: 80 % of its digits here'
_SKEW = "how many other images was not said: 7 % of each other digit here, so that 61 % show a 0"
_CLIENTS = "the number of clients was not said: 3 here"
_SIGMOID = "the network was not said in full: two 12-channel 5x5 convolutions of stride 2 here"
_COMPLETE = "on the complete graph"
_MLP = "the model was not said: the MLP 784-256-128-10 here, SGD 0.1, batch 32"


@dataclass(frozen=True)
class Point:
    """After `round` rounds of the authors' method (0: its last) they had `published`. label: "1 tour"."""

    published: str
    round: int = 0
    label: str = ""


@dataclass(frozen=True)
class LeakRow:
    """An attack on gradients, which no scenario is. published: what they say came out.

    audited: the row of `p2pfl audit table` that repeats it.  least: PSNR of each picture that is asked of
    the attack here, dB, and then all labels; None where nothing is asked.
    """

    id: str
    setting: str
    published: str
    audited: str
    least: float | None = None
    chosen: str = ""
    part: Part = "D"


@dataclass(frozen=True)
class Row:
    """scenario: with the authors' own method.  method: which of its baselines that is.
    gossip: a scenario of its own for gossip, which is otherwise that of `scenario`.
    least: what gossip is to reach, per cent.
    chosen: what they left open, and what it is here.  bias: where it is the place on their bias dial.
    liars: where some of the clients lie, their share.
    """

    id: str
    setting: str
    scenario: str
    method: str
    points: tuple[Point, ...]
    seeds: int = 3
    least: float | None = None
    chosen: str = ""
    bias: float | None = None
    gossip: str | None = None
    liars: float | None = None

    @property
    def scenarios(self) -> tuple[str, ...]:
        """Of theirs, and of ours if it is another."""
        return (self.scenario,) if self.gossip is None else (self.scenario, self.gossip)

    @property
    def part(self) -> Part:
        (part,) = (part for part in PARTS if self.id.startswith(part))
        return part


def _tours(*published: str) -> tuple[Point, ...]:
    return tuple(
        Point(text, number, f"{number} tour{'s' * (number > 1)}") for number, text in enumerate(published, 1)
    )


ROWS: tuple[Row, ...] = (
    Row("A0", "pooled, 3 epochs", "A0", "centralised", (Point("97.85"),)),
    Row("A0b", "pooled, 3 epochs, over 60 % zeros", "A0b", "centralised", (Point("61"),), chosen=_SKEW),
    Row("A0i", "pooled, 3 epochs, only 0, 1, 2", "A0i", "centralised", (Point("31"),)),
    Row("A1", "cyclic, 3 workers, IID", "A1", "cyclic", _tours("93.49", "94.67", "96.15")),
    Row("A2", "cyclic, disjoint digits", "A2", "cyclic", _tours("27", "31"), least=90),
    Row("A2r", "cyclic, disjoint digits, 0-3 first", "A2r", "cyclic", _tours("15")),
    Row(
        "A3", "cyclic, mostly its own digits", "A3", "cyclic", (Point("61", 3, "3 tours"),), least=90,
        chosen=_SHARE,
    ),
    Row(
        "A3r", "cyclic, mostly its own digits, 0-3 last", "A3r", "cyclic", (Point("65", 3, "3 tours"),),
        least=90, chosen=_SHARE,
    ),
    Row(
        "A4", "cyclic, one balanced, two biased, the balanced one last", "A4", "cyclic",
        (Point("68", 3, "3 tours"),), least=90, chosen=_SHARE,
    ),
    Row(
        "A4f", "the same, the balanced one first", "A4f", "cyclic", (Point("55", 3, "3 tours"),), least=90,
        chosen=_SHARE,
    ),
    Row(
        "B1", "3 against 7, linear, 3 rounds of 20 epochs", "B1", "fedavg", (Point("93-98"),),
        chosen=_CLIENTS,
    ),
    Row(
        "B2", "chest X-rays, five layers of 3x3", "B2", "fedavg",
        (Point("50", 1, "1 round"), Point("70", 2, "2 rounds")),
        chosen=f"{_CLIENTS}, 16 channels, pictures of 28x28 (PneumoniaMNIST), judged on all held-out ones",
    ),
    Row("B3", "10 writers, softmax regression, 100 rounds", "B3", "fedavg", (Point("65.75"),)),
    Row("C1-pooled", "pooled", "C-uniform", "centralised", (Point("curve"),), chosen=_MLP),
    Row("C1-uniform", "uniform split", "C-uniform", "fedavg", (Point("as pooled"),), chosen=_MLP, bias=0.0),
    Row(
        "C1-90", "90 % of one class at each node", "C-90", "fedavg", (Point("slower, close"),),
        chosen=_MLP, bias=0.9,
    ),
    Row("C2-0.2", "bias 0.2", "C-20", "fedavg", (Point("curve"),), chosen=_MLP, bias=0.2),
    Row("C2-0.5", "bias 0.5", "C-50", "fedavg", (Point("curve"),), chosen=_MLP, bias=0.5),
    Row(
        "C2-1.0", "bias 1: one digit at each node", "C-100", "fedavg", (Point("well below pooled"),),
        least=90, chosen=_MLP, bias=1.0,
    ),
    *(
        Row(
            f"D1-{share}-{kind}",
            f"{share} % of the clients aggregated, {split}",
            f"D1-{share}-{kind}",
            "fedavg",
            (Point(published),),
            seeds=1,
            least=float(published),
            chosen=_SIGMOID,
        )
        for share, kind, split, published in (
            (10, "iid", "IID", "86.32"),
            (10, "skewed", "Dirichlet 0.9", "84.21"),
            (50, "iid", "IID", "86.75"),
            (50, "skewed", "Dirichlet 0.9", "83.15"),
            (100, "iid", "IID", "86.17"),
            (100, "skewed", "Dirichlet 0.9", "86.29"),
        )
    ),
    *(
        Row(
            f"D2-{share}-{rule}",
            f"{share} % flip labels, one aggregation by {rule}; gossip by median {where}",
            f"D2-{share}",
            f"fedavg:{rule}",
            (Point(published),),
            chosen=_SIGMOID,
            gossip=f"D2-{share}-complete" if where == _COMPLETE else None,
            liars=share / 100,
        )
        for rule, where, figures in (
            ("mean", "at fan-out 6", ("72.91", "71.41", "61.01", "40.81")),
            ("median", _COMPLETE, ("72.62", "72.66", "72.37", "70.37")),
        )
        for share, published in zip((0, 10, 20, 40), figures, strict=True)
    ),
    *(
        Row(
            f"D3-{share}-{short}",
            f"{share} % flip labels, 200 aggregations of one full step by {by}; gossip by median",
            f"D3-{share}",
            f"fedavg:{rule}",
            (Point("curve"),),
            seeds=1,
            chosen=_SIGMOID,
            liars=share / 100,
        )
        for share, short, rule, by in (
            (0, "mean", "mean", "mean"),
            (40, "mean", "mean", "mean"),
            (40, "median", "median", "median"),
            (40, "trimmed-2", "trimmed-mean:0.2", "trimmed mean, 20 % at each end"),
            (40, "trimmed-4", "trimmed-mean:0.4", "trimmed mean, 40 % at each end"),
        )
    ),
)  # fmt: skip


_WEIGHTS = "PyTorch's usual initial weights, where theirs were drawn more widely"

LEAKS: tuple[LeakRow, ...] = (
    LeakRow("D4-fashion", "gradient of one picture", "recovered", "fashion", 40, _WEIGHTS),
    LeakRow(
        "D4-cifar", "gradient of one colour picture", "recovered", "cifar", 30,
        f"{_WEIGHTS}; the same small network on three channels, where theirs was a sigmoid ResNet-18",
    ),
    LeakRow("D4-fashion-1", "gradient of 2 of one class", "partly, poorly", "fashion-2-one-class"),
    LeakRow("D4-fashion-2", "gradient of 2 of two classes", "partly, better", "fashion-2-classes"),
    LeakRow("D4-cifar-1", "gradient of 2 of one class, colour", "partly, better", "cifar-2-one-class"),
    LeakRow("D4-cifar-2", "gradient of 2 of two classes, colour", "partly, poorly", "cifar-2-classes"),
    LeakRow("D4-relu", "gradient of one picture, ReLU", "prevented", "fashion-relu"),
)  # fmt: skip


def chosen(name: str) -> tuple[Row | LeakRow, ...]:
    """Those of a part, of a table of one (D2), "all", or one id. ConfigError for what there is not."""
    every: tuple[Row | LeakRow, ...] = (*ROWS, *LEAKS)
    rows = tuple(row for row in every if name in ("all", row.part, row.id) or row.id.startswith(f"{name}-"))
    if not rows:
        near = difflib.get_close_matches(name, [row.id for row in every], n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(PARTS)}, all, and single rows"
        raise ConfigError(f"there is no row {name!r}; {hint}")
    return rows
