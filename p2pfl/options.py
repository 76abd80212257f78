"""Configuration classes: every field is a command-line flag and a key of a TOML file.

A class may have groups, which are such classes themselves; flags and files are flat: `local_epochs` of the
group `training` is `--local-epochs` and the key `local-epochs`.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import types
import typing
from collections.abc import Hashable, Mapping
from dataclasses import MISSING, dataclass
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

from p2pfl.errors import ConfigError

T = TypeVar("T")


def option(default: Any = MISSING, help: str = "", *, env: str | None = None, secret: bool = False) -> Any:
    """A dataclass field with the help text that the command line shows. env: environment variable.

    secret: its value is shown nowhere: not in repr(), errors, or what flatten() gives.
    """
    metadata = {"help": help, "env": env, "secret": secret}
    return dataclasses.field(default=default, repr=not secret, metadata=metadata)


def group(kind: type[T]) -> T:
    """A field that holds another configuration class, with its defaults."""
    return dataclasses.field(default_factory=kind, metadata={"group": True})


def check(ok: bool, message: str) -> None:
    if not ok:
        raise ConfigError(message)


@dataclass(frozen=True)
class Key:
    """One flat key of a configuration class. group: name of the nested class's field, "" at the top."""

    name: str
    group: str
    type: Any
    default: Any
    help: str
    env: str | None
    secret: bool


def keys(kind: type[Any]) -> tuple[Key, ...]:
    """The flat keys of a configuration class, its own first, then its groups', in order of definition."""
    return _keys_and_groups(cast(Hashable, kind))[0]


@functools.cache  # annotations are strings, and to read them takes milliseconds
def _keys_and_groups(kind: Any) -> tuple[tuple[Key, ...], Mapping[str, Any]]:
    """All keys, and the classes of the groups by their fields."""
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)
    own = [
        Key(
            field.name,
            "",
            hints[field.name],
            field.default,
            field.metadata["help"],
            field.metadata["env"],
            field.metadata["secret"],
        )
        for field in fields
        if not field.metadata.get("group")
    ]
    groups = {field.name: hints[field.name] for field in fields if field.metadata.get("group")}
    below = [dataclasses.replace(key, group=name) for name, group in groups.items() for key in keys(group)]
    return (*own, *below), groups


def build(kind: type[T], values: Mapping[str, object]) -> T:
    """A configuration from flat keys (`local_epochs` or `local-epochs`); what is absent keeps its default.

    Where the class has PRESETS, the key `profile` names other defaults.
    Raises ConfigError for an unknown key (with the nearest known one), a wrong type or a bad value.
    """
    known = {key.name: key for key in keys(kind)}
    preset = getattr(kind, "PRESETS", {}).get(str(values.get("profile")), {})
    given = {raw.replace("-", "_") for raw in values}
    values = {**{name: value for name, value in preset.items() if name not in given}, **values}
    grouped: dict[str, dict[str, object]] = {"": {}}
    for raw, value in values.items():
        name = raw.replace("-", "_")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0].replace('_', '-')!r}?" if near else ""
            raise ConfigError(f"unknown key {raw!r}{hint}")
        key = known[name]
        if key.secret and not isinstance(value, str | None):
            raise ConfigError(f"{name.replace('_', '-')} must be a string")
        grouped.setdefault(key.group, {})[name] = _convert(name, key.type, value)
    _, groups = _keys_and_groups(cast(Hashable, kind))
    nested = {name: groups[name](**flat) for name, flat in grouped.items() if name}
    return kind(**grouped[""], **nested)


def changed(config: T, values: Mapping[str, object]) -> T:
    """The same configuration with these flat keys (with underscores) changed; checked as build() checks.

    Raises ConfigError. A key that is not one is a KeyError: whoever calls this knows them.
    """
    known = {key.name: key for key in keys(type(config))}
    grouped: dict[str, dict[str, object]] = {"": {}}
    for name, value in values.items():
        key = known[name]
        grouped.setdefault(key.group, {})[name] = _convert(name, key.type, value)
    own = grouped.pop("")
    nested = {name: dataclasses.replace(getattr(config, name), **flat) for name, flat in grouped.items()}
    return cast(T, dataclasses.replace(cast(Any, config), **own, **nested))


def flatten(config: Any) -> dict[str, object]:
    """The flat keys and values of a configuration, with dashes: what build() takes, without the Nones.

    Secrets are left out: what is made of this is shown and written to files.
    """
    flat = {}
    for key in keys(type(config)):
        value = getattr(getattr(config, key.group) if key.group else config, key.name)
        if value is not None and not key.secret:
            flat[key.name.replace("_", "-")] = list(value) if isinstance(value, tuple) else value
    return flat


def _convert(name: str, kind: Any, value: object) -> object:
    """`value` as the field's type; comma lists become tuples, whole floats are not ints."""
    shown = name.replace("_", "-")
    if get_origin(kind) in (types.UnionType, typing.Union):
        if value is None:
            return None
        (kind,) = (member for member in get_args(kind) if member is not type(None))
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        check(value in choices, f"{shown} must be one of {', '.join(map(str, choices))}, not {value!r}")
        return value
    if get_origin(kind) is tuple:
        items = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
            raise ConfigError(f"{shown} must be a list of strings, not {value!r}")
        return tuple(item for item in items if item)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ConfigError(f"{shown} must be a value of type {kind.__name__}, not {value!r}")
    return value
