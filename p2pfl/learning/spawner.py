"""A process that forks workers for one that must not fork itself any more, as it has threads by then.

It is forked before trio and other threads begin, holds what the learners hold (the same memory, until
somebody writes to it), and has nothing else: no socket of the network, no file of the state. So a worker can
be had anew while the other tasks of the process go on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Self

from p2pfl.errors import LearningError
from p2pfl.learning import work
from p2pfl.learning.forked import Doing, fork, manner_of_death, serve
from p2pfl.learning.learner import Learner
from p2pfl.learning.slots import Slot

_FORK, _REAP, _END = 1, 2, 3
_REQUEST = struct.Struct("<qqq")  # what is wanted, of which learner or process, bytes of the slot
_REPLY = struct.Struct("<q")  # a process, or how it ended; less than 0: an errno
_DESCRIPTORS = 4
_ONLY = 0  # the number of a worker, and of its slot: each has one of its own


class Spawner:
    """learners: what each worker computes with, by its number; called in the worker's process.

    Use as a context manager, as fork() wants it: before trio. Calls wait for the spawner, which takes
    milliseconds. LearningError if it is not there any more.
    """

    def __init__(self, learners: Sequence[Callable[[], Learner]]) -> None:
        self._learners = learners

    def __enter__(self) -> Self:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._pid = fork(partial(_attend, theirs, self._socket, self._learners))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        os.kill(self._pid, signal.SIGKILL)  # its workers die with it
        os.waitpid(self._pid, 0)

    def fork(self, number: int, slot: Slot, doing: int, jobs: int, results: int) -> int:
        """The process of a worker that computes with learner `number`. doing, jobs, results: descriptors."""
        request = _REQUEST.pack(_FORK, number, slot.size)
        pid = self._ask(request, [jobs, results, slot.fd, doing])
        if pid < 0:
            raise LearningError(f"no process can be had to train in: {os.strerror(-pid)}")
        return pid

    def reap(self, pid: int, when: str) -> str:
        """As forked.reap, of a worker at its end."""
        return manner_of_death(self._ask(_REQUEST.pack(_REAP, pid, 0), []), when)

    def end(self, pid: int) -> None:
        """Kill a worker. No error if the spawner is gone: its workers are too."""
        with contextlib.suppress(LearningError):
            self._ask(_REQUEST.pack(_END, pid, 0), [])

    def _ask(self, request: bytes, descriptors: list[int]) -> int:
        try:
            socket.send_fds(self._socket, [request], descriptors)
            reply = self._socket.recv(_REPLY.size)
        except OSError:
            reply = b""
        if not reply:
            raise LearningError("the process that starts those that train has ended; start this one again")
        answer: int = _REPLY.unpack(reply)[0]
        return answer


def _attend(asked: socket.socket, parents: socket.socket, learners: Sequence[Callable[[], Learner]]) -> None:
    """The spawner's loop, until its parent is gone."""
    parents.close()
    while True:
        request, descriptors, _, _ = socket.recv_fds(asked, _REQUEST.size, _DESCRIPTORS)
        if not request:
            return
        wanted, which, size = _REQUEST.unpack(request)
        try:
            if wanted == _FORK:
                reply = fork(partial(_work, asked, learners[which], size, descriptors))
            else:
                if wanted == _END:
                    os.kill(which, signal.SIGKILL)
                reply = os.waitpid(which, 0)[1]
        except OSError as error:
            reply = -(error.errno or 1)
        for descriptor in descriptors:
            os.close(descriptor)
        asked.send(_REPLY.pack(reply))


def _work(asked: socket.socket, learner: Callable[[], Learner], size: int, descriptors: list[int]) -> None:
    asked.close()
    jobs, results, slot, doing = descriptors
    computes = learner()
    work.use_one_thread()
    serve(computes, [Slot(size, slot)], jobs, results, Doing(1, doing), _ONLY)
