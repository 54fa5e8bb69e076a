"""Denoising diffusion as pure functions: noise schedule, forward process, sampling and guidance.

An image x at timestep t is ``√ᾱ_t x + √(1 - ᾱ_t) ε`` with noise ε from a standard normal
distribution (Ho et al. 2020, *Denoising Diffusion Probabilistic Models*, eq. 4 and 14). A network
that predicts ε generates images from noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn

from featurewise.common.rng import seeded_rng
from featurewise.retrofit import Conditioned, guide
from featurewise.training.errors import ExperimentError
from featurewise.training.source import Source
from featurewise.training.steppers.base import Metrics

Predict: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(noisy images (N, ...), timesteps (N,)) -> predicted noise (N, ...)."""


def cosine_alpha_bars(
    times: int, offset: float = 0.008, max_beta: float = 0.999
) -> Float[Tensor, " T"]:
    """ᾱ of T timesteps, the share of the variance that is still the image's; float64.

    The cosine schedule (Nichol & Dhariwal 2021, eq. 17): ``ᾱ_t = f(t + 1) / f(0)`` with
    ``f(t) = cos²((t / T + s) / (1 + s) · π / 2)``, and no β above 0.999.

    Args:
        times: T.
        offset: s, which keeps β from being too small at the first timesteps.
        max_beta: upper bound of β.

    Raises:
        ExperimentError: fewer than 1 timestep.
    """
    if times < 1:
        raise ExperimentError(f"a schedule has at least 1 timestep, not {times}")
    fraction = torch.arange(times + 1, dtype=torch.float64) / times
    f = torch.cos((fraction + offset) / (1 + offset) * (math.pi / 2)) ** 2
    betas = (1 - f[1:] / f[:-1]).clamp(max=max_beta)
    return (1 - betas).cumprod(0)


def add_noise(
    images: Float[Tensor, "N ..."], noise: Float[Tensor, "N ..."], alpha_bar: Float[Tensor, " N"]
) -> Float[Tensor, "N ..."]:
    """``√ᾱ x + √(1 - ᾱ) ε``, with one ᾱ for each image."""
    alpha_bar = alpha_bar.to(images.dtype).reshape(-1, *(1,) * (images.ndim - 1))
    return alpha_bar.sqrt() * images + (1 - alpha_bar).sqrt() * noise


def ddim(
    predict: Predict,
    noise: Float[Tensor, "N ..."],
    schedule: Float[Tensor, " T"],
    steps: int,
    bound: float | None = 1.0,
) -> Float[Tensor, "N ..."]:
    """Images from noise by deterministic DDIM (Song et al. 2021, eq. 12 with σ = 0).

    Args:
        predict: predicts the noise; its timesteps are indices into the schedule.
        noise: sample of a standard normal distribution.
        schedule: ᾱ of all timesteps, as `cosine_alpha_bars` returns it.
        steps: number of timesteps to visit; see `ddim_timesteps`.
        bound: the predicted image is clamped to [-bound, bound] at each step; None does not clamp.

    Raises:
        ExperimentError: more steps than timesteps, or fewer than 1.
    """
    visited = ddim_timesteps(len(schedule), steps).tolist()
    x = noise
    for step, time in enumerate(visited):
        times = torch.full((len(x),), time, device=x.device)
        alpha_bar = float(schedule[time])
        predicted = predict(x, times)
        clean = (x - math.sqrt(1 - alpha_bar) * predicted) / math.sqrt(alpha_bar)
        if bound is not None:
            clean = clean.clamp(-bound, bound)
            # Recompute the noise, so that the clamped image and the noise still add up to x.
            predicted = (x - math.sqrt(alpha_bar) * clean) / math.sqrt(1 - alpha_bar)
        following = float(schedule[visited[step + 1]]) if step + 1 < len(visited) else 1.0
        x = math.sqrt(following) * clean + math.sqrt(1 - following) * predicted
    return x


def ddim_timesteps(times: int, steps: int) -> Int[Tensor, " steps"]:
    """Evenly spaced timesteps between T - 1 and 0, in descending order, T - 1 included.

    Args:
        times: T.
        steps: how many.

    Raises:
        ExperimentError: more steps than timesteps, or fewer than 1.
    """
    if not 1 <= steps <= times:
        raise ExperimentError(f"of {times} timesteps 1 to {times} can be visited, not {steps}")
    ends = torch.arange(steps, 0, -1) * times
    return ends.div(steps, rounding_mode="floor") - 1


