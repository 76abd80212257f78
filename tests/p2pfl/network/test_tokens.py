"""The shared secret: which ones are taken, and what shows that somebody has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.config import SecurityConfig
from p2pfl.errors import CredentialError
from p2pfl.network import tokens
from p2pfl.network.security import Security
from p2pfl.network.tokens import Token
from tests.p2pfl.network.certified import OTHER, SECRET, TOKEN


def test_a_new_token_is_another_each_time_and_is_taken() -> None:
    made = [tokens.new() for _ in range(20)]
    assert len(set(made)) == 20
    assert all(Token(text).admits(f"Bearer {text}".encode()) for text in made)


@pytest.mark.parametrize(
    "text", ["", "short", "x" * 19, "x" * 40, "abcabcabcabcabcabcabcabc", "hunter2-hunter2"]
)
def test_a_token_that_can_be_guessed_is_refused_with_how_to_make_one(text: str) -> None:
    with pytest.raises(CredentialError, match="make one: p2pfl keys token") as caught:
        Token(text)
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["with a space in the midst", "über-geheimes-passwort-42", "a\nheader: injected-123"]
)
def test_a_token_that_no_header_can_carry(text: str) -> None:
    with pytest.raises(CredentialError, match="characters other than") as caught:
        Token(text)
    assert text not in str(caught.value)
    with pytest.raises(CredentialError, match="more than 1024"):
        Token("0123456789" * 200)


@pytest.mark.parametrize(
    ("header", "good"),
    [
        (f"Bearer {SECRET}", True),
        (f"bearer  {SECRET} ", True),
        (SECRET, False),
        (f"Basic {SECRET}", False),
        ("Bearer", False),
        ("Bearer ", False),
        ("", False),
        (f"Bearer {SECRET}x", False),
        (f"Bearer {SECRET[:-1]}", False),
        (f"Bearer {SECRET.upper()}", False),
        (OTHER.header, False),
        ("Bearer \xff\xfe", False),
    ],
)
def test_only_this_token_is_let_in(header: str, good: bool) -> None:
    assert TOKEN.admits(header.encode("latin-1")) is good


def test_a_token_is_not_shown() -> None:
    assert SECRET not in repr(TOKEN) + str(TOKEN) + repr(Security(token=TOKEN))


def test_a_proof_is_of_one_statement_and_one_token() -> None:
    proof = TOKEN.proof(b"I am at http://192.0.2.1:8470")
    assert proof == TOKEN.proof(b"I am at http://192.0.2.1:8470")
    assert proof != TOKEN.proof(b"I am at http://192.0.2.2:8470")
    assert proof != OTHER.proof(b"I am at http://192.0.2.1:8470")


def test_a_token_in_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "token"
    path.write_text(f"  {SECRET}\n")
    path.chmod(0o600)
    loaded = Security.load(SecurityConfig(token_file=str(path)))
    assert loaded.token is not None
    assert loaded.token.admits(TOKEN.header.encode())
    assert not caplog.records
    path.chmod(0o640)
    Token.read(path)
    assert f"chmod 600 {path}" in caplog.text


@pytest.mark.parametrize("content", [None, b"", b"short", b"\xff" * 40, b"two lines-of-it\nof-it-there-are"])
def test_a_file_without_a_token_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)
    with pytest.raises(CredentialError, match=str(path)):
        Security.load(SecurityConfig(token_file=str(path)))
