"""The page of a node in a real Chromium: three real nodes learn digits, are watched, controlled and tried."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.netsim import chromium
from tests.netsim.chromium import Browser
from tests.processes.real import HUNG, RealNode, nodes

pytestmark = [
    pytest.mark.xdist_group("nodes"),
    pytest.mark.skipif(chromium.program() is None, reason="no chromium is installed"),
]

COMMON = ("--dataset", "digits", "--rounds", "0", "--interval", "0.2")
WIDTHS = (360, 1024, 1920)
ZERO = [
    (0.5 + 0.2 * math.sin(i / 16 * math.tau), 0.5 - 0.36 * math.cos(i / 16 * math.tau)) for i in range(17)
]
THREE = [
    *((0.32, 0.17), (0.5, 0.12), (0.66, 0.2), (0.64, 0.36), (0.46, 0.47)),
    *((0.66, 0.58), (0.68, 0.76), (0.5, 0.88), (0.3, 0.82)),
]


@pytest.fixture(scope="module")
def trio_of_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RealNode]]:
    folder = tmp_path_factory.mktemp("page")
    first = ("--shard", "0/3", "--name", "<b>ann</b>", "--log-level", "warning", *COMMON)
    with nodes(folder, first) as (ann,):
        peers = ("--peers", ann.wait_listening(), "--log-level", "warning", *COMMON)
        with nodes(folder, ("--shard", "1/3", *peers), ("--shard", "2/3", *peers)) as others:
            for other in others:
                other.wait_listening()
            yield [ann, *others]


@pytest.fixture(scope="module")
def page(trio_of_nodes: list[RealNode]) -> str:
    """Its address with the operator's token, as the node says it."""
    stdout = trio_of_nodes[0].process.stdout
    assert stdout is not None
    line = stdout.readline()
    assert line.startswith(f"page: {trio_of_nodes[0].url}/#control=")
    return line.split()[-1]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = chromium.program()
    assert program is not None
    with chromium.browsing(program, tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


def shown(browser: Browser, id: str) -> str:
    return str(browser.value(f"document.getElementById('{id}').textContent"))


def test_watch_it_learn_pause_it_change_its_rate_and_draw_a_digit(
    browser: Browser, trio_of_nodes: list[RealNode], page: str
) -> None:
    node, token = trio_of_nodes[0], page.partition("#control=")[2]
    browser.open(page, 1024, 900, "light")

    # It is live: the accuracy rises, also of the peers, who are all there.
    browser.until("parseFloat(document.getElementById('accuracy').textContent) > 90")
    browser.until("document.querySelectorAll('#peers .good').length === 2")
    browser.until("document.querySelectorAll('#accuracy-chart .curve.peer').length >= 1")
    past = httpx.get(f"{node.url}/v1/history", timeout=HUNG, trust_env=False).json()
    measured = [point["accuracy"] for point in past["rounds"] if point["accuracy"] is not None]
    assert measured[0] < measured[-1] > 0.9
    assert browser.value("document.getElementById('connection').className") == "connection live"

    # A name is text, whatever is in it.
    assert shown(browser, "name") == "<b>ann</b>"
    assert browser.value("document.querySelectorAll('h1 b').length") == 0

    # The operator's token is in no address.
    assert browser.value("location.hash") == ""
    assert browser.value("document.body.innerHTML").count(token) == 0

    browser.until("document.getElementById('pause').offsetParent !== null")
    browser.click("#pause")
    browser.until("document.getElementById('state').textContent === 'paused'")
    assert node.status()["state"] == "paused"
    rested = node.status()["round"]

    browser.value("document.getElementById('set-lr').select()")
    browser.call("Input.insertText", text="0.05")
    browser.click("#apply")
    browser.until("document.getElementById('controls-said').textContent.startsWith('Taken')")
    headers = {"p2pfl-control": token}
    controls = httpx.get(f"{node.url}/v1/controls", headers=headers, timeout=HUNG, trust_env=False).json()
    assert controls["settings"]["lr"] == 0.05
    assert node.status()["round"] == rested

    browser.value("document.getElementById('set-lr').select()")
    browser.call("Input.insertText", text="-1")
    browser.value("document.getElementById('set-lr').removeAttribute('min')")  # the node says no, too
    browser.click("#apply")
    browser.until("/lr/.test(document.getElementById('controls-said').textContent)")
    assert all("status of 422" in complaint for complaint in browser.complaints)
    browser.complaints.clear()

    browser.click("#pause")
    browser.until(f"parseInt(document.getElementById('round').textContent) > {rested}")

    for digit, strokes in (("0", ZERO), ("3", THREE)):
        browser.click("#clear")
        browser.drag([browser.place("#pad", across, down) for across, down in strokes])
        browser.until(f"document.getElementById('verdict').textContent.startsWith('{digit}, ')")
        assert browser.value("document.querySelector('#bars .first .label').textContent") == digit
        assert browser.value("document.querySelectorAll('#bars li').length") == 10

    assert browser.complaints == []
    asked = [url.partition("?")[0] for url in browser.requests]
    assert {url.removeprefix(node.url) for url in asked} >= {"/", "/v1/events", "/v1/predict"}
    assert all(url.startswith((f"{node.url}/", "data:", "blob:")) for url in asked), asked


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_and_names_what_can_be_used(
    browser: Browser, page: str, width: int, scheme: str, tmp_path: Path
) -> None:
    browser.open(page.partition("#")[0], width, 900, scheme)  # with its fragment it would not load anew
    browser.until("document.querySelectorAll('#peers .good').length === 2")
    assert browser.value("document.documentElement.scrollWidth <= window.innerWidth")
    unnamed = browser.value(
        "[...document.querySelectorAll('input, select, button, svg[role], canvas[role], section')]"
        ".filter(e => !(e.labels?.length || e.textContent.trim() || e.getAttribute('aria-label')))"
        ".map(e => e.id)"
    )
    assert unnamed == []
    dark = browser.value("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, dark.strip("rgb()").split(","))) < 200) == (scheme == "dark")
    browser.picture(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10_000
    assert browser.complaints == []
