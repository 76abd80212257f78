"""A real node in the hands of its operator, by the command line: paused, set, stopped."""

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from cli.main import app
from p2pfl.storage.operator import CONTROLS_FILE, TOKEN_FILE
from tests.processes.real import HUNG, nodes

FLAGS = ("--state-dir", "state", "--rounds", "0", "--interval", "0", "--local-steps", "2")
FLAGS = (*FLAGS, "--evaluate-samples", "20", "--log-level", "warning")


def command(folder: Path, *arguments: str) -> Result:
    """`p2pfl node ...`, with the operator's token of the node's folder."""
    return CliRunner().invoke(app, ["node", *arguments, "--state-dir", str(folder / "state")])


def test_a_node_is_paused_set_and_stopped(tmp_path: Path) -> None:
    with nodes(tmp_path, FLAGS) as (node,):
        url = node.wait_listening()
        token = (tmp_path / "state" / TOKEN_FILE).read_text().strip()
        assert node.process.stdout is not None
        assert node.process.stdout.readline() == f"page: {url}/#control={token}\n"
        paused = command(tmp_path, "pause", url)
        assert (paused.exit_code, paused.stderr) == (0, "")
        changed = command(tmp_path, "set", url, "--fanout", "5")
        assert (changed.exit_code, "fanout        5\n" in changed.stdout) == (0, True)
        while node.status()["state"] != "paused":  # when its round has ended
            assert node.process.poll() is None
        stopped = command(tmp_path, "stop", url)
        assert (stopped.exit_code, stopped.stderr) == (0, "")
        assert node.process.wait(HUNG) == 0
        assert node.process.stderr is not None
        assert token not in node.process.stderr.read()
    kept = json.loads((tmp_path / "state" / CONTROLS_FILE).read_text())
    assert (kept["paused"], kept["changes"]) == (True, {"fanout": [2, 5]})
