"""Pictures with questions from a seed, in blocks that can be made in any order.

A block is a run of consecutive pictures. Its scenes, its questions and their answer balance follow
from the recipe and the block's index alone, so blocks may be made by any number of processes, in
any order, or again after an interruption. The counters that balance questions and answers start
afresh with every block; with blocks of :data:`BALANCE_BLOCK` pictures this is the rule of the
public generator, which resets them every 250 pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from featurewise.worlds.clevr.errors import WorldError
from featurewise.worlds.clevr.questions import Question, QuestionGenerator
from featurewise.worlds.clevr.render import render
from featurewise.worlds.clevr.scene import Scene, sample_scenes

#: Pictures after which the public generator resets its balance counters.
BALANCE_BLOCK: Final = 250


def derive_seed(seed: int, *path: int) -> int:
    """A seed below 2**63 that depends on ``seed`` and every number of ``path``."""
    state = np.random.SeedSequence(seed, spawn_key=path).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to draw and what to ask: everything that decides the content of a block.

    Args:
        seed: not negative; recipes that differ in the seed alone share no block.
        width: width of a picture in pixels.
        height: height of a picture in pixels; the camera was made for 3:2.
        samples: paths per pixel, a square number, as in ``render``.
        compiled: draw with compiled code; its pictures may differ by a few grey levels at edges.
        questions_per_image: questions asked about each picture; a few pictures allow fewer.
        min_objects: smallest number of objects in a scene.
        max_objects: largest number of objects in a scene, at most 10.
        cogent: CLEVR-CoGenT condition of the colours, or None for all of them.
        families: question families to use (0 to 89), or None for all of them.

    Raises:
        WorldError: if a value is out of its range.
    """

    seed: int
    width: int = 120
    height: int = 80
    samples: int = 4
    compiled: bool = False
    questions_per_image: int = 10
    min_objects: int = 3
    max_objects: int = 10
    cogent: Literal["A", "B"] | None = None
    families: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise WorldError(f"seed must not be negative, got {self.seed}")
        for name in ("width", "height", "samples", "questions_per_image"):
            if getattr(self, name) < 1:
                raise WorldError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 1 <= self.min_objects <= self.max_objects <= 10:
            raise WorldError(
                "min_objects and max_objects must satisfy 1 <= min <= max <= 10, "
                f"got {self.min_objects} and {self.max_objects}"
            )
        if self.cogent not in (None, "A", "B"):
            raise WorldError(f"cogent must be 'A', 'B' or None, got {self.cogent!r}")

    def scenes(self, block: int, size: int) -> list[Scene]:
        """The ``size`` scenes of block number ``block``."""
        return sample_scenes(
            size,
            seed=derive_seed(self.seed, block, 0),
            min_objects=self.min_objects,
            max_objects=self.max_objects,
            cogent=self.cogent,
        )

    def questions(self, block: int, scenes: Sequence[Scene]) -> list[list[Question]]:
        """The questions about each of the ``scenes``, which are all those of block ``block``."""
        generator = QuestionGenerator(derive_seed(self.seed, block, 1), families=self.families)
        return [generator.generate(scene, count=self.questions_per_image) for scene in scenes]

    def images(self, scenes: Sequence[Scene]) -> UInt8[Tensor, "I 3 H W"]:
        """The ``scenes`` as pictures."""
        return render(
            scenes,
            width=self.width,
            height=self.height,
            samples=self.samples,
            compiled=self.compiled,
        ).images
