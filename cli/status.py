"""What `p2pfl node status` asks a node, and how it shows the answer."""

from __future__ import annotations

import io
import json
import shutil
from typing import Any
from urllib.parse import urlsplit

import httpx
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.asking import NOTHING, Credentials, Line
from cli.failures import one_line
from p2pfl.errors import BadAnswer, Refused

Status = dict[str, Any]

# What a person wants to know first; --json has everything.
SUMMARY = ("name", "url", "state", "round", "age", "loss", "accuracy", "task", "model", "samples")
COLUMNS = ("peer", "url", "reached", "state", "round", "in/out", "MB in/out")
TASK_COLUMNS = ("task", "url", "state", "round", "accuracy", "peers")
TASKS = "/tasks"
SHOWN_REFUSALS = 3
SHOWN_GONE = 5


def fetch(url: str, shown: Credentials = NOTHING, transport: httpx.BaseTransport | None = None) -> Status:
    """The JSON of `url`/v1/status; of a process of several tasks {"tasks": the JSON of `url`/tasks}.

    Raises what Line.ask raises.
    """
    with Line(url, shown, transport=transport) as line:
        try:
            return look(line)
        except Refused as refused:
            if refused.http_status != 404 or urlsplit(url).path:
                raise
        tasks = line.ask("GET", TASKS)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise BadAnswer(f"{url} is not a node: {TASKS} holds something else")
    return {"tasks": tasks}


def look(line: Line) -> Status:
    """The same, on a line that is there. Raises what Line.ask raises."""
    answer = line.ask("GET", "/v1/status")
    if not isinstance(answer, dict) or "state" not in answer or not isinstance(answer.get("peers"), list):
        raise BadAnswer(f"{line.url} is not a node: /v1/status holds something else")
    return answer


def as_json(status: Status) -> str:
    return json.dumps(status, indent=2)


def as_table(status: Status) -> str:
    """The status for people, ends with a newline: what it does, what it refused, a row for each peer.

    Of several tasks: a row for each.
    """
    out = io.StringIO()
    console = Console(file=out, width=max(80, shutil.get_terminal_size().columns))
    if "state" not in status and "tasks" in status:
        _print_tasks(console, status["tasks"])
        return _trimmed(out)
    summary = Table(box=None, show_header=False, pad_edge=False)
    for name in SUMMARY:
        if status.get(name) not in (None, ""):
            value = status[name]
            if name == "task" and isinstance(value, dict):
                value = f"{value.get('name')}, {len(value.get('classes') or ())} classes"
            summary.add_row(name, shown_as_text(value))
    console.print(summary)
    refusals = [refusal for refusal in status.get("refusals") or () if isinstance(refusal, dict)]
    rejected = status.get("rejected")
    if isinstance(rejected, dict):
        counts = ", ".join(f"{reason} {count}" for reason, count in rejected.items()) or "none"
        console.print(Text(f"rejected: {one_line(counts)}"))
        for refusal in refusals[-SHOWN_REFUSALS:]:
            console.print(Text(one_line(f"  {refusal.get('source')}: {refusal.get('detail')}")))
    if status.get("kept_own"):
        rule, times = one_line(str(status.get("merge"))), shown_as_text(status["kept_own"])
        console.print(Text(f"merge {rule}: too few models, own weights kept {times} times"))
    for line in (*_storage(status.get("storage")), *_thrift(status.get("thrift"))):
        console.print(Text(one_line(line)))
    peers = [peer for peer in status["peers"] if isinstance(peer, dict)]
    gone = [member for member in status.get("gone") or () if isinstance(member, dict)]
    for member in gone[-SHOWN_GONE:]:
        said = f"{member.get('standing')}: {str(member.get('id'))[:8]} {member.get('url')}"
        console.print(Text(one_line(said)))
    if unverified := _unverified(status, peers):
        console.print(Text(f"unverified: {one_line(', '.join(unverified))}"))
    console.print(Text(f"{len(peers)} peer{'s' * (len(peers) > 1)}:" if peers else "no peers"))
    if peers:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in COLUMNS:
            table.add_column(title, overflow="fold", no_wrap=title == "url")
        for peer in peers:
            table.add_row(
                shown_as_text(peer.get("name") or str(peer.get("id") or "?")[:8]),
                shown_as_text(peer.get("url")),
                shown_as_text("suspect" if peer.get("standing") == "suspect" else peer.get("state")),
                shown_as_text(peer.get("node_state")),
                shown_as_text(peer.get("round")),
                shown_as_text(f"{peer.get('exchanges_in')}/{peer.get('exchanges_out')}"),
                shown_as_text(f"{_megabytes(peer.get('bytes_in'))}/{_megabytes(peer.get('bytes_out'))}"),
            )
        console.print(table)
        for peer in peers:
            if peer.get("detail"):
                console.print(Text(one_line(f"{peer.get('url')}: {peer['detail']}")))
    return _trimmed(out)


