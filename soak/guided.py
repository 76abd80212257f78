"""Frames that atheris makes: it keeps those that reach code of the codec that none has reached before.

    python -m soak.guided COUNT SEED FOLDER     what its process does; libFuzzer talks on stderr

A frame's sums are made right before it is decoded, or hardly any would get past them. atheris is an extra of
its own (`fuzz`): it is built for few systems.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

LONGEST = 4096  # bytes of a frame
LIMIT = 300.0  # seconds that its process may take: many times what it does
_DONE = re.compile(r"#(\d+)\s+DONE\s+cov: (\d+)")


@dataclass(frozen=True)
class Guided:
    """runs: frames decoded.  covered: branches of the codec that they reached.  wrong: as Tally's."""

    runs: int
    covered: int
    wrong: list[str]


def guided(count: int, seed: int) -> tuple[Guided | None, str]:
    """The result, or None and the reason why there is none."""
    if importlib.util.find_spec("atheris") is None:
        return None, "atheris is not installed: pip install -e '.[fuzz]' (Linux, x86-64)"
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, "-m", "soak.guided", str(count), str(seed), folder]
        done = subprocess.run(
            line, capture_output=True, text=True, errors="replace", timeout=LIMIT, check=False
        )
        found = _DONE.search(done.stderr)
        if found is not None and done.returncode == 0:
            return Guided(int(found[1]), int(found[2]), []), ""
        crashes = [path.read_bytes()[:2000].hex() for path in sorted(Path(folder).glob("crash-*"))]
        last = [text for text in done.stderr.splitlines() if "Error" in text or "Exception" in text]
        told = f"{last[-1].strip() if last else done.stderr[-300:]}: {', '.join(crashes)}"
        return Guided(0, 0, [told]), ""


def main() -> None:
    count, seed, folder = sys.argv[1:]
    import atheris

    with atheris.instrument_imports(include=["p2pfl.gossip"]):
        from soak import frames
        from soak.mutations import Kind, packed_hello, packed_model, valid_pairs

    def test(data: bytes) -> None:
        if not data:
            return
        # The first byte chooses the decoder and whether the sum is made right; the rest is the frame.
        kind: Kind = "hello" if data[0] & 1 else "model"
        body = data[1:]
        if data[0] & 2:
            body = frames.resealed(kind, body)
        frames.outcome(kind, [body])

    kinds: tuple[Kind, ...] = ("model", "hello")
    for number, kind in enumerate(kinds):
        pairs, payload = valid_pairs(kind, frames.TASK, frames.LAYOUT)
        body = packed_hello(pairs) if kind == "hello" else packed_model(pairs, payload)
        Path(folder, f"seed-{number}").write_bytes(bytes([number]) + body)
        Path(folder, f"seal-{number}").write_bytes(bytes([number | 2]) + body)
    flags = [f"-runs={count}", f"-seed={seed}", f"-max_len={LONGEST}", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], *flags, folder], test)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
