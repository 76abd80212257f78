"""What `p2pfl node status` asks a node, and how it shows the answer."""

from __future__ import annotations

import io
import json
import shutil
import ssl
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.failures import one_line
from p2pfl.config import check_url
from p2pfl.errors import BadAnswer, ConfigError, Refused, Unreachable
from p2pfl.network import problems
from p2pfl.network.security import is_loopback
from p2pfl.network.tls import client_context, explain
from p2pfl.network.tokens import Token

TIMEOUT = 5.0  # seconds for each step, and for the whole answer: a person waits
MAX_ANSWER = 4 << 20  # bytes; a full view of 64 peers takes some 20 kB

Status = dict[str, Any]

# What a person wants to know first; --json has everything.
SUMMARY = ("name", "url", "state", "round", "age", "loss", "accuracy", "task", "model", "samples")
COLUMNS = ("peer", "url", "reached", "state", "round", "in/out", "MB in/out")
SHOWN_REFUSALS = 3
SHOWN_GONE = 5


def parse_url(text: str) -> str:
    """A node's URL without a slash at its end; `host:port` means http. ConfigError for anything else."""
    url = text if "://" in text else f"http://{text}"
    check_url("URL", url)
    return url.rstrip("/")


@dataclass(frozen=True)
class Credentials:
    """What is shown to the node."""

    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None

    def header(self) -> dict[str, str]:
        """Of a request that shows the token; empty if there is none. CredentialError, ConfigError."""
        if self.token is not None and self.token_file is not None:
            raise ConfigError("give the token or --token-file, not both")
        if self.token is None and self.token_file is None:
            return {}
        token = Token(self.token) if self.token is not None else Token.read(Path(self.token_file or ""))
        return {"authorization": token.header}

    def context(self) -> ssl.SSLContext | bool:
        """For https. CredentialError, ConfigError."""
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("--tls-cert and --tls-key belong together; give both or none")
        if self.tls_ca is None:
            if self.tls_cert is not None:
                raise ConfigError("give --tls-ca too, the authority that the node's certificate is from")
            return True
        return client_context(self.tls_cert, self.tls_key, self.tls_ca)


NOTHING = Credentials()


def fetch(url: str, shown: Credentials = NOTHING, transport: httpx.BaseTransport | None = None) -> Status:
    """The JSON of `url`/v1/status.

    A token that would travel in the clear is sent only if the node asks for one, and a warning says so.

    Unreachable if nobody answers in time, BadAnswer if it is no node's, ConfigError for an impossible host.
    """
    context, header = shown.context(), shown.header()
    if shown.tls_ca is not None and url.startswith("http:"):
        raise ConfigError(f"{url} is plain HTTP; a node with TLS is https://")
    try:
        with httpx.Client(timeout=TIMEOUT, trust_env=False, transport=transport, verify=context) as client:
            hidden = url.startswith("https:") or is_loopback(urlsplit(url).hostname or "")
            code, body = _get(client, url, header if hidden else {})
            if code == 401 and header and not hidden:
                print(f"p2pfl: warning: the token goes to {url} in the clear", file=sys.stderr)
                code, body = _get(client, url, header)
    except httpx.TimeoutException as error:
        raise Unreachable(f"{url} does not answer within {TIMEOUT:.0f} seconds") from error
    except httpx.RemoteProtocolError as error:
        raise BadAnswer(f"{url} is not a node: it does not speak HTTP ({error})") from error
    except httpx.DecodingError as error:
        raise BadAnswer(f"{url} is not a node: its answer cannot be decoded ({error})") from error
    except httpx.TransportError as error:
        meaning = explain(error)
        why = meaning or f"{error}; is a node running there?"
        raise Unreachable(f"{url} cannot be reached: {why}") from error
    except (httpx.InvalidURL, UnicodeError) as error:  # host names that no name service may be asked for
        raise ConfigError(f"URL {url!r} is not http://HOST:PORT: {error}") from error
    if code >= 400 and (problem := problems.decode(bytes(body))) is not None:
        raise Refused(f"{url} refused: {problem[1]}", cause=problem[0], http_status=code)
    if code != 200:
        raise BadAnswer(f"{url} is not a node: /v1/status answers {code}")
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadAnswer(f"{url} is not a node: /v1/status is not JSON") from error
    if not isinstance(answer, dict) or "state" not in answer or not isinstance(answer.get("peers"), list):
        raise BadAnswer(f"{url} is not a node: /v1/status holds something else")
    return answer


def _get(client: httpx.Client, url: str, header: dict[str, str]) -> tuple[int, bytearray]:
    """(status code, body) of /v1/status."""
    deadline = time.monotonic() + TIMEOUT
    body = bytearray()
    with client.stream("GET", f"{url}/v1/status", headers=header) as response:
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > MAX_ANSWER or time.monotonic() > deadline:
                raise BadAnswer(f"{url} does not answer as a node does: its answer does not end")
    return response.status_code, body


def as_json(status: Status) -> str:
    return json.dumps(status, indent=2)


def as_table(status: Status) -> str:
    """The status for people, ends with a newline: what it does, what it refused, a row for each peer."""
    out = io.StringIO()
    console = Console(file=out, width=max(80, shutil.get_terminal_size().columns))
    summary = Table(box=None, show_header=False, pad_edge=False)
    for name in SUMMARY:
        if status.get(name) not in (None, ""):
            value = status[name]
            if name == "task" and isinstance(value, dict):
                value = f"{value.get('name')}, {len(value.get('classes') or ())} classes"
            summary.add_row(name, _shown(value))
    console.print(summary)
    refusals = [refusal for refusal in status.get("refusals") or () if isinstance(refusal, dict)]
    rejected = status.get("rejected")
    if isinstance(rejected, dict):
        counts = ", ".join(f"{reason} {count}" for reason, count in rejected.items()) or "none"
        console.print(Text(f"rejected: {one_line(counts)}"))
        for refusal in refusals[-SHOWN_REFUSALS:]:
            console.print(Text(one_line(f"  {refusal.get('source')}: {refusal.get('detail')}")))
    if status.get("kept_own"):
        rule, times = one_line(str(status.get("merge"))), _shown(status["kept_own"])
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
                _shown(peer.get("name") or str(peer.get("id") or "?")[:8]),
                _shown(peer.get("url")),
                _shown("suspect" if peer.get("standing") == "suspect" else peer.get("state")),
                _shown(peer.get("node_state")),
                _shown(peer.get("round")),
                _shown(f"{peer.get('exchanges_in')}/{peer.get('exchanges_out')}"),
                _shown(f"{_megabytes(peer.get('bytes_in'))}/{_megabytes(peer.get('bytes_out'))}"),
            )
        console.print(table)
        for peer in peers:
            if peer.get("detail"):
                console.print(Text(one_line(f"{peer.get('url')}: {peer['detail']}")))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


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


def _shown(value: object) -> Text:
    """A value as plain text: it came over the network, so neither markup nor control codes may act."""
    if value is None:
        return Text("-")
    if isinstance(value, dict | list):
        value = json.dumps(value)
    return Text(one_line(f"{value:.4g}" if isinstance(value, float) else str(value)))
