"""Batches of images and questions, and what a network is trained or tested on of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor

from featurewise.worlds.clevr.camera import HEIGHT, WIDTH
from featurewise.worlds.clevr.errors import WorldError


@dataclass
class Batch:
    """Images and questions about them; one image serves several questions.

    Args:
        images: the images, RGB; or maps of their features, where a network computes these
            beforehand (see ``PoolSource``).
        image_index: row of ``images`` each question is about.
        questions: token ids (indices in ``VOCABULARY``), padded with 0.
        lengths: number of tokens of each question.
        answers: index of each answer in ``ANSWERS``, -1 where unknown.
        types: index of each question's type in ``QUESTION_TYPES``, -1 where unknown.
        objects: the objects of each image, where they are known: for each object the index of its
            size, color, material and shape in ``ATTRIBUTES``, and its column and row in a
            480 x 320 image; -1 where there is no object.
    """

    images: UInt8[Tensor, "I 3 H W"] | Float[Tensor, "I C h w"]
    image_index: Int64[Tensor, "Q"]
    questions: Int64[Tensor, "Q T"]
    lengths: Int64[Tensor, "Q"]
    answers: Int64[Tensor, "Q"]
    types: Int64[Tensor, "Q"]
    objects: Int64[Tensor, "I 10 6"] | None = None

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on ``device``."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{n: t.to(device) for n, t in tensors.items() if t is not None})

    def rows(self, start: int, stop: int) -> Batch:
        """A batch of the questions ``start`` to ``stop``, with all the images."""
        names = ("image_index", "questions", "lengths", "answers", "types")
        return replace(self, **{name: getattr(self, name)[start:stop] for name in names})


def collate(
    images: UInt8[Tensor, "I 3 H W"] | Float[Tensor, "I C h w"],
    image_index: Sequence[int],
    tokens: Sequence[Sequence[int] | NDArray[np.uint16]],
    answers: Sequence[int],
    types: Sequence[int],
) -> Batch:
    """A batch of questions of different lengths, padded with 0 to the longest.

    Args:
        images: the images.
        image_index: row of ``images`` each question is about.
        tokens: token ids of each question.
        answers: index of each answer in ``ANSWERS``, or -1.
        types: index of each question's type in ``QUESTION_TYPES``, or -1.

    Raises:
        WorldError: if the sequences differ in length, or a row is not one of ``images``.
    """
    counts = {len(image_index), len(tokens), len(answers), len(types)}
    if len(counts) != 1:
        raise WorldError(
            f"image_index, tokens, answers and types must be of one length, got {sorted(counts)}"
        )
    if image_index and not 0 <= min(image_index) <= max(image_index) < len(images):
        raise WorldError(f"image_index must lie in 0..{len(images) - 1}, got {list(image_index)}")
    lengths = [len(ids) for ids in tokens]
    questions = torch.zeros(len(tokens), max(lengths, default=0), dtype=torch.int64)
    for row, ids in enumerate(tokens):
        questions[row, : len(ids)] = torch.as_tensor(np.asarray(ids, dtype=np.int64))
    return Batch(
        images=images,
        image_index=torch.tensor(image_index, dtype=torch.int64),
        questions=questions,
        lengths=torch.tensor(lengths, dtype=torch.int64),
        answers=torch.tensor(answers, dtype=torch.int64),
        types=torch.tensor(types, dtype=torch.int64),
    )


class TwinBatch(NamedTuple):
    """Twin questions; those of a pair stand in rows 2 i and 2 i + 1.

    Attributes:
        batch: images and questions, with the true answers.
        relations: position in ``RELATIONS`` of each question's relation.
        images: number of the image that each question is about, counted over all batches.
    """

    batch: Batch
    relations: Int64[Tensor, "Q"]
    images: Int64[Tensor, "Q"]


def cell_labels(
    objects: Int64[Tensor, "I N 6"],
    height: int,
    width: int,
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> Int64[Tensor, "I 4 h w"]:
    """For every cell and attribute 0, or 1 + the value of the object whose centre lies there.

    Args:
        objects: as in ``Batch.objects``; those above or below the image are in no cell.
        height: rows of the map.
        width: columns of the map.
        size: width and height of the images that the map is of.
    """
    cells = height * width
    found = objects[..., :4] + 1
    column = (objects[..., 4] * width // WIDTH).clamp(0, width - 1)
    # The camera's rule in whole numbers: the middle rows agree, and a pixel is as high as wide.
    row = (WIDTH * size[1] + (2 * objects[..., 5] - HEIGHT) * size[0]) * height
    total = 2 * WIDTH * size[1]
    inside = (objects[..., 0] >= 0) & (row >= 0) & (row <= height * total)
    row = (row // total).clamp(0, height - 1)
    # What is in no cell goes to one more, which is dropped: to select it would wait for a GPU.
    cell = torch.where(inside, row * width + column, cells)
    labels = objects.new_zeros(len(objects), 4, cells + 1)
    for thing in range(objects.shape[1]):  # one after the other: the last one in a cell stays
        index = cell[:, thing, None, None].expand(-1, 4, 1)
        labels.scatter_(2, index, found[:, thing, :, None])
    return labels[:, :, :cells].reshape(len(objects), 4, height, width)
