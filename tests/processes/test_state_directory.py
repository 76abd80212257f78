"""One real node through all that can befall its state directory."""

import resource
import signal

from tests.processes.real import nodes, run

FLAGS = ("--state-dir", "state", "--rounds", "0", "--interval", "0", "--local-steps", "2")
FLAGS = (*FLAGS, "--evaluate-samples", "20", "--log-level", "warning")


def test_a_full_disk_a_second_node_and_a_damaged_checkpoint(tmp_path):
    state = tmp_path / "state"
    with nodes(tmp_path, FLAGS) as (node,):
        node.wait_listening()
        before = await_storage(node, lambda storage: storage["round"] > 2)

        # No file may grow beyond what is less than a checkpoint, as on a disk that is full by then.
        limits = resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (50_000, limits[1]))
        full = await_storage(node, lambda storage: storage["failures"] > 3)
        assert full["problem"] == "File too large"
        assert full["round"] >= before["round"]
        assert node.status()["round"] > full["round"]  # it trains on
        resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, limits)
        again = await_storage(node, lambda storage: not storage["problem"])
        assert again["round"] > full["round"]

        ended = run(tmp_path, *FLAGS)
        assert ended.returncode == 1
        (line,) = ended.stderr.splitlines()
        assert f"the state directory state is in use by process {node.process.pid}; " in line
        id = node.status()["id"]
        assert node.stop(signal.SIGKILL) == -signal.SIGKILL
        said = node.process.stderr.read()
        assert said.count("cannot be written: File too large") == 1  # not once a round
        assert "the state can be saved again" in said

    rounds = {int(path.stem.split("-")[1]): path for path in state.glob("checkpoint-*.safetensors")}
    assert len(rounds) in (2, 3)  # 3 if it was killed before it removed the oldest
    damaged = rounds[max(rounds)]
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with nodes(tmp_path, (*FLAGS, "--min-peers", "9", "--wait", "100000")) as (node,):
        node.wait_listening()
        status = node.status()
        assert status["id"] == id
        assert status["round"] == status["storage"]["round"] >= again["round"] - 1
        (told,) = status["storage"]["damaged"]
        assert told.startswith(f"{damaged.name}: ")
        assert node.stop() == 0
        assert f"file={damaged.name} damaged and set aside" in node.process.stderr.read()
    assert (state / f"{damaged.name}.damaged").exists()
    assert not damaged.exists()


def await_storage(node, when):
    """Ask until the status says so of its storage; each look is a request that the node answers."""
    while not when(storage := node.status()["storage"]):
        assert node.process.poll() is None
    return storage
