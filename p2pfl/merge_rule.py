"""How a user names a merge rule: `median`, `krum:f=2`, `package.module:function`. They are gossip/merge."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass

from p2pfl import own_code
from p2pfl.errors import ConfigError

# Rules that give every model its claimed weight; all others are robust.
WEIGHTED = ("mean", "age", "samples")

# What may be given, as messages and help show it. Names in brackets may be left out.
FORMS = {
    "mean": "mean",
    "age": "age",
    "samples": "samples",
    "median": "median",
    "trimmed-mean": "trimmed-mean:B",
    "krum": "krum:f=F",
    "multi-krum": "multi-krum:f=F[,m=M]",
    "geometric-median": "geometric-median",
    "centred-clipping": "centred-clipping[:tau=T]",
    "clipped-gossip": "clipped-gossip:B",
    "norm-bound": "norm-bound[:tau=T]",
    "fltrust": "fltrust",
}
EXAMPLES = {
    "trimmed-mean": "trimmed-mean:0.2",
    "krum": "krum:f=2",
    "multi-krum": "multi-krum:f=2,m=3",
    "centred-clipping": "centred-clipping:tau=10",
    "clipped-gossip": "clipped-gossip:0.2",
    "norm-bound": "norm-bound:tau=10",
}
# The parameters of each, in the order in which they may be given without their names.
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "trimmed-mean": ("share",),
    "krum": ("f",),
    "multi-krum": ("f", "m"),
    "centred-clipping": ("tau",),
    "clipped-gossip": ("share",),
    "norm-bound": ("tau",),
}
_REQUIRED = ("share", "f")
# Every robust rule takes it, by its name alone.
LEAST = "least"
# The rule that is a function of the user's.
OWN = "own"


@dataclass(frozen=True)
class MergeRule:
    """share: B, the share of liars that is borne.  f: how many liars are.  m: models that multi-krum
    averages, None: as many as may be.  tau: a distance between weights, None: the median of those at hand.
    least: models to wait for, the own one included, if that is more than the rule needs.
    function: of a user's own rule, package.module:function.
    """

    name: str
    share: float = 0.0
    f: int = 0
    m: int | None = None
    tau: float | None = None
    least: int = 1
    function: str = ""

    @property
    def robust(self) -> bool:
        return self.name not in WEIGHTED

    @property
    def fewest(self) -> int:
        """Models, the own one included, without which nothing is merged."""
        return max(self.least, self.guaranteed_by)

    @property
    def guaranteed_by(self) -> int:
        """Models, the own one included, below which the rule cannot promise to bear a single liar.

        Krum: 2f + 3 (Blanchard et al. 2017, proposition 2), and m + f + 2 to average m (Damaskinos et al.
        2019). A share B is that of one model at least. A median needs two honest ones of three; so does a
        median distance. What is bounded by a given distance, or by the own model, bears any number.
        """
        match self.name:
            case "trimmed-mean" | "clipped-gossip":
                return self.first_with(1) if self.share > 0 else 1
            case "krum" | "multi-krum":
                return max(2 * self.f + 3, self.f + 2 + (self.m or 1))
            case "median" | "geometric-median":
                return 3
            case "centred-clipping" | "norm-bound":
                return 3 if self.tau is None else 2
            case "own":  # its author knows; a merge has two models at least
                return 2
        return 1

    def cut(self, models: int) -> int:
        """floor(share x models): how many liars among so many models the share comes to."""
        return math.floor(self.share * models + 1e-9)  # 0.29 x 100 is 28.999999999999996

    def first_with(self, liars: int) -> int:
        """The least number of models of which the share comes to so many."""
        models = math.floor(liars / self.share)
        return models if self.cut(models) >= liars else models + 1


def parse(text: str) -> MergeRule:
    """`name`, or `name:value,...` with each value by its name (`f=2`) or in order; or a function's name.

    ConfigError, in one line; a function of the user's is imported later, by gossip.merge.own.
    """
    name, colon, rest = text.partition(":")
    function, comma, least = text.partition(",")
    if name not in FORMS and own_code.is_named(function):
        return MergeRule(OWN, function=function, least=_least_of_own(text, least) if comma else 1)
    if name not in FORMS:
        near = difflib.get_close_matches(name, FORMS, n=1)
        hint = f"did you mean {FORMS[near[0]]}? " if near else ""
        raise ConfigError(
            f"merge: there is no rule {name!r}; {hint}give one of {', '.join(FORMS.values())}, or a function "
            "of yours as package.module:function"
        )
    order = _PARAMETERS.get(name, ())
    if colon and name in WEIGHTED:
        raise ConfigError(f"merge: {name} takes nothing behind it, not {rest!r}; give {name}")
    given: dict[str, str] = {}
    for place, part in enumerate(rest.split(",") if colon else ()):
        key, equals, value = part.partition("=")
        key, value = (key.strip(), value.strip()) if equals else (_at(order, place), key.strip())
        if (key not in order and key != LEAST) or key in given:
            form = f"{FORMS[name]}, with {LEAST}=K models to wait for if you like"
            raise ConfigError(f"merge: {text!r} is not {form}; for example {_example(name)}")
        given[key] = value
    for key in order:
        if key in _REQUIRED and key not in given:
            raise ConfigError(f"merge: {name} needs a value, {FORMS[name]}; for example {EXAMPLES[name]}")
    values = {key: _number(text, name, key, value) for key, value in given.items()}
    return MergeRule(name, **values)  # type: ignore[arg-type]


def _least_of_own(text: str, values: str) -> int:
    key, equals, value = (part.strip() for part in values.partition("="))
    if key != LEAST or not equals:
        raise ConfigError(f"merge: {text!r}: behind a function of yours goes {LEAST}=K and nothing else")
    return int(_number(text, OWN, key, value))


def _example(name: str) -> str:
    return EXAMPLES.get(name, f"package.module:function,{LEAST}=7" if name == OWN else f"{name}:{LEAST}=7")


def _at(order: tuple[str, ...], place: int) -> str:
    return order[place] if place < len(order) else ""


def _number(text: str, name: str, key: str, value: str) -> float | int:
    if key in ("f", "m", LEAST):
        least = 0 if key == "f" else 1
        if not value.isascii() or not value.isdecimal() or not least <= int(value) < 10**6:
            raise ConfigError(
                f"merge: {text!r}: {key} must be an integer, {least} or more; for example {_example(name)}"
            )
        return int(value)
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if key == "tau" and not 0 < number < math.inf:
        raise ConfigError(f"merge: {text!r}: tau must be a number above 0; for example {_example(name)}")
    if key == "share" and name == "trimmed-mean" and not 0 <= number < 0.5:
        raise ConfigError(
            f"merge: {text!r}: B must be in [0, 0.5), cut at each end; for example {_example(name)}"
        )
    if key == "share" and name == "clipped-gossip" and not 0 < number < 0.5:
        raise ConfigError(
            f"merge: {text!r}: B must be in (0, 0.5), the share of liars; for example {_example(name)}"
        )
    return number
