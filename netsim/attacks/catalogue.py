"""Attacks by the names that scenarios give them."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping

from netsim.attacks.attack import Attack
from netsim.attacks.collusion import ALittle, InnerProduct, Sybil
from netsim.attacks.data import BackDoor, LabelFlip, RandomLabels
from netsim.attacks.models import FreeRider, Noise, NotANumber, Scaled, SignFlip, Stale
from p2pfl.config import build, check
from p2pfl.errors import ConfigError

ATTACKS: dict[str, type[Attack]] = {
    "label-flip": LabelFlip,
    "random-labels": RandomLabels,
    "back-door": BackDoor,
    "sign-flip": SignFlip,
    "noise": Noise,
    "scaled": Scaled,
    "nan": NotANumber,
    "stale": Stale,
    "free-rider": FreeRider,
    "a-little": ALittle,
    "inner-product": InnerProduct,
    "sybil": Sybil,
}


def find(name: str) -> type[Attack]:
    """A built-in one, or anybody's own as package.module:Class. ConfigError if there is none."""
    if name in ATTACKS:
        return ATTACKS[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        near = difflib.get_close_matches(name, ATTACKS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(ATTACKS)}"
        raise ConfigError(f"attack {name!r} is unknown; {hint}")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"attack {name!r} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Attack)):
        raise ConfigError(f"attack {name!r} is not a class made from netsim.attacks.attack.Attack")
    return found


def make(name: str, options: Mapping[str, object]) -> Attack:
    """ConfigError for an unknown name or option, or a bad value."""
    return build(find(name), options)


def from_spec(text: str) -> tuple[str, dict[str, object]]:
    """ "a-little:z=1.5,knows=honest" -> ("a-little", {"z": 1.5, "knows": "honest"}): name and options."""
    name, colon, rest = text.partition(":")
    if name not in ATTACKS:
        return text, {}
    written: dict[str, str] = {}
    last = ""
    for part in rest.split(",") if colon else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals and last:  # a comma within a value: mapping=3:8,8:3
            written[last] += f",{key}"
            continue
        check(bool(equals and key and value), f"attack {text!r}: write options as {name}:key=value,key=value")
        check(key not in written, f"attack {text!r} gives {key} twice")
        written[key], last = value, key
    return name, {key: _number(value) for key, value in written.items()}


def _number(text: str) -> object:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
