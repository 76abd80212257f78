"""Requests of the command line to a running node: what is shown to it, and what each failure means."""

from __future__ import annotations

import json
import ssl
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from p2pfl.config import check_url
from p2pfl.errors import BadAnswer, ConfigError, CredentialError, NotOperator, Refused, Unreachable
from p2pfl.network import problems
from p2pfl.network.security import is_loopback
from p2pfl.network.tls import client_context, explain
from p2pfl.network.tokens import CONTROL_HEADER, Token
from p2pfl.storage.operator import TOKEN_FILE

TIMEOUT = 5.0  # seconds for each step, and for the whole answer: a person waits
MAX_ANSWER = 4 << 20  # bytes; a full view of 64 peers takes some 20 kB


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


@dataclass(frozen=True)
class OperatorCredentials:
    """The operator's token, or where it is: what was given in words comes before the environment."""

    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    state_dir: Path | None = None

    def header(self) -> dict[str, str]:
        """CredentialError, ConfigError."""
        if self.token_file is not None and self.state_dir is not None:
            raise ConfigError("give --control-token-file or --state-dir, not both")
        if self.token_file is not None:
            token = Token.read(self.token_file)
        elif self.state_dir is not None:
            file = self.state_dir / TOKEN_FILE
            if not file.exists():
                raise CredentialError(
                    f"there is no operator's token in {self.state_dir}; a node keeps one there that was "
                    "started with this --state-dir and without --control-token-file"
                )
            token = Token.read(file)
        elif self.token is not None:
            token = Token(self.token)
        else:
            raise ConfigError(
                "controls need the operator's token, which the node printed when it started; give "
                "--control-token-file, the node's --state-dir, or P2PFL_CONTROL_TOKEN"
            )
        return {CONTROL_HEADER.decode(): token.text}


NOTHING = Credentials()


class Line:
    """To one node, for any number of requests. operator: headers of an OperatorCredentials.

    A secret that would travel in the clear is sent only if the node asks for one, and a warning says so.
    """

    def __init__(
        self,
        url: str,
        shown: Credentials = NOTHING,
        operator: Mapping[str, str] | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        context, self._secrets = shown.context(), {**shown.header(), **(operator or {})}
        if shown.tls_ca is not None and url.startswith("http:"):
            raise ConfigError(f"{url} is plain HTTP; a node with TLS is https://")
        self.url = url
        self._shows = url.startswith("https:") or is_loopback(urlsplit(url).hostname or "")
        self._client = httpx.Client(timeout=TIMEOUT, trust_env=False, transport=transport, verify=context)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()

    def ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        """The JSON that it answers.

        Unreachable if nobody answers in time, Refused, BadAnswer if it is no node's, ConfigError for an
        impossible host.
        """
        url = self.url
        try:
            code, answer = self._exchange(method, path, body)
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
        if code >= 400 and (problem := problems.decode(bytes(answer))) is not None:
            raise Refused(f"{url} refused: {problem[1]}", cause=problem[0], http_status=code)
        if code not in (200, 202):
            raise BadAnswer(f"{url} is not a node: {path} answers {code}")
        try:
            return json.loads(answer)
        except (ValueError, RecursionError) as error:
            raise BadAnswer(f"{url} is not a node: {path} is not JSON") from error

    def _exchange(self, method: str, path: str, body: Mapping[str, object] | None) -> tuple[int, bytearray]:
        """(status code, body)."""
        code, answer = self._send(method, path, body)
        if not self._shows and self._secrets and _asks_for_secret(code, answer):
            print(f"p2pfl: warning: the token goes to {self.url} in the clear", file=sys.stderr)
            self._shows = True
            code, answer = self._send(method, path, body)
        return code, answer

    def _send(self, method: str, path: str, body: Mapping[str, object] | None) -> tuple[int, bytearray]:
        deadline = time.monotonic() + TIMEOUT
        answer = bytearray()
        headers = dict(self._secrets) if self._shows else {}
        with self._client.stream(method, f"{self.url}{path}", headers=headers, json=body) as response:
            for chunk in response.iter_bytes():
                answer += chunk
                if len(answer) > MAX_ANSWER or time.monotonic() > deadline:
                    raise BadAnswer(f"{self.url} does not answer as a node does: its answer does not end")
        return response.status_code, answer


def _asks_for_secret(code: int, answer: bytearray) -> bool:
    """The network's token is wanted, or the operator's."""
    if code == 401:
        return True
    problem = problems.decode(bytes(answer)) if code == NotOperator.status else None
    return problem is not None and problem[0] == NotOperator.reason
