"""How long a model has learnt: local steps one after another in its lineage.

A cyclic model learns at each worker of a tour in turn; a server's, and a node's, while the others learn too.
"""

from __future__ import annotations

from collections.abc import Sequence

from netsim.scenario import Scenario
from p2pfl.learning.partition import Shard


def ours(scenario: Scenario, shards: Sequence[Shard]) -> int:
    """Steps of the node with most."""
    training = scenario.config.training
    return training.rounds * max(training.steps(shard.samples) for shard in shards)


def theirs(scenario: Scenario, shards: Sequence[Shard], method: str) -> int:
    """Steps of a baseline's model; `method` as in the scenario's baselines."""
    nodes = scenario.config.training
    training = scenario.config.baselines.training(nodes)
    each = [training.steps(shard.samples) for shard in shards]
    if method == "cyclic":
        return training.rounds * sum(each)
    if method == "centralised":
        samples = sum(shard.samples for shard in shards)
        if training.local_steps is None:
            return training.rounds * (training.local_epochs or 1) * -(-samples // training.batch_size)
        return training.rounds * sum(each)
    return training.rounds * max(each)
