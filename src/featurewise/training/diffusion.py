"""Diffusion as pure functions: how noise is added, step by step, and how it is taken away.

A picture x at the time t is ``√ᾱ_t x + √(1 - ᾱ_t) ε`` with noise ε from a standard normal
distribution (Ho et al. 2020, *Denoising Diffusion Probabilistic Models*, eq. 4 and 14). A network
that predicts ε makes pictures from noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn

from featurewise.retrofit import Conditioned, guide
from featurewise.training.errors import ExperimentError
from featurewise.training.source import Source
from featurewise.training.steppers.base import Metrics

Predict: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(noised pictures (N, ...), times (N,)) -> the noise in them."""


def alphas(times: int, offset: float = 0.008, steepest: float = 0.999) -> Float[Tensor, " T"]:
    """ᾱ of T times: what is left of the variance of the picture; float64.

    The cosine schedule (Nichol & Dhariwal 2021, eq. 17): ``ᾱ_t = f(t + 1) / f(0)`` with
    ``f(t) = cos²((t / T + s) / (1 + s) · π / 2)``, no step larger than β = 0.999.

    Args:
        times: T.
        offset: s, which keeps the first steps from being too small.
        steepest: the largest β.

    Raises:
        ExperimentError: fewer than 1 time.
    """
    if times < 1:
        raise ExperimentError(f"a schedule has at least 1 time, not {times}")
    share = torch.arange(times + 1, dtype=torch.float64) / times
    f = torch.cos((share + offset) / (1 + offset) * (math.pi / 2)) ** 2
    betas = (1 - f[1:] / f[:-1]).clamp(max=steepest)
    return (1 - betas).cumprod(0)


def noised(
    images: Float[Tensor, "N ..."], noise: Float[Tensor, "N ..."], alpha: Float[Tensor, " N"]
) -> Float[Tensor, "N ..."]:
    """``√ᾱ x + √(1 - ᾱ) ε``, each picture with an ᾱ of its own."""
    left = alpha.to(images.dtype).reshape(-1, *(1,) * (images.ndim - 1))
    return left.sqrt() * images + (1 - left).sqrt() * noise


def ddim(
    predict: Predict,
    noise: Float[Tensor, "N ..."],
    schedule: Float[Tensor, " T"],
    steps: int,
    bound: float | None = 1.0,
) -> Float[Tensor, "N ..."]:
    """Pictures from noise, without further noise (Song et al. 2021, *DDIM*, eq. 12 with σ = 0).

    Args:
        predict: tells the noise; its times are indices into the schedule.
        noise: of a standard normal distribution.
        schedule: ᾱ of all times, as `alphas` gives.
        steps: how many of the times are visited, evenly spaced, the last among them.
        bound: pictures lie in [-bound, bound], so the prediction of each step is cut off there;
            None cuts off nothing.

    Raises:
        ExperimentError: more steps than times, or fewer than 1.
    """
    visited = spaced(len(schedule), steps).tolist()
    x = noise
    for step, time in enumerate(visited):
        times = torch.full((len(x),), time, device=x.device)
        left = float(schedule[time])
        seen = predict(x, times)
        clean = (x - math.sqrt(1 - left) * seen) / math.sqrt(left)
        if bound is not None:
            clean = clean.clamp(-bound, bound)
            # The noise that this picture would have, so that picture and noise still make x.
            seen = (x - math.sqrt(left) * clean) / math.sqrt(1 - left)
        after = float(schedule[visited[step + 1]]) if step + 1 < len(visited) else 1.0
        x = math.sqrt(after) * clean + math.sqrt(1 - after) * seen
    return x


def spaced(times: int, steps: int) -> Int[Tensor, " steps"]:
    """So many of the times 0 to T - 1, from the last down, evenly spaced.

    Raises:
        ExperimentError: more steps than times, or fewer than 1.
    """
    if not 1 <= steps <= times:
        raise ExperimentError(f"of {times} times 1 to {times} can be visited, not {steps}")
    ends = torch.arange(steps, 0, -1) * times
    return ends.div(steps, rounding_mode="floor") - 1


