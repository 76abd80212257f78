"""`p2pfl keys`: what a person makes and sees, and one line for every mistake."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from p2pfl.gossip.admission import parse_allowed
from p2pfl.network import certificates
from p2pfl.network.tls import Tls
from p2pfl.network.tokens import Token
from tests.cli.outcome import Run, error_line
from tests.p2pfl.network import certified


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_from_nothing_to_a_node_that_can_be_started(run: Run) -> None:
    made = run("keys", "ca")
    assert (made.exit_code, made.stderr) == (0, "")
    assert "ca/ca.pem" in made.stdout
    assert "ca/ca.key" in made.stdout
    issued = run("keys", "issue", "node1", "--host", "192.168.1.11", "--host", "node1.lan", "--days", "90")
    assert (issued.exit_code, issued.stderr) == (0, "")
    flags = issued.stdout.splitlines()[1].split()
    assert flags[::2] == ["--tls-cert", "--tls-key", "--tls-ca"]
    loaded = Tls.load(*map(Path, flags[1::2]))
    assert loaded.hosts == ("node1.lan", "192.168.1.11")


def test_show_tells_what_a_certificate_is(run: Run) -> None:
    run("keys", "ca", "--out", "elsewhere", "--name", "school", "--days", "50")
    run("keys", "issue", "n1", "--host", "a.example", "--ca", "elsewhere", "--out", "here")
    shown = run("keys", "show", "here/cert.pem").stdout
    for words in ("certificate  n1", "hosts        a.example", "CN=school", "valid, 49 days left", "sha-256"):
        assert words in shown
    assert "authority" in run("keys", "show", "elsewhere/ca.pem").stdout
    key = run("keys", "show", "here/key.pem").stdout
    assert "secret" in key
    assert Path("here/key.pem").read_text().splitlines()[1] not in key


def test_show_says_loudly_that_a_certificate_has_expired(run: Run, tmp_path: Path) -> None:
    ca = certified.authority(tmp_path, ago=20)
    files = certified.node(tmp_path, ca, days=3, ago=9)
    assert "*** EXPIRED on " in run("keys", "show", str(files.cert)).stdout


def test_show_defuses_what_a_terminal_would_obey(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "describe", lambda path, when: [[("certificate", "\x1b[2Jx")]])
    assert "\x1b" not in run("keys", "show", "any").stdout


def test_a_token_is_printed_or_kept_in_a_file_of_ones_own(run: Run) -> None:
    printed = run("keys", "token").stdout.strip()
    Token(printed)
    made = run("keys", "token", "--out", "token")
    assert made.exit_code == 0
    text = Path("token").read_text().strip()
    assert text not in made.output
    assert text != printed
    assert Token.read(Path("token")).admits(f"Bearer {text}".encode())
    assert stat.S_IMODE(Path("token").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["issue", "n"], 2, "give --host for each name and address"),
        (["issue", "n", "--host", "http://a"], 2, "'http://a' is neither a name nor an address"),
        (["issue", "../n", "--host", "a"], 2, "name '../n' must be"),
        (["issue", "n", "--host", "a", "--days", "0"], 2, "days must be from 1"),
        (["issue", "n", "--host", "a", "--days", "soon"], 2, "Invalid value for '--days'"),
        (["issue", "n", "--host", "a"], 1, "there is no authority in ca; make one: p2pfl keys ca --out ca"),
        (["show"], 2, "give the certificate or key to show"),
        (["show", "missing.pem"], 1, "cannot read missing.pem: No such file"),
        (["show", "text"], 1, "text holds no certificate but something else"),
        (["token", "--out", "text"], 1, "text is there already"),
        (["ca", "--out", "text"], 1, "cannot write to text"),
    ],
)
def test_a_mistake_is_one_line(run: Run, words: list[str], code: int, message: str) -> None:
    Path("text").write_text("hello")
    result = run("keys", *words)
    assert result.exit_code == code
    assert message in error_line(result)


def test_an_authority_is_not_overwritten(run: Run) -> None:
    run("keys", "ca")
    before = Path("ca/ca.key").read_bytes()
    assert "is there already" in error_line(run("keys", "ca"))
    assert Path("ca/ca.key").read_bytes() == before


def test_an_identity_is_made_once_and_shown(run: Run) -> None:
    made = run("keys", "identity", "--state-dir", "state")
    assert (made.exit_code, made.stderr) == (0, "")
    label, id = made.stdout.splitlines()[0].split()
    assert label == "identity"
    assert parse_allowed(f"{id} this node", "list") == {id: "this node"}
    assert run("keys", "show", "--state-dir", "state").stdout == made.stdout
    assert stat.S_IMODE(Path("state/identity.json").stat().st_mode) == 0o600
    again = run("keys", "identity", "--state-dir", "state")
    assert again.exit_code == 1
    assert "already" in error_line(again)


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--state-dir", "nothing"], 1, "there is no identity in nothing"),
        ([], 2, "give the certificate or key to show"),
        (["cert.pem", "--state-dir", "state"], 2, "give the certificate or key to show"),
    ],
)
def test_what_cannot_be_shown_is_one_line(run: Run, flags: list[str], code: int, said: str) -> None:
    result = run("keys", "show", *flags)
    assert result.exit_code == code
    assert said in error_line(result)
