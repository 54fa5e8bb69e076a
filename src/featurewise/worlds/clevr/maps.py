"""Maps of what stands where: scenes without images, for studies of reasoning alone."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import BFloat16, Int64
from torch import Tensor

from featurewise.worlds.clevr.batch import cell_labels
from featurewise.worlds.clevr.pool import Pool
from featurewise.worlds.clevr.vocabulary import ATTRIBUTES

MAP_CHANNELS: Final = 1 + sum(len(values) for values in ATTRIBUTES.values())
"""One for "an object stands here", and one for each value of each attribute."""


def object_maps(
    objects: Int64[Tensor, "I 10 6"], height: int, width: int
) -> BFloat16[Tensor, "I C h w"]:
    """For every cell 1 in the channels of its object's attributes, 0 in all others.

    Args:
        objects: as in ``Batch.objects``; of several in one cell only the last one counts.
        height: rows of the maps.
        width: columns of the maps.
    """
    labels = cell_labels(objects, height, width)
    parts = [(labels[:, 0] > 0).unsqueeze(1)]
    for values, label in zip(ATTRIBUTES.values(), labels.unbind(1), strict=True):
        parts.append(F.one_hot(label, len(values) + 1)[..., 1:].movedim(-1, 1) > 0)
    return torch.cat(parts, 1).bfloat16()


def pool_maps(folder: Path, height: int, width: int) -> BFloat16[Tensor, "I C h w"]:
    """`object_maps` of all images of a pool."""
    return object_maps(torch.from_numpy(Pool(folder).objects).long(), height, width)
