"""Frozen, validated configuration. Every field is a command-line flag and a key of the TOML file.

A node's configuration is made of groups (data, training, gossip, evaluation) that the simulator shares;
flags and files are flat: `local_epochs` is `--local-epochs` and the key `local-epochs`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from p2pfl import merge_rule
from p2pfl.errors import ConfigError
from p2pfl.merge_rule import MergeRule
from p2pfl.options import Key, build, changed, check, flatten, group, keys, option
from p2pfl.profiles import PROFILES, Profile
from p2pfl.thrift_config import ThriftConfig
from p2pfl.urls import (
    TASK_PATH,
    TASKS,
    check_address,
    check_url,
    is_task_name,
    is_task_path,
    parse_listen,
    split_path,
)

__all__ = [
    "NOWHERE",
    "TASKS",
    "TASK_PATH",
    "Codec",
    "DataConfig",
    "EvaluationConfig",
    "GossipConfig",
    "GossipMode",
    "Key",
    "LogLevel",
    "MergeRule",
    "NodeConfig",
    "Schedule",
    "SecurityConfig",
    "ThriftConfig",
    "TrainingConfig",
    "build",
    "changed",
    "check",
    "check_address",
    "check_url",
    "flatten",
    "group",
    "is_task_name",
    "is_task_path",
    "keys",
    "option",
    "parse_listen",
    "parse_shard",
    "split_path",
]

GossipMode = Literal["push", "pull", "push-pull"]
Schedule = Literal["constant", "cosine"]
Codec = Literal["f32", "f16", "f32+deflate", "f16+deflate"]
LogLevel = Literal["debug", "info", "warning", "error"]
Discovery = Literal["none", "mdns"]
TrainIn = Literal["auto", "process", "thread"]

# --advertise of a node that nobody can call.
NOWHERE = "none"

# Of local epochs, local steps and samples in a batch: what 32 bits hold, so that their products fit in 64.
MOST = 2**31 - 1
# Learning rate, a little below the largest float32.
STEEPEST = 1e38

# What may be changed in a running node (controls.py), as JSON Schema says it.
SETTABLE: dict[str, dict[str, object]] = {
    "lr": {"type": "number", "exclusiveMinimum": 0, "maximum": STEEPEST},
    "local_steps": {"type": ["integer", "null"], "minimum": 1, "maximum": MOST},
    "local_epochs": {"type": ["integer", "null"], "minimum": 1, "maximum": MOST},
    "batch_size": {"type": "integer", "minimum": 1, "maximum": MOST},
    "fanout": {"type": "integer", "minimum": 1},
    "merge": {"type": "string"},
}


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which data, and how it is split."""

    dataset: str = option(
        "digits",
        "digits, mnist, fashion-mnist, cifar10, a .npz file (MedMNIST array names), "
        "or a folder of class folders.",
    )
    data_dir: str | None = option(
        None, "Where data sets lie or are downloaded to. [default: the user's data folder]", env="P2PFL_DATA"
    )
    classes: tuple[str, ...] = option(
        (), "Class names in label order, for a data set that does not name them all."
    )
    task: str | None = option(
        None, "Name of the task; peers of another task are refused. [default: the data set's]"
    )
    keep_classes: tuple[str, ...] = option((), "Keep only these classes, e.g. 3,7.")
    keep_per_class: tuple[str, ...] = option(
        (), "Share of each class's training samples to keep, e.g. 0=1.0,rest=0.075."
    )
    keep_writers: int | None = option(None, "Keep only the samples of the first N writers (MNIST).")
    partition: str = option(
        "iid",
        "How the training data is split over nodes: iid, dirichlet:A, classes:K, bias:B, groups:SPEC, "
        "quantity:A, by-writer, draw:K.",
    )
    partition_seed: int = option(0, "Seed of the split; equal on all nodes of one split.")

    def __post_init__(self) -> None:
        check(self.partition_seed >= 0, "partition-seed must be 0 or more")
        check(self.keep_writers is None or self.keep_writers >= 1, "keep-writers must be at least 1")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What a node does alone."""

    model: str = option(
        "mlp", "softmax, mlp, cnn, cnn-dropout, cnn-sigmoid, resnet18, or package.module:factory."
    )
    init_seed: int | None = option(
        None, "Seed of the initial weights; equal on all nodes. [default: from model and task]"
    )
    rounds: int = option(20, "Rounds of local training; 0 trains until stopped.")
    local_epochs: int | None = option(None, "Passes over the node's own data in a round. [default: 1]")
    local_steps: int | None = option(None, "Batches in a round, instead of --local-epochs.")
    batch_size: int = option(32, "Samples in a batch.")
    lr: float = option(0.1, "Learning rate of SGD.")
    lr_schedule: Schedule = option(
        "constant", "constant, or cosine (falls to 0 over the rounds; for long runs on skewed data)."
    )
    momentum: float = option(0.0, "Momentum of SGD, in [0, 1).")
    weight_decay: float = option(0.0, "L2 penalty, 0 or more.")

    def __post_init__(self) -> None:
        check(self.rounds >= 0, "rounds must be 0 (until stopped) or more")
        check(self.init_seed is None or 0 <= self.init_seed < 2**63, "init-seed must be in [0, 2^63)")
        check(
            self.local_epochs is None or self.local_steps is None,
            "local-epochs and local-steps exclude each other; give one of them",
        )
        for name in ("local_epochs", "local_steps", "batch_size"):
            value, shown = getattr(self, name), name.replace("_", "-")
            check(value is None or value >= 1, f"{shown} must be at least 1")
            check(value is None or value <= MOST, f"{shown} must be at most {MOST:,}")
        check(0 < self.lr < float("inf"), "lr must be above 0")
        check(self.lr <= STEEPEST, f"lr must be at most {STEEPEST:g}; a float32 weight holds no larger step")
        check(0 <= self.momentum < 1, "momentum must be in [0, 1)")
        check(0 <= self.weight_decay < float("inf"), "weight-decay must be 0 or more")
        check(
            self.lr_schedule != "cosine" or self.rounds > 0,
            "lr-schedule cosine needs a number of rounds; give --rounds",
        )

    def learning_rate(self, round: int) -> float:
        """Of the round after `round` completed ones: constant, or lr x (1 + cos(pi x round / rounds)) / 2.

        Cosine: Loshchilov and Hutter 2017, equation 5, without restarts.
        """
        if self.lr_schedule == "constant":
            return self.lr
        return self.lr * (1 + math.cos(math.pi * min(round, self.rounds) / self.rounds)) / 2

    def steps(self, samples: int) -> int:
        """Batches in one round over `samples` samples; the last batch of an epoch may be smaller."""
        if self.local_steps is not None:
            return self.local_steps
        return (self.local_epochs or 1) * -(-samples // self.batch_size)


@dataclass(frozen=True, kw_only=True)
class GossipConfig:
    """What nodes say to each other, and how often."""

    gossip: GossipMode = option("push-pull", "push, pull or push-pull: what an exchange carries.")
    fanout: int = option(2, "Peers that a node exchanges with after each round.")
    merge: str = option(
        "mean",
        "mean (all equal), age (by samples seen), samples (by training samples held); or against liars: "
        + ", ".join(form for name, form in merge_rule.FORMS.items() if name not in merge_rule.WEIGHTED)
        + "; these with least=K wait for K models; or a function of yours, package.module:function.",
    )
    settle: int = option(4, "Push-pull exchanges with merging and no training after the last round.")
    interval: float = option(
        1.0, "Least time between a node's exchanges, in seconds; 0: as fast as it trains."
    )
    codec: Codec = option("f32", "How weights travel: f32, f16 (half the bytes), or either with +deflate.")
    view_size: int = option(64, "Most peers that a node remembers.")
    probe_interval: float = option(
        1.0, "Time between a node's probes of its peers, in seconds; whoever dies is noticed some ten later."
    )
    fixed_peers: bool = option(
        False,
        "Exchange with the peers given and with no others, however many they are: none are learnt, none are "
        "passed on. Who is not among them may call, and is answered.",
    )

    def __post_init__(self) -> None:
        merge_rule.parse(self.merge)
        check(self.fanout >= 1, "fanout must be at least 1; a node that tells nobody does not gossip")
        check(self.settle >= 0, "settle must be 0 or more")
        check(0 <= self.interval < float("inf"), "interval must be 0 or more seconds")
        check(self.view_size >= 1, "view-size must be at least 1")
        check(0.01 <= self.probe_interval <= 86_400, "probe-interval must be 0.01 to 86400 seconds")

    @property
    def rule(self) -> MergeRule:
        return merge_rule.parse(self.merge)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    evaluate_every: int = option(1, "Evaluate on the held-out data every N rounds; 0: never.")
    evaluate_samples: int = option(0, "Held-out samples in an evaluation; 0: all.")

    def __post_init__(self) -> None:
        check(self.evaluate_every >= 0, "evaluate-every must be 0 (never) or more")
        check(self.evaluate_samples >= 0, "evaluate-samples must be 0 (all) or more")


@dataclass(frozen=True, kw_only=True)
class SecurityConfig:
    """Who may ask a node for what, and how often. SECURITY.md says what each choice promises."""

    tls_cert: str | None = option(
        None, "Certificate of this node (PEM); with --tls-key and --tls-ca: mutual TLS, see 'p2pfl keys'."
    )
    tls_key: str | None = option(None, "Private key of --tls-cert (PEM).")
    tls_ca: str | None = option(
        None, "Certificates of the authorities (PEM) that peers' certificates must come from."
    )
    token: str | None = option(
        None,
        "Shared secret that all requests must carry; better as a file or in the environment, where other "
        "users of the machine do not see it.",
        env="P2PFL_TOKEN",
        secret=True,
    )
    token_file: str | None = option(None, "File with that secret; 'p2pfl keys token' makes one.")
    control_token: str | None = option(
        None,
        "Secret of whoever operates this one node, to pause, set or stop it; better as a file or in the "
        "environment. [default: one is made, kept in --state-dir and printed]",
        env="P2PFL_CONTROL_TOKEN",
        secret=True,
    )
    control_token_file: str | None = option(None, "File with the operator's token.")
    public_status: bool = option(
        False, "Show status, peers, layout and health also to those without token or certificate."
    )
    max_requests: float = option(
        500.0, "Requests a second that one address may make, four times as many at once; 0: any number."
    )
    max_megabytes: float = option(
        250.0, "Megabytes a second that one address may send or fetch, 2 GB at once; 0: any amount."
    )

    def __post_init__(self) -> None:
        given = [name for name in ("tls_cert", "tls_key", "tls_ca") if getattr(self, name) is not None]
        check(
            len(given) in (0, 3),
            f"{' and '.join(name.replace('_', '-') for name in given)} alone would not give mutual TLS; "
            "give --tls-cert, --tls-key and --tls-ca, or none of them",
        )
        check(self.token is None or self.token_file is None, "give the token or token-file, not both")
        check(
            self.control_token is None or self.control_token_file is None,
            "give the control-token or control-token-file, not both",
        )
        check(0 <= self.max_requests < float("inf"), "max-requests must be 0 (any number) or more")
        check(0 <= self.max_megabytes < float("inf"), "max-megabytes must be 0 (any amount) or more")

    @property
    def tls(self) -> bool:
        return self.tls_cert is not None


@dataclass(frozen=True, kw_only=True)
class NodeConfig:
    """One node. See docs/design.md for what each choice trades."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, object]]] = PROFILES

    profile: Profile = option(
        "none", "edge: defaults for a small device on a slow link; what else is given wins over them."
    )
    listen: str = option("127.0.0.1:8470", "HOST:PORT to listen on; port 0 takes a free one.")
    advertise: str | None = option(
        None,
        "URL under which peers reach this node; none: they cannot, for instance behind a home router. "
        "[default: the listening address]",
    )
    call_from: str | None = option(
        None,
        "Local IP address that connections to peers are made from, on a machine with several. "
        "[default: the system's choice]",
    )
    peers: tuple[str, ...] = option((), "URL of a node to start with; repeatable, or a comma list.")
    discover: Discovery = option(
        "none",
        "none, or mdns: find nodes of the same task on the local network, and be found there (extra lan).",
    )
    min_peers: int = option(0, "Peers to know before training starts.")
    wait: float = option(60.0, "Longest wait for --min-peers, in seconds; then it trains with those it has.")
    name: str = option("", "A name for people, in logs and status.")
    shard: str = option("0/1", "I/N: take the I-th of the N parts of the split, counted from 0.")
    threads: int = option(1, "Torch threads for training; more than one pays only for large models.")
    train_in: TrainIn = option(
        "auto",
        "process: training has a process of its own, which serving peers does not disturb; thread: it is a "
        "thread of this one; auto: a process on Linux, but a thread for a learner of your own.",
    )
    seed: int | None = option(None, "Seed of batch order, dropout and peer choice. [default: from the OS]")
    state_dir: str | None = option(
        None, "Folder that keeps weights, optimiser state, round, identity and peers over restarts."
    )
    checkpoint_every: int = option(
        1, "Save to --state-dir after every N-th round; up to N rounds are lost if the node is killed."
    )
    journal: str | None = option(None, "File to append every event to, as JSON lines.")
    require_signed: bool = option(False, "Take nothing from nodes that do not sign what they say.")
    allow: str | None = option(
        None,
        "File of the identities that may take part, one on each line; nothing else is taken, and nothing "
        "unsigned.",
    )
    exit_when_done: bool = option(False, "Exit once this node and all live peers it knows are done.")
    linger: float = option(60.0, "With --exit-when-done: longest wait for the others, in seconds.")
    log_level: LogLevel = option("info", "debug, info, warning or error.")
    log_json: bool = option(False, "Log JSON lines instead of text.")
    data: DataConfig = group(DataConfig)
    training: TrainingConfig = group(TrainingConfig)
    gossip: GossipConfig = group(GossipConfig)
    evaluation: EvaluationConfig = group(EvaluationConfig)
    security: SecurityConfig = group(SecurityConfig)
    thrift: ThriftConfig = group(ThriftConfig)

    def __post_init__(self) -> None:
        parse_listen(self.listen)
        parse_shard(self.shard)
        for key, url in [*(("peers", peer) for peer in self.peers), ("advertise", self.advertise)]:
            if url is None or (key, url) == ("advertise", NOWHERE):
                continue
            check_url(key, url)
            plain = self.security.tls and not url.startswith("https:")
            check(not plain, f"{key}: {url!r} is plain HTTP, and this node speaks TLS only; give https://")
        if self.call_from is not None:
            check_address("call-from", self.call_from)
        check(self.min_peers >= 0, "min-peers must be 0 or more")
        if self.gossip.fixed_peers:
            check(
                self.min_peers <= len(self.peers),
                f"min-peers {self.min_peers} is more than the {len(self.peers)} fixed peers",
            )
        else:
            check(
                self.min_peers <= self.gossip.view_size,
                f"min-peers {self.min_peers} is more than view-size {self.gossip.view_size} can hold",
            )
        check(0 <= self.wait < float("inf"), "wait must be 0 or more seconds")
        check(0 <= self.linger < float("inf"), "linger must be 0 or more seconds")
        check(self.checkpoint_every >= 1, "checkpoint-every must be at least 1")
        check(self.threads >= 1, "threads must be at least 1")
        check(self.seed is None or self.seed >= 0, "seed must be 0 or more")
        check(len(self.name) <= 64, "name must have at most 64 characters")


def parse_shard(shard: str) -> tuple[int, int]:
    """ "I/N" -> (index, parts). ConfigError unless 0 <= I < N."""
    index, slash, parts = shard.partition("/")
    if not slash or not index.isdecimal() or not parts.isdecimal() or not int(index) < int(parts):
        raise ConfigError(f"shard {shard!r} is not I/N with 0 <= I < N; for example 0/4, 1/4, 2/4, 3/4")
    return int(index), int(parts)