def _trimmed(out: io.StringIO) -> str:
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _print_tasks(console: Console, tasks: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in TASK_COLUMNS:
        table.add_column(title, overflow="fold", no_wrap=title == "url")
    for task in tasks:
        table.add_row(
            *(shown_as_text(task.get("name" if title == "task" else title)) for title in TASK_COLUMNS)
        )
    console.print(table)
    for task in tasks:
        if task.get("failure"):
            console.print(Text(one_line(f"{task.get('name')} failed: {task['failure']}")))


def _unverified(status: Status, peers: list[dict[str, Any]]) -> list[str]:
    """Who is taken at its word, for it does not sign: peers that answered, and other senders."""
    said = [peer for peer in peers if peer.get("state") != "new" and peer.get("verified") is False]
    named = [str(peer.get("name") or peer.get("id") or peer.get("url")) for peer in said]
    ids = {str(peer.get("id")) for peer in said}
    senders = status.get("unverified")
    others = senders if isinstance(senders, list) else []
    return named + [str(sender) for sender in others if str(sender) not in ids]


def _storage(storage: object) -> list[str]:
    """What a person needs to know of a node's disk: what is safe, and what went wrong."""
    if not isinstance(storage, dict):
        return []
    round, lost = storage.get("round"), storage.get("lost_lines")
    lines = ["nothing is saved" if round is None else f"saved: round {round}"]
    if storage.get("problem"):
        lines.append(f"not saved since: {storage['problem']} ({storage.get('failures')} times)")
    if lost:
        lines.append(f"journal: {lost} lines could not be written")
    damaged = storage.get("damaged")
    for entry in damaged if isinstance(damaged, list) else []:
        lines.append(f"damaged and set aside: {entry}")
    return lines


def _thrift(thrift: object) -> list[str]:
    """What a node spares, and what it waits for."""
    if not isinstance(thrift, dict):
        return []
    lines, hours = [], thrift.get("train_hours")
    if thrift.get("training_waits_for") == "hours":
        lines.append(f"trains only at {', '.join(map(str, hours if isinstance(hours, list) else ()))}")
    elif thrift.get("training_waits_for") == "load":
        lines.append(f"waits to train until the machine's load is {thrift.get('max_load')} or less")
    if thrift.get("bytes_per_hour"):
        spent, most = _megabytes(thrift.get("bytes_last_hour")), _megabytes(thrift["bytes_per_hour"])
        lines.append(f"last hour: {spent} of {most} MB, exchanges put off: {thrift.get('exchanges_put_off')}")
    if thrift.get("metered"):
        lines.append("metered link: exchanges are rarer")
    return lines


def _megabytes(size: object) -> str:
    return f"{size / 1e6:.1f}" if isinstance(size, int | float) else "?"


def shown_as_text(value: object) -> Text:
    """A value as plain text: it came over the network, so neither markup nor control codes may act."""
    if value is None:
        return Text("-")
    if isinstance(value, dict | list):
        value = json.dumps(value)
    return Text(one_line(f"{value:.4g}" if isinstance(value, float) else str(value)))
