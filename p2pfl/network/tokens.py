"""A network's shared secret: what a request carries to show that it comes from one of us."""

from __future__ import annotations

import hmac
import re
import secrets
from pathlib import Path

from p2pfl.errors import CredentialError
from p2pfl.network import certificates

SHORTEST = 20
"""Characters of a token; 20 random ones of 64 kinds hold 120 bits."""
FEWEST_KINDS = 8
"""Different characters in a token: a key that was held down is no secret."""
LONGEST = 1024
HOW = "make one: p2pfl keys token --out token, and give --token-file token"

CONTROL_HEADER = b"p2pfl-control"
"""Header with a node's operator's token, which is not the network's: that one is in Authorization."""

_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # what may follow `Bearer` (RFC 6750, section 2.1)


class Token:
    """A shared secret. Its text is in no repr, log or error; only `header` and `text` have it, to show."""

    __slots__ = ("_secret", "header", "text")

    def __init__(self, text: str) -> None:
        """CredentialError if the text is too short, too plain, or cannot stand in a header."""
        if not _TOKEN68.fullmatch(text):
            raise CredentialError(f"the token holds characters other than letters, digits and -._~+/=; {HOW}")
        if len(text) < SHORTEST or len(set(text)) < FEWEST_KINDS:
            raise CredentialError(
                f"the token is too easy to guess: it needs {SHORTEST} characters, {FEWEST_KINDS} of them "
                f"different; {HOW}"
            )
        if len(text) > LONGEST:
            raise CredentialError(f"the token has more than {LONGEST} characters; {HOW}")
        self._secret = text.encode()
        self.text = text
        self.header = f"Bearer {text}"

    @classmethod
    def read(cls, path: Path) -> Token:
        """The token in a file, white space around it left out."""
        data = certificates.read(path)
        certificates.warn_if_readable(path)
        try:
            text = data.decode("ascii").strip()
        except UnicodeDecodeError:
            raise CredentialError(f"{path} holds no token; {HOW}") from None
        try:
            return cls(text)
        except CredentialError as error:
            raise CredentialError(f"{path}: {error}") from None

    def admits(self, authorization: bytes) -> bool:
        """Whether the value of an Authorization header shows this token; takes as long whatever it is."""
        scheme, _, given = authorization.strip().partition(b" ")
        same = self.is_same(given)
        return same and scheme.lower() == b"bearer"

    def is_same(self, given: bytes) -> bool:
        """Whether it is this token; takes as long whatever it is."""
        return hmac.compare_digest(given.strip(), self._secret)

    def proof(self, statement: bytes) -> str:
        """Shows that a statement comes from somebody with the token, without telling it: 64 hex digits."""
        return hmac.digest(self._secret, statement, "sha256").hex()


def new() -> str:
    """A new random token of 256 bits."""
    return secrets.token_urlsafe(32)
