"""What a node with TLS is started with. Whatever is wrong, it does not start: it never goes on without."""

from __future__ import annotations

import datetime
import logging
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from p2pfl.config import SecurityConfig
from p2pfl.errors import CredentialError
from p2pfl.network import certificates
from p2pfl.network.security import Security
from p2pfl.network.tls import Tls
from tests.p2pfl.network import certified
from tests.p2pfl.network.certified import Files


def security(files: Files) -> Security:
    return Security.load(
        SecurityConfig(tls_cert=str(files.cert), tls_key=str(files.key), tls_ca=str(files.ca))
    )


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return certified.node(tmp_path, certified.authority(tmp_path))


def test_files_that_belong_together(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    loaded = security(files)
    assert loaded.tls is not None
    assert loaded.tls.hosts == ("localhost", "127.0.0.1")
    assert not caplog.records


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read .*: No such file"),
        (b"", "holds no (certificate|private key)"),
        (b"\x00\xff" * 500, "holds no (certificate|private key)"),
        (b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n", "holds no"),
        (b"-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----\n", "holds no"),
        (b"x" * (2 << 20), "too big"),
    ],
    ids=["missing", "empty", "binary", "damaged certificate", "damaged key", "huge"],
)
def test_a_file_that_is_none_is_named(files: Files, which: int, content: bytes | None, words: str) -> None:
    path = files[which]
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CredentialError, match=words) as caught:
        security(files)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_file(files: Files) -> None:
    with pytest.raises(CredentialError, match=r"cannot read .*: Is a directory"):
        security(files._replace(key=files.key.parent))


def test_certificate_and_key_of_different_nodes(tmp_path: Path) -> None:
    ca = certified.authority(tmp_path)
    one, other = certified.node(tmp_path, ca, "one"), certified.node(tmp_path, ca, "other")
    with pytest.raises(CredentialError, match="is not the private key of"):
        security(one._replace(key=other.key))


def test_a_certificate_of_another_authority(tmp_path: Path) -> None:
    files = certified.node(tmp_path, certified.authority(tmp_path))
    stranger = certified.authority(tmp_path, "stranger")
    with pytest.raises(
        CredentialError, match=r"was not issued by an authority of .*, so peers would refuse it"
    ):
        security(files._replace(ca=stranger / "ca.pem"))


def test_an_expired_certificate(tmp_path: Path) -> None:
    ca = certified.authority(tmp_path, ago=10)
    with pytest.raises(CredentialError, match=r"cert\.pem EXPIRED on .*; issue another one"):
        security(certified.node(tmp_path, ca, days=5, ago=9))


def test_a_certificate_of_the_future(tmp_path: Path) -> None:
    ca = certified.authority(tmp_path)
    with pytest.raises(CredentialError, match=r"cert\.pem is NOT VALID BEFORE .*set the clock"):
        security(certified.node(tmp_path, ca, ago=-3))


def test_a_certificate_that_ends_soon_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    security(certified.node(tmp_path, certified.authority(tmp_path), days=3))
    assert "expires on" in caplog.text


def test_a_key_that_others_can_read_is_warned_of(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    files.key.chmod(0o644)
    security(files)
    assert f"run: chmod 600 {files.key}" in caplog.text


def test_a_key_with_a_passphrase(files: Files) -> None:
    key = certificates.load_key(files.key)
    encryption = serialization.BestAvailableEncryption(b"secret")
    files.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    )
    with pytest.raises(CredentialError, match="is protected by a passphrase"):
        security(files)


def made(files: Files, issuer: Path, *extensions: x509.ExtensionType) -> None:
    """Another certificate for the key of `files`, with these extensions alone."""
    key, now = certificates.load_key(files.key), certificates.now()
    [ca] = certificates.load_certificates(issuer / "ca.pem")
    signer = certificates.load_key(issuer / "ca.key")
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "odd")]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=15))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    pem = builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    files.cert.write_bytes(pem)


def test_a_certificate_for_servers_only(tmp_path: Path) -> None:
    ca = certified.authority(tmp_path)
    files = certified.node(tmp_path, ca)
    names = x509.SubjectAlternativeName([x509.DNSName("a")])
    made(files, ca, names, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]))
    with pytest.raises(CredentialError, match="is not for servers and clients both"):
        security(files)
    made(files, ca, names)  # for everything
    assert security(files).tls is not None


def test_a_certificate_for_no_host(tmp_path: Path) -> None:
    ca = certified.authority(tmp_path)
    files = certified.node(tmp_path, ca)
    made(files, ca)
    with pytest.raises(CredentialError, match="is for no host"):
        security(files)


def test_an_authority_in_between(tmp_path: Path) -> None:
    """A chain in the certificate's file, as other tools make it."""
    ca = certified.authority(tmp_path)
    [root] = certificates.load_certificates(ca / "ca.pem")
    files = certified.node(tmp_path, ca)
    chain = files.cert.read_bytes() + root.public_bytes(serialization.Encoding.PEM)
    files.cert.write_bytes(chain)
    assert security(files).tls is not None


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("localhost", True),
        ("LOCALHOST", True),
        ("localhost.", True),
        ("127.0.0.1", True),
        ("127.0.0.2", False),
        ("example.org", False),
        ("::1", False),
    ],
)
def test_hosts_that_a_certificate_is_for(files: Files, host: str, good: bool) -> None:
    assert Tls.load(*files).is_for(host) is good


def test_wildcards_of_other_tools_stand_for_one_label() -> None:
    assert certificates.is_for("a.example.org", ["*.example.org"])
    assert not certificates.is_for("a.b.example.org", ["*.example.org"])
    assert not certificates.is_for("example.org", ["*.example.org"])


def test_an_address_that_peers_could_not_verify(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    loaded = security(files)
    for good in ("https://localhost:8470", "https://127.0.0.1:8470", None, ""):
        loaded.check_advertised(good)
    assert not caplog.records
    loaded.check_advertised("https://0.0.0.0:8470")
    assert "if that is another, give --advertise https://localhost:PORT" in caplog.text
    with pytest.raises(
        CredentialError, match=r"certificate is for localhost, 127.0.0.1 only; give --advertise"
    ):
        loaded.check_advertised("https://192.0.2.1:8470")
    Security().check_advertised("http://192.0.2.1:8470")


@pytest.mark.parametrize("address", ["0.0.0.0", "192.0.2.1", "::", "2001:db8::1"])
def test_listening_to_everybody_is_warned_of(
    address: str, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        security(files).warn_if_open(address)
        Security(token=certified.TOKEN).warn_if_open(address)
        assert not caplog.records
        Security().warn_if_open(address)
    assert "give --token-file, or --tls-cert, --tls-key and --tls-ca" in caplog.text


@pytest.mark.parametrize("address", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_listening_to_oneself_is_not(address: str, caplog: pytest.LogCaptureFixture) -> None:
    Security().warn_if_open(address)
    assert not caplog.records
