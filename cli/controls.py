"""What `p2pfl node pause|resume|set|stop` asks a node, and how the answer is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from cli.asking import NOTHING, Credentials, Line, OperatorCredentials
from cli.failures import one_line
from p2pfl.errors import BadAnswer, BadSetting, ConfigError, CredentialError, NotOperator, Refused

Answer = dict[str, Any]


def send(
    url: str,
    values: Mapping[str, object] | None,
    operator: OperatorCredentials,
    shown: Credentials = NOTHING,
    transport: httpx.BaseTransport | None = None,
) -> Answer:
    """Change these in the node, or stop it if that is None; its answer.

    ConfigError for a value that it does not take, CredentialError for a token that is not its operator's,
    and what Line.ask raises.
    """
    path, expected = ("/v1/stop", "stopping") if values is None else ("/v1/controls", "paused")
    with Line(url, shown, operator.header(), transport) as line:
        try:
            answer = line.ask("POST", path, values or {})
        except Refused as refused:
            if refused.cause == BadSetting.reason:
                raise ConfigError(str(refused)) from refused
            if refused.cause == NotOperator.reason:
                raise CredentialError(str(refused)) from refused
            raise
    if not isinstance(answer, dict) or expected not in answer:
        raise BadAnswer(f"{url} is not a node: {path} holds something else")
    return answer


def as_lines(answer: Answer) -> str:
    """The settings, a line each; those that hold only from the next round say so."""
    settings, in_force = (
        found if isinstance(found := answer.get(key), dict) else {} for key in ("settings", "in_force")
    )
    lines = []
    for name, value in settings.items():
        if value is None:
            continue
        now = in_force.get(name)
        later = "" if now == value else "  from the next round"
        lines.append(f"{one_line(str(name)).replace('_', '-'):<13} {one_line(str(value))}{later}")
    if answer.get("paused"):
        lines.append("paused")
    return "".join(f"{line}\n" for line in lines)


def warnings(answer: Answer) -> list[str]:
    """What a person should know besides."""
    found = answer.get("warnings")
    told = [one_line(str(warning)) for warning in found] if isinstance(found, list) else []
    if answer.get("kept") is False:
        told.append("a restart forgets this: the node has no --state-dir, or cannot write to it")
    return told
