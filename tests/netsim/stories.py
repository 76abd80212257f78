"""Journals of runs that never happened: believable, full of faults, the same for the same arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from netsim.journal import (
    SIMULATOR,
    BaselineEvaluated,
    ConsensusMeasured,
    FaultStruck,
    Journal,
    MessageLost,
    ModelEvaluated,
    RunEnded,
    RunStarted,
    TopologyDrawn,
)
from p2pfl.events import (
    Evaluated,
    Event,
    Exchanged,
    Rejected,
    RoundCompleted,
    Served,
    Started,
    StateChanged,
    Trained,
)

MODEL = 200_000  # bytes
HELLO = 260
TEST_SAMPLES = 1000
Confusion = tuple[tuple[int, ...], ...]


@dataclass
class Tale:
    """Collects events in any order and writes them in the order of time.

    evaluate: as in a configuration.  faults, baselines, graph: whether there are any.  adversaries: nodes.
    """

    nodes: int = 12
    rounds: int = 8
    classes: tuple[str, ...] = tuple("0123456789")
    evaluate: str = "nodes"
    faults: bool = True
    baselines: bool = True
    graph: bool = False
    adversaries: tuple[int, ...] = ()
    config: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.nodes)
        self._lines: list[tuple[float, int, int | str, Event]] = []
        speeds = self._rng.uniform(0.8, 1.25, self.nodes)
        if self.faults:
            speeds[-max(1, self.nodes // 5) :] *= 1.9
        self.spans = 2.0 * speeds  # seconds of a round
        self.end = float(np.median(self.spans)) * self.rounds * 2 + 8.0
        # (crash, restart or infinity) of those that crash: nearly a third, half of them come back
        crashing = self._rng.permutation(self.nodes)[: self.nodes * 3 // 10] if self.faults else []
        self.away: dict[int, tuple[float, float]] = {}
        for count, node in enumerate(sorted(int(node) for node in crashing)):
            crash = float(self._rng.uniform(0.1, 0.3)) * self.end
            self.away[node] = (crash, crash + 0.12 * self.end if count % 2 else np.inf)

    def write(self, path: Path) -> Path:
        for node in range(self.nodes):
            self._node(node)
        if self.faults:
            self._cut_and_more()
        if self.graph:
            edges = {
                tuple(sorted((i, (i + step) % self.nodes))) for i in range(self.nodes) for step in (1, 3)
            }
            self._add(0.0, SIMULATOR, TopologyDrawn(tuple(sorted((a, b) for a, b in edges if a != b))))
        self._simulator()
        if self.baselines:
            for name in ("centralised", "isolated", "cyclic", "fedavg", "d-psgd"):
                self._baseline(name)
        config = {
            "nodes": self.nodes, "seed": 7, "engine": "virtual", "dataset": "mnist", "model": "mlp",
            "partition": "dirichlet:0.5", "rounds": self.rounds, "evaluate": self.evaluate,
            "topology": "edges" if self.graph else "sampling", "loss": 0.1 if self.faults else 0.0,
            **self.config,
        }  # fmt: skip
        if self.adversaries:
            config["adversaries"] = [
                {"nodes": self.adversaries, "attack": "label-flip", "mapping": "reverse"}
            ]
        with Journal(path) as journal:
            journal.write(0, SIMULATOR, RunStarted(config, self.classes))
            for time, _, node, event in sorted(self._lines, key=lambda line: line[:2]):
                journal.write(time, node, event)
        return path

    def _add(self, time: float, node: int | str, event: Event) -> None:
        self._lines.append((float(time), len(self._lines), node, event))

    def _accuracy(self, node: int, progress: float) -> float:
        """progress: 0 to 1 of the rounds."""
        if node in self.adversaries:
            return 0.1 + 0.05 * float(self._rng.random())
        level = 0.955 - 0.03 * ((node * 7) % 10) / 10
        noise = float(self._rng.normal(0, 0.012)) * (1 - progress)
        return float(np.clip(level - 0.85 * np.exp(-4.5 * progress) + noise, 0.02, 0.99))

    def confusion(self, accuracy: float) -> Confusion:
        """Rows with TEST_SAMPLES / C samples each, `accuracy` of them on the diagonal."""
        count = len(self.classes)
        each = TEST_SAMPLES // count
        rows = []
        for i in range(count):
            shares = self._rng.dirichlet(np.full(count, 0.35))
            shares[i] = 0
            wrong = round(each * (1 - accuracy))
            row = np.floor(wrong * shares / max(shares.sum(), 1e-9)).astype(int)
            row[i] = each - row.sum()
            rows.append(tuple(int(value) for value in row))
        return tuple(rows)

    def _evaluated(self, round: int, accuracy: float) -> Evaluated:
        loss = 2.4 * (1 - accuracy) + 0.05
        return Evaluated(
            round, round * 600.0, TEST_SAMPLES, loss, accuracy, accuracy, self.confusion(accuracy)
        )

    def url(self, node: int) -> str:
        return f"http://10.0.{node // 250}.{node % 250 + 1}:8470"

    def _start(self, time: float, node: int) -> None:
        labels = (600 * self._rng.dirichlet(np.full(len(self.classes), 0.5))).astype(int)
        self._add(
            time,
            node,
            Started(f"id{node}", f"n{node}", self.url(node), "mnist", "mlp", "f" * 32, 50_000,
                    int(labels.sum()), tuple(int(count) for count in labels), 0),
        )  # fmt: skip
        self._add(time, node, StateChanged("waiting"))
        self._add(time + 0.1, node, StateChanged("training"))

    def _node(self, node: int) -> None:
        crash, back = self.away.get(node, (np.inf, np.inf))
        late = self.faults and node == 1
        now = 0.2 * self.end if late else 0.0
        if late:
            self._fault(now, "join", (node,))
        self._start(now, node)
        now += 0.1
        for round in range(1, self.rounds + 1):
            now += float(self.spans[node] * self._rng.uniform(0.95, 1.05))
            if now > crash:
                if not np.isfinite(back):
                    return
                now, crash = back + 0.1 + self.spans[node], np.inf
                self._start(back, node)
            self._add(now, node, Trained(round, 20, 600, 0.5, float(self.spans[node])))
            self._add(now, node, RoundCompleted(round, 600.0 * round))
            if self.evaluate == "nodes":
                self._add(now, node, self._evaluated(round, self._accuracy(node, round / self.rounds)))
            for _ in range(2):
                self._exchange(now, node)
        self._add(now, node, StateChanged("settling"))
        for step in range(4):
            self._exchange(now + 0.3 * (step + 1), node)
        now += 1.5
        if self.evaluate == "nodes":
            self._add(now, node, self._evaluated(self.rounds, self._accuracy(node, 1.0)))
        self._add(now, node, StateChanged("done"))

    def _exchange(self, now: float, node: int) -> None:
        peer = (node + int(self._rng.integers(1, max(2, self.nodes)))) % self.nodes
        if peer == node:
            return
        mode, lost = "push-pull", self.faults and self._rng.random() < 0.1
        received = 0 if lost else MODEL
        outcome = "timed-out" if lost else "ok"
        self._add(
            now + 0.2, node,
            Exchanged(mode, f"id{peer}", self.url(peer), MODEL, received, not lost, 0.2, outcome),
        )  # fmt: skip
        if lost:
            self._add(now + 0.1, SIMULATOR, MessageLost(node, peer, "request", MODEL, "loss"))
        else:
            self._add(now + 0.1, peer, Served(mode, f"id{node}", MODEL, MODEL))

    def _fault(
        self,
        time: float,
        fault: str,
        nodes: Sequence[int],
        parts: Sequence[Sequence[int]] = (),
        number: int = 0,
    ) -> None:
        running = self.nodes - sum(crash <= time < back for crash, back in self.away.values())
        training = max(0, round(running * min(1.0, 1.6 * (1 - time / self.end))))
        groups = tuple(tuple(part) for part in parts)
        self._add(time, SIMULATOR, FaultStruck(fault, tuple(nodes), groups, number, running, training))

    def _cut_and_more(self) -> None:
        for node, (crash, back) in self.away.items():
            self._fault(crash, "crash", (node,))
            if np.isfinite(back):
                self._fault(back, "restart", (node,))
        half = self.nodes // 2
        parts = (range(half), range(half, self.nodes))
        self._fault(0.3 * self.end, "cut", (), parts, 1)
        self._fault(0.45 * self.end, "heal", (), (), 1)
        sound = [node for node in range(2, self.nodes) if node not in self.away]
        if len(sound) > 3:
            self._fault(0.25 * self.end, "hang", sound[:2])
            self._fault(0.35 * self.end, "resume", sound[:2])
            self._fault(0.9 * self.end, "leave", sound[-1:])
        for count, cause in ((self.nodes, "cut"), (self.nodes // 2, "down")):
            for i in range(count):
                lost = MessageLost(i % half, half + i % half, "response", MODEL, cause)
                self._add(0.4 * self.end + i / 100, SIMULATOR, lost)
        rejected = Rejected("10.0.0.2", "id1", "checksum-mismatch", "the sum does not fit")
        self._add(0.4 * self.end, 0, rejected)

    def _simulator(self) -> None:
        live = [n for n in range(self.nodes) if not np.isinf(self.away.get(n, (0.0, 0.0))[1])]
        honest = [node for node in live if node not in self.adversaries]
        for round in range(1, self.rounds + 1):
            time = float(np.median(self.spans)) * round * 1.05
            progress = round / self.rounds
            if self.evaluate != "end":
                accuracy = 0.96 - 0.8 * float(np.exp(-5 * progress))
                event = self._model("mean", float(round), accuracy, final=False)
                self._add(time, SIMULATOR, event)
            distance = 2.5 * float(np.exp(-2 * progress)) + 0.2 + (0.9 if 3 <= round <= 5 else 0)
            self._add(time, SIMULATOR, ConsensusMeasured(distance, len(live), float(round), False))
        self._add(self.end, SIMULATOR, RunEnded(len(live), "done"))
        if self.evaluate != "mean":
            for node in honest:
                final = self._model("node", self.rounds, self._accuracy(node, 1.0), final=True)
                self._add(self.end, node, final)
        self._add(self.end, SIMULATOR, self._model("mean", self.rounds, 0.957, final=True))
        self._add(self.end, SIMULATOR, ConsensusMeasured(0.08, len(live), float(self.rounds), True))

    def _model(self, of: str, round: float, accuracy: float, *, final: bool) -> ModelEvaluated:
        loss = 2.4 * (1 - accuracy) + 0.05
        return ModelEvaluated(
            of, round, final, TEST_SAMPLES, loss, accuracy, accuracy, self.confusion(accuracy)
        )

    def _baseline(self, name: str) -> None:
        levels = {"centralised": 0.975, "isolated": 0.62, "cyclic": 0.93, "fedavg": 0.952, "d-psgd": 0.945}
        slow = {"centralised": self.nodes / 2, "cyclic": self.nodes * 0.9, "fedavg": 1.4}.get(name, 1.0)
        several = self.nodes if name in ("isolated", "d-psgd") else 1
        for round in range(1, self.rounds + 1):
            share = round / self.rounds
            accuracy = levels[name] - 0.7 * float(np.exp(-4 * share))
            spread = 0.08 if name == "isolated" else 0.01 if several > 1 else 0.0
            sent = (
                {"centralised": 0, "isolated": 0, "cyclic": MODEL}.get(name, MODEL * 2) * self.nodes * round
            )
            event = BaselineEvaluated(
                name, round, several, 600 * self.nodes * round, sent, 2.4 * (1 - accuracy) + 0.03, accuracy,
                accuracy - spread, accuracy + spread, accuracy, self.confusion(accuracy),
            )  # fmt: skip
            self._add(2.0 * round * slow, SIMULATOR, event)
