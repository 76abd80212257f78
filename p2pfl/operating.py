"""A node in the hands of its operator: who may control it, and what of that outlives the process."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping

import trio

from p2pfl.controls import Kept, settings_of
from p2pfl.errors import BadSetting, SettingError, StorageError
from p2pfl.network.tokens import Token
from p2pfl.node import Node
from p2pfl.storage import operator as storage

log = logging.getLogger(__name__)

Keep = Callable[[Kept], Awaitable[None]]


def operate(node: Node, token: Token, state_dir: str | None) -> Operator:
    """Give a node that does not run yet to its operator, with what was set in its former life.

    StorageError if that cannot be read.
    """
    if state_dir is None:
        return _attached(Operator(node, token), node)
    folder = state_dir

    async def keep(kept: Kept) -> None:
        await trio.to_thread.run_sync(storage.keep_controls, folder, kept.as_dict())

    kept = Kept.of(storage.read_controls(folder))
    try:
        holding = node.controls.restore(kept)
    except SettingError as error:
        log.warning("what was set while this node ran cannot be used any more (%s); its flags hold", error)
        node.controls.restore(Kept(kept.paused))
        holding = []
    if holding:
        now = settings_of(node.config)
        shown = " ".join(f"{name}={now[name]}" for name in holding)
        log.warning("set while this node ran before, and not as its flags and file say: %s", shown)
    if kept.paused:
        log.warning("paused before this start, and still: p2pfl node resume lets it train")
    return _attached(Operator(node, token, keep), node)


def _attached(operator: Operator, node: Node) -> Operator:
    node.service.operated = operator
    return operator


class Operator:
    """Implements network.service.Operated for one node. keep: None if nothing outlives the process."""

    def __init__(self, node: Node, token: Token, keep: Keep | None = None) -> None:
        self.token = token
        self._node = node
        self._keep = keep
        self._keeping = trio.Lock()
        self._kept = keep is not None

    def as_dict(self) -> dict[str, object]:
        """The JSON of GET /v1/controls. kept: whether a restart finds it so."""
        node = self._node
        state = {"state": node.service.state, "round": node.gossip.round}
        return {**state, **node.controls.as_dict(), "kept": self._kept}

    async def change(self, values: Mapping[str, object]) -> None:
        """BadSetting if one of them cannot be; then nothing is changed."""
        try:
            self._node.controls.change(values)
        except SettingError as error:
            raise BadSetting(str(error), error.field) from error
        log.info("controls changed %s", " ".join(f"{name}={value}" for name, value in values.items()))
        if self._keep is None:
            return
        async with self._keeping:  # one after another, and each writes what holds by then
            try:
                await self._keep(self._node.controls.kept())
                self._kept = True
            except StorageError as error:
                log.warning("%s; what was set holds until the node stops", error)
                self._kept = False

    def stop(self) -> None:
        log.info("the operator stops this node")
        self._node.leave()
