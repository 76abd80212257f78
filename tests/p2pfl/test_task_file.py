"""A file of several tasks: each key in its one place, and a line that says where a wrong one belongs."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from p2pfl.config import NodeConfig, keys
from p2pfl.errors import ConfigError
from p2pfl.task_file import MOST_TASKS, SHARED, TasksConfig, several

FILE = """
listen = "0.0.0.0:8470"
state-dir = "state"
data_dir = "data"
max-requests = 50
advertise = "http://node.example:80/"

[tasks.digits]
dataset = "digits"
peers = ["http://10.0.0.7:8470/tasks/digits"]
seed = 3

[tasks.x-rays]
dataset = "x.npz"
lr = 0.5
"""


def read(text: str, **flags: object) -> TasksConfig:
    return several(flags, tomllib.loads(text), "tasks.toml")


def test_each_task_is_a_whole_node_with_what_all_share() -> None:
    config = read(FILE)
    assert list(config.tasks) == ["digits", "x-rays"]
    digits, x_rays = config.tasks.values()
    assert (digits.seed, digits.peers) == (3, ("http://10.0.0.7:8470/tasks/digits",))
    assert (x_rays.data.dataset, x_rays.training.lr, x_rays.seed) == ("x.npz", 0.5, None)
    for name, task in config.tasks.items():
        assert (task.listen, task.data.data_dir, task.security.max_requests) == ("0.0.0.0:8470", "data", 50)
        assert task.state_dir == f"state/{name}"
        assert task.advertise == f"http://node.example:80/tasks/{name}"
    assert (config.shared.listen, config.shared.peers) == ("0.0.0.0:8470", ())


def test_a_node_that_cannot_be_called_stays_so() -> None:
    [task] = read('advertise = "none"\n[tasks.a]').tasks.values()
    assert (task.advertise, task.state_dir) == ("none", None)


def test_flags_win_over_the_file() -> None:
    config = read(FILE, listen="127.0.0.1:1", token="x" * 20 + "0123456789")
    assert {task.listen for task in config.tasks.values()} == {"127.0.0.1:1"}
    assert {task.security.token for task in config.tasks.values()} == {config.shared.security.token}


def test_every_key_has_one_place() -> None:
    names = {key.name for key in keys(NodeConfig)}
    assert names > SHARED
    for name in ("listen", "tls_cert", "token_file", "public_status", "log_json", "state_dir", "profile"):
        assert name in SHARED
    for name in ("peers", "rounds", "dataset", "merge", "journal", "seed", "discover", "exit_when_done"):
        assert name not in SHARED


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "tasks.toml names no task; give a table [tasks.NAME] for each"),
        ("tasks = 3", "tasks.toml names no task; give a table [tasks.NAME] for each"),
        ("[tasks]", "tasks.toml names no task; give a table [tasks.NAME] for each"),
        ("[tasks]\na = 1", "tasks.toml: [tasks.a] must be a table of the task's options, not 1"),
        (
            "rounds = 3\n[tasks.a]",
            "'rounds' belongs to a task, not to the process; move it into [tasks.NAME]",
        ),
        ("local-epochs = 3\n[tasks.a]", "'local-epochs' belongs to a task"),
        ("lissten = 3\n[tasks.a]", "tasks.toml: unknown key 'lissten'; did you mean 'listen'?"),
        (
            "[tasks.a]\nlisten = 'x'",
            "tasks.toml: [tasks.a]: 'listen' belongs to the process, which all tasks",
        ),
        ("[tasks.a]\nstate-dir = 'x'", "move it to the top of the file, above the first table"),
        ("[tasks.a]\ntoken = 'x'", "[tasks.a]: 'token' belongs to the process"),
        ("[tasks.a]\nrunds = 3", "tasks.toml: [tasks.a]: unknown key 'runds'; did you mean 'rounds'?"),
        ("[tasks.b]\nlr = -1", "tasks.toml: [tasks.b]: lr must be above 0"),
        ("[tasks.b.training]\nlr = 1", "tasks.toml: [tasks.b]: unknown key 'training'"),
        ("[tasks.a]\nlocal-steps = 1\nlocal_steps = 2", "'local-steps' and 'local_steps' are the same key"),
        ("log-json = true\nlog_json = true\n[tasks.a]", "are the same key"),
        ("listen = 'x'\n[tasks.a]", "tasks.toml: listen 'x' is not HOST:PORT"),
        ("advertise = 'http://a:1/tasks/a'\n[tasks.a]", "give the process's, each task adds its own path"),
        ("[tasks.A]", "[tasks.A]: a task's name has 1 to 32 characters of a-z, 0-9 and -; choose another"),
        ('[tasks."a.b"]', "a task's name has"),
        ('[tasks."../x"]', "a task's name has"),
        ('[tasks.""]', "a task's name has"),
        (f"[tasks.{'a' * 33}]", "a task's name has"),
        (
            "[tasks.a]\njournal = 'j'\n[tasks.b]\njournal = './j'",
            "[tasks.b]: 'journal' is that of [tasks.a] too; give each its own",
        ),
        (
            "\n".join(f"[tasks.t{number}]" for number in range(MOST_TASKS + 1)),
            "tasks.toml has 33 tasks, more than 32; start another process",
        ),
    ],
)
def test_a_wrong_file_is_one_line_that_says_what_to_do(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("flags", [{"rounds": 3}, {"peers": ["http://a:1"]}, {"train_in": "thread"}])
def test_a_flag_of_one_task_is_none_of_several(flags: dict[str, Any]) -> None:
    name = next(iter(flags)).replace("_", "-")
    with pytest.raises(
        ConfigError, match=rf"^--{name} belongs to a task; give it in \[tasks.NAME\] of tasks"
    ):
        read(FILE, **flags)
