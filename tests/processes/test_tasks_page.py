"""The page of a process of several tasks in a real Chromium: they are listed, paused, stopped and started."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.netsim import chromium
from tests.processes.real import nodes

pytestmark = [
    pytest.mark.xdist_group("nodes"),
    pytest.mark.skipif(chromium.program() is None, reason="no chromium is installed"),
]

FILE = """
[tasks.digits]
dataset = "digits"
rounds = 0
interval = 0.2

[tasks.x-rays]
dataset = "nowhere.npz"
"""


def test_a_page_lists_the_tasks_and_its_operator_pauses_stops_and_starts_them(tmp_path: Path) -> None:
    program = chromium.program()
    assert program is not None
    (tmp_path / "tasks.toml").write_text(FILE)
    with (
        nodes(tmp_path, ("--tasks", "tasks.toml", "--log-level", "error")) as (process,),
        chromium.browsing(program, tmp_path / "chromium") as browser,
    ):
        process.wait_listening()
        assert process.process.stdout is not None
        page = process.process.stdout.readline().split()[-1]
        browser.open(page, 1024, 900, "light")

        def until(row: int, state: str) -> None:
            browser.until(
                f"document.querySelectorAll('#list tr')[{row}]?.cells[1].textContent.startsWith('{state}')"
            )

        until(0, "training")
        until(1, "failed")
        assert "nowhere.npz" in str(
            browser.value("document.querySelectorAll('#list tr')[1].cells[1].textContent")
        )
        assert browser.value("location.hash") == ""
        assert browser.value("document.documentElement.scrollWidth <= window.innerWidth")
        browser.picture(tmp_path / "tasks.png")

        browser.click("#pause-digits")
        until(0, "paused")
        browser.click("#resume-digits")
        until(0, "training")
        browser.click("#stop-digits")
        browser.click("#ask-stop button.danger")
        until(0, "stopped")
        browser.click("#start-digits")
        until(0, "training")
        assert browser.complaints == []

        # Each task has the page of a node, which leads back.
        browser.open(f"{process.url}/tasks/digits/", 1024, 900, "dark")
        browser.until("document.getElementById('connection').textContent === 'live'")
        links = "[...document.querySelectorAll('#tasks a')].map(a => a.textContent)"
        browser.until(f"{links}.length === 3")
        assert browser.value(links) == ["all tasks", "digits", "x-rays"]
        assert process.stop() == 1  # for the task that failed
