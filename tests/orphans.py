"""A program with forked workers whose parent is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def kill_once_it_says(program: str, line: bytes) -> None:
    """Run a test file as a program, kill it after its first line, and see that nobody outlives it."""
    with subprocess.Popen(
        [sys.executable, program],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == line
        parent.kill()
        # The workers hold the pipe too: it ends with the last of them.
        assert parent.communicate(timeout=30)[0] == b""