def guided(
    net: Conditioned, classes: Int64[Tensor, " N"], untold: int, weight: int | float | Tensor
) -> Predict:
    """Predictions that lean towards a class (Ho & Salimans 2022, eq. 6), for `ddim`.

    Args:
        net: of (pictures, condition=(times, classes)).
        classes: what is wanted of each picture.
        untold: what the network takes for a class that it is not told.
        weight: 0 tells no class, 1 tells it, above 1 exaggerates it; see `retrofit.guide`.
    """
    null = torch.full_like(classes, untold)

    def predict(images: Tensor, times: Tensor) -> Tensor:
        noise: Tensor = guide(
            net, images, condition=(times, classes), null=(times, null), weight=weight
        )
        return noise

    return predict


@dataclass(frozen=True)
class Noised:
    """What a network that predicts noise learns from.

    Attributes:
        images: (N, ...), noised.
        times: (N,).
        classes: (N,), what is told of each; one number stands for nothing.
        noise: (N, ...), what is in the images.
    """

    images: Float[Tensor, "N ..."]
    times: Int64[Tensor, " N"]
    classes: Int64[Tensor, " N"]
    noise: Float[Tensor, "N ..."]


@dataclass(frozen=True)
class Noising:
    """Batches of any source, noised: each picture at a time by lot.

    Attributes:
        source: of pictures with classes.
        read: a batch of it -> pictures (N, ...) in [-1, 1] and classes (N,).
        times: T, of the schedule.
        seed: of times, noise and what is not told; batch i depends on it and on i alone.
        untold: the class that stands for one that is not told.
        drop: share of pictures whose class is not told (Ho & Salimans 2022, algorithm 1).
    """

    source: Source[Any]
    read: Callable[[Any], tuple[Tensor, Tensor]]
    times: int
    seed: int
    untold: int
    drop: float = 0.0

    def batch(self, index: int, /) -> Noised:
        """The batch of this index."""
        images, classes = self.read(self.source.batch(index))
        state = np.random.SeedSequence((self.seed, index)).generate_state(1, np.uint64)
        rng = torch.Generator().manual_seed(int(state[0]) >> 1)
        times = torch.randint(self.times, classes.shape, generator=rng)
        noise = torch.randn(images.shape, generator=rng)
        dropped = torch.rand(classes.shape, generator=rng) < self.drop
        images = noised(images, noise, alphas(self.times)[times])
        return Noised(images, times, classes.masked_fill(dropped, self.untold), noise)


class Denoiser(nn.Module):
    """A conditioned network that predicts the noise of pictures told their time and class.

    Args:
        net: of (pictures, condition=(times, classes)).
        untold: the class that stands for one that is not told.
        times: T, of the schedule.
    """

    def __init__(self, net: Conditioned, untold: int, times: int) -> None:
        super().__init__()
        self.net = net
        self.untold, self.times = untold, times

    def forward(self, batch: Noised) -> Float[Tensor, "N ..."]:
        """The noise in each picture."""
        noise: Tensor = self.net(batch.images, condition=(batch.times, batch.classes))
        return noise

    def draw(
        self, asked: Noised, random: torch.Generator, steps: int, weight: int | float | Tensor
    ) -> Float[Tensor, "N ..."]:
        """Pictures of the classes asked for, by `ddim` in so many steps, `guided` at this weight.

        Args:
            asked: of its pictures only the shape matters, and its times and noise do not.
            random: of the noise to begin with, on the network's device.
            steps: see `ddim`.
            weight: see `guided`.
        """
        noise = torch.randn(
            asked.images.shape, generator=random, dtype=asked.images.dtype, device=random.device
        )
        predict = guided(self.net, asked.classes, self.untold, weight)
        return ddim(predict, noise, alphas(self.times), steps)


def noise_error(network: nn.Module, batch: Noised) -> tuple[Tensor, Metrics]:
    """Mean squared error of the predicted noise (Ho et al. 2020, eq. 14): an objective."""
    return F.mse_loss(network(batch), batch.noise), {}
