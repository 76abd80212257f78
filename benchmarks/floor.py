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

from benchmarks.figures import Figure

BATCH = 64
LEARNING_RATE = 0.1
WARM_UP = 50 * BATCH  # images before the clock starts: torch allocates and chooses its kernels

W1_IMAGES = 300_000
WORKERS = 2


def images_per_second(images: int = W1_IMAGES, workers: int = WORKERS) -> float:
    """Of `workers` loops that train images / workers each and start together; until the last one ends."""
    command = [sys.executable, "-m", "benchmarks.floor", str(images // workers)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with ExitStack() as stack:
        loops = []
        for _ in range(workers):
            loop = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
            stack.callback(loop.wait)
            stack.callback(loop.kill)
            loops.append(loop)
        for loop in loops:
            assert loop.stdout is not None
            if loop.stdout.readline() != b"ready\n":
                raise SystemExit("the floor's loop did not start; its message is above")
        start = time.perf_counter()
        for loop in loops:
            assert loop.stdin is not None
            loop.stdin.write(b"go\n")
            loop.stdin.flush()
        for loop in loops:
            assert loop.stdout is not None
            loop.stdout.readline()
        return images / (time.perf_counter() - start)


def measure(quick: bool) -> Iterator[Figure]:
    images = W1_IMAGES // (10 if quick else 1)
    runs = 1 if quick else 3
    for workers in (1, WORKERS):
        rates = sorted(images_per_second(images, workers) for _ in range(runs))
        name = f"floor: plain loops, {workers} {'process' if workers == 1 else 'processes'}"
        yield Figure(name, rates[len(rates) // 2], "images/s", details={"least": rates[0], "most": rates[-1]})


def _loop(images: int) -> None:
    """One process: load, warm up, wait for the word, train."""
    import torch
    from torch.nn import functional

    from p2pfl.config import DataConfig
    from p2pfl.errors import SetupError
    from p2pfl.learning.data import load
    from p2pfl.learning.models import mlp

    torch.set_num_threads(1)
    torch.manual_seed(os.getpid())
    try:
        dataset = load(DataConfig(dataset="mnist", data_dir=os.environ.get("P2PFL_DATA")))
    except SetupError as error:
        raise SystemExit(str(error)) from None
    x = torch.from_numpy(dataset.train_images).float().div_(255).flatten(1)  # (60000, 784) float32
    x = x.sub_(dataset.task.mean[0]).div_(dataset.task.std[0])
    y = torch.from_numpy(dataset.train_labels)  # (60000,) int64
    net = mlp(dataset.task)

    # Parameters and gradients are views of one vector each, so that a step is one addition.
    parameters = list(net.parameters())
    flat = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])  # (P,) float32
    gradient = torch.zeros_like(flat)
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
                flat.add_(gradient, alpha=-LEARNING_RATE)
            images -= len(order)

    train(WARM_UP)
    print("ready", flush=True)
    if sys.stdin.readline() == "go\n":
        train(images)
        print("done", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="One plain training loop of the floor.")
    parser.add_argument("images", type=int)
    _loop(parser.parse_args().images)
