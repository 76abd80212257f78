"""`p2pfl sim fuzz`: random scenarios on the virtual engine, each checked for what must always hold.

The parent loads what takes long, then forks a child for each seed, as many at a time as there are cores. A
child that takes longer than its limit of real time is asked where it is and killed.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import re
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from netsim.fuzz_trial import Findings, trial
from netsim.memory import frozen_heap
from p2pfl.config import DataConfig
from p2pfl.errors import ConfigError
from p2pfl.learning.data import load
from p2pfl.learning.forked import fork_keeping_interrupts

PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Seconds of real time that a trial may take; most take one.
LIMIT = 300.0
# ... and that one which took longer has to say where it is.
EPITAPH = 2.0
OWN = re.compile(r'File ".*?((?:p2pfl|netsim)/[\w/]+\.py)", line (\d+) in (\w+)')


@dataclass(frozen=True)
class Verdict:
    """What became of one seed. failures: empty if all is well.  seconds: of real time.

    excuse: why settling was not expected to bring the models together; empty if it was.
    left: which share of the consensus distance was left then; None if it is not known.
    """

    seed: int
    failures: tuple[str, ...]
    seconds: float
    excuse: str = ""
    left: float | None = None

    @property
    def command(self) -> str:
        """Replays it."""
        return f"p2pfl sim fuzz --seed {self.seed}"

    @property
    def settling(self) -> str:
        """What became of the consensus distance, for people."""
        if self.excuse:
            return f"settling need not bring the models together: {self.excuse}"
        return f"settling left {self.left or 0:.2%} of the consensus distance"


def figures(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Of all verdicts: seeds, those that failed, and of how many the models had to come together."""
    due = [verdict.left or 0.0 for verdict in verdicts if not verdict.excuse]
    return {
        "seeds": len(verdicts),
        "failed": sorted(verdict.seed for verdict in verdicts if verdict.failures),
        "settling_checked": len(due),
        "most_left": max(due, default=None),
    }


def as_line(figures: Mapping[str, Any]) -> str:
    """The same for people: `200 seeds, 0 failures, settling checked in 131: at most 5.00% is left`."""
    line = f"{figures['seeds']} seeds, {len(figures['failed'])} failures"
    if not figures["settling_checked"]:
        return line
    left = f"at most {figures['most_left']:.2%} is left"
    return f"{line}, settling checked in {figures['settling_checked']}: {left}"


def fuzz(
    seeds: Iterable[int],
    *,
    limit: float = LIMIT,
    processes: int | None = None,
    keep: Path | None = None,
    verbose: bool = False,
    told: Callable[[Verdict], None] = lambda verdict: None,
) -> list[Verdict]:
    """Try each seed in a process of its own; the verdicts in the order in which they came.

    limit: seconds of real time for each.  processes: at a time; None: the cores.  keep: folder in which a
    failing seed's journal, scenario and log are left, in `seed-N`.  verbose: children write to our stderr.
    told: called with each verdict at once. Whatever ends this, no process is left. Call it from the main
    thread: the kernel takes the end of the thread that forked for the parent's. Raises ConfigError.
    """
    if keep is not None:
        try:
            keep.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"keep: cannot write to {keep}: {error.strerror}") from error
    load(DataConfig())  # torch and whatever reads data are imported now, once for all children
    waiting = iter(seeds)
    verdicts: list[Verdict] = []
    running: list[_Child] = []
    at_once = processes or len(os.sched_getaffinity(0))
    # Frozen: a garbage pass in a child would write to, and so copy, every page shared with us.
    with frozen_heap(), tempfile.TemporaryDirectory(prefix="p2pfl-fuzz-") as place:
        try:
            while True:
                while len(running) < at_once and (seed := next(waiting, None)) is not None:
                    running.append(_Child(seed, Path(place) / f"seed-{seed}", limit, verbose))
                if not running:
                    return verdicts
                for child in _ended(running):
                    running.remove(child)
                    verdict = child.verdict()
                    if verdict.failures and keep is not None:
                        shutil.copytree(child.folder, keep / child.folder.name, dirs_exist_ok=True)
                    shutil.rmtree(child.folder)
                    verdicts.append(verdict)
                    told(verdict)
        finally:
            for child in running:
                child.kill()


