"""`python -m benchmarks [NAMES] [--quick] [--json FILE]`: measure, print each figure as it is known."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import time
from pathlib import Path

from benchmarks.figures import Figure

GROUPS = (
    "floor",
    "startup",
    "wire",
    "exchange",
    "w1",
    "w5",
    "memory",
    "scale",
    "faults",
    "membership",
    "merging",
    "literature",
    "edge",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure what p2pfl costs, beside the targets. Not a test: the exit code is always 0.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(GROUPS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="less of everything, to see that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in GROUPS]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; choose from {', '.join(GROUPS)}")

    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before the start", flush=True)
    found: dict[str, list[Figure]] = {}
    for name in options.names or GROUPS:
        began = time.perf_counter()
        module = importlib.import_module(f"benchmarks.{name}")
        found[name] = []
        for figure in module.measure(options.quick):
            print(figure.as_line(), flush=True)
            found[name].append(figure)
        print(f"  {name} took {time.perf_counter() - began:.0f} s", flush=True)
    every = [figure for figures in found.values() for figure in figures]
    judged = [figure.holds for figure in every if figure.holds is not None]
    print(f"{judged.count(True)} of {len(judged)} targets hold")
    if options.json is not None:
        report = {name: [figure.as_dict() for figure in figures] for name, figures in found.items()}
        document = {"quick": options.quick, "cores": os.cpu_count(), "figures": report}
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
