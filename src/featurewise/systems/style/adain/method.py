"""Method: features of a photograph get the statistics of a style, and a decoder paints them.

Huang & Belongie 2017: eq. 8 is `featurewise.generators.AdaIN`; the encoder, which is fixed, and
its mirror are `featurewise.models.mirrored`. The decoder alone is trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

import featurewise as fw
from featurewise.common.ranges import Natural
from featurewise.generators import AdaIN
from featurewise.models.mirrored import (
    Decoder,
    Encoder,
    EncoderName,
    encoder,
    moments,
    plan_of,
)
from featurewise.study import system
from featurewise.training.errors import ExperimentError
from featurewise.training.optim import cosine
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.pictures import Collection, require_distinct_names


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(system.Config):
    """A decoder, the styles that it is trained on, and those that it has never seen.

    Attributes:
        given: which statistics of the style the decoder's features get: mean and standard
            deviation of each map; one of them, while the other stays the photograph's; or
            "nothing".
        shuffled_styles: whether each photograph gets the style of another one of its batch,
            while the loss stays that of its own, as a control.
        train_on_unseen: whether the unseen paintings are trained on, too.
        images: "debian", paintings and photographs of packages; or "patterns", for tests.
        styles: names of the paintings that are trained on.
        unseen: names of the paintings that are tested.
        reconstruction_steps: steps at the start in which the decoder learns to give back
            photographs, without a style.
        encoder: "hed_vgg16", pretrained; or "random", for tests.
        blocks: the encoder ends with the first convolution of this block.
        narrow: by which number the channels within the decoder are divided.
        style_weight: λ (eq. 11).
        size: height and width of all images.
        painting_size: shorter side of the paintings that crops are taken from.
        photograph_crops: crops of each training photograph.
        painting_crops: crops of each training painting.
        batch_size: photographs per batch, each with a painting of its own.
        learning_rate: of Adam, at its highest.
        test_images: photographs that are tested, each in every unseen style.
        classifier_crops: crops of each unseen painting that the classifier is trained on.
    """

    given: Literal["mean and deviation", "mean", "deviation", "nothing"] = (
        "mean and deviation"
    )
    shuffled_styles: bool = False
    train_on_unseen: bool = False
    images: Collection = "debian"
    styles: tuple[str, ...]
    unseen: tuple[str, ...]
    reconstruction_steps: Natural = 0
    encoder: EncoderName = "hed_vgg16"
    blocks: int = 2
    narrow: int = 2
    style_weight: float = 10.0
    size: int = 48
    painting_size: int = 96
    photograph_crops: int = 4
    painting_crops: int = 16
    batch_size: int = 4
    learning_rate: float = 2e-3
    test_images: int = 26
    classifier_crops: int = 64

    def __post_init__(self) -> None:
        system.Config.__post_init__(self)
        require_distinct_names(styles=self.styles)
        require_distinct_names(unseen=self.unseen)
        require_distinct_names(styles_and_unseen=self.styles + self.unseen)
        widest = min(
            width for block in plan_of(self.encoder, self.blocks) for width in block
        )
        if self.narrow > widest:
            raise ExperimentError(
                f"narrow must be at most the channels of a layer, {widest}, got {self.narrow}"
            )

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of the paintings that are trained on."""
        return (*self.styles, *self.unseen) if self.train_on_unseen else self.styles


@dataclass(frozen=True)
class TransferBatch:
    """What the encoder sees of photographs and paintings; it is fixed, so that this is data.

    Attributes:
        content: features of photographs at the encoder's last layer.
        style: those of the painting that the network is given.
        target: those of the painting that the loss is of; another one only in a control.
        wanted: mean and standard deviation of the latter's features, of each layer.
        photographs: RGB of 8 bits.
        reconstruct: whether the decoder shall give back the photographs.
    """

    content: Float[Tensor, "N C h w"]
    style: Float[Tensor, "N C h w"]
    target: Float[Tensor, "N C h w"]
    wanted: tuple[Float[Tensor, "_ 2 _"], ...]
    photographs: UInt8[Tensor, "N 3 H W"]
    reconstruct: bool = False