def guided(
    net: Conditioned, classes: Int64[Tensor, " N"], null_class: int, weight: int | float | Tensor
) -> Predict:
    """A noise prediction with classifier-free guidance (Ho & Salimans 2022, eq. 6), for `ddim`.

    Args:
        net: called as ``net(images, condition=(times, classes))``.
        classes: the class to generate in each image.
        null_class: class index that means "no class".
        weight: 0 is unconditional, 1 conditional without guidance, above 1 extrapolates; see
            `retrofit.guide`.
    """
    null = torch.full_like(classes, null_class)

    def predict(images: Tensor, times: Tensor) -> Tensor:
        noise: Tensor = guide(
            net, images, condition=(times, classes), null=(times, null), weight=weight
        )
        return noise

    return predict


@dataclass(frozen=True)
class DiffusionBatch:
    """Training batch of a network that predicts noise.

    Attributes:
        images: (N, ...), with noise added.
        times: (N,), timesteps.
        classes: (N,), class condition; the null class stands for no condition.
        noise: (N, ...), the noise that was added: the target.
    """

    images: Float[Tensor, "N ..."]
    times: Int64[Tensor, " N"]
    classes: Int64[Tensor, " N"]
    noise: Float[Tensor, "N ..."]


@dataclass(frozen=True)
class DiffusionSource:
    """Diffusion batches from any source of images: a random timestep and noise for each image.

    Attributes:
        source: batches of images with classes.
        read: batch of the source -> images (N, ...) in [-1, 1] and classes (N,).
        times: T, of the schedule.
        seed: of timesteps, noise and dropped classes; batch i depends only on the seed and i.
        null_class: class index that means "no class".
        drop: probability that the class of an image is replaced by the null class (Ho & Salimans
            2022, algorithm 1).
    """

    source: Source[Any]
    read: Callable[[Any], tuple[Tensor, Tensor]]
    times: int
    seed: int
    null_class: int
    drop: float = 0.0

    def batch(self, index: int, /) -> DiffusionBatch:
        """The batch of this index."""
        images, classes = self.read(self.source.batch(index))
        # Independent of the stream that samples the images.
        rng = seeded_rng(self.seed, "diffusion", index)
        times = torch.randint(self.times, classes.shape, generator=rng)
        noise = torch.randn(images.shape, generator=rng)
        dropped = torch.rand(classes.shape, generator=rng) < self.drop
        images = add_noise(images, noise, cosine_alpha_bars(self.times)[times])
        return DiffusionBatch(images, times, classes.masked_fill(dropped, self.null_class), noise)


class Denoiser(nn.Module):
    """A conditioned network that predicts noise from images, timesteps and classes.

    Args:
        net: called as ``net(images, condition=(times, classes))``.
        null_class: class index that means "no class".
        times: T, of the schedule.
    """

    def __init__(self, net: Conditioned, null_class: int, times: int) -> None:
        super().__init__()
        self.net = net
        self.null_class, self.times = null_class, times

    def forward(self, batch: DiffusionBatch) -> Float[Tensor, "N ..."]:
        """The predicted noise of each image."""
        noise: Tensor = self.net(batch.images, condition=(batch.times, batch.classes))
        return noise

    def draw(
        self, batch: DiffusionBatch, rng: torch.Generator, steps: int, weight: int | float | Tensor
    ) -> Float[Tensor, "N ..."]:
        """Samples images of the classes of a batch, by `ddim` with guidance.

        Args:
            batch: its classes, and the shape and dtype of its images; all else is ignored.
            rng: for the initial noise, on the network's device.
            steps: see `ddim`.
            weight: see `guided`.
        """
        noise = torch.randn(
            batch.images.shape, generator=rng, dtype=batch.images.dtype, device=rng.device
        )
        predict = guided(self.net, batch.classes, self.null_class, weight)
        return ddim(predict, noise, cosine_alpha_bars(self.times), steps)


def noise_error(network: nn.Module, batch: DiffusionBatch) -> tuple[Tensor, Metrics]:
    """Mean squared error of the predicted noise (Ho et al. 2020, eq. 14): an objective."""
    return F.mse_loss(network(batch), batch.noise), {}
