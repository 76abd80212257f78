"""What passes between a process and its forked worker: short records in pipes, vectors in slots.

A pipe's records are shorter than PIPE_BUF and all of one size, so that each read and write of one is atomic,
also among several workers.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from p2pfl.gossip.messages import Vector
from p2pfl.learning.learner import Evaluation, FitPlan, FitResult
from p2pfl.learning.slots import Slot, offsets

ERROR_BYTES = 16_384  # of a failed job's message and traceback
FIT, EVALUATION, FAILURE = range(3)
# number, kind, slot, bytes of the slot, elements of weights, optimiser, indices, steps or limit, batch size,
# seed; learning rate, momentum, weight decay
JOB = struct.Struct("=QBIQQQQQQQddd")
# number, kind, bytes of the slot, optimiser, steps or classes, samples, bytes of the error; loss, seconds
RESULT = struct.Struct("=QBQQQQQdd")


class JobRecord(NamedTuple):
    """The fields of JOB."""

    number: int
    kind: int
    slot: int
    size: int
    weights: int
    optimiser: int
    indices: int
    steps: int
    batch_size: int
    seed: int
    learning_rate: float
    momentum: float
    weight_decay: float


class ResultRecord(NamedTuple):
    """The fields of RESULT."""

    number: int
    kind: int
    size: int
    optimiser: int
    steps: int
    samples: int
    error: int
    loss: float
    seconds: float


@dataclass(frozen=True)
class Failure:
    """What a learner raised, in one line, and where."""

    summary: str
    trace: str


# -- the asking side


def ask_fit(
    slot: Slot, index: int, number: int, weights: Vector, optimiser: Vector, plan: FitPlan
) -> JobRecord:
    """Copy a fit into `slot`, which the workers know as `index`."""
    first, second, size = offsets(weights.size, optimiser.size, plan.indices.size)
    slot.grow(size)
    slot.vector(weights.size)[:] = weights
    slot.vector(optimiser.size, first)[:] = optimiser
    slot.integers(plan.indices.size, second)[:] = plan.indices
    return JobRecord(
        number, FIT, index, slot.size, weights.size, optimiser.size, plan.indices.size, plan.steps,
        plan.batch_size, plan.seed, plan.learning_rate, plan.momentum, plan.weight_decay,
    )  # fmt: skip


def ask_evaluation(slot: Slot, index: int, number: int, weights: Vector, limit: int) -> JobRecord:
    """Copy an evaluation into `slot`."""
    slot.grow(offsets(weights.size, 0, 0)[2])
    slot.vector(weights.size)[:] = weights
    return JobRecord(number, EVALUATION, index, slot.size, weights.size, 0, 0, limit, 0, 0, 0.0, 0.0, 0.0)


def read_result(slot: Slot, result: ResultRecord, parameters: int) -> FitResult | Evaluation | Failure:
    """Copy a job's result out of its slot."""
    slot.grow(result.size)
    if result.kind == FIT:
        optimiser = slot.vector(result.optimiser, offsets(parameters, result.optimiser, 0)[0])
        weights = slot.vector(parameters)
        return FitResult(weights.copy(), optimiser.copy(), result.steps, result.samples, result.loss)
    if result.kind == EVALUATION:
        classes = result.steps
        return Evaluation(result.loss, slot.integers(classes * classes).reshape(classes, classes).copy())
    summary, _, trace = slot.text(result.error).decode(errors="replace").partition("\n")
    return Failure(summary, trace)


# -- the working side


def read_plan(slot: Slot, job: JobRecord) -> tuple[Vector, Vector, FitPlan]:
    """Weights and optimiser state as they lie in the slot, and what to do with them."""
    first, second, _ = offsets(job.weights, job.optimiser, job.indices)
    plan = FitPlan(
        slot.integers(job.indices, second), job.steps, job.batch_size, job.learning_rate, job.momentum,
        job.weight_decay, job.seed,
    )  # fmt: skip
    return slot.vector(job.weights), slot.vector(job.optimiser, first), plan


def answer_fit(slot: Slot, number: int, fitted: FitResult, seconds: float) -> ResultRecord:
    parameters, optimiser = fitted.weights.size, fitted.optimiser.size
    first, _, size = offsets(parameters, optimiser, 0)
    slot.grow(size)
    slot.vector(parameters)[:] = fitted.weights
    slot.vector(optimiser, first)[:] = fitted.optimiser
    return ResultRecord(
        number, FIT, slot.size, optimiser, fitted.steps, fitted.samples, 0, fitted.loss, seconds
    )


def answer_evaluation(slot: Slot, number: int, evaluation: Evaluation, seconds: float) -> ResultRecord:
    classes = len(evaluation.confusion)
    slot.grow(8 * classes * classes)
    slot.integers(classes * classes)[:] = evaluation.confusion.reshape(-1)
    return ResultRecord(
        number, EVALUATION, slot.size, 0, classes, evaluation.samples, 0, evaluation.loss, seconds
    )


def answer_failure(slot: Slot, number: int, failure: Failure, seconds: float) -> ResultRecord:
    text = f"{failure.summary}\n{failure.trace}".encode()[:ERROR_BYTES]
    slot.write_text(text)
    return ResultRecord(number, FAILURE, slot.size, 0, 0, 0, len(text), 0.0, seconds)
