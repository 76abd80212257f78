"""What a node spares: bytes, the hours and the load of its machine, links that are paid for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from p2pfl.hours import Hours
from p2pfl.options import check, option

Metered = Literal["auto", "yes", "no"]


@dataclass(frozen=True, kw_only=True)
class ThriftConfig:
    """Nothing is spared by default."""

    bytes_per_hour: int = option(
        0, "Most bytes in an hour, in and out; exchanges wait when they are spent. 0: any number."
    )
    train_hours: tuple[str, ...] = option(
        (), "Train only then, by the machine's local time: 22:00-06:00, or several such. [default: always]"
    )
    max_load: float = option(
        0.0,
        "Begin no round while the machine's load average of one minute, this node's own share included, is "
        "above; 0: whatever it is.",
    )
    metered: Metered = option(
        "no",
        "yes: the link is paid for by volume, so exchange a tenth as often, with one peer; auto: if "
        "NetworkManager (nmcli) says so.",
    )

    def __post_init__(self) -> None:
        check(self.bytes_per_hour >= 0, "bytes-per-hour must be 0 (any number) or more")
        check(0 <= self.max_load < float("inf"), "max-load must be 0 (whatever it is) or more")
        Hours.parse(self.train_hours)
