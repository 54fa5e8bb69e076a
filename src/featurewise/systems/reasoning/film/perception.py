"""Naming things: what the features of a picture are also trained for, in place of pretraining.

Perez et al. start from features pretrained on ImageNet, or train from pixels for days. Here every
network that looks at pictures also names the size, colour, material and shape of the object whose
centre lies in a cell of its feature map. The names are known to the world; at test time nothing
but pixels and the question is used.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from featurewise.worlds.clevr.camera import HEIGHT, WIDTH
from featurewise.worlds.clevr.vocabulary import ATTRIBUTES

_VALUES = [len(values) + 1 for values in ATTRIBUTES.values()]  # and one for "nothing here"


class Answers(NamedTuple):
    """What a network says to a batch.

    Attributes:
        logits: of the answers, (Q, 28).
        names: logits of ``Naming`` (I, V, h, w); None from a network that does not look.
    """

    logits: Tensor
    names: Tensor | None


class Naming(nn.Conv2d):
    """Linear map from the features of a cell to the names of what is there."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, sum(_VALUES), 1)


def naming_loss(
    names: Float[Tensor, "I V h w"],
    objects: Int64[Tensor, "I N 6"],
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> Float[Tensor, ""]:
    """Cross-entropy of the four attributes; a cell without an object weighs a quarter.

    Args:
        names: logits from ``Naming``.
        objects: as in ``Batch.objects``.
        size: width and height of the images.
    """
    labels = cell_labels(objects, names.shape[2], names.shape[3], size)
    losses = []
    for logits, label in zip(torch.split(names.float(), _VALUES, 1), labels.unbind(1), strict=True):
        weight = torch.ones(logits.shape[1], device=logits.device)
        weight[0] = 0.25
        losses.append(F.cross_entropy(logits, label, weight=weight))
    return torch.stack(losses).sum()


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
    labels = objects.new_zeros(len(objects), 4, height, width)
    picture, number = (objects[..., 0] >= 0).nonzero(as_tuple=True)
    found = objects[picture, number]
    column = (found[:, 4] * width // WIDTH).clamp(0, width - 1)
    # The camera's rule in whole numbers: the middle rows agree, and a pixel is as high as wide.
    row = (WIDTH * size[1] + (2 * found[:, 5] - HEIGHT) * size[0]) * height
    total = 2 * WIDTH * size[1]
    seen = (row >= 0) & (row <= height * total)
    row = (row // total).clamp(0, height - 1)
    labels[picture[seen], :, row[seen], column[seen]] = found[seen, :4] + 1
    return labels
