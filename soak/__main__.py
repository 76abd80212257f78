"""`python -m soak [PARTS] [--small] [--seconds S] ...`: run the parts, print what was asked and measured."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from p2pfl.errors import P2pflError
from soak.figures import HEADER, RULE, Figure
from soak.options import SECONDS, Options

PARTS = {"frames": "frames", "kills": "kill_figures", "flood": "flood", "chaos": "chaos"}
"""Their names, and the modules that have them."""
SMALL_SECONDS = 20.0


def main() -> int:
    """0 if all figures hold, 1 if one misses."""
    parser = argparse.ArgumentParser(
        prog="python -m soak",
        description="What a node has to bear: floods, faults, fuzzed frames. No part takes over ten minutes.",
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--small", action="store_true", help="a little of everything, to see that it runs")
    parser.add_argument("--seconds", type=float, help=f"of parts that last as long as told [{SECONDS:g}]")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn [0]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep logs and journals there")
    given = parser.parse_args()
    parts = [part for part in given.parts if part != "all"] or list(PARTS)
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}; choose from {', '.join(PARTS)}")
    seconds = given.seconds or (SMALL_SECONDS if given.small else SECONDS)
    if not 0 < seconds <= SECONDS:
        parser.error(f"--seconds is more than 0 and at most {SECONDS:g}")

    about = (
        f"{_commit()}, {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    print(f"python -m soak {' '.join(parts)}: {about}\n\n{HEADER}\n{RULE}", flush=True)
    found: dict[str, list[Figure]] = {}
    for part in parts:
        found[part] = []
        with tempfile.TemporaryDirectory(prefix="soak-") as temporary:
            folder = Path(temporary) if given.keep is None else given.keep / part
            folder.mkdir(parents=True, exist_ok=True)
            options = Options(folder, seconds, given.small, given.seed)
            began = time.perf_counter()
            for figure in importlib.import_module(f"soak.{PARTS[part]}").measure(options):
                print(figure.as_line(), flush=True)
                found[part].append(figure)
            print(Figure(f"{part}: took", f"{time.perf_counter() - began:.0f} s").as_line(), flush=True)
    every = [figure for figures in found.values() for figure in figures]
    judged = [figure.holds for figure in every if figure.holds is not None]
    print(f"\n{judged.count(True)} of {len(judged)} figures hold")
    if given.json is not None:
        report = {part: [figure.as_dict() for figure in figures] for part, figures in found.items()}
        document = {
            "about": about,
            "small": given.small,
            "seconds": seconds,
            "seed": given.seed,
            "figures": report,
        }
        given.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0 if all(judged) else 1


def _commit() -> str:
    """Of the working tree, with a + if it has changes."""
    line = ["git", "describe", "--always", "--dirty=+"]
    done = subprocess.run(line, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return f"commit {done.stdout.strip()}" if done.returncode == 0 else "no commit"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except P2pflError as error:  # a node that cannot start says what to do
        sys.exit(f"soak: error: {error}")
