"""Whether the link to the outside is paid for by volume, as NetworkManager has it: Linux, with nmcli."""

from __future__ import annotations

import logging
import shutil
import subprocess
from pathlib import Path

import trio

ROUTES = Path("/proc/net/route")
PATIENCE = 5.0
"""Seconds in which nmcli has to answer."""

log = logging.getLogger(__name__)


async def is_metered(routes: Path = ROUTES, program: str | None = None) -> bool:
    """False where nobody knows: no default route, no NetworkManager, or it cannot tell.

    routes: the kernel's table of IPv4 routes.  program: nmcli; None: where it is found.
    """
    program = program or shutil.which("nmcli")
    device = default_device(routes)
    if program is None or device is None:
        return False
    command = [program, "--get-values", "GENERAL.METERED", "device", "show", device]
    with trio.move_on_after(PATIENCE):
        try:
            done = await trio.run_process(
                command, capture_stdout=True, stderr=subprocess.DEVNULL, check=False
            )
        except OSError as error:
            log.debug("nmcli cannot be run: %s", error)
            return False
        return says_metered(done.stdout.decode("utf-8", "replace"))
    return False


def says_metered(answer: str) -> bool:
    """nmcli says yes, no, unknown, or "yes (guessed)"."""
    return answer.strip().startswith("yes")


def default_device(routes: Path) -> str | None:
    """The interface of the default route with the smallest metric."""
    try:
        lines = [line.split() for line in routes.read_text(encoding="ascii").splitlines()[1:]]
    except (OSError, UnicodeDecodeError):
        return None
    found = [(int(line[6]), line[0]) for line in lines if len(line) > 7 and line[1] == line[7] == "00000000"]
    return min(found)[1] if found else None
