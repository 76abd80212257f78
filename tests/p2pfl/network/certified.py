"""Authorities, certificates and a token for tests."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from p2pfl.network import authority as making
from p2pfl.network import certificates
from p2pfl.network.tokens import Token

SECRET = "correct-horse-battery-staple"
TOKEN = Token(SECRET)
OTHER = Token("another-network-has-another")


class Files(NamedTuple):
    """What a node is given: certificate, key, authority."""

    cert: Path
    key: Path
    ca: Path


def authority(folder: Path, name: str = "ca", days: int = 30, *, ago: int = 0) -> Path:
    """Its folder. ago: made so many days before today."""
    making.create(folder / name, name, days, certificates.now() - datetime.timedelta(days=ago))
    return folder / name


def node(
    folder: Path,
    ca: Path,
    name: str = "node",
    hosts: Sequence[str] = ("127.0.0.1", "localhost"),
    *,
    days: int = 20,
    ago: int = 0,
) -> Files:
    """ago: issued so many days before today."""
    when = certificates.now() - datetime.timedelta(days=ago)
    where = folder / name
    making.issue(ca, where, name, hosts, days, when)
    return Files(where / making.CERTIFICATE, where / making.KEY, where / making.AUTHORITY)
