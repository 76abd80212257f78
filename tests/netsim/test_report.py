"""The report: everything from the journal alone, in one file that needs nothing else, in Chromium too."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from netsim import report
from p2pfl.errors import StorageError
from tests.netsim import chromium
from tests.netsim.stories import Tale

PICTURES = ("curves", "labels", "consensus", "confusion", "topology", "timeline", "traffic")
SECTIONS = 6


def told(folder: Path, **tale: object) -> Path:
    """A run's folder with nothing but its journal."""
    folder.mkdir()
    Tale(**tale).write(folder / "journal.jsonl")  # type: ignore[arg-type]
    return folder


def test_the_journal_alone_gives_page_and_pictures(tmp_path: Path) -> None:
    run = told(tmp_path / "run")
    paths = report.write(run)
    assert {path.name for path in paths} == {"report.html", *(f"{name}.png" for name in PICTURES)}
    assert all(path.stat().st_size > 5_000 for path in paths)


def test_the_page_asks_for_nothing_from_elsewhere(tmp_path: Path) -> None:
    html, *_ = report.write(told(tmp_path / "run"))
    text = html.read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href)\s*=\s*[\"'](?!data:|#)", text)
    assert "@import" not in text
    assert len(text) < 3_000_000
    assert text.count("<h2") >= SECTIONS


def test_equal_journals_give_equal_pages(tmp_path: Path) -> None:
    first = report.write(told(tmp_path / "first"))[0].read_bytes()
    assert first == report.write(told(tmp_path / "second"))[0].read_bytes()


@pytest.mark.parametrize(
    "tale",
    [
        {"nodes": 2, "rounds": 1, "faults": False, "baselines": False},
        {"evaluate": "end", "baselines": False},
        {"evaluate": "mean", "graph": True},
        {"adversaries": (1, 2)},
        {"nodes": 60, "rounds": 3, "faults": False},
    ],
    ids=str,
)
def test_other_runs_can_be_drawn_too(tale: dict[str, object], tmp_path: Path) -> None:
    html, *pictures = report.write(told(tmp_path / "run", **tale))
    assert html.name == "report.html"
    assert {"curves.png", "labels.png"} <= {path.name for path in pictures}


def test_hostile_names_are_text(tmp_path: Path) -> None:
    names = ("<script>alert(1)</script>", *"123456789")
    html, *_ = report.write(told(tmp_path / "run", classes=names))
    assert "<script>alert" not in html.read_text(encoding="utf-8")


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=re.escape(str(tmp_path))):
        report.write(tmp_path)


def test_a_damaged_journal_is_named_with_its_line(tmp_path: Path) -> None:
    run = told(tmp_path / "run")
    with (run / "journal.jsonl").open("a") as file:
        file.write("{half a line")
    with pytest.raises(StorageError, match=r"line \d+: not JSON"):
        report.write(run)


@pytest.mark.skipif(chromium.program() is None, reason="no chromium is installed")
@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_a_browser(width: int, scheme: str, tmp_path: Path) -> None:
    html, *_ = report.write(told(tmp_path / "run"))
    alone = tmp_path / "alone"
    alone.mkdir()
    page = Path(shutil.copy(html, alone))
    program = chromium.program()
    assert program is not None
    with chromium.browsing(program, tmp_path / "profile") as browser:
        browser.open(page, width, 900, scheme)
        assert browser.value("document.querySelectorAll('h2').length") >= SECTIONS
        assert browser.value("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        assert browser.value("document.documentElement.scrollWidth <= window.innerWidth")