class ArbitraryTransfer(nn.Module):
    """``T(c, s) = g(AdaIN(f(c), f(s)))`` (eq. 9 and 10) of features f(c) and f(s)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        plan = plan_of(config.encoder, config.blocks)
        self.given = config.given
        self.adain = fw.FiLM(plan[-1][-1], generator=AdaIN())
        self.decoder = Decoder(plan, config.narrow)

    def statistics(
        self, content: Float[Tensor, "N C h w"], style: Float[Tensor, "M C _ _"]
    ) -> Float[Tensor, "N C h w"]:
        """t: the photograph's features with the statistics of the style that are given.

        Args:
            content: features of photographs.
            style: features of paintings; one for each photograph, or one for all.
        """
        if self.given == "nothing":
            return content
        own, other = (each.mean((2, 3), keepdim=True) for each in (content, style))
        if self.given == "mean":
            return content - own + other
        t: Tensor = self.adain(content, style)
        return t if self.given == "mean and deviation" else t - other + own

    def paint(
        self,
        content: Float[Tensor, "N C h w"],
        style: Float[Tensor, "M C _ _"],
        alpha: float = 1.0,
    ) -> Float[Tensor, "N 3 H W"]:
        """Images in [0, 1]; α is how much of the style they have (eq. 14)."""
        t = torch.lerp(content, self.statistics(content, style), alpha)
        painted: Tensor = self.decoder(t)
        return painted

    def forward(self, batch: TransferBatch) -> Float[Tensor, "N 3 H W"]:
        """Each photograph in the style that it is given."""
        return self.paint(batch.content, batch.style)


@dataclass(frozen=True)
class Objective:
    """Content loss plus λ times style loss (eq. 11 to 13).

    Attributes:
        encoder: f, and the layers that the style loss is of.
        adain: eq. 8, without parameters: gives the t that the content loss is of.
        weight: λ.
    """

    encoder: Encoder
    adain: nn.Module
    weight: float

    def losses(
        self,
        painted: Float[Tensor, "N 3 H W"],
        t: Float[Tensor, "N C h w"],
        wanted: tuple[Float[Tensor, "_ 2 _"], ...],
    ) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        """Content loss (eq. 12) and style loss (eq. 13) of each image."""
        seen = self.encoder(painted)
        content = (seen[-1] - t).square().mean((1, 2, 3))
        # The mean over channels, of means and of deviations; layers are added.
        style = [
            2 * (moments(each) - goal).square().mean((1, 2))
            for each, goal in zip(seen, wanted, strict=True)
        ]
        return content, torch.stack(style).sum(0)

    def __call__(
        self, network: nn.Module, batch: TransferBatch
    ) -> tuple[Tensor, Metrics]:
        """The mean loss of a batch, and its two parts."""
        if batch.reconstruct:
            found = cast("ArbitraryTransfer", network).decoder(batch.content)
            return F.mse_loss(found.float(), batch.photographs / 255), {}
        t = self.adain(batch.content, batch.target)
        content, style = self.losses(network(batch), t, batch.wanted)
        loss = content.mean() + self.weight * style.mean()
        parts = {"content": content.mean().detach(), "style": style.mean().detach()}
        return loss, parts


def objective(config: Config) -> Objective:
    """The loss; reads the pretrained weights."""
    channels = plan_of(config.encoder, config.blocks)[-1][-1]
    return Objective(
        encoder(config.encoder, config.blocks),
        fw.FiLM(channels, generator=AdaIN()),
        config.style_weight,
    )


def stepper(network: nn.Module, config: Config) -> Supervised:
    """Adam; pretrained weights are read at the first loss."""

    @cache
    def wanted() -> Objective:
        return objective(config)

    def loss(network: nn.Module, batch: TransferBatch) -> tuple[Tensor, Metrics]:
        return wanted()(network, batch)

    return Supervised(
        network,
        loss,
        torch.optim.Adam(network.parameters(), config.learning_rate),
        schedule=cosine(config.steps, warmup=min(20, config.steps // 2), floor=0.05),
        average=0.98,
    )
