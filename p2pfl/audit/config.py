"""`LeakConfig`: whose update is attacked, how it was made and sent, and by which attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from p2pfl.config import Codec
from p2pfl.options import check, option

Method = Literal["idlg", "dlg", "cosine"]
Draw = Literal["any", "one-class", "distinct"]

# Where none are asked for. The signed steps of `cosine` have a fixed length and need many.
ITERATIONS: dict[Method, int] = {"idlg": 100, "dlg": 100, "cosine": 1000}
# Of the total variation, within the range that Geiping et al. (2020) try.
TV = 1e-4


@dataclass(frozen=True, kw_only=True)
class LeakConfig:
    """One case. Equal configurations give equal results on equal processors and torch builds."""

    dataset: str = option(
        "fashion-mnist", "digits, mnist, fashion-mnist, cifar10, a .npz file, or a folder of class folders."
    )
    data_dir: str | None = option(
        None, "Where data sets lie or are downloaded to. [default: the user's data folder]", env="P2PFL_DATA"
    )
    model: str = option("cnn-sigmoid", "A model as nodes have it: a name or package.module:factory.")
    weights: str | None = option(
        None,
        "Safetensors file with the weights before training, from p2pfl node export. [default: initial ones]",
    )
    init_seed: int | None = option(None, "Seed of the initial weights. [default: from model and task]")
    train_to: float = option(0.0, "Train to this held-out accuracy before the audited training; 0 does not.")
    pictures: int = option(10, "Pictures that are attacked, in updates of equally many each.")
    draw: Draw = option("any", "Which share an update: any, one-class, or distinct (of different classes).")
    shard: int | None = option(None, "Pictures that a node trains on. [default: as many as a batch]")
    batch: int = option(1, "Pictures in a batch.")
    local_steps: int = option(
        0, "Batches between the weights before and after; 0 sends the gradient of the shard itself."
    )
    nodes: int = option(1, "Nodes whose models are averaged before the attacker sees anything of them.")
    lr: float = option(0.1, "Learning rate of the nodes' SGD.")
    codec: Codec = option("f32", "How the update travels: f32, f16, f32+deflate or f16+deflate.")
    noise: float = option(0.0, "Standard deviation of Gaussian noise on what is sent.")
    method: Method = option(
        "idlg",
        "idlg: matches gradients, with labels read from them; dlg: looks for the labels too; cosine: matches "
        "directions, with total variation.",
    )
    known_labels: bool = option(
        False, "Tell the attacker the labels, sorted: what stays hidden then is no matter of labels misread."
    )
    iterations: int | None = option(None, "Of the attack. [default: 100 of L-BFGS, 1000 of cosine]")
    restarts: int = option(0, "Further attempts from other noise; the best match counts.")
    tv: float | None = option(None, "Weight of the total variation. [default: 0.0001; cosine only]")
    seed: int = option(0, "Of the choice of pictures, of the noise, and of the attack's start.")
    device: str = option("cpu", "Where the attack computes: cpu, cuda, cuda:1, ...")
    threads: int = option(1, "Of torch; more than one helps big models only.")

    def __post_init__(self) -> None:
        check(self.init_seed is None or 0 <= self.init_seed < 2**63, "init-seed must be in [0, 2^63)")
        check(
            self.weights is None or self.init_seed is None,
            "weights and init-seed exclude each other; give one of them",
        )
        check(0 <= self.train_to < 1, "train-to must be in [0, 1)")
        check(self.batch >= 1, "batch must be at least 1")
        check(self.shard is None or self.shard >= 1, "shard must be at least 1")
        check(self.nodes >= 1, "nodes must be at least 1")
        check(self.local_steps >= 0, "local-steps must be 0 or more")
        check(
            self.local_steps > 0 or (self.nodes == 1 and self.held == self.batch),
            "a gradient is of one batch of one node; give --local-steps for --nodes or a larger --shard",
        )
        check(self.pictures >= 1, "pictures must be at least 1")
        check(
            self.pictures % self.together == 0,
            f"pictures must be a multiple of {self.together}, as many as one update is of",
        )
        check(0 < self.lr < float("inf"), "lr must be above 0")
        check(0 <= self.noise < float("inf"), "noise must be 0 or more")
        check(self.iterations is None or self.iterations >= 1, "iterations must be at least 1")
        check(self.restarts >= 0, "restarts must be 0 or more")
        check(not self.known_labels or self.method != "dlg", "dlg seeks the labels; take another --method")
        check(self.tv is None or self.method == "cosine", "tv is part of --method cosine alone")
        check(self.tv is None or 0 <= self.tv < float("inf"), "tv must be 0 or more")
        check(0 <= self.seed < 2**63, "seed must be in [0, 2^63)")
        check(self.threads >= 1, "threads must be at least 1")

    @property
    def held(self) -> int:
        """Pictures that a node trains on."""
        return self.batch if self.shard is None else self.shard

    @property
    def together(self) -> int:
        """Pictures that one update is of."""
        return self.held * self.nodes

    @property
    def smoothness(self) -> float:
        """The weight of the total variation."""
        return TV if self.tv is None else self.tv

    @property
    def steps_of_attack(self) -> int:
        return ITERATIONS[self.method] if self.iterations is None else self.iterations
