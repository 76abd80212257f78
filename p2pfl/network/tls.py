"""Mutual TLS from three files: a node's certificate, its key, and the authorities that peers come from.

Everything is checked before the node starts. What is missing, unreadable, expired or does not belong
together is a CredentialError: there is no way from here to plain HTTP.
"""

from __future__ import annotations

import datetime
import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from p2pfl.errors import CredentialError
from p2pfl.network import certificates

SOON = datetime.timedelta(days=14)
"""A certificate that ends sooner is warned of at start."""
PROTOCOL = "http/1.1"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tls:
    """hosts: names and addresses that the node's certificate is for.

    server: asks clients for a certificate; demands one, unless made with `optional`.
    client: shows ours, and checks the peer's against its host.
    """

    server: ssl.SSLContext
    client: ssl.SSLContext
    hosts: tuple[str, ...]

    @classmethod
    def load(cls, cert: Path, key: Path, ca: Path, *, optional: bool = False) -> Tls:
        """optional: let clients without a certificate in, to see what is open to everybody."""
        chain, authorities = certificates.load_certificates(cert), certificates.load_certificates(ca)
        certificates.check_pair(chain[0], certificates.load_key(key), (cert, key))
        when = certificates.now()
        certificates.check_valid(chain[0], cert, when)
        if not certificates.is_issued_by(chain, authorities):
            raise CredentialError(
                f"{cert} was not issued by an authority of {ca}, so peers would refuse it; give the "
                "authority's file that came with it"
            )
        if not any(certificates.out_of_date(authority, when) == "" for authority in authorities):
            certificates.check_valid(authorities[0], ca, when)
        _check_usage(chain[0], cert)
        if not certificates.hosts(chain[0]):
            raise CredentialError(
                f"{cert} is for no host, so no peer could call this node; issue it with --host"
            )
        if chain[0].not_valid_after_utc - when < SOON:
            log.warning("%s expires on %s", cert, f"{chain[0].not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
        server, client = (
            _context(purpose, cert, key, ca) for purpose in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT)
        )
        server.num_tickets = 0  # our clients keep connections instead of resuming sessions
        server.verify_mode = ssl.CERT_OPTIONAL if optional else ssl.CERT_REQUIRED
        return cls(server, client, tuple(certificates.hosts(chain[0])))

    def is_for(self, host: str) -> bool:
        return certificates.is_for(host, list(self.hosts))


def client_context(cert: Path | None, key: Path | None, ca: Path) -> ssl.SSLContext:
    """For a program that only asks: `cert` and `key` may be absent, where pages are open to everybody."""
    if cert is not None and key is not None:
        return Tls.load(cert, key, ca).client
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    certificates.load_certificates(ca)
    context.load_verify_locations(ca)
    return context


def explain_client(error: BaseException) -> str:
    """Why a client's handshake failed, in OpenSSL's words if they are not among the usual ones."""
    reason = getattr(error, "reason", None) or ""
    usual = {
        "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client showed no certificate",
        "CERTIFICATE_VERIFY_FAILED": "the client's certificate is not valid here",
        "TLSV1_ALERT_UNKNOWN_CA": "the client does not know the authority of our certificate",
        "SSLV3_ALERT_BAD_CERTIFICATE": "the client refused our certificate",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the client says that our certificate has expired",
        "UNEXPECTED_EOF_WHILE_READING": "the client left",
    }
    detail = getattr(error, "verify_message", "")
    words = usual.get(reason) or reason.replace("_", " ").lower() or "the client left"
    return f"{words} ({detail})" if detail else words


def explain(error: BaseException) -> str:
    """What an error of TLS means, in words that say what to do; "" if it is none that is known."""
    text = str(error)
    for sign, meaning in _MEANINGS.items():
        if sign in text:
            return meaning
    return ""


_MEANINGS = {
    "WRONG_VERSION_NUMBER": "it does not speak TLS; start it with --tls-cert, --tls-key and --tls-ca",
    "RECORD_LAYER_FAILURE": "it does not speak TLS; start it with --tls-cert, --tls-key and --tls-ca",
    "CERTIFICATE_REQUIRED": "it takes no client without a certificate; give --tls-cert, --tls-key, --tls-ca",
    "UNKNOWN_CA": "it does not know the authority of our certificate; use one --tls-ca on all nodes",
    "CERTIFICATE_EXPIRED": "it says that our certificate has expired; look at its clock and ours",
    "BAD_CERTIFICATE": "it refused our certificate",
    "certificate has expired": "its certificate has expired; issue another one (p2pfl keys issue)",
    "not yet valid": "its certificate is not valid yet; look at its clock and ours",
    "mismatch": "its certificate is for another host; issue it with --host for this one",
    "not valid for": "its certificate is for another host; issue it with --host for this one",
    "self-signed certificate": "its certificate is of another authority; use one --tls-ca on all nodes",
    "unable to get local issuer": "its certificate is of another authority; use one --tls-ca on all nodes",
    "certificate signature failure": "its certificate is of another authority; use one --tls-ca on all nodes",
}


def _context(purpose: int, cert: Path, key: Path, ca: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(purpose)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols([PROTOCOL])
    try:
        context.load_cert_chain(cert, key)
        context.load_verify_locations(ca)
    except (ssl.SSLError, OSError) as error:
        raise CredentialError(f"{cert}, {key} and {ca} cannot be used together: {error}") from error
    return context


def _check_usage(certificate: x509.Certificate, path: Path) -> None:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return  # for everything
    if not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH} <= set(usage):
        raise CredentialError(
            f"{path} is not for servers and clients both, and a node is both; issue one that is "
            "(p2pfl keys issue)"
        )
