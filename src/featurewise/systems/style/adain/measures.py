"""What is measured of images of test photographs in unseen styles."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from featurewise.models.mirrored import moments
from featurewise.study.metric import Metric
from featurewise.systems.style.adain.method import ArbitraryTransfer, Objective
from featurewise.systems.style.adain.recognition import Recogniser
from featurewise.systems.style_classifier import StyleClassifier

STYLE = Metric(
    "style loss",
    "squared distance of means and standard deviations of features from the painting's "
    "(eq. 13), of test photographs in unseen styles",
    "",
    "lower",
)
CONTENT = Metric(
    "content loss",
    "squared distance of features from those with the style's statistics (eq. 12), of test "
    "photographs in unseen styles",
    "",
    "lower",
)
RECOGNISED = Metric(
    "recognised photographs",
    "share of test photographs in unseen styles whose normalised features, in a network "
    "that is not that of the losses, are nearest to those of the photograph itself, of all "
    "test photographs",
    "%",
    "higher",
)
AT_LAYER = Metric(
    "error at the layer",
    "distance of the means and standard deviations that the decoder is given from the "
    "painting's, over their length, in the maps that vary over the photograph (by 0.1 or "
    "more; their root mean square is 1)",
    "",
    "lower",
)
MONOTONE = Metric(
    "monotone mixtures",
    "share of steps of a quarter, from the photograph (α = 0) to the style (α = 1), in which "
    "the style loss falls",
    "%",
    "higher",
)
COLOURS_STYLE = Metric(
    "style loss of colours",
    "style loss of the photograph with mean and standard deviation of the painting's red, "
    "green and blue: no network",
    "",
    "lower",
)
COLOURS_MATCHED = Metric(
    "matched styles of colours", "matched styles of these images", "%", "higher"
)
COLOURS_RECOGNISED = Metric(
    "recognised photographs of colours",
    "recognised photographs of these images",
    "%",
    "higher",
)


@dataclass(frozen=True)
class Measures:
    """What images of all test photographs in all unseen styles are measured by.

    Attributes:
        loss: of the method.
        classify: says which painting an image looks like.
        recognise: says which photograph an image shows.
        content: features of the photographs, at the encoder's last layer.
        style: those of the paintings, by layer.
    """

    loss: Objective
    classify: StyleClassifier
    recognise: Recogniser
    content: Float[Tensor, "P C h w"]
    style: list[Float[Tensor, "..."]]

    def losses(
        self, images: Float[Tensor, "S P 3 H W"]
    ) -> tuple[Float[Tensor, "S P"], Float[Tensor, "S P"]]:
        """Content loss and style loss, by style and photograph."""
        found = []
        for number, some in enumerate(images):
            one = [each[number : number + 1] for each in self.style]
            t = self.loss.adain(self.content, one[-1])
            goals = tuple(moments(each) for each in one)
            found.append(self.loss.losses(some, t, goals))
        content, style = zip(*found, strict=True)
        return torch.stack(content), torch.stack(style)

    def recognised(self, images: Float[Tensor, "S P 3 H W"]) -> Bool[Tensor, "S P"]:
        """Whether the nearest photograph is the image's own."""
        found = torch.stack([self.recognise.nearest(some) for some in images])
        return found == torch.arange(images.shape[1])


def error_at_layer(
    network: ArbitraryTransfer,
    content: Float[Tensor, "P C h w"],
    style: Float[Tensor, "1 C h w"],
) -> float:
    """`AT_LAYER` of one style."""
    goal = moments(style)
    off = moments(network.statistics(content, style)) - goal
    varies = (moments(content)[:, 1:] > 0.1).expand_as(off)
    goal = goal.expand_as(off)
    return float((off[varies].square().sum() / goal[varies].square().sum()).sqrt())
