"""The same scenario in virtual time and with real processes comes to the same end."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from netsim.memory import descendants
from tests.netsim.whole import IMAGES, WholeRun, simulate

# Whole shards as batches: nothing is left to chance but who meets whom, and when.
SCENARIO: dict[str, Any] = {
    "nodes": 3,
    "rounds": 6,
    "batch_size": 512,
    "local_steps": 10,
    "lr": 0.3,
    "interval": 0.3,
    "seed": 1,
}


@pytest.mark.skipif(sys.platform != "linux", reason="real node processes need Linux")
def test_both_engines_agree(tmp_path: Path) -> None:
    """Within one point of mean accuracy and 10 % of the exchanges; no process is left."""
    virtual = simulate(tmp_path / "virtual", **SCENARIO)
    before = descendants(os.getpid())
    real = simulate(tmp_path / "process", engine="process", **SCENARIO)
    assert descendants(os.getpid()) == before

    accuracies = [run.summary["accuracy_mean"] for run in (virtual, real)]
    assert abs(accuracies[0] - accuracies[1]) <= 0.01
    assert min(accuracies) > 0.9
    exchanges = [run.summary["exchanges"] for run in (virtual, real)]
    assert abs(exchanges[0] - exchanges[1]) <= 0.1 * exchanges[0]
    images = [run.summary["images_trained"] for run in (virtual, real)]
    assert images == [6 * 10 * IMAGES] * 2
    # Hellos differ: real nodes call each other before all are there.
    assert model_bytes(real) == pytest.approx(model_bytes(virtual), rel=0.1)
    assert (virtual.summary["virtual_seconds"] is None, real.summary["virtual_seconds"]) == (False, None)
    # Both had the same shards.
    for field in ("name", "task", "fingerprint", "samples", "labels"):
        starts = [
            sorted((line["node"], line[field]) for line in run.of("started")) for run in (virtual, real)
        ]
        assert starts[0] == starts[1], field
    kinds = [{line["event"] for line in run.lines} for run in (virtual, real)]
    assert kinds[0] <= kinds[1]


def model_bytes(run: WholeRun) -> int:
    """Sent with model exchanges by those who asked."""
    return sum(line["sent"] for line in run.of("exchanged") if line["mode"] != "hello")
