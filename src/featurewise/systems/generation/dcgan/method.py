"""Method of the conditional DCGAN: two networks conditioned on the class, and their losses.

The stages are those of Radford et al. 2016, section 4, in `featurewise.models.dcgan`. Here
they are conditioned, and play the game of Mirza & Osindero 2014, eq. 2. What arms
``summed`` and ``summed_zero`` change of the label's weights stands at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

import featurewise as fw
from featurewise.common.ranges import Range
from featurewise.layers.concat import ConcatConv, ConcatLinear
from featurewise.models.dcgan import Stage, Stages, discriminator, generator
from featurewise.systems.image_config import ImageConfig
from featurewise.training.steppers import Adversarial, Metrics
from featurewise.worlds.glyphs import UPPERCASE
from featurewise.worlds.glyphs.gan import GanBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(ImageConfig):
    """Two networks and their training.

    Attributes:
        conditioning: "concat", the label at the input of every layer; "summed", the same
            weights, where the label's taps of a kernel are added up to one bias; "bias",
            a shift of the output of every layer; "film", scale and shift at the
            generator's norms, and the discriminator as with "bias"; or "none".
        label_start: initial weights of the label with "concat" and "summed": "random",
            as those of the other inputs, or "zero".
        shuffled_condition: whether the labels are permuted within each batch, as a
            control.
        letters: the classes.
        class_skew: how unequal the frequencies of the classes are in training; see
            `featurewise.worlds.glyphs.labelled.class_frequencies`.
        image_size: height and width of the images; a multiple of 4.
        batch_size: images per batch.
        noise_size: width of the noise z.
        hidden: units of the linear layers.
        channels: of the narrowest feature maps; the widest have twice as many.
        learning_rate: of Adam, in both networks.
        samples_per_class: samples of each class that are evaluated.
    """

    FORMER_NAMES: ClassVar = {"noise": "noise_size"}

    conditioning: Literal["concat", "summed", "bias", "film", "none"] = "concat"
    label_start: Literal["random", "zero"] = "random"
    shuffled_condition: bool = False
    letters: str = UPPERCASE
    image_size: Annotated[int, Range(8, multiple=4)] = 16
    class_skew: float = 1.0
    batch_size: Annotated[int, Range(2)] = 64
    noise_size: int = 64
    hidden: int = 256
    channels: int = 32
    learning_rate: float = 5e-4
    samples_per_class: int = 50

    @property
    def concatenates(self) -> bool:
        """Whether the label's weights are columns of each layer's own weight."""
        return self.conditioning in ("concat", "summed")


class ConditionalStages(nn.Module):
    """Generator or discriminator: its stages, conditioned on the class.

    Args:
        stages: of the network; with "concat" its layers concatenate the label
            themselves.
        reads: the field of a batch that is its input, "noise" or "images".
        config: see `Config`.
    """

    def __init__(
        self, stages: Stages, reads: Literal["noise", "images"], config: Config
    ) -> None:
        super().__init__()
        self.reads, self.classes = reads, len(config.class_names)
        self.conditioning = config.conditioning
        if config.concatenates:
            prepare_labels(stages, config)
        self.stages: nn.Module = stages
        if config.conditioning in ("bias", "film"):
            film = config.conditioning == "film" and reads == "noise"
            self.stages = fw.condition(
                stages,
                at=(nn.BatchNorm1d, nn.BatchNorm2d) if film else "stages.*.layer",
                operation=fw.Affine() if film else fw.Shift(),
                generator=fw.Linear(self.classes),
            )

    def forward(self, batch: GanBatch) -> Tensor:
        """Images (B, 1, S, S), or logits (B,) of their being real."""
        x = getattr(batch, self.reads)
        index = torch.arange(self.classes, device=x.device)
        label = (batch.labels[:, None] == index).to(x.dtype)
        if self.conditioning == "none":
            return self.stages(x)  # type: ignore[no-any-return]
        if self.conditioning in ("concat", "summed"):
            return self.stages(x, label)  # type: ignore[no-any-return]
        return self.stages(x, condition=label)  # type: ignore[no-any-return]


def build(config: Config) -> nn.Module:
    """Both networks, by name."""
    label_size = len(config.class_names) if config.concatenates else 0
    made = generator(
        config.noise_size,
        config.hidden,
        config.channels,
        config.image_size,
        labels=label_size,
        affine=config.conditioning != "film",
    )
    classifier = discriminator(
        config.hidden, config.channels, config.image_size, labels=label_size
    )
    return nn.ModuleDict(
        {
            "generator": ConditionalStages(made, "noise", config),
            "discriminator": ConditionalStages(classifier, "images", config),
        }
    )


def discriminator_loss(
    g: nn.Module, d: nn.Module, batch: GanBatch
) -> tuple[Tensor, Metrics]:
    """-log D(x | y) - log(1 - D(G(z | y) | y)) (Goodfellow et al. 2014, eq. 1)."""
    generated = replace(batch, images=g(batch).detach())
    return F.softplus(-d(batch)).mean() + F.softplus(d(generated)).mean(), {}


def generator_loss(
    g: nn.Module, d: nn.Module, batch: GanBatch
) -> tuple[Tensor, Metrics]:
    """-log D(G(z | y) | y): the loss that does not saturate (Goodfellow et al., section 3)."""
    return F.softplus(-d(replace(batch, images=g(batch)))).mean(), {}


def sampler(network: nn.Module, batch: GanBatch, rng: torch.Generator) -> Tensor:
    """Images of the classes of a batch, each from noise of its own."""
    noise = torch.randn(batch.noise.shape, generator=rng, device=rng.device)
    return network(replace(batch, noise=noise))  # type: ignore[no-any-return]


def stepper(network: nn.Module, config: Config) -> Adversarial:
    """A step of Adam for the discriminator, then one for the generator."""
    networks = network.get_submodule("generator"), network.get_submodule("discriminator")
    first, second = (
        torch.optim.Adam(each.parameters(), config.learning_rate, (0.5, 0.999))
        for each in networks
    )
    return Adversarial(
        *networks,
        generator_loss=generator_loss,
        discriminator_loss=discriminator_loss,
        optimizers=(first, second),
        sampler=sampler,
        average=config.ema_decay,
    )


def prepare_labels(stages: Stages, config: Config) -> None:
    """Sets the initial weights of the label, and adds up its taps where the config says so."""
    for stage in cast("list[Stage]", stages.stages):
        layer = cast("ConcatConv | ConcatLinear", stage.layer)
        if config.label_start == "zero":
            whole = layer.linear if isinstance(layer, ConcatLinear) else layer.convolve
            nn.init.zeros_(whole.weight[:, layer.in_features :])
        if config.conditioning == "summed" and isinstance(layer, ConcatConv):
            stage.layer = SummedTaps(layer)


class SummedTaps(nn.Module):
    """A convolution whose label adds the sum of its k² taps everywhere, as far from a border.

    Args:
        layer: the convolution that concatenates the label.
    """

    def __init__(self, layer: ConcatConv) -> None:
        super().__init__()
        self.layer = layer

    def forward(
        self, x: Float[Tensor, "B C H W"], label: Float[Tensor, "B K"]
    ) -> Float[Tensor, "B D H2 W2"]:
        """``W_x * x + b + sum of the taps of W_y, times y``."""
        whole = cast(nn.Conv2d, self.layer.convolve)
        weight = whole.weight[:, : self.layer.in_features]
        y = F.conv2d(x, weight, whole.bias, whole.stride, whole.padding)
        return y + self.layer.conditional_bias(label)[:, :, None, None]
