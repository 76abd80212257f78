"""Child processes that never outlive us, whatever happens: an error, Ctrl-C, even SIGKILL of this process.

Every child leads a process group of its own, so that a Ctrl-C in the terminal reaches us alone and we end the
children in order; should we be killed, the kernel kills them (guarded.py), stopped ones too. Linux only.
"""

from __future__ import annotations

import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import trio

from netsim import guarded
from p2pfl.errors import SimulationError

# Seconds to stop after SIGTERM: a node takes 2, or one batch; with many, half a second of a core for each.
GRACE, GRACE_PER_CHILD = 5.0, 1.0
HOSTS = 250  # addresses used of each 127.x.y.0/24
NETWORKS = 250  # of 127.x.0.0/16
ATTEMPTS = 100  # at finding a range of loopback addresses that nobody listens on
MAX_LINE = 4096  # bytes of a child's first line


class Child:
    """One running program. log: file that gets its stderr. Raises SimulationError if it cannot be started."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.first_line: str | None = None  # of its output, once it `spoke`
        self.spoke = trio.Event()
        self._is_to_end = False
        self._log = log
        self._output, write = os.pipe()
        guard = [sys.executable, "-I", "-S", guarded.__file__, str(os.getpid())]
        try:
            with log.open("wb") as errors:
                # Not trio's own way to start a process: that forks in a thread which may end before us, and
                # the kernel takes the end of that thread for the end of the parent.
                self._process = subprocess.Popen(
                    [*guard, *command],
                    stdin=subprocess.DEVNULL,
                    stdout=write,
                    stderr=errors,
                    env=environment,
                    process_group=0,
                )
        except OSError as error:
            os.close(self._output)
            raise SimulationError(f"{name} cannot be started: {error.strerror}") from error
        finally:
            os.close(write)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def attend(self) -> None:
        """Read what it prints until it ends. Returns if that was asked for; else raises SimulationError.

        Nothing of it is left afterwards.
        """
        output = trio.lowlevel.FdStream(os.dup(self._output))
        first = bytearray()
        async with output:
            async for chunk in output:
                if self.first_line is not None:
                    continue  # nobody reads on, but a full pipe would stop the child
                first += chunk
                if b"\n" in first:
                    self.first_line = first.partition(b"\n")[0].decode(errors="replace")
                    self.spoke.set()
                elif len(first) > MAX_LINE:
                    raise SimulationError(f"{self.name} prints something else than a node does")
        code = await self._ended()
        self.kill()
        if not self._is_to_end:
            raise SimulationError(f"{self.name} ended by itself: {self._epitaph(code)}")

    async def _ended(self) -> int:
        """Its exit code, once it has one."""
        pidfd = os.pidfd_open(self.pid)
        try:
            await trio.lowlevel.wait_readable(pidfd)
        finally:
            os.close(pidfd)
        return self._reap()

    def _epitaph(self, code: int) -> str:
        """`exit code 1, "its last words"`."""
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        lines = self._log.read_text(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"{how}, {last!r}" if last else how

    def terminate(self) -> None:
        """Ask it to stop; wake it for that if need be."""
        self._is_to_end = True
        self._send(signal.SIGTERM)
        self._send(signal.SIGCONT)

    def crash(self) -> None:
        """End it and all that it started, without a warning; attend() sees it end."""
        self._is_to_end = True
        self._send(signal.SIGKILL)

    def stop(self) -> None:
        """It keeps what it has and does nothing, until resume()."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def reload(self) -> None:
        """Tell it to read its configuration again."""
        self._send(signal.SIGHUP)

    def _send(self, number: signal.Signals) -> None:
        if self._process.returncode is None:  # not reaped yet, so that the group's id is still its own
            os.killpg(self.pid, number)

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within `seconds`; does not reap it."""
        if self._process.returncode is not None:
            return True
        pidfd = os.pidfd_open(self.pid)
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            return bool(poll.poll(max(0.0, seconds) * 1000))
        finally:
            os.close(pidfd)

    def kill(self) -> None:
        """Nothing of it is left afterwards, nor of what it started. May be called more than once."""
        self._reap()
        if self._output >= 0:
            os.close(self._output)
            self._output = -1

    def _reap(self) -> int:
        """End the whole group, and only then free the group's id; the exit code."""
        if self._process.returncode is None:
            os.killpg(self.pid, signal.SIGKILL)  # does nothing to a leader that has ended already
        return self._process.wait()


class Children:
    """Context manager: whatever ends it, its children have ended afterwards.

    Enter and start from a thread that lives until then: see guarded.py.
    """

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise SimulationError("real node processes need Linux; use --engine virtual")
        self._children: list[Child] = []

    def start(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Child:
        """See Child."""
        child = Child(name, command, log, environment)
        self._children.append(child)
        return child

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for child in self._children:
                child.terminate()
            running = [child for child in self._children if not child.wait(0)]
            end = time.monotonic() + GRACE + GRACE_PER_CHILD * len(running)
            for child in running:
                child.wait(end - time.monotonic())
        finally:  # also if the user has no patience for the grace
            for child in self._children:
                child.kill()


def free_addresses(count: int, ports: Sequence[int]) -> list[str]:
    """`count` loopback addresses on which nobody listens at any of `ports`, of a range chosen at random.

    All of 127.0.0.0/8 is this machine. Random, and not seeded, so that two runs side by side do not meet.
    Raises SimulationError if there are none.
    """
    if count > HOSTS * NETWORKS:
        raise SimulationError(f"{count} nodes are too many for processes; use --engine virtual")
    for _ in range(ATTEMPTS):
        range_ = 1 + secrets.randbelow(250)
        addresses = [f"127.{range_}.{1 + i // HOSTS}.{1 + i % HOSTS}" for i in range(count)]
        if all(_is_free(address, port) for address in addresses for port in ports):
            return addresses
    raise SimulationError("no free loopback addresses; are other simulations running?")


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what just ended does not count
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
