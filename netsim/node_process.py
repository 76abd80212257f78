"""One real node over its lives: `p2pfl node start` processes, one after the other, seen from outside.

Each life has a journal, a log and a proxy of its own; the configuration file and the address stay, and the
state directory if state is kept.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import trio

from netsim.children import Child, Children
from netsim.collect import Tail
from netsim.faults import Status
from netsim.launch import environment, to_toml
from netsim.proxy import Proxy
from p2pfl.config import NodeConfig, flatten
from p2pfl.errors import SimulationError, StorageError
from p2pfl.events import Event, RoundCompleted, Started, StateChanged

PERIOD = 0.2
"""Seconds in which a straggler runs once and rests once: shorter than a round, longer than a time slice."""


@dataclass
class _Life:
    """is_over: its process is gone, so that its journal holds all that it ever will."""

    config: NodeConfig
    tail: Tail
    log: Path
    child: Child | None = None
    is_to_end: bool = False
    is_over: bool = False


class NodeProcess:
    """config: of the first life, but for where its journal and its state are.

    folder: for all its files.  command: starts a node, with `--config FILE`.  deadline: seconds in which it
    has to listen.  keeps: its state outlives a crash; otherwise `reseed` gives the seed of a later life, and
    so another id.  slowdown: it runs 1 / slowdown of the time.  proxy: None for one that cannot be called.
    connections: where those of its proxy live.
    """

    def __init__(
        self,
        index: int,
        config: NodeConfig,
        *,
        folder: Path,
        command: Sequence[str],
        children: Children,
        deadline: float,
        keeps: bool,
        reseed: Callable[[int], int],
        slowdown: float,
        proxy: Proxy | None,
        connections: trio.Nursery,
    ) -> None:
        self.index = index
        self.status: Status = "absent"
        self.hung = False
        self.trains = False  # or has trained, in its present life
        self.done = False
        self.round = 0
        self.listens = trio.Event()  # in its present life
        self.url = f"http://{config.listen}"  # past the proxy
        self._config = config
        self._folder = folder
        self._command = command
        self._children = children
        self._deadline = deadline
        self._keeps = keeps
        self._reseed = reseed
        self._slowdown = slowdown
        self._proxy = proxy
        self._connections = connections
        self._file = folder / f"node-{index}.toml"
        self._state = folder / f"node-{index}.state"
        self._number = 0  # lives begun
        self._life: _Life | None = None
        self._lives: list[_Life] = []  # whose journals are not read to their end
        self._alone = trio.Lock()  # held by the life that has the address
        self._rests = False
        _forget(self._state)  # of an earlier run

    # -- what can happen to it

    def begin(self, nursery: trio.Nursery) -> None:
        """A life, from now on."""
        self._number += 1
        name = f"node-{self.index}" if self._number == 1 else f"node-{self.index}.{self._number}"
        journal = self._folder / f"{name}.jsonl"
        journal.unlink(missing_ok=True)  # a node appends; this is another run's
        self._life = _Life(self._present(journal), Tail(journal), self._folder / f"{name}.log")
        self._lives.append(self._life)
        self.status, self.hung, self.done = "up", False, False
        self.trains = False
        if not self._keeps:
            self.round = 0
        self.listens = trio.Event()
        nursery.start_soon(self._live, self._life)

    def crash(self) -> None:
        """Gone at once, with all it has not written."""
        child = self._end("down")
        if child is not None:
            child.crash()

    def leave(self) -> None:
        """Stopped in good order."""
        child = self._end("left")
        if child is not None:
            child.terminate()

    def hang(self) -> None:
        self.hung = True
        self._stop_or_go()

    def resume(self) -> None:
        self.hung = False
        self._stop_or_go()

    def set_peers(self, peers: tuple[str, ...]) -> None:
        """From now on, also in later lives."""
        self._config = _with_peers(self._config, peers)
        life = self._life
        if life is None or life.is_to_end:
            return
        life.config = _with_peers(life.config, peers)
        if life.child is not None:
            self._write(life.config)
            if self.listens.is_set():  # else it is told then
                life.child.reload()

    # -- what is seen of it

    @property
    def pid(self) -> int | None:
        """Of its present process, if there is one."""
        life = self._life
        return None if life is None or life.child is None or life.is_to_end else life.child.pid

    def look(self) -> Iterator[tuple[float, Event]]:
        """What it has observed since the last look, with times of time.perf_counter()."""
        for life in list(self._lives):
            if life.is_over:
                self._lives.remove(life)
            for at, event in life.tail.look():
                if life is self._life and not life.is_to_end:
                    self._note(event)
                yield at, event

    def _note(self, event: Event) -> None:
        if isinstance(event, RoundCompleted):
            self.round = event.round
        elif isinstance(event, Started):
            self.round = event.resumed_round
        elif isinstance(event, StateChanged):
            self.trains = event.state != "waiting"
            self.done = event.state == "done"

    # -- a life

    async def _live(self, life: _Life) -> None:
        async with self._alone:
            try:
                if not life.is_to_end:
                    await self._run(life)
            finally:
                life.is_over = True

    async def _run(self, life: _Life) -> None:
        if not self._keeps:
            _forget(self._state)
        config = life.config
        self._write(config)
        command = [*self._command, "--config", str(self._file)]
        child = self._children.start(f"node {self.index}", command, life.log, environment(config))
        life.child = child
        self._stop_or_go()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._let_in, life, child, config)
            await child.attend()
            nursery.cancel_scope.cancel()

    async def _let_in(self, life: _Life, child: Child, config: NodeConfig) -> None:
        """Once it listens, peers may come, through the proxy; a slow device is slow from then on."""
        await self._until_it_speaks(child)
        if child.first_line != f"listening on {self.url}":
            raise SimulationError(f"{child.name} says {child.first_line!r} instead of where it listens")
        life.tail.listens_at = time.perf_counter()
        async with trio.open_nursery() as nursery:
            if self._proxy is not None:
                try:
                    await nursery.start(self._proxy.serve, self._connections)
                except OSError as error:
                    raise SimulationError(f"nothing can listen in front of {child.name}: {error}") from error
            self.listens.set()
            if life.config.peers != config.peers:
                child.reload()
            if self._slowdown > 1:
                await self._stop_and_go()

    async def _until_it_speaks(self, child: Child) -> None:
        while child.first_line is None:
            with trio.move_on_after(self._deadline):
                await child.spoke.wait()
            if child.first_line is None and not self.hung:
                raise SimulationError(f"{child.name} does not listen after {self._deadline:.0f} seconds")

    async def _stop_and_go(self) -> None:
        """Let it run 1 / slowdown of the time."""
        try:
            while True:
                await trio.sleep(PERIOD / self._slowdown)
                self._rests = True
                self._stop_or_go()
                await trio.sleep(PERIOD - PERIOD / self._slowdown)
                self._rests = False
                self._stop_or_go()
        finally:
            self._rests = False
            self._stop_or_go()

    def _stop_or_go(self) -> None:
        life = self._life
        if life is None or life.child is None or life.is_to_end:
            return
        if self.hung or self._rests:
            life.child.stop()
        else:
            life.child.resume()

    def _end(self, status: Status) -> Child | None:
        self.status, self.hung = status, False
        assert self._life is not None
        self._life.is_to_end = True
        return self._life.child

    # -- its configuration

    def _present(self, journal: Path) -> NodeConfig:
        """Of the present life. Later ones do not wait for company: they come to those that are there."""
        config = replace(self._config, journal=str(journal.absolute()))
        if self._keeps:
            config = replace(config, state_dir=str(self._state.absolute()))
        if self._number > 1:
            seed = self._config.seed if self._keeps else self._reseed(self._number - 1)
            config = replace(config, min_peers=0, seed=seed)
        return config

    def _write(self, config: NodeConfig) -> None:
        """Whole or not at all: the node may read it at any moment."""
        new = self._file.with_suffix(".new")
        new.write_text(to_toml(flatten(config)), encoding="utf-8")
        new.replace(self._file)


def _with_peers(config: NodeConfig, peers: tuple[str, ...]) -> NodeConfig:
    return replace(config, peers=peers, min_peers=min(config.min_peers, len(peers)))


def _forget(state: Path) -> None:
    try:
        shutil.rmtree(state)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StorageError(f"cannot remove {state}: {error.strerror}") from error
