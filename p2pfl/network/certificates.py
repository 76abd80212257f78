"""Certificates and private keys in files: what they say, and whether they can be used.

Files are PEM (RFC 7468). Everything that is wrong with one is a CredentialError that names the file.
"""

from __future__ import annotations

import datetime
import ipaddress
import logging
import os
import stat
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import NameOID

from p2pfl.errors import CredentialError

MAX_FILE = 1 << 20
"""Bytes of a file that is read for a certificate or a key; honest ones have a few kilobytes."""
LONGEST_CHAIN = 8
"""Certificates between a node's and its authority's, both included."""

log = logging.getLogger(__name__)


def now() -> datetime.datetime:
    """The wall clock, the only one that certificates know."""
    return datetime.datetime.now(datetime.UTC)


def read(path: Path) -> bytes:
    """A file's content. CredentialError if it cannot be read, or is far too big."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise CredentialError(f"cannot read {path}: {_why(error)}") from error
    if len(data) > MAX_FILE:
        raise CredentialError(f"{path} is too big for a certificate, key or token")
    return data


def load_certificates(path: Path) -> list[x509.Certificate]:
    """The certificates of a file, in its order, at least one."""
    data = read(path)
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        what = "a private key" if b"PRIVATE KEY-----" in data else "something else"
        raise CredentialError(
            f"{path} holds no certificate but {what}; certificates begin with -----BEGIN CERTIFICATE-----"
        ) from error


def load_key(path: Path) -> PrivateKeyTypes:
    """The private key of a file; a warning is logged if others on this machine can read it."""
    data = read(path)
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except TypeError as error:  # how cryptography asks for a passphrase
        raise CredentialError(
            f"{path} is protected by a passphrase, which a node that starts alone cannot type; "
            "give a key without one, readable by its user only"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CredentialError(
            f"{path} holds no private key; such a file begins with -----BEGIN PRIVATE KEY-----"
        ) from error
    warn_if_readable(path)
    return key


def warn_if_readable(path: Path) -> None:
    """Log a warning if a secret's file can be read by others than its owner."""
    mode = path.stat().st_mode
    if stat.S_ISREG(mode) and mode & (stat.S_IRGRP | stat.S_IROTH):
        log.warning("%s can be read by other users of this machine; run: chmod 600 %s", path, path)


def check_pair(certificate: x509.Certificate, key: PrivateKeyTypes, names: tuple[Path, Path]) -> None:
    """CredentialError unless the key is the certificate's. names: of the two files."""
    if _public(certificate.public_key()) != _public(key.public_key()):
        raise CredentialError(
            f"{names[1]} is not the private key of {names[0]}; give the two that belong together"
        )


def check_valid(certificate: x509.Certificate, path: Path, when: datetime.datetime) -> None:
    """CredentialError if the certificate is not valid yet, or not any more."""
    if problem := out_of_date(certificate, when):
        raise CredentialError(f"{path} {problem}; issue another one (p2pfl keys issue), or set the clock")


def out_of_date(certificate: x509.Certificate, when: datetime.datetime) -> str:
    """What is wrong with the certificate's dates at `when`; "" if nothing is."""
    if when > certificate.not_valid_after_utc:
        return f"EXPIRED on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    if when < certificate.not_valid_before_utc:
        return f"is NOT VALID BEFORE {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    return ""


def is_issued_by(chain: list[x509.Certificate], authorities: list[x509.Certificate]) -> bool:
    """Whether chain[0] leads to one of the authorities, over the other certificates of the chain."""
    current, between = chain[0], chain[1:LONGEST_CHAIN]
    for _ in range(LONGEST_CHAIN):
        if any(_signed(current, issuer) for issuer in authorities):
            return True
        above = next((issuer for issuer in between if _signed(current, issuer)), None)
        if above is None:
            return False
        current = above
    return False


def hosts(certificate: x509.Certificate) -> list[str]:
    """The names and addresses that it is for (subject alternative names)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]


def is_for(host: str, names: list[str]) -> bool:
    """Whether a certificate with these hosts proves to be `host`, a name or an address without brackets."""
    try:
        address = str(ipaddress.ip_address(host))
    except ValueError:
        host = host.lower().rstrip(".")
        parent = host.partition(".")[2]
        return any(name.lower() in (host, f"*.{parent}") for name in names)
    return address in names


def name(certificate: x509.Certificate) -> str:
    """Its subject's common name, or all of its subject, as one printable line."""
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    text = str(common[0].value) if common else certificate.subject.rfc4514_string()
    return "".join(c if c.isprintable() else " " for c in text[:200])


def is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of it, as other tools show it."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def describe(path: Path, when: datetime.datetime) -> list[list[tuple[str, str]]]:
    """(label, value) lines for people, for each certificate of a file, or for the private key that it is."""
    if b"PRIVATE KEY-----" in read(path):
        return [_describe_key(path)]
    described = []
    for certificate in load_certificates(path):
        problem = out_of_date(certificate, when)
        left = (certificate.not_valid_after_utc - when).days
        lines = [
            ("certificate", name(certificate)),
            ("kind", "authority" if is_authority(certificate) else "node"),
            ("hosts", ", ".join(hosts(certificate)) or "none"),
            ("issuer", certificate.issuer.rfc4514_string()),
            ("valid from", f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"),
            ("valid to", f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"),
            ("status", f"*** {problem} ***" if problem else f"valid, {left} days left"),
            ("sha-256", fingerprint(certificate)),
        ]
        described.append(
            [line for line in lines if line != ("hosts", "none") or not is_authority(certificate)]
        )
    return described


def _describe_key(path: Path) -> list[tuple[str, str]]:
    public = _public(load_key(path).public_key())
    digest = hashes.Hash(hashes.SHA256())
    digest.update(public)
    return [
        ("private key", str(path)),
        ("status", "secret: whoever has it can speak as its owner"),
        ("sha-256 of its public key", digest.finalize().hex(":").upper()),
    ]


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _public(key: object) -> bytes:
    return key.public_bytes(  # type: ignore[attr-defined, no-any-return] # every kind of public key has it
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _why(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else str(error)
