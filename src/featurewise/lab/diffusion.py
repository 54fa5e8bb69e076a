"""Diffusion as pure functions: how noise is added, step by step, and how it is taken away.

A picture x at the time t is ``√ᾱ_t x + √(1 - ᾱ_t) ε`` with noise ε from a standard normal
distribution (Ho et al. 2020, *Denoising Diffusion Probabilistic Models*, eq. 4 and 14). A network
that predicts ε makes pictures from noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from featurewise.lab.errors import LabError

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
        LabError: fewer than 1 time.
    """
    if times < 1:
        raise LabError(f"a schedule has at least 1 time, not {times}")
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
        LabError: more steps than times, or fewer than 1.
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
        LabError: more steps than times, or fewer than 1.
    """
    if not 1 <= steps <= times:
        raise LabError(f"of {times} times 1 to {times} can be visited, not {steps}")
    ends = torch.arange(steps, 0, -1) * times
    return ends.div(steps, rounding_mode="floor") - 1