def _ended(running: list[_Child]) -> list[_Child]:
    """Wait until one of them ends, or has to be ended."""
    poll = select.poll()
    for child in running:
        poll.register(child.answers, select.POLLIN)
    now = time.monotonic()
    patience = max(0.0, min(child.deadline for child in running) - now)
    ready = {descriptor for descriptor, _ in poll.poll(1000 * patience + 1)}
    now = time.monotonic()
    for child in running:
        if child.answers not in ready and child.deadline <= now:
            child.hurry()
    return [child for child in running if child.over or (child.answers in ready and child.read())]


class _Child:
    """One seed under trial in a forked process. folder: its journal, scenario and log."""

    def __init__(self, seed: int, folder: Path, limit: float, verbose: bool) -> None:
        self.seed = seed
        self.folder = folder
        self.over = False
        self._limit = limit
        self._asked = False  # where it is, for it took too long
        self._began = time.monotonic()
        self.deadline = self._began + limit
        self._answer = bytearray()
        folder.mkdir()
        self.log = folder / "log.txt"
        self.log.touch()
        self.answers, write = os.pipe()
        parent = os.getpid()
        sys.stdout.flush()  # what is buffered would be in the child's buffers too
        sys.stderr.flush()
        with warnings.catch_warnings():
            # Python 3.12+ warns if any thread exists; numpy's idle arithmetic threads do, and hold no lock.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = fork_keeping_interrupts()
        if self.pid == 0:
            status = 70  # EX_SOFTWARE
            try:
                os.close(self.answers)
                _become_quiet(parent, None if verbose else self.log)
                findings = trial(seed, folder, verbose=verbose)
                with os.fdopen(write, "w") as answers:
                    json.dump(asdict(findings), answers)
                status = 0
            except BaseException:  # noqa: BLE001  - the child must not return into the parent's program
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        os.close(write)

    def read(self) -> bool:
        """Take what it says; True once it has said all."""
        chunk = os.read(self.answers, 1 << 16)
        self._answer += chunk
        self.over = not chunk
        return self.over

    def hurry(self) -> None:
        """Its time is up: first let it write where it is, then kill it."""
        if self._asked:
            os.kill(self.pid, signal.SIGKILL)
            self.over = True
            return
        self._asked = True
        self.deadline = time.monotonic() + EPITAPH
        os.kill(self.pid, signal.SIGUSR1)

    def verdict(self) -> Verdict:
        """Reaps it. Once it is over."""
        status = self.kill()
        seconds = time.monotonic() - self._began
        if self._asked:
            failure = f"stuck in real time: not over after {self._limit:g} s{self._place()}"
        elif status != 0:
            how = signal.Signals(-status).name if status < 0 else f"status {status}"
            failure = f"the process ended with {how}: {self._last_words()}"
        else:
            told = Findings(**json.loads(self._answer))
            return Verdict(self.seed, tuple(told.failures), seconds, told.excuse, told.left)
        return Verdict(self.seed, (failure,), seconds, "the run broke off")

    def kill(self) -> int:
        """Nothing is left of it; its exit status."""
        if not self.over:
            os.kill(self.pid, signal.SIGKILL)
        os.close(self.answers)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _place(self) -> str:
        """`, in netsim/network.py:12 run`: the innermost line of ours."""
        found = OWN.search(self.log.read_text(errors="replace"))
        return f", in {found[1]}:{found[2]} {found[3]}" if found else ""

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "no word")


def _become_quiet(parent: int, log: Path | None) -> None:
    """Make this forked process one that dies with its parent, keeps to one core and writes to `log`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent ends us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel knew of the wish
        os._exit(0)
    if log is not None:
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout = sys.stderr = os.fdopen(2, "w", closefd=False)
    faulthandler.register(signal.SIGUSR1, file=2, all_threads=False)
    import torch

    torch.set_num_threads(1)
