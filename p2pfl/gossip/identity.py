"""Who a node is: an Ed25519 key, an id that is the key's fingerprint, and the signatures that prove it.

RFC 8032's Ed25519 through `cryptography`; no randomness is drawn and nothing is stored here. Where the secret
comes from and where it is kept is standalone.py's and storage/identity.py's business.
"""

from __future__ import annotations

import hashlib
import re

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from p2pfl.errors import BadSignature, WrongKey
from p2pfl.gossip.messages import Envelope

SECRET_SIZE = 32
"""Bytes of a private key: its seed in RFC 8032's words, any 32 bytes."""

# Put in front of what is signed, so that a signature made for anything else is none of a frame's head.
DOMAIN = b"p2pfl signed head 1\0"

_KEYED = re.compile(r"k[0-9a-f]{32}")
_NONCE = b"p2pfl nonce"


def id_of(key: bytes) -> str:
    """The id of a public key: "k" and the 32 hex digits of its BLAKE2b-128."""
    return "k" + hashlib.blake2b(key, digest_size=16).hexdigest()


def is_keyed(id: str) -> bool:
    """Whether an id has the form of a key's fingerprint: who claims it has to sign."""
    return _KEYED.fullmatch(id) is not None


class Identity:
    """A node's key, and how often it has signed.

    secret: SECRET_SIZE bytes.  incarnation: raised at every start, so that what this start signs is newer
    than all that earlier ones did.
    """

    def __init__(self, secret: bytes, incarnation: int = 1) -> None:
        self.secret = secret
        self._private = Ed25519PrivateKey.from_private_bytes(secret)
        self.key = self._private.public_key().public_bytes_raw()
        self.id = id_of(self.key)
        self.incarnation = incarnation
        self.counter = 0

    def envelope(self, to: str, re: bytes = b"") -> Envelope:
        """For the next message. to: its receiver's id.  re: the imprint of the request that it answers."""
        self.counter += 1
        return Envelope(self.key, to, self.incarnation, self.counter, re)

    def nonce(self) -> bytes:
        """16 bytes for the next message: never twice the same, and nobody else can tell them beforehand."""
        place = f"{self.incarnation}.{self.counter + 1}".encode()
        return hashlib.blake2b(place, digest_size=16, key=self.secret, person=_NONCE).digest()

    def sign(self, head: bytes) -> bytes:
        """64 bytes over a frame's bytes up to its signature."""
        return self._private.sign(DOMAIN + head)


def check_signature(id: str, key: bytes, head: bytes, signature: bytes) -> None:
    """Raises WrongKey if the id is not the key's, BadSignature if the signature is not of this head."""
    if id_of(key) != id:
        raise WrongKey(f"the key that signed is that of {id_of(key)}, not of {id}")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, DOMAIN + head)
    except (InvalidSignature, ValueError):  # ValueError: 32 bytes that are no point of the curve
        raise BadSignature(f"the signature is not that of {id} under these bytes") from None
