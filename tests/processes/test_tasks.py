"""Real processes of two tasks each, which gossip on loopback; the file is the one in examples/."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.processes.real import HUNG, nodes

EXAMPLE = Path(__file__).parents[2] / "examples" / "tasks.toml"
QUICK = "interval = 0.05\nmin-peers = 1\n"
TASKS = {"digits": 0.6, "pictures": 0.9}  # accuracy that is reached at least


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the pictures that the example names."""
    rng = np.random.default_rng(5)
    labels = rng.permutation(np.arange(120) % 2)
    images = (rng.integers(0, 100, (120, 8, 8)) + 150 * labels[:, None, None]).astype(np.uint8)
    parts = {"train_images": images[:80], "train_labels": labels[:80, None]}
    np.savez(tmp_path / "pictures.npz", **parts, test_images=images[80:], test_labels=labels[80:, None])
    return tmp_path


def file_of(folder: Path, index: int, first: str = "", more: str = "") -> tuple[str, str]:
    """The example as process `index` of two uses it.

    first: the URL of the other one.  more: keys of each task.
    """
    text = EXAMPLE.read_text().replace('"0/2"', f'"{index}/2"')
    for name in TASKS:
        peers = f'peers = ["{first}/tasks/{name}"]\n' if first else ""
        own = f'{QUICK}journal = "{name}-{index}.jsonl"\n{peers}{more}'
        text = text.replace(f"[tasks.{name}]\n", f"[tasks.{name}]\n{own}")
    path = folder / f"tasks-{index}.toml"
    path.write_text(text)
    return "--tasks", str(path)


@pytest.mark.xdist_group("nodes")
def test_two_processes_of_two_tasks_gossip_task_by_task_and_a_broken_third_is_its_own_fault(
    folder: Path,
) -> None:
    with nodes(folder, file_of(folder, 0)) as (first,):
        url = first.wait_listening()
        listed = httpx.get(f"{url}/tasks", timeout=HUNG, trust_env=False).json()
        assert [(task["name"], task["url"]) for task in listed] == [
            ("digits", f"{url}/tasks/digits"),
            ("pictures", f"{url}/tasks/pictures"),
        ]
        flags = file_of(folder, 1, url, "exit-when-done = true\nlinger = 5\n")
        with Path(flags[1]).open("a") as file:
            file.write('[tasks.broken]\ndataset = "tasks-1.toml"\n')
        with nodes(folder, flags) as (second,):
            _, log = second.process.communicate(timeout=HUNG)
            assert second.process.returncode == 1, log
        assert "level=error logger=p2pfl.tasks failed: " in log
        assert log.splitlines()[-1].startswith("p2pfl: error: task broken failed: data set 'tasks-1.toml'")
        assert first.stop() == 0
        _, log = first.process.communicate(timeout=HUNG)
        assert "signal=SIGTERM stopping" in log
        assert [log.count(f"task ended: stopped task_name={name}") for name in TASKS] == [1, 1]
    for name, least in TASKS.items():
        for index in (0, 1):
            lines = [json.loads(line) for line in (folder / f"{name}-{index}.jsonl").read_text().splitlines()]
            events = [line["event"] for line in lines]
            assert "merged" in events
            assert "rejected" not in events
            assert events[-1] == "stopped"
            assert [line["accuracy"] for line in lines if line["event"] == "evaluated"][-1] > least
            met = {line["url"].rpartition("/")[2] for line in lines if line["event"] == "peer-added"}
            assert met == {name}
