"""One random scenario: run it in this process, check its journal."""

from __future__ import annotations

import logging
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netsim import invariants
from netsim.attacks.poisoned import poison
from netsim.evaluation import consensus, mean_model
from netsim.fuzz_scenarios import random_scenario
from netsim.inline import InlinePool
from netsim.journal import SIMULATOR, FaultStruck, Journal, RunEnded, read
from netsim.network import Account
from netsim.scenario import Scenario
from netsim.scenario_file import to_toml
from netsim.settling import Settled, settled
from netsim.virtual import VirtualEngine
from p2pfl.events import Event
from p2pfl.learning.data import load
from p2pfl.learning.partition import shards
from p2pfl.learning.torch_learner import TorchLearner

SHOWN = 20  # violations of one run that are told


@dataclass(frozen=True)
class Findings:
    """failures: what the scenario of a seed breaks, one line each.

    excuse: why nothing is claimed of its consensus distance; empty if it is.  left: which share of it is left
    at the end; None if the run has none.
    """

    failures: tuple[str, ...]
    excuse: str
    left: float | None = None


def trial(seed: int, folder: Path, *, verbose: bool = False) -> Findings:
    """Run the scenario of a seed and check it. Leaves journal.jsonl and scenario.toml in `folder`.

    verbose: scenario and faults on stderr, for a person.
    """
    scenario = random_scenario(seed)
    text = to_toml(scenario)
    (folder / "scenario.toml").write_text(text, encoding="utf-8")
    if verbose:
        print(text, file=sys.stderr)
    errors = _Errors()
    logging.getLogger().addHandler(errors)
    end = Settled("the run broke off")
    try:
        violations, end = run(scenario, folder / "journal.jsonl", verbose=verbose)
        found = [str(violation) for violation in violations]
    except Exception as error:  # noqa: BLE001  - whatever it is, it is what we look for
        traceback.print_exc()
        found = [f"exception: the run ends with {_told(error)}"]
    finally:
        logging.getLogger().removeHandler(errors)
    found = errors.seen + found
    if len(found) > SHOWN:
        found[SHOWN:] = [f"and {len(found) - SHOWN} more"]
    return Findings(tuple(found), end.excuse, end.left)


def run(
    scenario: Scenario, path: Path, *, verbose: bool = False
) -> tuple[list[invariants.Violation], Settled]:
    """Simulate, with all work done in this process, and check. path: of the journal."""
    config = scenario.config
    dataset = load(config.data)
    parts = shards(dataset, config.data, config.nodes)
    dataset, parts = poison(config.seed, scenario.adversaries, dataset, parts)
    learner = TorchLearner(dataset, config.training.model)
    with InlinePool(learner) as pool, Journal(path) as journal:
        accounts: list[Account] = []

        def watch(time: float, event: Event) -> None:
            if isinstance(event, RunEnded) and engine.network is not None:
                accounts.append(engine.network.account())
            elif verbose and isinstance(event, FaultStruck):
                print(f"{time:10.3f} s  {event.fault} {event.parts or event.nodes}", file=sys.stderr)

        engine = VirtualEngine(scenario, learner, parts, pool, journal, watch)
        outcome = engine.run()
        vectors = list(outcome.weights.values())
        if vectors:
            measured = consensus(vectors, mean_model(vectors), round=outcome.progress, final=True)
            journal.write(outcome.ended_at, SIMULATOR, measured)
    lines: list[dict[str, Any]] = list(read(path))
    end = settled(lines, scenario)
    return [*invariants.check(lines, scenario, end), *invariants.messages(lines, *accounts)], end


class _Errors(logging.Handler):
    """What was logged as an error: a handler that raised is a logged traceback, and its node goes on."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        cause = f": {_told(error)}" if error is not None else ""
        self.seen.append(f"exception: {record.getMessage()}{cause}")


def _told(error: BaseException) -> str:
    """`ValueError: what, at p2pfl/node.py:12`; of a group, the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/p2pfl/" in frame.filename or "/netsim/" in frame.filename]
    place = f", at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"
