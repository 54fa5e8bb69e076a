"""The ground of the CLEVR world: a sheet, flat under the objects, that curves up behind them.

Its height depends only on the distance along one horizontal direction. Vectors are (3, ...).
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

SWEEP: Final = (-0.9032, 0.4292)
"""Horizontal direction in which the sheet rises."""

LOG_HEIGHT: Final = (
    -5.301265,
    0.48630267,
    -0.0089824790,
    7.8785896e-5,
    -1.8529143e-5,
    2.2470588e-6,
)
"""Logarithm of the height as a polynomial of the distance, fitted to the mesh's profile."""

WALL: Final = 17.0
"""Distance beyond which the slope of the sheet is constant."""

NEAR: Final = -9.5
FAR: Final = 18.1
SIDE: Final = 27.0
SOLVE_STEPS: Final = 6


def along(point: Tensor) -> Tensor:
    """Distance from the origin along ``SWEEP``."""
    return SWEEP[0] * point[0] + SWEEP[1] * point[1]


def profile(s: Tensor) -> tuple[Tensor, Tensor]:
    """Height and slope of the sheet at distance ``s``."""
    curved = s.clamp_max(WALL)
    log_height, derivative = torch.zeros_like(s), torch.zeros_like(s)
    for c in reversed(LOG_HEIGHT):
        derivative = derivative * curved + log_height
        log_height = log_height * curved + c
    height = log_height.exp()
    slope = height * derivative
    return height + slope * (s - curved), slope


def normal(point: Tensor) -> Tensor:
    """Unit normal of the sheet above ``point``."""
    _, slope = profile(along(point))
    scale = (1 + slope * slope).rsqrt()
    return torch.stack([-SWEEP[0] * slope * scale, -SWEEP[1] * slope * scale, scale])


def intersect(origin: Tensor, direction: Tensor) -> Tensor:
    """Where rays from above intersect the sheet, in multiples of ``direction``; infinite for none.

    The height is convex, so Newton's method, started behind the sheet, always converges.
    """
    s0, ds = along(origin), along(direction)
    sink = torch.where(direction[2] < -1e-6, -origin[2] / direction[2].clamp_max(-1e-6), torch.inf)
    edge = torch.where(ds > 1e-6, (FAR - s0) / ds.clamp_min(1e-6), torch.inf)
    begin = torch.minimum(sink, edge).clamp_max(100)
    t = begin
    for _ in range(SOLVE_STEPS):
        height, slope = profile(s0 + t * ds)
        fall = (slope * ds - direction[2]).clamp_min(1e-6)
        t = t - (height - origin[2] - t * direction[2]) / fall
    s = s0 + t * ds
    side = SWEEP[0] * (origin[1] + t * direction[1]) - SWEEP[1] * (origin[0] + t * direction[0])
    hit = (t > 0) & (t <= begin * (1 + 1e-4)) & (s > NEAR) & (side.abs() < SIDE)
    return torch.where(hit, t, torch.inf)
