"""Images of one coloured shape with questions, made by this library, for tests and small runs."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import torch
from jaxtyping import UInt8
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.vqa.errors import VqaError
from featurewise.worlds.vqa.questions import ImageQuestion, QuestionSet

COLOURS: Final = {"red": (220, 30, 30), "green": (30, 170, 60), "blue": (40, 60, 220)}
SHAPES: Final = ("square", "disc", "bar")
ANSWERS: Final = (*COLOURS, *SHAPES, "yes", "no")
BACKGROUND: Final = 235  # grey level


@lru_cache(maxsize=4)
def made_questions(count: int, size: int, seed: int) -> QuestionSet:
    """So many images with four questions each; half of the answers to closed questions are "yes".

    Args:
        count: of the images, 1 or more.
        size: height and width, 16 or more.
        seed: 0 or more.

    Raises:
        VqaError: a number that is too small.
    """
    if count < 1 or size < 16 or seed < 0:
        raise VqaError(
            f"count must be 1 or more, size 16 or more, seed 0 or more; got {count}, {size}, {seed}"
        )
    rng = seeded_rng(seed, "shapes")
    numbers = torch.rand(count, 5, generator=rng)
    images, questions = [], []
    for image, (c, s, x, y, ask) in enumerate(numbers.tolist()):
        colour, shape = list(COLOURS)[int(3 * c)], SHAPES[int(3 * s)]
        images.append(_image(size, colour, shape, x, y))
        other = list(COLOURS)[(int(3 * c) + int(6 * ask) % 3) % 3]
        wanted = SHAPES[(int(3 * s) + int(2 * ask)) % 3]
        for text, answer in (
            ("what color is the shape?", colour),
            ("which shape is in the image?", shape),
            (f"is there a {other} shape?", "yes" if other == colour else "no"),
            (f"is a {wanted} present?", "yes" if wanted == shape else "no"),
        ):
            questions.append(ImageQuestion(text, answer, image))
    return QuestionSet(torch.stack(images), tuple(questions), ANSWERS)


def _image(size: int, colour: str, shape: str, x: float, y: float) -> UInt8[Tensor, "3 S S"]:
    """A shape at a place that is given by two numbers from 0 to 1."""
    half = size / 5
    middle = half + torch.tensor([y, x]) * (size - 2 * half)
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    down, across = (rows - middle[0]).abs(), (columns - middle[1]).abs()
    inside = {
        "square": (down < half) & (across < half),
        "disc": down**2 + across**2 < half**2,
        "bar": (down < half / 3) & (across < half),
    }[shape]
    value = torch.tensor(COLOURS[colour], dtype=torch.uint8)[:, None, None]
    return torch.where(inside, value, torch.tensor(BACKGROUND, dtype=torch.uint8))
