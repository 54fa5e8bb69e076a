"""Method: a network that predicts γ and β of a transfer network from one image of a style.

Ghiasi et al. 2017, section 2.3. The transfer network is `featurewise.models.transfer`, what
the predictor sees is `featurewise.models.style_features`, what the losses see is
`featurewise.models.perceptual`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

import featurewise as fw
from featurewise.common.ranges import Length, Natural, Positive, Range
from featurewise.core import TaskRepresentation
from featurewise.models.perceptual import (
    LossNetwork,
    Perception,
    Vgg,
    content_losses,
    perception,
    style_losses,
)
from featurewise.models.style_features import STYLE_WIDTHS, StyleEncoderName
from featurewise.models.transfer import TransferNetwork
from featurewise.study import system
from featurewise.training.optim import cosine
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.pictures import Collection, require_distinct_names


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(system.Config):
    """A transfer network, what predicts its styles, and the styles that they are trained on.

    Attributes:
        share: which part of ``styles`` is trained on; which ones is random, by the seed.
        shuffled_styles: whether the predictor sees the style of another photograph of the
            batch, while the loss stays that of its own, as a control.
        train_on_unseen: whether the unseen paintings are trained on, too.
        images: "debian", paintings and photographs of packages; or "patterns", for tests.
        styles: names of the paintings that are trained on.
        made: names of patterns, made by us, that are trained on beside them.
        unseen: names of the paintings that are tested.
        stripes: names of the patterns, made by us, that are tested; never trained on.
        reconstruction_steps: steps at the start in which photographs stay as they are.
        encoder: what sees the style: "efficientnet_lite0", pretrained; or "random", for tests.
        loss_network: "hed_vgg16" up to conv3_3, pretrained; or "random", for tests.
        embedding: numbers that a style is reduced to.
        style_weight: λ_s, relative to a weight of 1 of the content.
        size: height and width of all images in training.
        painting_size: shorter side of the paintings that crops are taken from.
        painting_crops: crops of each style.
        width: channels of the first convolution.
        blocks: residual blocks.
        batch_size: photographs per batch.
        learning_rate: of Adam, at its highest.
        test_images: photographs that are tested, each in every unseen style.
        classifier_crops: crops of each unseen painting that the classifier is trained on.
    """

    share: Annotated[float, Range(0, 1, above=True)] = 1.0
    shuffled_styles: bool = False
    train_on_unseen: bool = False
    images: Collection = "debian"
    styles: tuple[str, ...]
    made: Annotated[tuple[str, ...], Length(0)] = ()
    unseen: tuple[str, ...]
    stripes: tuple[str, ...] = ("diagonal_stripes", "waves")
    reconstruction_steps: Natural = 0
    encoder: StyleEncoderName = "efficientnet_lite0"
    loss_network: LossNetwork = "hed_vgg16"
    embedding: int = 100
    style_weight: Positive = 4.0
    size: Annotated[int, Range(16, multiple=4)] = 64
    painting_size: int = 128
    painting_crops: int = 16
    width: int = 16
    blocks: int = 3
    batch_size: int = 4
    learning_rate: float = 2e-3
    test_images: int = 16
    classifier_crops: int = 64

    def __post_init__(self) -> None:
        system.Config.__post_init__(self)
        require_distinct_names(
            unseen=self.unseen,
            styles_and_unseen=self.styles + self.unseen,
            styles_made_and_stripes=self.styles + self.made + self.stripes,
        )

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of the paintings that are trained on, of which ``share`` may take a part."""
        return (*self.styles, *self.unseen) if self.train_on_unseen else self.styles


@dataclass(frozen=True)
class PredictionBatch:
    """Photographs, and what fixed networks see of the styles that they shall have.

    Attributes:
        content: RGB of 8 bits.
        style: features of the image of a style that the predictor sees.
        targets: Gram matrices of the style that the loss is of, by layer; those of another
            image only in a control.
        reconstruct: whether the photographs shall stay as they are.
    """

    content: UInt8[Tensor, "N 3 H W"]
    style: Float[Tensor, "N F"]
    targets: tuple[Float[Tensor, "N _ _"], ...]
    reconstruct: bool = False


