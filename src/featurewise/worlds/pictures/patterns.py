"""Made-up images: for tests, which need no package, and as styles that no painter has."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from featurewise.worlds.pictures.puzzles import Painting

SIZE: Final = 128
"""Height and width of a pattern."""

Plane = Float[Tensor, "S S"]
Pattern = Callable[[Plane, Plane], Plane]
"""Row and column of each pixel -> how much of the second colour it has, from 0 to 1."""

PATTERNS: Final[dict[str, Pattern]] = {
    "horizontal stripes": lambda y, x: y // 8 % 2,
    "vertical stripes": lambda y, x: x // 8 % 2,
    "diagonal stripes": lambda y, x: (x + y) // 12 % 2,
    "squares": lambda y, x: (x // 16 + y // 16) % 2,
    "discs": lambda y, x: ((x % 24 - 12).square() + (y % 24 - 12).square() < 64).float(),
    "rings": lambda y, x: ((x % 32 - 16).square() + (y % 32 - 16).square()).sqrt() // 4 % 2,
    "waves": lambda y, x: (y + 6 * (x / 10).sin()) // 8 % 2,
    "gradient": lambda y, x: x / (SIZE - 1),
}
COLOURS: Final = (
    ((20, 20, 20), (240, 240, 240)),
    ((200, 40, 30), (250, 220, 120)),
    ((20, 60, 150), (200, 230, 250)),
    ((30, 110, 50), (230, 240, 180)),
)


@lru_cache(maxsize=1)
def patterns() -> tuple[Painting, ...]:
    """The patterns of `PATTERNS`, each in two colours, of 128 by 128 pixels."""
    place = torch.arange(SIZE, dtype=torch.float32)
    y, x = torch.meshgrid(place, place, indexing="ij")
    found = []
    for number, (name, pattern) in enumerate(PATTERNS.items()):
        dark, light = torch.tensor(COLOURS[number % len(COLOURS)], dtype=torch.float32)
        share = pattern(y, x)
        image: UInt8[Tensor, "3 S S"] = (
            dark[:, None, None] * (1 - share) + light[:, None, None] * share
        ).byte()
        found.append(Painting(name.replace(" ", "_"), "", name, "", image))
    return tuple(found)
