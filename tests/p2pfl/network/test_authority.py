"""Certificates that `p2pfl keys` makes: what is in them, what is refused, and who may read the files."""

from __future__ import annotations

import datetime
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from p2pfl.errors import ConfigError, CredentialError
from p2pfl.network import authority, certificates
from tests.p2pfl.network import certified


def loaded(path: Path) -> x509.Certificate:
    [certificate] = certificates.load_certificates(path)
    return certificate


def test_an_authority_may_only_issue_and_only_for_nodes(tmp_path: Path) -> None:
    ca = loaded(certified.authority(tmp_path) / "ca.pem")
    basic = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = ca.extensions.get_extension_for_class(x509.KeyUsage)
    assert (basic.value.ca, basic.value.path_length, basic.critical, usage.critical) == (True, 0, True, True)
    assert (usage.value.key_cert_sign, usage.value.digital_signature) == (True, False)
    assert certificates.name(ca) == "ca"


def test_a_node_gets_what_it_needs_to_call_and_to_be_called(tmp_path: Path) -> None:
    ca = certified.authority(tmp_path)
    files = certified.node(tmp_path, ca, "kitchen", ["192.168.1.11", "node1.lan", "2001:db8::1", "[::1]"])
    certificate, issuer = loaded(files.cert), loaded(ca / "ca.pem")
    certificate.verify_directly_issued_by(issuer)
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(uses) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert certificates.hosts(certificate) == ["node1.lan", "192.168.1.11", "2001:db8::1", "::1"]
    assert not certificates.is_authority(certificate)
    above = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert above.key_identifier == own.digest
    assert certificates.load_certificates(files.ca) == [issuer]
    certificates.check_pair(certificate, certificates.load_key(files.key), (files.cert, files.key))


def test_keys_are_their_owners_alone(tmp_path: Path) -> None:
    ca = certified.authority(tmp_path)
    files = certified.node(tmp_path, ca)
    for path in (ca / "ca.key", files.key):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for path in (ca / "ca.pem", files.cert, files.ca):
        assert stat.S_IMODE(path.stat().st_mode) & 0o044


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    ca = certified.authority(tmp_path)
    files = certified.node(tmp_path, ca)
    before = [path.read_bytes() for path in (*files, ca / "ca.key", ca / "ca.pem")]
    with pytest.raises(CredentialError, match=r"ca\.pem is there already and is never overwritten"):
        certified.authority(tmp_path)
    with pytest.raises(CredentialError, match=r"cert\.pem is there already and is never overwritten"):
        certified.node(tmp_path, ca)
    assert [path.read_bytes() for path in (*files, ca / "ca.key", ca / "ca.pem")] == before


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    ca = certified.authority(tmp_path)
    (tmp_path / "node").write_text("a file where the folder should be")
    with pytest.raises(CredentialError, match=r"cannot write to .*node"):
        certified.node(tmp_path, ca)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "cert.pem").symlink_to(tmp_path / "nowhere" / "at-all")
    with pytest.raises(CredentialError, match="is there already"):
        certified.node(tmp_path, ca, "other")
    assert sorted(path.name for path in (tmp_path / "other").iterdir()) == ["cert.pem"]


def test_no_certificate_outlives_its_authority(tmp_path: Path) -> None:
    ca = certified.authority(tmp_path, days=10)
    files = certified.node(tmp_path, ca, days=365)
    assert loaded(files.cert).not_valid_after_utc == loaded(ca / "ca.pem").not_valid_after_utc


def test_an_expired_authority_issues_nothing(tmp_path: Path) -> None:
    now = certificates.now()
    authority.create(tmp_path / "ca", "ca", 1, now - datetime.timedelta(days=3))
    with pytest.raises(CredentialError, match=r"ca\.pem EXPIRED on"):
        authority.issue(tmp_path / "ca", tmp_path / "node", "node", ["a"], 10, now)


def test_an_authority_that_is_not_there_or_not_whole(tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match=r"there is no authority in .*; make one: p2pfl keys ca"):
        certified.node(tmp_path, tmp_path / "ca")
    one, other = certified.authority(tmp_path, "one"), certified.authority(tmp_path, "other")
    (one / "ca.key").write_bytes((other / "ca.key").read_bytes())
    with pytest.raises(CredentialError, match=r"ca\.key is not the private key of .*ca\.pem"):
        certified.node(tmp_path, one)
    node = certified.node(tmp_path, other)
    (other / "ca.pem").write_bytes(node.cert.read_bytes())
    (other / "ca.key").write_bytes(node.key.read_bytes())
    with pytest.raises(CredentialError, match="was not made by 'p2pfl keys ca'"):
        certified.node(tmp_path, other, "third")


@pytest.mark.parametrize(
    "host",
    ["", "http://a", "a:8470", "*.example.org", "a b", "300.1.2.3", "1.2.3", "x" * 300, "a..b", "-a", "é"],
)
def test_a_host_that_no_certificate_can_be_for(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError, match="is neither a name nor an address"):
        certified.node(tmp_path, certified.authority(tmp_path), "node", [host])


@pytest.mark.parametrize(
    ("name", "days"), [("", 1), ("a/b", 1), ("..", 1), (".a", 1), ("x" * 65, 1), ("a", 0)]
)
def test_names_and_days_out_of_range(tmp_path: Path, name: str, days: int) -> None:
    with pytest.raises(ConfigError, match=r"name .* must be|days must be"):
        authority.create(tmp_path / "ca", name, days, certificates.now())
    assert not (tmp_path / "ca").exists()
