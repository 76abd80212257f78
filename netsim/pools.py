"""Who computes a run's jobs: forked processes of this machine, or a Ray cluster."""

from __future__ import annotations

import os

from netsim.config import SimConfig
from netsim.jobs import Jobs
from netsim.units import parse_duration
from netsim.workers import WorkerPool
from p2pfl.learning.learner import Learner


def make_pool(config: SimConfig, learner: Learner) -> Jobs:
    """As config.workers says: a number, None for one per core, "ray" or "ray:ADDRESS". Not entered yet.

    Raises SetupError, also on entering, where Ray is asked for and missing or out of reach.
    """
    limit = parse_duration("job-limit", config.job_limit)
    cores = len(os.sched_getaffinity(0))
    if config.workers is None or config.workers.isdecimal():
        return WorkerPool(learner, int(config.workers or cores), limit)
    from netsim.ray_pool import RayPool  # only whoever asks for Ray needs it

    _, _, address = config.workers.partition(":")
    return RayPool(learner, address or None, cores, limit)
