"""Command-line options made from a configuration class, so that flags and file keys cannot differ."""

from __future__ import annotations

import inspect
import tomllib
import types
import typing
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

import typer

from p2pfl.config import Key, build, keys
from p2pfl.errors import ConfigError

C = TypeVar("C")

FILE_HELP = "TOML file with these options as keys; flags and environment variables win over it."

TASKS_HELP = (
    "TOML file of several tasks for one process: what they share as keys at its top, and a table for each: "
    "[tasks.NAME]. Instead of --config; of the flags only those of what is shared."
)

ARGUMENT_HELP = "TOML file of a scenario, or the name of a ready one (p2pfl sim list); flags win over it."


def takes(
    kind: type[C],
    *,
    file: bool = False,
    several: Callable[[Mapping[str, object], Mapping[str, object], str], Any] | None = None,
    load: Callable[[str | None, dict[str, object]], Any] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator: command(config: kind, <own options>) gets a flag for each key of `kind`.

    The command is called with a built configuration. Only values that somebody gave reach build(): defaults
    live in `kind` alone. file: also offer `--config FILE`. ConfigError for what cannot be used.
    A command with a parameter `reload` gets a function for it that makes the configuration anew from the file
    as it is then, or None if there is no file.
    several: also offer `--tasks FILE`, of which the command gets several(flags, keys of the file, its name).
    load: the command also takes a file, as its argument, and gets load(file, flags) instead.
    """
    options = [_parameter(key) for key in keys(kind)]
    secrets = [key for key in keys(kind) if key.secret]
    names = [option.name for option in options]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [p for name, p in signature.parameters.items() if name not in ("config", "reload")]
        before = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
        if file:
            before.append(_option("config", Path | None, None, FILE_HELP, metavar="FILE"))
        if several is not None:
            before.append(_option("tasks", Path | None, None, TASKS_HELP, metavar="FILE"))
        if load is not None:
            before.append(_argument("source", ARGUMENT_HELP))

        def from_file(flags: Mapping[str, object], path: Path) -> C:
            return combine(kind, flags, read(path), str(path))

        def from_tasks(flags: Mapping[str, object], path: Path) -> Any:
            assert several is not None
            return several(flags, read(path), str(path))

        def wrapper(*, context: typer.Context, **values: Any) -> None:
            path: Path | None = values.pop("config", None)
            tasks: Path | None = values.pop("tasks", None)
            if path is not None and tasks is not None:
                raise ConfigError("--config is of one node, --tasks of several; give one of them")
            make = from_file if tasks is None else from_tasks
            path = path or tasks
            for key in secrets:
                warn_of_secret(context, key.name, key.env)
            flags = {name: _flat(values.pop(name)) for name in names if _given(context, name)}
            rest = {name: value for name, value in values.items() if name not in names}
            if "reload" in signature.parameters:
                rest["reload"] = partial(make, flags, path) if path is not None else None
            if load is not None:
                command(load(rest.pop("source"), flags), **rest)
            elif path is not None:
                command(make(flags, path), **rest)
            else:
                command(build(kind, flags), **rest)

        wrapper.__name__ = command.__name__
        wrapper.__doc__ = command.__doc__
        parameters = [*before, *options, *own]
        # Typer reads the names, types and defaults of a command from its signature and annotations.
        wrapper.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
        )
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return wrapper

    return decorate


def warn_of_secret(context: typer.Context, name: str, env: str | None) -> None:
    """Say on stderr that a secret was given where others can read it."""
    source = context.get_parameter_source(name)
    if source is not None and source.name == "COMMANDLINE":
        shown = name.replace("_", "-")
        typer.echo(
            f"p2pfl: warning: other users of this machine can read --{shown} in the list of processes (ps); "
            f"give --{shown}-file, or set {env}",
            err=True,
        )


def _flat(value: object) -> object:
    """A repeatable flag's values, each of which may be a comma list, as one list."""
    if not isinstance(value, list):
        return value
    return [part.strip() for item in value for part in item.split(",")]


def read(path: Path) -> dict[str, object]:
    """The top-level keys of a TOML file as written. ConfigError if it cannot be read or is not TOML."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def combine(kind: type[C], flags: Mapping[str, object], table: Mapping[str, object], source: str) -> C:
    """A configuration from a file's `table` and the `flags` (with underscores), which win.

    source: the file's name, put in front of an error that is not the flags' alone.
    """
    seen: dict[str, str] = {}
    for raw in table:
        name = raw.replace("-", "_")
        if name in seen:
            raise ConfigError(f"{source}: {seen[name]!r} and {raw!r} are the same key; keep one")
        seen[name] = raw
    kept = {raw: table[raw] for name, raw in seen.items() if name not in flags}
    try:
        return build(kind, {**kept, **flags})
    except ConfigError as error:
        build(kind, flags)  # raises its own error if the flags alone are wrong
        raise ConfigError(f"{source}: {error}") from error


def _given(context: typer.Context, name: str) -> bool:
    """Whether the user set the option, by flag or environment variable."""
    source = context.get_parameter_source(name)
    return source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT")


def _parameter(key: Key) -> inspect.Parameter:
    """The function parameter from which Typer makes the key's flag."""
    kind, default = key.type, key.default
    if get_origin(kind) in (types.UnionType, typing.Union):
        (kind,) = (member for member in get_args(kind) if member is not type(None))
    if get_origin(kind) is tuple:  # repeatable, and each value may be a comma list
        return _option(key.name, list[str], [], key.help, envvar=key.env, metavar="<str,...>")
    return _option(key.name, kind | None if default is None else kind, default, key.help, envvar=key.env)


def _argument(name: str, help: str) -> inspect.Parameter:
    annotation = Annotated[str | None, typer.Argument(help=help, metavar="[SCENARIO]", show_default=False)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _option(name: str, kind: Any, default: Any, help: str, **more: Any) -> inspect.Parameter:
    annotation = Annotated[kind, typer.Option(help=help, **more)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
