"""Pictures from an update: two searches for inputs whose update is the one that was seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from p2pfl.audit.functional import Functional, LocalTraining
from p2pfl.audit.matching import angle, squared_distance, total_variation
from p2pfl.gossip.messages import Task

# Deviation of the noise that L-BFGS starts from, in units of the data's own: nearly grey pictures. From
# pure noise it needs two to three times as many iterations.
START = 0.1
# Of the signed steps, in units of [0, 1]; divided by ten after 3/8, 5/8 and 7/8 of them, as Geiping et al.
# (2020) do.
STEP = 0.1
DROPS = (3 / 8, 5 / 8, 7 / 8)


@dataclass(frozen=True, eq=False)
class Inversion:
    """pictures: (n, C, H, W) float64 in [0, 1].  labels: (n,) int64.

    losses: the matching loss at each evaluation, in order; `best` is what the pictures have.
    """

    pictures: Tensor
    labels: Tensor
    losses: tuple[float, ...]
    best: float
    iterations: int


class Scale:
    """Between pixels in [0, 1] and a network's normalised inputs."""

    def __init__(self, task: Task, device: torch.device) -> None:
        shape = (-1, *[1] * (len(task.input_shape) - 1))
        self.shape = task.input_shape
        self._mean = torch.tensor(task.mean, dtype=torch.float64, device=device).view(shape)
        self._std = torch.tensor(task.std, dtype=torch.float64, device=device).view(shape)

    def inputs(self, pixels: Tensor) -> Tensor:
        return (pixels - self._mean) / self._std

    def pixels(self, inputs: Tensor) -> Tensor:
        return (inputs * self._std + self._mean).clamp(0, 1)


@dataclass(frozen=True)
class Aim:
    """What an attack works on. seen: the update, a tensor for each trained parameter."""

    network: Functional
    scale: Scale
    seen: tuple[Tensor, ...]
    training: LocalTraining
    classes: int

    @property
    def count(self) -> int:
        return self.training.nodes * self.training.held


def by_lbfgs(aim: Aim, labels: Tensor | None, iterations: int, generator: torch.Generator) -> Inversion:
    """Deep leakage from gradients: L-BFGS on the squared distance, at most `iterations` of its iterations.

    labels: (n,) int64 as in iDLG, or None: then they are sought too, as scores whose softmax is the target
    (Zhu, Liu, Han, 2019, algorithm 1).
    """
    shape = (aim.count, *aim.scale.shape)
    inputs = _noise(shape, generator, aim) * START
    sought = [inputs.requires_grad_()]
    if labels is None:
        sought.append(_noise((aim.count, aim.classes), generator, aim).requires_grad_())
    search = torch.optim.LBFGS(
        sought,
        max_iter=iterations,
        max_eval=3 * iterations,
        history_size=iterations,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )
    track = _Track()

    def evaluate() -> Tensor:
        targets = functional.softmax(sought[1], dim=1) if labels is None else labels
        update = aim.network.update(sought[0], targets, aim.training)
        loss = squared_distance(update, aim.seen)
        for tensor, slope in zip(sought, torch.autograd.grad(loss, sought), strict=True):
            tensor.grad = slope
        track.take(loss.item(), sought)
        return loss

    search.step(evaluate)  # type: ignore[no-untyped-call]
    found = track.kept[1].argmax(1) if labels is None else labels
    done = int(search.state[sought[0]]["n_iter"])
    return Inversion(aim.scale.pixels(track.kept[0]), found, tuple(track.losses), track.best, done)


def by_signed_steps(
    aim: Aim, labels: Tensor, iterations: int, tv: float, generator: torch.Generator
) -> Inversion:
    """Inverting gradients (Geiping et al., 2020): Adam on the sign of the slope, pixels kept in [0, 1].

    The loss is the angle between the updates plus `tv` times the total variation.
    """
    shape = (aim.count, *aim.scale.shape)
    pixels = (0.5 + START * _noise(shape, generator, aim)).clamp(0, 1).requires_grad_()
    search = torch.optim.Adam([pixels], lr=STEP)
    drops = torch.optim.lr_scheduler.MultiStepLR(search, [int(share * iterations) for share in DROPS], 0.1)
    track = _Track()
    for _ in range(iterations):
        update = aim.network.update(aim.scale.inputs(pixels), labels, aim.training)
        loss = angle(update, aim.seen) + tv * total_variation(pixels)
        (slope,) = torch.autograd.grad(loss, pixels)
        track.take(loss.item(), [pixels])
        pixels.grad = slope.sign()
        search.step()
        drops.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
    return Inversion(track.kept[0], labels, tuple(track.losses), track.best, iterations)


def best_of(attempts: int, attack: Callable[[int], Inversion]) -> Inversion:
    """The attempt that matches best: the attacker sees how well an update is matched, not the pictures."""
    return min((attack(number) for number in range(attempts)), key=lambda found: found.best)


class _Track:
    """The losses so far, and what had the least: a search may end somewhere worse, or at NaN."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.best = float("inf")
        self.kept: list[Tensor] = []

    def take(self, loss: float, sought: list[Tensor]) -> None:
        self.losses.append(loss)
        if loss < self.best or not self.kept:
            self.best = loss
            self.kept = [tensor.detach().clone() for tensor in sought]


def _noise(shape: tuple[int, ...], generator: torch.Generator, aim: Aim) -> Tensor:
    """Standard normal; drawn on the CPU, so that it does not depend on the device."""
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(aim.network.device)
