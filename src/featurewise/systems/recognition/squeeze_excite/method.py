"""Method of squeeze-and-excitation: a residual network whose branches are gated by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

import featurewise as fw
from featurewise.common.ranges import Natural
from featurewise.core import Site
from featurewise.generators import Learned, SqueezeExcite
from featurewise.models.residual import ResidualTrunk
from featurewise.study import system
from featurewise.training.optim import cosine
from featurewise.training.steppers import Metrics, Supervised

CLASSES = 10

Excitation: TypeAlias = Literal["own", "other", "mean", "constant", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(system.Config):
    """One network and its training.

    Attributes:
        excitation: what the gates of an image read: its "own" features, which is the
            layer of the paper; those of an "other" image; the "mean" of the features over
            the batch; nothing, where the gates are a learned "constant"; or "none", where
            there are no gates.
        reduction: ratio r of the channels to the hidden units of a gate's network.
        widths: channels of each residual block.
        extra: channels by which the middle of each block is wider than its end.
        learning_rate: of SGD with Nesterov momentum 0.9; it falls along a cosine.
        weight_decay: of all weights.
        batch_size: images per batch.
        data: "fashion": Fashion-MNIST in its official files; or "digits" of scikit-learn.
    """

    excitation: Excitation = "own"
    reduction: int = 4
    widths: tuple[int, ...] = (8, 16, 32)
    extra: Natural = 0
    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    batch_size: int = 64
    data: Literal["fashion", "digits"] = "fashion"


@dataclass(frozen=True)
class Batch:
    """Images, and what gates read where they do not read the images themselves.

    Attributes:
        images: ink 1 on paper 0.
        squeezed: images whose features the gates read, with ``excitation="other"``.
        labels: index of the class.
    """

    images: Float[Tensor, "B 1 S S"]
    squeezed: Float[Tensor, "B 1 S S"]
    labels: Int64[Tensor, " B"]


class OtherSqueezeExcite(SqueezeExcite):
    """The gates of both halves of a batch read the features of its second half."""

    def forward(
        self, site: Site, x: Tensor, condition: Any = None, memory: Any = None
    ) -> tuple[dict[str, Tensor], Any]:
        """Raw parameters ``(2B, C)`` from features ``(2B, C, *positions)``."""
        values, memory = super().forward(site, x.chunk(2)[1], condition, memory)
        return {name: value.repeat(2, 1) for name, value in values.items()}, memory


class MeanSqueezeExcite(SqueezeExcite):
    """The gates of all images read the mean of their features over the batch."""

    def forward(
        self, site: Site, x: Tensor, condition: Any = None, memory: Any = None
    ) -> tuple[dict[str, Tensor], Any]:
        """Raw parameters ``(B, C)``, the same for all samples."""
        values, memory = super().forward(
            site, x.mean(0, keepdim=True), condition, memory
        )
        return {name: value.repeat(len(x), 1) for name, value in values.items()}, memory


GENERATORS: Mapping[Excitation, type[SqueezeExcite]] = {
    "own": SqueezeExcite,
    "other": OtherSqueezeExcite,
    "mean": MeanSqueezeExcite,
}


class SqueezeExciteNetwork(nn.Module):
    """A residual network; at the end of each branch, before the sum, x becomes x * s(x).

    Eq. 2 to 4 and figure 3: z = mean of x over positions, s = σ(W2 relu(W1 z)).
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.reads_other = config.excitation == "other"
        trunk: nn.Module = ResidualTrunk(config.widths, config.extra)
        if config.excitation != "none":
            generator: nn.Module = (
                Learned()
                if config.excitation == "constant"
                else GENERATORS[config.excitation](config.reduction)
            )
            trunk = fw.condition(
                trunk,
                at="blocks.*.branch.4",
                operation=fw.Gate(ceiling=1),
                generator=generator,
                identity=False,
            )
            if isinstance(
                generator, SqueezeExcite
            ):  # W2, which starts at zero elsewhere
                for weight in generator.excite.parameters():
                    if weight.ndim == 2:
                        nn.init.kaiming_normal_(weight)
        self.trunk = trunk
        self.classify = nn.Linear(config.widths[-1], CLASSES)

    def forward(self, batch: Batch) -> Float[Tensor, "B 10"]:
        """Logits of the classes."""
        if self.reads_other:
            vectors = self.trunk(torch.cat((batch.images, batch.squeezed)))
            return self.classify(vectors[: len(batch.images)])  # type: ignore[no-any-return]
        return self.classify(self.trunk(batch.images))  # type: ignore[no-any-return]


def objective(network: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
    """Cross-entropy of the labels."""
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
