"""What the systems of style transfer measure alike: which painting an image looks like."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from featurewise.study.metric import Metric
from featurewise.study.results import Proportion
from featurewise.systems.style_classifier import StyleClassifier
from featurewise.worlds.pictures import Collection, picture_versions

ACCURACY = Metric(
    "accuracy",
    "share of test photographs, each in every unseen style, that a classifier of crops of "
    "these paintings assigns to the requested one",
    "%",
    "higher",
)
MATCHED = Metric(
    "matched styles",
    "share of test photographs and unseen styles for which, of the photograph in all of "
    "them, the classifier gives this style's painting its greatest probability to the "
    "image in it",
    "%",
    "higher",
)
REAL = Metric(
    "accuracy on paintings",
    "share of crops of the paintings' right halves that this classifier, which is trained "
    "on their left halves, assigns to their painting",
    "%",
)


def matched(
    classify: StyleClassifier, images: Float[Tensor, "S P 3 H W"]
) -> tuple[Bool[Tensor, "S P"], Bool[Tensor, "S P"]]:
    """Whether the classifier names the style, and whether it prefers this version.

    Args:
        classify: of the S styles, in their order.
        images: in [0, 1], by style and photograph.
    """
    scores = torch.stack([classify.logits(some) for some in images])
    scores = scores.log_softmax(2)  # by style, photograph and painting
    styles = torch.arange(len(images))[:, None]
    return scores.argmax(2) == styles, styles == scores.argmax(0).T


def by_photograph(right: Bool[Tensor, "... P"]) -> Proportion:
    """A share, where the photographs are the independent units."""
    groups = torch.arange(right.shape[-1]).expand_as(right)
    return Proportion.of(right, groups=groups)


def versions_of(images: Collection) -> dict[str, str]:
    """Name and version of the packages that the images come from."""
    return dict(picture_versions()) if images == "debian" else {}
