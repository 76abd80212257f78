"""Several tasks in one process: a TOML file with what belongs to the process, and a table for each task.

    listen = "0.0.0.0:8470"
    token-file = "token"

    [tasks.digits]
    dataset = "digits"
    peers = ["http://10.0.0.7:8470/tasks/digits"]

    [tasks.x-rays]
    dataset = "x-rays.npz"

Keys are those of NodeConfig, each in one of the two places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from p2pfl.config import NOWHERE, TASKS, NodeConfig, build, is_task_name, keys
from p2pfl.errors import ConfigError

MOST_TASKS = 32
"""Of one process: what it may hold of models under way is divided among them."""

_OF_THE_PROCESS = (
    *("profile", "listen", "advertise", "call_from", "data_dir", "state_dir", "log_level", "log_json"),
    *("bytes_per_hour", "metered"),
)
SHARED = frozenset(
    key.name for key in keys(NodeConfig) if key.group == "security" or key.name in _OF_THE_PROCESS
)
"""What belongs to the process; the rest is each task's."""
_ALL = frozenset(key.name for key in keys(NodeConfig))


@dataclass(frozen=True)
class TasksConfig:
    """shared: what belongs to the process, and nothing of a task.  tasks: each whole, in the file's order."""

    shared: NodeConfig
    tasks: Mapping[str, NodeConfig]


def several(flags: Mapping[str, object], table: Mapping[str, object], source: str) -> TasksConfig:
    """flags: with underscores; they win over the file.  table: of the file `source`, as it was read.

    Raises ConfigError, which names the file and the table, and says what to do.
    """
    for name in flags:
        if name not in SHARED:
            raise ConfigError(
                f"--{name.replace('_', '-')} belongs to a task; give it in [tasks.NAME] of {source}"
            )
    shared = _once({raw: value for raw, value in table.items() if raw != "tasks"}, source)
    for name, (raw, _) in shared.items():
        if name in _ALL - SHARED:
            raise ConfigError(
                f"{source}: {raw!r} belongs to a task, not to the process; move it into [tasks.NAME]"
            )
    common = {name: value for name, (_, value) in shared.items()} | dict(flags)
    try:
        process = build(NodeConfig, common)
        _check_advertised(process.advertise)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    tables = table.get("tasks")
    if not isinstance(tables, Mapping) or not tables:
        raise ConfigError(f"{source} names no task; give a table [tasks.NAME] for each")
    if len(tables) > MOST_TASKS:
        raise ConfigError(f"{source} has {len(tables)} tasks, more than {MOST_TASKS}; start another process")
    tasks = {name: _task(name, entry, common, f"{source}: [tasks.{name}]") for name, entry in tables.items()}
    journals: dict[Path, str] = {}
    for name, config in tasks.items():
        if config.journal and (other := journals.setdefault(Path(config.journal).absolute(), name)) != name:
            raise ConfigError(
                f"{source}: [tasks.{name}]: 'journal' is that of [tasks.{other}] too; give each its own"
            )
    return TasksConfig(process, tasks)


def _task(name: str, entry: object, common: Mapping[str, object], where: str) -> NodeConfig:
    if not is_task_name(name):
        raise ConfigError(f"{where}: a task's name has 1 to 32 characters of a-z, 0-9 and -; choose another")
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where} must be a table of the task's options, not {entry!r}")
    given = _once(entry, where)
    for key, (raw, _) in given.items():
        if key in SHARED:
            raise ConfigError(
                f"{where}: {raw!r} belongs to the process, which all tasks share; move it to the top of the "
                "file, above the first table"
            )
    own = dict(common)
    if own.get("state_dir") is not None:
        own["state_dir"] = str(Path(str(own["state_dir"])) / name)
    if own.get("advertise") not in (None, NOWHERE):
        own["advertise"] = f"{str(own['advertise']).rstrip('/')}{TASKS}/{name}"
    try:
        return build(NodeConfig, {**own, **{key: value for key, (_, value) in given.items()}})
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _check_advertised(advertise: str | None) -> None:
    if advertise and TASKS in advertise:
        raise ConfigError(
            f"advertise: {advertise!r} is a task's address; give the process's, each task adds its own path"
        )


def _once(table: Mapping[str, object], where: str) -> dict[str, tuple[str, object]]:
    """Keys with underscores -> (as written, value). ConfigError if one stands there in both spellings."""
    found: dict[str, tuple[str, object]] = {}
    for raw, value in table.items():
        name = raw.replace("-", "_")
        if name in found:
            raise ConfigError(f"{where}: {found[name][0]!r} and {raw!r} are the same key; keep one")
        found[name] = raw, value
    return found
