"""Method of AdaBN: the norms of a trained network get the statistics of another domain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from featurewise.models.residual import ResidualTrunk
from featurewise.study import system
from featurewise.training.optim import batch_norms, cosine, counted_statistics
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.glyphs.labelled import ImageBatch
from featurewise.worlds.small import Digits

CLASSES = 10

Images: TypeAlias = Digits | ImageBatch
"""``images`` (B, 1, S, S) of either data set, and ``labels`` (B,) of ten classes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(system.Config):
    """One network, its training on the source domain, and how it is adapted.

    Attributes:
        statistics: what the norms normalise by in the test on a shifted domain: the
            statistics of the "target" domain, which is AdaBN; of the "source" domain, as
            they were trained; or of an "other" shifted domain.
        norms: which norms are adapted: "all", or the "first" alone.
        target_images: images of the domain that its statistics are computed from.
        widths: channels of each residual block.
        learning_rate: of SGD with Nesterov momentum 0.9; it falls along a cosine.
        weight_decay: of all weights.
        batch_size: images per batch.
        data: "fashion": Fashion-MNIST in its official files; or "digits" of scikit-learn.
    """

    statistics: Literal["target", "source", "other"] = "target"
    norms: Literal["all", "first"] = "all"
    target_images: int = 256
    widths: tuple[int, ...] = (8, 16, 32)
    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    batch_size: int = 64
    data: Literal["fashion", "digits"] = "fashion"


class Recogniser(nn.Module):
    """A residual network with a batch norm after each convolution."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.trunk = ResidualTrunk(config.widths)
        self.classify = nn.Linear(config.widths[-1], CLASSES)

    def forward(self, batch: Images) -> Float[Tensor, "B 10"]:
        """Logits of the classes."""
        return self.classify(self.trunk(batch.images))  # type: ignore[no-any-return]


@torch.no_grad()
def adapt(
    network: Recogniser, images: Float[Tensor, "N 1 S S"], *, first_only: bool = False
) -> None:
    """AdaBN (algorithm 1): each norm gets the mean and variance of its inputs over images.

    The images pass together, so that each norm sees features that those before it have
    normalised by their new statistics. Weights, and the scales and shifts of the norms,
    do not change; no label is read. The network is in eval mode after it.

    Args:
        network: trained on the source domain.
        images: of the target domain.
        first_only: leave the statistics of all norms but the first as they are.
    """
    network.train()
    if first_only:
        for norm in list(batch_norms(network).values())[1:]:
            norm.eval()
    with counted_statistics(network):
        network.trunk(images)
    network.eval()


def objective(network: nn.Module, batch: Images) -> tuple[Tensor, Metrics]:
    """Cross-entropy of the labels, on the source domain."""
    return F.cross_entropy(network(batch).float(), batch.labels), {}


def stepper(network: nn.Module, config: Config) -> Supervised:
    """SGD with momentum and a cosine schedule."""
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=config.learning_rate,
        momentum=0.9,
        nesterov=True,
        weight_decay=config.weight_decay,
    )
    return Supervised(network, objective, optimizer, schedule=cosine(config.steps))
