"""How a command ends badly: one line on stderr and an exit code, or a traceback if the bug is ours."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any

from typer import TyperException
from typer.core import TyperGroup

from p2pfl.errors import P2pflError


class Commands(TyperGroup):
    """The root command. Turns every expected failure below it into one line `p2pfl: error: ...`."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line. standalone_mode: exit the process with the command's code, else return it.

        Exit codes: 0 done, 1 the surroundings, 2 usage, 130 Ctrl-C; a bug propagates with its traceback.
        """
        try:
            code = super().main(
                args, prog_name, complete_var, False, windows_expand_args=windows_expand_args, **extra
            )
        except (P2pflError, TyperException) as error:
            code = _report(error)
        except BaseExceptionGroup as group:
            # A nursery wraps what its tasks raise. If anything in it is a bug, all of it goes up.
            mistakes, bugs = group.split(P2pflError)
            if mistakes is None or bugs is not None:
                raise
            code = max(_report(error) for error in _leaves(mistakes))
        code = code if isinstance(code, int) else 0
        if standalone_mode:
            sys.exit(code)
        return code


def _report(error: P2pflError | TyperException) -> int:
    """Print `error` as one line, of JSON where the log is; return its exit code."""
    if isinstance(error, P2pflError):
        text = str(error)
    else:
        text = error.format_message().replace("Value error, ", "")  # how pydantic starts some messages
        context = getattr(error, "ctx", None)
        if context is not None:
            text = f"{text.rstrip('.')}; see '{context.command_path} --help'"
    from cli import logs  # which shows lines as this module does

    if logs.is_json():
        logging.getLogger("p2pfl").error(one_line(text), extra={"fields": {"exit_code": error.exit_code}})
    else:
        print(f"p2pfl: error: {one_line(text)}", file=sys.stderr)
    return error.exit_code


def _leaves(group: BaseExceptionGroup[P2pflError]) -> list[P2pflError]:
    leaves: list[P2pflError] = []
    for error in group.exceptions:
        leaves.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return leaves


def one_line(text: str) -> str:
    """`text` with white space runs as single spaces and what a terminal would obey replaced.

    Messages quote what the user typed and what a foreign node answered: neither may move the cursor.
    """
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split()))
