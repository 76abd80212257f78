"""What an operator may change in a running node: a few settings, and whether it trains at all.

A request is taken as a whole or not at all, and is checked as the configuration is. New settings hold from
the next round: the one under way ends with what it began with. A paused node ends that round too; then it
trains no more and starts no exchanges, but goes on answering, merging what arrives and probing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from p2pfl import merge_rule
from p2pfl.config import SETTABLE, GossipConfig, NodeConfig, changed, keys
from p2pfl.errors import ConfigError, SettingError
from p2pfl.events import Observe, Paused, Resumed, SettingsChanged
from p2pfl.gossip import quorum

Value = float | int | str | None

# Of two that exclude each other, giving one takes the other back.
EXCLUDES = {"local_steps": "local_epochs", "local_epochs": "local_steps"}
PAUSED = "paused"


@dataclass(frozen=True)
class Kept:
    """What outlives the process. changes: name -> (as configured then, as the operator set it)."""

    paused: bool = False
    changes: Mapping[str, tuple[Value, Value]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {PAUSED: self.paused, "changes": {name: list(pair) for name, pair in self.changes.items()}}

    @classmethod
    def of(cls, document: Mapping[str, object]) -> Kept:
        """What as_dict() gave; of anything else, what can be understood of it."""
        given = document.get("changes")
        pairs = given.items() if isinstance(given, Mapping) else ()
        changes = {
            name: (pair[0], pair[1]) for name, pair in pairs if isinstance(pair, list) and len(pair) == 2
        }
        return cls(document.get(PAUSED) is True, changes)


class Controls:
    """Of one node. config: with which it was started.

    adopt: tells the gossip of new settings when they come into force; attainable: raises ConfigError for a
    merge rule that never could merge.  round: the node's completed rounds.  on_change: wakes a node at rest.
    """

    def __init__(
        self,
        config: NodeConfig,
        *,
        adopt: Callable[[GossipConfig], None],
        attainable: Callable[[GossipConfig], None],
        round: Callable[[], int],
        observe: Observe,
        on_change: Callable[[], None],
    ) -> None:
        self.configured = config
        self.config = config  # in force
        self.paused = False  # as the operator wants it
        self.resting = False  # and as it is: the round that was under way has ended
        self._next = config  # in force from the next round
        self._under_way: int | None = None  # rounds that were complete when the one under way began
        self._waiting: trio.CancelScope | None = None
        self._adopt = adopt
        self._attainable = attainable
        self._round = round
        self._observe = observe
        self._on_change = on_change

    # -- for the operator

    def change(self, values: Mapping[str, object]) -> None:
        """All of it, or nothing and a SettingError. values: settings by name, and `paused`."""
        paused = values.get(PAUSED, self.paused)
        if not isinstance(paused, bool):
            raise SettingError("paused must be true or false", PAUSED)
        settings = {name: value for name, value in values.items() if name != PAUSED}
        wanted = self._changed(settings)
        before = settings_of(self._next)
        after = settings_of(wanted)
        if news := tuple((name, after[name]) for name in SETTABLE if after[name] != before[name]):
            self._next = wanted
            self._observe(SettingsChanged(1 + self._begun_rounds(), news))
        if self._under_way is None:
            self._take_over()
        self.paused = paused
        if paused and self._waiting is not None:
            self._waiting.cancel()
        self._on_change()

    def as_dict(self) -> dict[str, object]:
        """What GET /v1/controls shows, but for what the node knows besides. settings: from the next round."""
        doubt = quorum.doubt(self._next.gossip)
        return {
            PAUSED: self.paused,
            "settings": settings_of(self._next),
            "in_force": settings_of(self.config),
            "warnings": [] if doubt is None else [doubt],
            "choices": choices(),
        }

    def _changed(self, settings: Mapping[str, object]) -> NodeConfig:
        """The next configuration with these settings. SettingError names the first that is wrong."""
        for name, value in settings.items():
            if name not in SETTABLE:
                raise SettingError(
                    f"{name[:40]} cannot be changed while the node runs; {PAUSED}, {', '.join(SETTABLE)} can",
                    name[:40],
                )
            self._checked({name: value}, name)
        named = next((name for name in settings if settings.get(EXCLUDES.get(name, "")) is not None), "")
        return self._checked(settings, named)

    def _checked(self, settings: Mapping[str, object], field: str) -> NodeConfig:
        taken_back = {
            other: None
            for name, other in EXCLUDES.items()
            if settings.get(name) is not None and other not in settings
        }
        try:
            config = changed(self._next, {**settings, **taken_back})
            self._attainable(config.gossip)
        except ConfigError as error:
            raise SettingError(str(error), field) from error
        return config

    # -- over a restart

    def kept(self) -> Kept:
        """For the node's next life."""
        configured, now = settings_of(self.configured), settings_of(self._next)
        changes = {name: (configured[name], now[name]) for name in SETTABLE if configured[name] != now[name]}
        return Kept(self.paused, changes)

    def restore(self, kept: Kept) -> list[str]:
        """What kept() gave in a former life, before this one begins; returns the names that hold again.

        A setting whose flag or file says something else since then is as that says: it is the later word.
        SettingError if what is left of it cannot be used together.
        """
        configured = settings_of(self.configured)
        holding = {
            name: now
            for name, (then, now) in kept.changes.items()
            if name in SETTABLE and configured[name] == then
        }
        self.change({**holding, PAUSED: kept.paused})
        return list(holding)

    # -- for the node

    @contextmanager
    def round_under_way(self) -> Iterator[None]:
        """One round: what is changed meanwhile waits for its end."""
        self._under_way = self._round()
        try:
            yield
        finally:
            self._under_way = None
            self._take_over()

    @contextmanager
    def unless_paused(self) -> Iterator[None]:
        """What is done inside is given up as soon as the node is paused."""
        with trio.CancelScope() as self._waiting:
            if self.paused:
                self._waiting.cancel()
            yield
        self._waiting = None

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """The node has nothing under way, and waits until it is resumed."""
        self.resting = True
        self._observe(Paused(self._round()))
        try:
            yield
        finally:
            self.resting = False
        self._observe(Resumed(self._round()))

    def _begun_rounds(self) -> int:
        return self._round() if self._under_way is None else self._under_way + 1

    def _take_over(self) -> None:
        if self.config is not self._next:
            self.config = self._next
            self._adopt(self.config.gossip)


def settings_of(config: NodeConfig) -> dict[str, Value]:
    """By name, in the order of SETTABLE. Without steps there is a number of epochs."""
    training, gossip = config.training, config.gossip
    epochs = None if training.local_steps is not None else training.local_epochs or 1
    return {
        "lr": training.lr,
        "local_steps": training.local_steps,
        "local_epochs": epochs,
        "batch_size": training.batch_size,
        "fanout": gossip.fanout,
        "merge": gossip.merge,
    }


def choices() -> dict[str, dict[str, object]]:
    """What each setting may be, as JSON Schema says it."""
    help = {key.name: key.help for key in keys(NodeConfig)}
    found = {name: {**range, "description": help[name]} for name, range in SETTABLE.items()}
    found["merge"]["examples"] = [merge_rule.EXAMPLES.get(name, name) for name in merge_rule.FORMS]
    return {PAUSED: {"type": "boolean", "description": "Train no more, but go on serving."}, **found}
