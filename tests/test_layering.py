"""Imports point one way: import-linter's contracts, and which modules of gossip the other parts may know."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What each part may import of p2pfl, besides its own modules, errors, config, events, the version and
# the way to a user's code.
EVERYWHERE = ("p2pfl", "p2pfl.errors", "p2pfl.config", "p2pfl.events", "p2pfl.own_code")
ALLOWED = {
    "gossip": (),
    "learning": ("p2pfl.gossip.messages",),
    "storage": ("p2pfl.gossip.messages", "p2pfl.gossip.identity"),
    "network": ("p2pfl.gossip.messages", "p2pfl.gossip.codec", "p2pfl.clock"),
}
UNPICKLERS = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}


def test_contracts_of_pyproject_are_kept() -> None:
    tool = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("part", ALLOWED)
def test_part_imports_only_what_it_may_know(part: str) -> None:
    seen = 0
    for path in sorted((ROOT / "p2pfl" / part).rglob("*.py")):
        for module in imported(path):
            if module.split(".")[0] not in ("p2pfl", "netsim", "cli"):
                continue
            seen += 1
            own = module == f"p2pfl.{part}" or module.startswith(f"p2pfl.{part}.")
            assert own or module in (*EVERYWHERE, *ALLOWED[part]), f"{path.name} imports {module}"
    assert seen, f"no import found in p2pfl/{part}: this test looks at the wrong place"


def test_nothing_in_a_node_unpickles() -> None:
    for path in sorted((ROOT / "p2pfl").rglob("*.py")):
        found = UNPICKLERS.intersection(imported(path))
        assert not found, f"{path} imports {found}: bytes from outside must not run code"


def imported(path: Path) -> Iterator[str]:
    """The absolute names of the modules that a file imports, inside functions too.

    `from package import name` gives package.name if that is a module of this repository, else package.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import, line {node.lineno}"
            assert node.module is not None
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                place = ROOT / name.replace(".", "/")
                yield name if place.is_dir() or place.with_suffix(".py").is_file() else node.module
