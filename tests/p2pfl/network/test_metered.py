"""Which link is the default one, and what nmcli says of it: with a table and a program made for the test."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.network import metered

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
ROUTES = (
    "wwan0\t00000000\t0101A8C0\t0003\t0\t0\t700\t00000000\t0\t0\t0\n"
    "eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    "wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
)


@pytest.fixture
def routes(tmp_path: Path) -> Path:
    path = tmp_path / "route"
    path.write_text(HEAD + ROUTES)
    return path


def nmcli(tmp_path: Path, answer: str, code: int = 0) -> str:
    """Notes what it was asked in a file."""
    path = tmp_path / "nmcli"
    path.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\necho "{answer}"\nexit {code}\n')
    path.chmod(0o755)
    return str(path)


def test_the_default_route_with_the_smallest_metric_counts(routes: Path, tmp_path: Path) -> None:
    assert metered.default_device(routes) == "wlan0"
    routes.write_text(HEAD)
    assert metered.default_device(routes) is None
    assert metered.default_device(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("yes", True), ("yes (guessed)", True), ("no", False), ("no (guessed)", False), ("unknown", False)],
)
async def test_nmcli_is_asked_for_that_link(
    routes: Path, tmp_path: Path, answer: str, expected: bool
) -> None:
    assert await metered.is_metered(routes, nmcli(tmp_path, answer)) is expected
    assert (tmp_path / "asked").read_text().split() == [
        "--get-values",
        "GENERAL.METERED",
        "device",
        "show",
        "wlan0",
    ]


async def test_where_nobody_knows_the_link_is_free(routes: Path, tmp_path: Path) -> None:
    assert not await metered.is_metered(routes, nmcli(tmp_path, "", code=8))
    assert not await metered.is_metered(routes, str(tmp_path / "no-such-program"))
    assert not await metered.is_metered(tmp_path / "nowhere", nmcli(tmp_path, "yes"))
