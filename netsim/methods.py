"""How a user names baselines: `cyclic`, `fedavg`, `fedavg:median`. What they do is baselines.py."""

from __future__ import annotations

from dataclasses import dataclass

from p2pfl import merge_rule
from p2pfl.config import check
from p2pfl.errors import ConfigError

BASELINES = ("centralised", "isolated", "cyclic", "fedavg", "d-psgd")
# As messages and help show them.
FORMS = tuple(f"{name}[:RULE]" if name == "fedavg" else name for name in BASELINES)
# By the samples that the clients say they hold, not clipped: FedAvg as it was published.
SAMPLES = "samples"


@dataclass(frozen=True)
class NamedMethod:
    """kind: of BASELINES.  rule: what a server makes of what it was sent, as of p2pfl.merge_rule."""

    kind: str
    rule: str = SAMPLES


def parse(name: str) -> NamedMethod:
    """A baseline as it is written. ConfigError."""
    kind, colon, rule = name.partition(":")
    check(kind in BASELINES, f"baselines: {name!r} is none of {', '.join(FORMS)}")
    if not colon:
        return NamedMethod(kind)
    check(kind == "fedavg", f"baselines: {kind} takes nothing behind it, not {rule!r}; only fedavg merges")
    check(rule != "age", f"baselines: {name}: clients have no age; give fedavg or fedavg:mean")
    try:
        merge_rule.parse(rule)
    except ConfigError as error:
        raise ConfigError(f"baselines: {name}: {error}") from None
    return NamedMethod(kind, rule)
