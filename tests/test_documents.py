"""The documents are true: marked blocks run; paths, links, flags, names and figures are those of the code.

A fenced block with the line `<!-- run -->` just above it is executed. `console`: every line is a command,
or, if some begin with `$ `, those are and the others show output; a backslash continues a line; a `&` at the
end leaves a command to run beside the next ones, until `wait`; ports are replaced by free ones. `toml`: a
node's configuration file, or, if it has sections, a scenario. `python`: the blocks of one page share their
names. With `<!-- run: NAME -->` the page's commands find the block as the file NAME. docs/protocol.md has
tests of its own besides (tests/p2pfl/gossip/test_codec_document.py).
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import os
import re
import shlex
import socket
import subprocess
import sys
import textwrap
import tomllib
import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from cli.main import app
from netsim import scenario_file
from p2pfl.config import NodeConfig, build, flatten

ROOT = Path(__file__).parents[1]
SECURITY = ROOT / "SECURITY.md"
DOCS = [ROOT / "README.md", ROOT / "CHANGELOG.md", SECURITY, *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [*DOCS, ROOT / "CONTRIBUTING.md"]  # which has other programs' flags
DESIGN = ROOT / "docs" / "design.md"
PACKAGES = ("p2pfl", "netsim", "cli")

MARK = re.compile(r"<!-- run(?:: (?P<file>[\w.-]+))? -->")
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(
    r"\[[^\]]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|<(?:img|a)\b[^>]*\b(?:src|href)=\"([^\"]+)\""
)
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
PATH = re.compile(r"\.?[\w-]+(?:[./][\w*-]+)*/?")
MODULE = re.compile(rf"(?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+")
NAME = re.compile(r"(?P<dotted>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?:\([\w, ]*\))?")
PORT = re.compile(r"\b84\d\d\b")
PLAIN = re.compile(r"[a-z0-9]+")  # a word such as `mean`
FIGURE = re.compile(r"^\| `([\w/]+\.py)` \| `([A-Z_]+)` \| ([\d,.]+) ?([\w/]*) \|", re.MULTILINE)
SUFFIXES = (".py", ".md")  # of files in the repository; others that are named are a user's
FILES = (*SUFFIXES, ".db", ".json", ".jsonl", ".npz", ".safetensors", ".toml")
UNITS = {"": 1.0, "s": 1.0, "bytes/s": 1.0, "MiB": 2.0**20}


@dataclass(frozen=True)
class Block:
    """A fenced block. line: of its first ```, counted from 1.  file: its name for commands, or ""."""

    page: Path
    line: int
    language: str
    text: str
    marked: bool
    file: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        above = text[: match.start()].splitlines()
        mark = MARK.fullmatch(above[-1].strip()) if above else None
        file = (mark and mark["file"]) or ""
        content = textwrap.dedent(match["text"])
        yield Block(page, len(above) + 1, match["language"], content, mark is not None, file)


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def marked(language: str) -> list[Any]:
    found = [block for page in DOCS for block in blocks(page) if block.marked and block.language == language]
    return [pytest.param(block, id=str(block)) for block in found]


def by_page(pages: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in pages])


def commands(block: Block) -> list[list[str]]:
    """The words of each command of a console block, comments left out."""
    lines = block.text.replace("\\\n", " ").splitlines()
    prompted = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    words = [shlex.split(line, comments=True) for line in prompted or lines]
    return [command for command in words if command]


# -- what runs


@by_page(DOCS)
def test_every_mark_is_above_a_block_that_can_run(page: Path) -> None:
    found = [block for block in blocks(page) if block.marked]
    assert len(found) == len(MARK.findall(page.read_text(encoding="utf-8")))
    assert {block.language for block in found} <= {"console", "toml", "python"}


@pytest.mark.xdist_group("console")  # long, and groups go first: at the end one core would wait for the other
@pytest.mark.parametrize("block", marked("console"))
def test_console_block_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert commands(block), f"{block} has no command"
    monkeypatch.chdir(tmp_path)
    for file in blocks(block.page):
        if file.marked and file.file:
            (tmp_path / file.file).write_text(file.text, encoding="utf-8")
    skip_without_data(block)
    ports: dict[str, str] = {}
    left: list[tuple[str, subprocess.Popen[str]]] = []  # running beside what follows
    with contextlib.ExitStack() as ends:
        for words in commands(block):
            # In an empty folder, so that nothing is left in the repository, or found there by chance.
            words = [str(ROOT / word) if "/" in word and (ROOT / word).exists() else word for word in words]
            words = [PORT.sub(lambda match: free(match[0], ports), word) for word in words]
            if words == ["wait"]:
                finish(block, left)
            elif words[-1] == "&":
                child = ends.enter_context(beside(block, words[:-1]))
                left.append((shlex.join(words), child))
            else:
                code, output = outcome(block, words)
                assert code == 0, f"{block}: {shlex.join(words)}\n{output}"
        assert not left, f"{block} leaves commands running; end it with wait"


def finish(block: Block, left: list[tuple[str, subprocess.Popen[str]]]) -> None:
    for line, child in left:
        output, _ = child.communicate(timeout=120)
        assert child.returncode == 0, f"{block}: {line}\n{output}"
    left.clear()


def free(port: str, ports: dict[str, str]) -> str:
    """A port that nobody has, the same for the same one of the block."""
    if port not in ports:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports[port] = str(probe.getsockname()[1])
    return ports[port]


def skip_without_data(block: Block) -> None:
    """Some blocks, or files that they run, are about a data set that not everybody has."""
    page = [block, *(file for file in blocks(block.page) if file.file and file.file in block.text)]
    needed = "pneumoniamnist.npz"
    place = os.environ.get("P2PFL_DATA")
    if any(needed in part.text for part in page) and not (place and Path(place, needed).exists()):
        pytest.skip(f"needs {needed} in P2PFL_DATA")


@contextlib.contextmanager
def beside(block: Block, words: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A command in the background, killed if the block ends before it."""
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(program_line(block, words), env=environment(), **streams) as child:
        try:
            yield child
        finally:
            child.kill()


def outcome(block: Block, words: list[str]) -> tuple[int, str]:
    """A command's exit code and output, run here.

    What starts or stops nodes has a process of its own: it sets up logging, signals and threads for good.
    """
    if words[0] == "p2pfl" and words[1] in ("sim", "keys"):
        result = CliRunner().invoke(app, words[1:], prog_name="p2pfl", catch_exceptions=False)
        return result.exit_code, result.output
    done = subprocess.run(
        program_line(block, words), env=environment(), capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def program_line(block: Block, words: list[str]) -> list[str]:
    programs = {"p2pfl": ["-m", "cli.main"], "python": []}
    assert words[0] in programs, f"{block}: {words[0]} is not run by tests"
    return [sys.executable, *programs[words[0]], *words[1:]]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("block", marked("toml"))
def test_toml_block_is_a_nodes_configuration_or_a_scenario(block: Block) -> None:
    content = tomllib.loads(block.text)
    if any(isinstance(value, dict) for value in content.values()):
        assert scenario_file.parse(block.text, str(block)).config
    else:
        assert flatten(build(NodeConfig, content)).keys() >= content.keys()


@by_page(DOCS)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("document")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # where dataclasses look for their annotations
    for block in blocks(page):
        if block.marked and block.language == "python":
            skip_without_data(block)
            exec(compile(block.text, str(block), "exec"), vars(module))


@by_page(DOCS)
def test_other_blocks_are_at_least_well_formed(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            compile(block.text, str(block), "exec")
        elif block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "console":
            commands(block)


# -- links and paths


@by_page(PAGES)
def test_links_lead_somewhere(page: Path) -> None:
    for match in LINK.finditer(prose(page)):
        target = match[1] or match[2]
        if re.match(r"[a-z]+:", target):
            continue  # another site's business
        name, _, anchor = target.partition("#")
        place = (page.parent / name).resolve() if name else page
        assert place.exists(), f"{page.name} links to {target}"
        if anchor and place.suffix == ".md":
            assert anchor in anchors(place), f"{page.name} links to {target}, but there is no such heading"


def anchors(page: Path) -> set[str]:
    """The names under which a page's headings can be linked to, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@by_page(PAGES)
def test_paths_and_modules_exist(page: Path) -> None:
    for code in CODE.findall(prose(page)):
        for word in code.split():
            if MODULE.fullmatch(word) and not word.endswith(SUFFIXES):
                assert resolves(word), f"{page.name}: there is no {word}"
            elif names_a_path(word):
                assert exists(page, word), f"{page.name}: there is no {word}"


def names_a_path(word: str) -> bool:
    """Files by their suffix, folders by a top-level name of ours; no media types, no routes."""
    if not PATH.fullmatch(word):
        return False
    return word.endswith(SUFFIXES) or ("/" in word and (ROOT / word.split("/")[0]).is_dir())


def exists(page: Path, word: str) -> bool:
    """From the root, from the page, or shortened: `gossip/codec.py`, or a name that is one file's alone.

    Also in an installed package that we use: `hypercorn/config.py`.
    """
    bases = [ROOT, page.parent, ROOT / "p2pfl"]
    package = importlib.util.find_spec(word.split("/")[0]) if re.match(r"\w+/", word) else None
    if package is not None and package.origin is not None:
        bases.append(Path(package.origin).parents[1])
    if any(any(base.glob(word.rstrip("/"))) for base in bases):
        return True
    return "/" not in word and len(names_of_files().get(word, ())) == 1


@cache
def names_of_files() -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for folder in (*PACKAGES, "tests", "examples", "benchmarks", "soak", "docs"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in SUFFIXES:
                found.setdefault(path.name, []).append(path)
    return found


def resolves(dotted: str) -> bool:
    """Whether `p2pfl.gossip.view.View.pick` is a module, or something in one."""
    parts = dotted.split(".")
    value: object = importlib.import_module(parts[0])
    for depth, part in enumerate(parts[1:], 2):
        if not hasattr(value, part):
            if (
                not isinstance(value, types.ModuleType)
                or not (ROOT / "/".join(parts[:depth])).with_suffix(".py").exists()
            ):
                return False
            importlib.import_module(".".join(parts[:depth]))
        value = getattr(value, part)
    return True


# -- flags


def walk(command: Any, name: str = "p2pfl") -> Iterator[tuple[str, set[str]]]:
    """Each command's full name with its own flags."""
    yield (
        name,
        {"--help"}
        | {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)},
    )
    for word, below in getattr(command, "commands", {}).items():
        yield from walk(below, f"{name} {word}")


@cache
def flags_by_command() -> dict[str, set[str]]:
    return dict(walk(typer.main.get_command(app)))


@cache
def flags_of_programs() -> set[str]:
    """Of those that are run as `python -m`."""
    found: set[str] = set()
    for program in ("benchmarks", "soak"):
        line = [sys.executable, "-m", program, "--help"]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
        found.update(FLAG.findall(done.stdout))
    return found


@by_page(DOCS)
def test_flags_in_text_exist(page: Path) -> None:
    known = set().union(*flags_by_command().values(), flags_of_programs())
    unknown = set(FLAG.findall(prose(page))) - known
    assert not unknown, f"{page.name} mentions {sorted(unknown)}"


@by_page(DOCS)
def test_commands_in_text_and_blocks_take_their_flags(page: Path) -> None:
    lines = [line for block in blocks(page) for line in block.text.replace("\\\n", " ").splitlines()]
    for line in [*lines, *(code for code in CODE.findall(prose(page)))]:
        match = re.search(r"(?:^|[\s/])(p2pfl(?: [a-z]+)*)(.*)", line)
        if match is None:
            continue
        command = match[1]
        while command not in flags_by_command():  # `p2pfl node start peers`: no command, but an argument
            command = command.rpartition(" ")[0]
        unknown = set(FLAG.findall(match[2])) - flags_by_command()[command]
        assert not unknown, f"{page.name}: {command} has no {sorted(unknown)}"


# -- docs/design.md: modules, names, figures


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


@cache
def names_in_code() -> frozenset[str]:
    """Every name that our code defines, imports or uses: classes, functions, arguments, variables, fields."""
    found = {path.stem for path in sources()}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    found.add(name)
                case ast.arg(arg=name) | ast.Name(id=name) | ast.Attribute(attr=name):
                    found.add(name)
                case ast.alias(name=name):
                    found.update(name.split("."))
    return frozenset(found)


@pytest.fixture(scope="module")
def design() -> str:
    return DESIGN.read_text(encoding="utf-8")


def test_design_describes_every_module(design: str) -> None:
    modules = [path.relative_to(ROOT) for path in sources() if path.name != "__init__.py"]
    assert not [str(path) for path in modules if f"| `{path}` | " not in design]


def test_design_names_what_the_code_names() -> None:
    for code in CODE.findall(prose(DESIGN)):
        match = NAME.fullmatch(code)
        if match is None or PLAIN.fullmatch(code) or Path(code).suffix in FILES:
            continue
        unknown = set(match["dotted"].split(".")) - names_in_code()
        assert not unknown, f"design.md: nothing in the code is called {code}"


def test_design_has_the_figures_of_the_code(design: str) -> None:
    rows = FIGURE.findall(design)
    for path, name, number, unit in rows:
        module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
        value = float(number.replace(",", "")) * UNITS[unit]
        assert getattr(module, name) == value, f"design.md: {name} in {path} is {getattr(module, name)}"
    named = {code for code in CODE.findall(prose(DESIGN)) if re.fullmatch(r"[A-Z]+(_[A-Z]+)*", code)}
    assert named == {name for _, name, _, _ in rows}


# -- SECURITY.md: every defence has its test


def test_every_defence_names_tests_that_exist() -> None:
    tests = {name for path in (ROOT / "tests").rglob("test_*.py") for name in its_tests(path)}
    rows = re.findall(
        r"^\|.*\|$", SECURITY.read_text(encoding="utf-8").partition("## Abuse")[2], re.MULTILINE
    )
    defences = [row for row in rows if not re.match(r"\| idea |\|-", row)]
    assert len(defences) > 20
    for row in defences:
        named = re.findall(r"`(test_\w+)`", row.split("|")[3])
        assert named, f"SECURITY.md: no test for {row.split('|')[1].strip()!r}"
        assert not set(named) - tests, f"SECURITY.md names {sorted(set(named) - tests)}"


def its_tests(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.name
