"""The report: everything from the journal alone, in one file that needs nothing else, in Chromium too."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from netsim import report
from netsim.report import reading
from p2pfl.errors import StorageError
from tests.netsim import chromium
from tests.netsim.stories import Tale

# Most of these look at one report, which is made once.
pytestmark = pytest.mark.xdist_group("report")

PICTURES = ("curves", "labels", "consensus", "confusion", "topology", "timeline", "traffic")
SECTIONS = ("results", "learning", "consensus", "confusion", "faults", "network", "data", "scenario")
DRAWN = 9 + 2 + 1 + 2 + 1  # three measures over three axes; matrices; timeline; graph and traffic; labels


def told(folder: Path, **tale: object) -> Path:
    """A run's folder with nothing but its journal."""
    folder.mkdir()
    Tale(**tale).write(folder / "journal.jsonl")  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was reported: of all that a run leaves, the journal alone was there before."""
    folder = told(tmp_path_factory.mktemp("report") / "run")
    (folder / "summary.json").write_text("left from before")
    for path in [path for path in folder.iterdir() if path.name != "journal.jsonl"]:
        path.unlink()
    report.write(folder)
    return folder


@pytest.fixture(scope="module")
def text(run: Path) -> str:
    return (run / "report.html").read_text(encoding="utf-8")


def test_the_journal_alone_gives_page_and_pictures(run: Path) -> None:
    names = {"journal.jsonl", "report.html", *(f"{name}.png" for name in PICTURES)}
    assert {path.name for path in run.iterdir()} == names
    assert all(path.stat().st_size > 5_000 for path in run.iterdir())


def test_the_page_shows_every_section(text: str) -> None:
    assert [name for name in SECTIONS if f'<section id="{name}"' not in text] == []
    assert text.count("<img ") == DRAWN
    assert all(alt for alt in re.findall(r'<img [^>]*alt="([^"]*)"', text))


def test_the_page_asks_for_nothing_from_elsewhere(text: str) -> None:
    assert not re.search(r"(?:src|srcset|href)\s*=\s*[\"'](?!data:|#)", text)
    assert [word for word in ("@import", "<script", "<iframe", '<link rel="style') if word in text] == []
    assert len(text) < 3_000_000


def test_equal_journals_give_equal_pages(text: str, tmp_path: Path) -> None:
    html, *_ = report.write(told(tmp_path / "again"))
    assert html.read_text(encoding="utf-8") == text


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


def test_very_many_nodes_do_not_make_the_page_heavy(tmp_path: Path) -> None:
    """400 curves would be a surface, 400 rows no timeline, 160,000 links no picture."""
    run = told(tmp_path / "run", nodes=400, rounds=2, baselines=False)
    html, *pictures = report.write(run)
    text = html.read_text("utf-8")
    assert len(text) < 3_000_000
    assert re.search(r"Of \d+ nodes 300 are drawn, evenly from the worst to the best", text)
    assert "Each circle is up to 10 nodes" in text
    assert all(path.stat().st_size < 1_000_000 for path in pictures)


class Elements(HTMLParser):
    """The names of all elements of a page, and of their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {tag, *(name for name, _ in attrs)}


HOSTILE = ('<script>alert(1)</script><img src="https://evil.example/x" onerror="x()">', "\x00]]>\u202e&amp;")


def test_hostile_names_are_text(text: str, tmp_path: Path) -> None:
    names = (*HOSTILE, *"23456789")
    config = {"dataset": HOSTILE[0], "partition": HOSTILE[1], HOSTILE[0]: [HOSTILE[1]], "topology": '"><b>'}
    html, *_ = report.write(told(tmp_path / "run", classes=names, config=config))
    hostile = html.read_text(encoding="utf-8")
    assert Elements(hostile).found == Elements(text).found
    assert not {"\u202e", "\x00"} & set(hostile)


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=re.escape(str(tmp_path))):
        report.write(tmp_path)


def cut(run: Path, to: Path, end: bytes) -> Path:
    """A copy of a run's journal that ends in the middle, with `end` for the rest."""
    lines = (run / "journal.jsonl").read_bytes().splitlines(keepends=True)
    to.mkdir()
    (to / "journal.jsonl").write_bytes(b"".join(lines[: len(lines) // 2]) + end)
    return to


def test_a_journal_whose_writer_was_killed_is_reported(run: Path, tmp_path: Path) -> None:
    folder = cut(run, tmp_path / "cut", b'{"t":9.5,"node":3,"event":"trai')
    html, *pictures = report.write(folder)
    assert "ends before the run did" in html.read_text(encoding="utf-8")
    assert pictures


@pytest.mark.parametrize(
    "line",
    [
        b"{half a line",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"t":NaN,"node":1,"event":"done"}',
        b'{"t":1e999,"node":1,"event":"done"}',
        b'{"t":1,"node":12,"event":"done"}',
        b'{"t":1,"node":"x","event":"done"}',
        b'{"t":1,"node":-1,"event":"state-changed","state":"done"}',
        b'{"t":1,"node":1,"event":"evaluated","round":1,"loss":"x","accuracy":1}',
        b'{"t":1,"node":1,"event":["exchanged"]}',
        b"17",
        b"null",
    ],
    ids=lambda line: line[:40].decode(errors="replace"),
)
def test_a_damaged_journal_is_named_with_its_line(line: bytes, run: Path, tmp_path: Path) -> None:
    folder = cut(run, tmp_path / "cut", line + b"\n")
    number = len((folder / "journal.jsonl").read_bytes().splitlines())
    with pytest.raises(StorageError, match=f"line {number}: not ") as caught:
        reading.read(folder / "journal.jsonl")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n", b"{}\n", b'{"event":"run-started"}\n', b"\x89PNG\r\n"])
def test_a_file_that_is_no_journal_is_named(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    file.write_bytes(content)
    with pytest.raises(StorageError, match=re.escape(str(file))):
        reading.read(file)


@pytest.mark.skipif(chromium.program() is None, reason="no chromium is installed")
@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_a_browser(width: int, scheme: str, run: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    page = Path(shutil.copy(run / "report.html", alone))
    program = chromium.program()
    assert program is not None
    with chromium.browsing(program, tmp_path / "profile") as browser:
        browser.open(page, width, 900, scheme)
        assert browser.value("document.querySelectorAll('h2').length") == len(SECTIONS)
        chromium.assert_shown(browser, pictures=DRAWN)
