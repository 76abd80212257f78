"""The floor: plain training loops side by side, one process per worker, with nothing of p2pfl running.

What a loop does is `train`, all of it. `python -m benchmarks.floor` is one such process.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.figures import Figure

BATCH = 64
WARM_UP = 50 * BATCH  # images before the clock starts: torch allocates and chooses its kernels

W1_IMAGES = 300_000
WORKERS = 2


@dataclass(frozen=True)
class Loop:
    """What a loop trains, and how. model: of p2pfl's own."""

    model: str = "mlp"
    learning_rate: float = 0.1
    momentum: float = 0.0

    def flags(self) -> list[str]:
        return [self.model, str(self.learning_rate), str(self.momentum)]


W1 = Loop()


def images_per_second(images: int = W1_IMAGES, workers: int = WORKERS, loop: Loop = W1) -> float:
    """Of `workers` loops that train images / workers each and start together; until the last one ends."""
    command = [sys.executable, "-m", "benchmarks.floor", str(images // workers), *loop.flags()]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with ExitStack() as stack:
        loops = []
        for _ in range(workers):
            one = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
            stack.callback(one.wait)
            stack.callback(one.kill)
            loops.append(one)
        for one in loops:
            assert one.stdout is not None
            if one.stdout.readline() != b"ready\n":
                raise SystemExit("the floor's loop did not start; its message is above")
        start = time.perf_counter()
        for one in loops:
            assert one.stdin is not None
            one.stdin.write(b"go\n")
            one.stdin.flush()
        for one in loops:
            assert one.stdout is not None
            one.stdout.readline()
        return images / (time.perf_counter() - start)


def measure(quick: bool) -> Iterator[Figure]:
    images = W1_IMAGES // (10 if quick else 1)
    runs = 1 if quick else 3
    for workers in (1, WORKERS):
        rates = sorted(images_per_second(images, workers) for _ in range(runs))
        name = f"floor: plain loops, {workers} {'process' if workers == 1 else 'processes'}"
        yield Figure(name, rates[len(rates) // 2], "images/s", details={"least": rates[0], "most": rates[-1]})


def _loop(images: int, loop: Loop) -> None:
    """One process: load, warm up, wait for the word, train."""
    import torch
    from torch.nn import functional

    from p2pfl.config import DataConfig
    from p2pfl.errors import SetupError
    from p2pfl.learning.data import load
    from p2pfl.learning.models import build

    torch.set_num_threads(1)
    torch.manual_seed(os.getpid())
    try:
        dataset = load(DataConfig(dataset="mnist", data_dir=os.environ.get("P2PFL_DATA")))
    except SetupError as error:
        raise SystemExit(str(error)) from None
    x = torch.from_numpy(dataset.train_images).float().div_(255)  # (60000, 1, 28, 28) float32
    x = x.sub_(dataset.task.mean[0]).div_(dataset.task.std[0])
    y = torch.from_numpy(dataset.train_labels)  # (60000,) int64
    net = build(loop.model, dataset.task)

    # Parameters and gradients are views of one vector each, so that a step is one addition.
    parameters = list(net.parameters())
    flat = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])  # (P,) float32
    gradient, velocity = torch.zeros_like(flat), torch.zeros_like(flat)
    sizes = [parameter.numel() for parameter in parameters]
    parts = zip(parameters, torch.split(flat, sizes), torch.split(gradient, sizes), strict=True)
    for parameter, value, slope in parts:
        parameter.data = value.view_as(parameter)
        parameter.grad = slope.view_as(parameter)

    def train(images: int) -> None:
        while images > 0:
            order = torch.randperm(len(x))[:images]
            for batch in torch.split(order, BATCH):
                gradient.zero_()
                functional.cross_entropy(net(x[batch]), y[batch]).backward()  # type: ignore[no-untyped-call]
                if loop.momentum:
                    velocity.mul_(loop.momentum).add_(gradient)
                flat.add_(velocity if loop.momentum else gradient, alpha=-loop.learning_rate)
            images -= len(order)

    train(WARM_UP)
    print("ready", flush=True)
    if sys.stdin.readline() == "go\n":
        train(images)
        print("done", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="One plain training loop of the floor.")
    parser.add_argument("images", type=int)
    parser.add_argument("model")
    parser.add_argument("learning_rate", type=float)
    parser.add_argument("momentum", type=float)
    given = parser.parse_args()
    _loop(given.images, Loop(given.model, given.learning_rate, given.momentum))
