"""A process that has imported everything and forks a node for each line it reads: a start in no time.

Run as `python -m soak.warm`. A line on stdin is a node's configuration as JSON, its log file among it; a line
`forked PID` on stdout answers it, and then come the node's own lines. A node is a process of its own, with
nothing of another's but imported code, and dies with this one, which ends when stdin does.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from cli import logs
from p2pfl import standalone
from p2pfl.config import NodeConfig, build
from p2pfl.errors import P2pflError
from p2pfl.learning.forked import die_with_parent

log = logging.getLogger(__name__)


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the nodes
    for line in sys.stdin:
        keys: dict[str, Any] = json.loads(line)
        path = Path(keys.pop("log"))
        pid = os.fork()
        if pid == 0:
            _live(keys, path)
        print(f"forked {pid}", flush=True)


def _live(keys: dict[str, Any], path: Path) -> None:
    """A node's whole life; does not return."""
    die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with path.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    code = 1
    try:
        config = build(NodeConfig, keys)
        logs.configure(config.log_level, as_json=False)
        code = standalone.start(config)
    except P2pflError as error:
        print(f"p2pfl: error: {error}", file=sys.stderr, flush=True)
    except Exception:
        log.exception("a node ended by a bug")
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
