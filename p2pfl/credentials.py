"""What a process is known by, and whom it lets in: its identity, and the list of those allowed."""

from __future__ import annotations

import logging
import secrets
from pathlib import Path

from p2pfl.config import NodeConfig
from p2pfl.errors import ConfigError, StorageError
from p2pfl.gossip.admission import Admission, parse_allowed
from p2pfl.gossip.identity import SECRET_SIZE, Identity, is_keyed
from p2pfl.network import tokens
from p2pfl.network.tokens import Token
from p2pfl.storage import operator
from p2pfl.storage.checkpoint import Checkpoint
from p2pfl.storage.identity import IdentityFile

log = logging.getLogger(__name__)


def take_identity(state_dir: str | None, resume: Checkpoint | None) -> Identity:
    """This start's identity, with an incarnation of its own. resume: what the state directory holds.

    The key comes from the operating system, whatever --seed says: a key that anybody can derive is none.
    Raises StorageError.
    """
    if state_dir is None:
        return Identity(secrets.token_bytes(SECRET_SIZE))
    file = IdentityFile(state_dir)
    if resume is not None and is_keyed(resume.id):
        found = file.read()
        if found.id != resume.id:
            raise StorageError(
                f"{state_dir} holds the identity {found.id} and the state of {resume.id}; put the files that "
                "belong together into one folder, or use another --state-dir"
            )
    return file.take(lambda: secrets.token_bytes(SECRET_SIZE))


def shown_identity(state_dir: str, *, make: bool = False) -> Identity:
    """The identity in a state directory, to look at; it must not sign.

    make: a new one is made there, before the node's first start. StorageError.
    """
    file = IdentityFile(state_dir)
    if not make:
        return file.read()
    make_folder(state_dir)
    return file.make(secrets.token_bytes(SECRET_SIZE))


def read_allowed(path: str) -> dict[str, str]:
    """The identities that may take part, and their names. ConfigError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"allow: {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"allow: {path} is not a text of UTF-8") from error
    return parse_allowed(text, f"allow: {path}")


def make_folder(path: str) -> None:
    """StorageError if it is not there and cannot be made."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"the folder {path} cannot be made: {error.strerror}") from error


def take_operator_token(config: NodeConfig) -> tuple[Token, bool]:
    """The token of whoever operates this node, and whether it was given rather than made here.

    One that was made is kept in the state directory, if there is one. CredentialError, StorageError.
    """
    security = config.security
    if security.control_token is not None:
        return Token(security.control_token), True
    if security.control_token_file is not None:
        return Token.read(Path(security.control_token_file)), True
    if config.state_dir is None:
        return Token(tokens.new()), False
    file = Path(config.state_dir) / operator.TOKEN_FILE
    if not file.exists():
        operator.keep_token(config.state_dir, tokens.new())
    return Token.read(file), False


def admission_of(config: NodeConfig, id: str) -> Admission:
    """Whose messages node `id` takes. ConfigError for a bad list of those allowed."""
    allowed = None if config.allow is None else read_allowed(config.allow)
    return Admission(id, require_signed=config.require_signed, allowed=allowed)


def reload_allowed(path: str, admission: Admission) -> None:
    """The list of those allowed as it is now; one that is wrong changes nothing."""
    try:
        allowed = read_allowed(path)
    except ConfigError as error:
        log.warning("signal=SIGHUP those allowed stay as they are: %s", error)
        return
    admission.allow(allowed)
    log.info("signal=SIGHUP allowed=%d", len(allowed))