class StylePrediction(nn.Module):
    """Style image -> 100 numbers -> γ and β -> the photograph in that style.

    ``S = A f + a`` and ``(γ, β) = B S + b``, with the spatial mean f of an encoder that is not
    trained; then ``z = γ (x - μ(x)) / σ(x) + β`` at every norm of the residual blocks and of
    the layers after them.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embed = nn.Linear(STYLE_WIDTHS[config.encoder], config.embedding)
        transfer = TransferNetwork(config.width, config.blocks)
        for layer in transfer.contract:  # the same for all styles
            layer.norm = nn.InstanceNorm2d(layer.convolve.out_channels, affine=True)  # type: ignore[union-attr,arg-type]
        self.painter = fw.condition(
            transfer,
            at=("blocks.*.*.norm", "expand.*.norm", "paint.norm"),
            operation=fw.Affine(),
            generator=fw.Linear(config.embedding),
        )

    def predict(self, style: Float[Tensor, "N F"]) -> TaskRepresentation:
        """γ and β of each style, from features of its image."""
        return self.painter.represent(self.embed(style))

    def paint(
        self, content: Float[Tensor, "N 3 H W"], style: Float[Tensor, "M F"]
    ) -> Float[Tensor, "N 3 H W"]:
        """Photographs in [0, 1], each in its style, or all in one."""
        embedded = self.embed(style).expand(len(content), -1)
        painted: Tensor = self.painter(content, condition=embedded)
        return painted

    def forward(self, batch: PredictionBatch) -> Float[Tensor, "N 3 H W"]:
        """Each photograph in the style that the predictor sees."""
        return self.paint(batch.content / 255, batch.style)


@dataclass(frozen=True)
class Objective:
    """Content loss plus λ_s times style loss, by a network that is not trained (section 2.1).

    Attributes:
        network: the pretrained network.
        weight: λ_s.
    """

    network: Perception
    weight: float

    def losses(
        self,
        painted: Float[Tensor, "N 3 H W"],
        photographs: Float[Tensor, "N 3 H W"],
        targets: tuple[Float[Tensor, "_ _ _"], ...],
    ) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        """Content loss and style loss of each image.

        Args:
            painted: in [0, 1].
            photographs: what they shall show.
            targets: Gram matrices of the style of each, by layer.
        """
        layer = self.network.content
        with torch.no_grad():
            wanted = self.network(photographs, last=layer)[layer]
        found = self.network(painted)
        by_layer = dict(zip(self.network.style, targets, strict=True))
        order = torch.arange(len(painted), device=painted.device)
        return content_losses(found[layer], wanted), style_losses(found, by_layer, order)

    def __call__(
        self, network: nn.Module, batch: PredictionBatch
    ) -> tuple[Tensor, Metrics]:
        """The mean loss of a batch, and its two parts."""
        painted = cast("Tensor", network(batch))
        if batch.reconstruct:
            return F.mse_loss(painted.float(), batch.content / 255), {}
        content, style = self.losses(painted, batch.content / 255, batch.targets)
        loss = content.mean() + self.weight * style.mean()
        parts = {"content": content.mean().detach(), "style": style.mean().detach()}
        return loss, parts


@cache
def _vgg() -> Perception:
    return Vgg(("conv1_2", "conv2_2", "conv3_3"))


def loss_network(config: Config) -> Perception:
    """What the losses see; read once.

    Raises:
        WeightsError: its weights are not in the cache.
    """
    return (
        _vgg() if config.loss_network == "hed_vgg16" else perception(config.loss_network)
    )


def stepper(network: nn.Module, config: Config) -> Supervised:
    """Adam; pretrained weights are read at the first loss."""

    @cache
    def wanted() -> Objective:
        return Objective(loss_network(config), config.style_weight)

    def loss(network: nn.Module, batch: PredictionBatch) -> tuple[Tensor, Metrics]:
        return wanted()(network, batch)

    return Supervised(
        network,
        loss,
        torch.optim.Adam(network.parameters(), config.learning_rate),
        schedule=cosine(config.steps, warmup=min(20, config.steps // 2), floor=0.05),
        bfloat16=True,
        average=0.98,
    )
