"""Class prototypes in an embedding, by which few-shot classifiers compare images.

Snell, Swersky, Zemel 2017, *Prototypical Networks for Few-shot Learning*, equations 1 and 2.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


def embed_images(
    embedding: nn.Module, images: Float[Tensor, "E M C S S"]
) -> Float[Tensor, "E M D"]:
    """Vectors of the images of each episode.

    Args:
        embedding: takes images (N, C, S, S) and returns vectors (N, D).
        images: M images of each of E episodes.
    """
    vectors: Tensor = embedding(images.flatten(0, 1))
    return vectors.view(*images.shape[:2], -1)


def prototypes(
    vectors: Float[Tensor, "E NK D"], labels: Int64[Tensor, "E NK"], way: int
) -> Float[Tensor, "E N D"]:
    """Equation 1: the prototype of a class is the mean vector of its support images.

    Args:
        vectors: of the support images of each episode.
        labels: their classes, 0 to way - 1, each of which occurs in every episode.
        way: number of classes, N.
    """
    is_member = (labels[..., None] == torch.arange(way, device=labels.device)).to(vectors.dtype)
    return is_member.mT @ vectors / is_member.sum(1)[..., None]


def squared_distances(
    queries: Float[Tensor, "E Q D"], centres: Float[Tensor, "E N D"]
) -> Float[Tensor, "E Q N"]:
    """Squared Euclidean distances of all queries of an episode to all its prototypes."""
    return (queries[:, :, None] - centres[:, None]).square().sum(3)
