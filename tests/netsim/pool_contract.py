"""What everybody who computes jobs promises; each kind of pool passes it in a class of its own tests."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from netsim.jobs import Jobs
from p2pfl.errors import SimulationError
from tests.learners import STATELESS, UNLUCKY, NumpyLearner, plan, same

LEARNER = NumpyLearner()


class PoolContract:
    """Subclasses have a fixture `pool`: of LEARNER, entered; it may serve one test after another."""

    def test_results_are_those_of_direct_calls_bit_by_bit(self, pool: Jobs) -> None:
        weights = LEARNER.initial_weights(1)
        before = weights.copy()
        fitted = pool.result(pool.submit_fit(weights, STATELESS, plan(2)))
        evaluation = pool.result(pool.submit_evaluate(weights, 11))
        assert same(fitted, LEARNER.fit(weights, STATELESS, plan(2), lambda: False))
        assert evaluation.loss == LEARNER.evaluate(weights, 11).loss
        assert np.array_equal(evaluation.confusion, LEARNER.evaluate(weights, 11).confusion)
        assert np.array_equal(weights, before)

    def test_results_may_be_kept_and_written_to(self, pool: Jobs) -> None:
        weights = LEARNER.initial_weights(1)
        kept = [
            pool.result(pool.submit_fit(weights, STATELESS, plan(seed, momentum=0.9))) for seed in range(20)
        ]
        for seed, fitted in enumerate(kept):
            assert same(fitted, LEARNER.fit(weights, STATELESS, plan(seed, momentum=0.9), lambda: False))
            fitted.weights[:] = 0
            fitted.optimiser[:] = 0

    def test_many_more_jobs_than_fit_at_once_taken_in_any_order(self, pool: Jobs) -> None:
        before = copy.deepcopy(pool.statistics)
        inputs = [LEARNER.initial_weights(i) for i in range(60)]
        rng = np.random.default_rng(3)
        due = rng.random(60)
        jobs = [pool.submit_fit(inputs[i], STATELESS, plan(i + 100), due=due[i]) for i in range(60)]
        results = {i: pool.result(jobs[i]) for i in rng.permutation(60)}
        for i in range(60):
            assert same(results[i], LEARNER.fit(inputs[i], STATELESS, plan(i + 100), lambda: False))
        after = pool.statistics
        assert after.jobs - before.jobs == 60
        assert after.images_trained - before.images_trained == 60 * plan().samples
        assert sum(after.busy_seconds) > sum(before.busy_seconds)
        assert after.first_submit is not None

    def test_indices_and_optimiser_state_may_have_any_size(self, pool: Jobs) -> None:
        weights = LEARNER.initial_weights()
        small, large = plan(1, momentum=0.9), plan(2, indices=100_000, momentum=0.9)
        state, expected = STATELESS, STATELESS
        for todo in (small, large, small, large):
            fitted = pool.result(pool.submit_fit(weights, state, todo))
            assert same(fitted, LEARNER.fit(weights, expected, todo, lambda: False))
            state = expected = fitted.optimiser
        huge = np.random.default_rng(0).normal(size=50_000).astype(np.float32)
        fitted = pool.result(pool.submit_fit(weights, huge, large))
        assert same(fitted, LEARNER.fit(weights, huge, large, lambda: False))

    def test_arrays_that_are_no_whole_blocks_of_memory_are_taken(self, pool: Jobs) -> None:
        weights = LEARNER.initial_weights()
        odd = np.concatenate([STATELESS, [0.0], weights]).astype(np.float32)[1:]
        state = np.ones(18, np.float32)[::2]
        fitted = pool.result(pool.submit_fit(odd, state, plan(4, momentum=0.9)))
        assert same(fitted, LEARNER.fit(weights, state, plan(4, momentum=0.9), lambda: False))

    def test_an_exception_in_a_job_names_the_job_and_leaves_the_pool_usable(self, pool: Jobs) -> None:
        weights = LEARNER.initial_weights()
        bad = pool.submit_fit(weights, STATELESS, plan(UNLUCKY), label="node 7")
        good = pool.submit_fit(weights, STATELESS, plan(14))
        pool.result(good)
        with pytest.raises(SimulationError) as caught:
            pool.result(bad)
        assert str(caught.value) == (
            f"job {bad.number} (fit of 5 steps, node 7) failed: FloatingPointError: thirteen is unlucky"
        )
        assert "in fit" in "".join(caught.value.__notes__)  # the traceback of where it was raised

    def test_discarded_jobs_are_forgotten_in_every_state(self, pool: Jobs) -> None:
        weights = LEARNER.initial_weights()
        jobs = [pool.submit_fit(weights, STATELESS, plan(i)) for i in range(10)]
        pool.discard(jobs[0])
        pool.discard(jobs[9])
        for job in jobs[1:9]:
            pool.result(job)
        finished = pool.submit_fit(weights, STATELESS, plan())
        pool.result(pool.submit_evaluate(weights))
        pool.discard(finished)
        for job in (jobs[0], jobs[1], jobs[9], finished):
            with pytest.raises(SimulationError, match="discarded, or its result taken"):
                pool.result(job)
        fitted = pool.result(pool.submit_fit(weights, STATELESS, plan(5)))
        assert same(fitted, LEARNER.fit(weights, STATELESS, plan(5), lambda: False))

    def test_wrong_arguments_are_refused_at_once(self, pool: Jobs) -> None:
        with pytest.raises(ValueError, match=r"shape \(3,\)"):
            pool.submit_evaluate(np.zeros(3, np.float32))
        with pytest.raises(ValueError, match="64-bit"):
            pool.submit_fit(LEARNER.initial_weights(), STATELESS, plan(1 << 64))
