"""A small certificate authority: one key that vouches for the nodes of one network.

Its folder holds `ca.pem` and `ca.key`; a node's holds `cert.pem`, `key.pem` and a copy of `ca.pem`, all that
the node needs. Nothing is ever overwritten. Elliptic-curve keys (P-256): every TLS library takes them.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from p2pfl.errors import ConfigError, CredentialError
from p2pfl.network import certificates

AUTHORITY, AUTHORITY_KEY = "ca.pem", "ca.key"
CERTIFICATE, KEY = "cert.pem", "key.pem"

EARLY = datetime.timedelta(hours=1)
"""Certificates are valid from so long ago: the clock of a machine that gets one may be behind."""
MOST_DAYS = 36_500

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


def create(folder: Path, name: str, days: int, when: datetime.datetime) -> None:
    """A new authority in `folder`, valid for `days` days from `when`. Refuses to overwrite one."""
    _check(name, days)
    _refuse_to_overwrite(folder / AUTHORITY, folder / AUTHORITY_KEY)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = _usage(key_cert_sign=True, crl_sign=True)
    builder = (
        _builder(subject, subject, key, when, when + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    certificate = builder.sign(key, hashes.SHA256())
    _write(folder, {AUTHORITY_KEY: _private(key), AUTHORITY: _pem(certificate)})


def issue(
    authority: Path, folder: Path, name: str, hosts: Sequence[str], days: int, when: datetime.datetime
) -> datetime.datetime:
    """A certificate and key for the node `name`, reached at `hosts`, in `folder`; returns when it expires.

    hosts: names, IPv4 and IPv6 addresses. It never outlives its authority.
    """
    _check(name, days)
    names = [parse_host(host) for host in dict.fromkeys(hosts)]
    if not names:
        raise ConfigError("give --host for each name and address under which peers reach the node")
    _refuse_to_overwrite(folder / CERTIFICATE, folder / KEY, folder / AUTHORITY)
    if not (authority / AUTHORITY).exists():
        raise CredentialError(
            f"there is no authority in {authority}; make one: p2pfl keys ca --out {authority}"
        )
    [issuer, *_] = certificates.load_certificates(authority / AUTHORITY)
    issuer_key = certificates.load_key(authority / AUTHORITY_KEY)
    certificates.check_pair(issuer, issuer_key, (authority / AUTHORITY, authority / AUTHORITY_KEY))
    certificates.check_valid(issuer, authority / AUTHORITY, when)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey) or not certificates.is_authority(issuer):
        raise CredentialError(
            f"{authority} was not made by 'p2pfl keys ca'; issue with the tool that made it"
        )
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    end = min(when + datetime.timedelta(days=days), issuer.not_valid_after_utc)
    builder = (
        _builder(subject, issuer.subject, key, when, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(both), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
    )
    certificate = builder.sign(issuer_key, hashes.SHA256())
    _write(folder, {KEY: _private(key), CERTIFICATE: _pem(certificate), AUTHORITY: _pem(issuer)})
    return certificate.not_valid_after_utc


def parse_host(host: str) -> x509.GeneralName:
    """A subject alternative name. ConfigError unless it is an address or a name that DNS can have."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        pass
    labels = host.rstrip(".").split(".")
    numeric = all(label.isdecimal() for label in labels)  # an address with a mistake in it
    if len(host) > 253 or numeric or not all(_LABEL.fullmatch(label) for label in labels):
        raise ConfigError(
            f"host {host!r} is neither a name nor an address; give it without http:// and port, for example "
            "node1.example.org or 192.168.1.11"
        )
    return x509.DNSName(host.rstrip("."))


def write_secret(path: Path, data: bytes) -> None:
    """A new file that its owner alone can read. CredentialError if there is one, or it cannot be written."""
    _refuse_to_overwrite(path)
    _write(path.parent, {path.name: data})


def _check(name: str, days: int) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"name {name!r} must be 1 to 64 letters, digits, '.', '_' or '-', a letter or digit first"
        )
    if not 1 <= days <= MOST_DAYS:
        raise ConfigError(f"days must be from 1 to {MOST_DAYS}, not {days}")


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    when: datetime.datetime,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(when - EARLY)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _refuse_to_overwrite(*paths: Path) -> None:
    for path in paths:
        if path.exists() or path.is_symlink():
            raise CredentialError(f"{path} is there already and is never overwritten; choose another --out")


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """New files, keys readable by their owner alone; after a failure none of them is left."""
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, data in files.items():
            path = folder / file
            mode = 0o644 if file.endswith(".pem") and file != KEY else 0o600
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
            written.append(path)
            with os.fdopen(descriptor, "wb") as out:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise CredentialError(
            f"cannot write to {folder}: {os.strerror(error.errno) if error.errno else error}"
        ) from error
