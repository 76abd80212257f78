"""What a real node's network demands of those who call it, and shows to those whom it calls.

Each part has a file of its own: tls.py, tokens.py; gate.py demands, presenting.py shows. The simulator's
network has none of this: there nobody comes from outside.
"""

from __future__ import annotations

import ipaddress
import logging
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from p2pfl.config import SecurityConfig
from p2pfl.errors import CredentialError
from p2pfl.network.tls import Tls
from p2pfl.network.tokens import Token

MEGABYTE = 1_000_000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Security:
    """tls, token: None where they are not asked for.  public_status: pages for people are open to everybody.

    operator: the token of whoever operates this one node; None: nobody controls it.
    max_requests, max_bytes: a second, of one address; 0: any number.
    """

    tls: Tls | None = None
    token: Token | None = None
    public_status: bool = False
    max_requests: float = 0.0
    max_bytes: float = 0.0
    operator: Token | None = None

    @classmethod
    def load(cls, config: SecurityConfig) -> Security:
        """Raises CredentialError for any file or token that cannot be used."""
        tls = token = None
        if config.tls_cert is not None and config.tls_key is not None and config.tls_ca is not None:
            files = Path(config.tls_cert), Path(config.tls_key), Path(config.tls_ca)
            tls = Tls.load(*files, optional=config.public_status)
        if config.token is not None:
            token = Token(config.token)
        elif config.token_file is not None:
            token = Token.read(Path(config.token_file))
        limits = config.max_requests, config.max_megabytes * MEGABYTE
        return cls(tls, token, config.public_status, *limits)

    @property
    def scheme(self) -> str:
        return "https" if self.tls else "http"

    def check_advertised(self, url: str | None) -> None:
        """CredentialError if peers would not accept the certificate at the address that they are told."""
        host = urlsplit(url or "").hostname
        if self.tls is None or host is None or self.tls.is_for(host):
            return
        names = ", ".join(self.tls.hosts)
        if is_wildcard(host):
            log.warning(
                "peers call this node at the address that its requests come from, and its certificate is for "
                "%s only; if that is another, give --advertise https://%s:PORT",
                names,
                self.tls.hosts[0],
            )
            return
        raise CredentialError(
            f"peers would be told to call {url}, but the certificate is for {names} only; give --advertise "
            f"https://{self.tls.hosts[0]}:PORT, or issue a certificate with --host {host}"
        )

    def check_operator(self) -> None:
        """CredentialError if every member of the network could control this node."""
        if self.token is not None and self.operator is not None and self.operator.text == self.token.text:
            raise CredentialError(
                "the operator's token is the network's, which every node has; give --control-token-file with "
                "another, or leave it out"
            )

    def warn_if_open(self, address: str) -> None:
        """address: that is listened on."""
        if self.tls is None and self.token is None and not is_loopback(address):
            log.warning(
                "listening on %s without TLS or token: whoever reaches this address can read the model and "
                "send weights; give --token-file, or --tls-cert, --tls-key and --tls-ca (see 'p2pfl keys')",
                address,
            )


def is_loopback(host: str) -> bool:
    """Whether it is this machine, seen from itself. A name is not looked up, `localhost` aside."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def on_this_machine(url: str) -> str:
    """A listening address as a browser on this machine calls it."""
    parts = urlsplit(url)
    if not is_wildcard(parts.hostname or ""):
        return url
    return f"{parts.scheme}://{'[::1]' if ':' in (parts.hostname or '') else '127.0.0.1'}:{parts.port}"


def is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


OPEN = Security()
"""Everybody may ask, without limits: for tests, and for networks that keep strangers out themselves."""
