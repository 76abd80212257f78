"""wheel_check.py P2PFL: an installed `p2pfl` starts a node, which answers and stops cleanly on SIGTERM.

Uses the standard library alone, so that it runs in an environment that holds nothing but the wheel.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request

DEADLINE = 120.0  # seconds for all of it; a cold import of torch takes most of what is needed


def check(p2pfl: str) -> None:
    # networkx comes with torch; matplotlib comes with no dependency, so it tells an environment with extras.
    assert importlib.util.find_spec("matplotlib") is None, "matplotlib is here: this environment has extras"
    with tempfile.TemporaryDirectory() as empty:
        environment = {
            name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "P2PFL_DATA")
        }
        command = [p2pfl, "node", "start", "--listen", "127.0.0.1:0"]
        node = subprocess.Popen(command, cwd=empty, env=environment, stdout=subprocess.PIPE, text=True)
        watchdog = threading.Timer(DEADLINE, node.kill)
        watchdog.start()
        try:
            assert node.stdout is not None
            line = node.stdout.readline().strip()
            prefix = "listening on "
            assert line.startswith(prefix + "http://127.0.0.1:"), f"the first line on stdout is {line!r}"
            url = line.removeprefix(prefix)
            with urllib.request.urlopen(f"{url}/v1/status", timeout=10) as answer:
                status = json.load(answer)
            print(f"{url} is {status['state']}, round {status['round']}")
            node.send_signal(signal.SIGTERM)
            code = node.wait()
            assert code == 0, f"SIGTERM ended the node with exit code {code}"
        finally:
            watchdog.cancel()
            node.kill()
            node.wait()


if __name__ == "__main__":
    check(sys.argv[1])
