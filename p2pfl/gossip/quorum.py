"""How many models a robust merge rule needs, and whether so many can come."""

from __future__ import annotations

from dataclasses import dataclass

from p2pfl.config import GossipConfig, MergeRule
from p2pfl.errors import ConfigError
from p2pfl.gossip.inbox import capacity_for
from p2pfl.gossip.merge.own import imported


@dataclass(frozen=True)
class TooFew:
    """A robust rule kept the own weights: of `needed` models it had only `models`, the own one included."""

    models: int
    needed: int


def check_attainable(config: GossipConfig, parameters: int) -> None:
    """ConfigError if the inbox for models of `parameters` weights can never hold what the rule needs.

    Or if the rule is a function of the user's, and there is none of that name.
    """
    rule, most = config.rule, 1 + capacity_for(parameters)
    if rule.function:
        imported(rule.function)
    if rule.fewest > most:
        raise ConfigError(
            f"merge {config.merge} needs {_needed(rule)}, and a node holds at most {most} of {parameters:,} "
            f"weights, its own and an inbox of {most - 1}; {_less(rule)}"
        )


def doubt(config: GossipConfig) -> str | None:
    """Of a rule that can be, what the user may not have meant."""
    rule, usual = config.rule, 1 + 2 * config.fanout
    if rule.fewest <= usual:
        return None
    return (
        f"merge {config.merge} needs {_needed(rule)}, and with fanout {config.fanout} about {usual} meet in "
        "a round: until so many have come a node keeps its own weights; raise fanout to "
        f"{rule.fewest // 2}, or {_less(rule)}"
    )


def _needed(rule: MergeRule) -> str:
    krum = rule.name in ("krum", "multi-krum") and rule.least < rule.fewest == 2 * rule.f + 3
    why = " (2f + 3)" if krum else ""
    return f"{rule.fewest} models{why} at a time"


def _less(rule: MergeRule) -> str:
    """What to give to need fewer."""
    if rule.least == rule.fewest:
        return "give a smaller least"
    match rule.name:
        case "krum":
            return "give a smaller f"
        case "multi-krum":
            return "give a smaller f" if rule.m is None else "give a smaller f or m"
        case "trimmed-mean" | "clipped-gossip":
            return "give a larger B"
    return "take another rule"
