"""Method of BigGAN: gains and biases from class and noise, a projection discriminator, the hinge.

The two networks, without their conditioning, stand in `networks`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

import featurewise as fw
from featurewise.systems.generation.biggan.networks import (
    CORNER,
    GeneratorTrunk,
    ProjectionDiscriminator,
    spectral,
)
from featurewise.systems.glyph_config import GlyphConfig
from featurewise.training.errors import ExperimentError
from featurewise.training.steppers import Adversarial, Metrics
from featurewise.worlds.glyphs.gan import GanBatch
from featurewise.worlds.glyphs.labelled import ImageSplits, letter_images


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(GlyphConfig):
    """Two networks and their training.

    Attributes:
        conditioning: "linear", gains and biases of the generator's norms by one linear map
            each; "mlp", by a hidden layer before it; "input", none, and the class embedding
            is concatenated to the noise.
        chunks: whether each block has a chunk of the noise in its condition, beside the
            class; else all noise enters the first layer. Not with "input".
        shuffled_condition: whether the labels are permuted within each batch, as a
            control.
        letters: the classes.
        batch_size: images per batch.
        chunk_size: width of a chunk of the noise; the noise has one for the first layer,
            and one for each block.
        embedding_size: width of the shared class embedding.
        mlp_width: hidden units of "mlp".
        channels: of the generator after its last block, and of the discriminator after its
            first; each block further inside has twice as many.
        learning_rate: of Adam, for the generator.
        discriminator_learning_rate: of Adam, for the discriminator.
        samples_per_class: noises that are evaluated, each with every class.
    """

    conditioning: Literal["linear", "mlp", "input"] = "linear"
    chunks: bool = True
    shuffled_condition: bool = False
    letters: str = "AEGHKMNRST"
    batch_size: int = 32
    chunk_size: int = 16
    embedding_size: int = 32
    mlp_width: int = 64
    channels: int = 12
    learning_rate: float = 1e-3
    discriminator_learning_rate: float = 4e-3
    samples_per_class: int = 200

    def __post_init__(self) -> None:
        GlyphConfig.__post_init__(self)
        if self.image_size != CORNER * 2**self.blocks or not self.blocks:
            raise ExperimentError(
                f"image_size must be {CORNER} times 2, 4, 8 and so on, got {self.image_size}"
            )

    @property
    def blocks(self) -> int:
        """Residual blocks of the generator."""
        return int(math.log2(max(1, self.image_size // CORNER)))

    @property
    def noise_size(self) -> int:
        """Width of the noise z."""
        return self.chunk_size * (self.blocks + 1)

    @property
    def splits(self) -> ImageSplits:
        """The letters in parts that share no family of typefaces."""
        return letter_images(self.typefaces, self.letters, self.image_size)


class GainsAndBiases(nn.Module):
    """Generator of the parameters of all norms, from the condition c of their block.

    ``gain = 1 + W c`` and ``bias = V c``, linear and without a bias of their own; the 1 is
    `featurewise.Affine`'s. With "mlp", ``W relu(U c + u)`` takes the place of ``W c``, and V
    likewise.

    Args:
        config: which.
        width: of c.
    """

    def __init__(self, config: Config, width: int) -> None:
        super().__init__()
        self.hidden = config.mlp_width if config.conditioning == "mlp" else 0
        self.width = width
        self.maps = nn.ModuleDict()

    def bind(self, layout: fw.Layout) -> None:
        """Makes W and V of every site."""
        self.block_of = [int(site.name.split(".")[1]) for site in layout]
        for site in layout:
            self.maps[site.name.replace(".", "_")] = nn.ModuleDict(
                {"gain": self._map(site.width), "bias": self._map(site.width)}
            )

    def _map(self, features: int) -> nn.Module:
        if not self.hidden:
            return spectral(nn.Linear(self.width, features, bias=False))
        return nn.Sequential(
            spectral(nn.Linear(self.width, self.hidden)),
            nn.ReLU(),
            spectral(nn.Linear(self.hidden, features, bias=False)),
        )

    def forward(self, condition: Float[Tensor, "B K F"]) -> Float[Tensor, "B N"]:
        """Parameters of all sites, from the conditions of K blocks."""
        made = []
        for block, maps in zip(self.block_of, self.maps.values(), strict=True):
            c = condition[:, block]
            made += [each(c) for each in maps.children()]
        return torch.cat(made, 1)


class Generator(nn.Module):
    """Class and noise into an image.

    The noise is cut into chunks: the first enters the first layer, and block k is
    conditioned on ``c_k = [e_y; z_k]``, where e_y is an embedding that all blocks share and
    that has no spectral norm.

    Args:
        config: see `Config`.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.chunks = config.chunks and config.conditioning != "input"
        self.blocks, chunk = config.blocks, config.chunk_size
        embedding, noise = config.embedding_size, config.noise_size
        self.embed = nn.Embedding(len(config.letters), embedding)
        self.in_input = config.conditioning == "input"
        inputs = embedding + noise if self.in_input else chunk if self.chunks else noise
        trunk = GeneratorTrunk(
            inputs, config.channels, self.blocks, affine=self.in_input
        )
        self.trunk: nn.Module = trunk
        if not self.in_input:
            width = embedding + chunk if self.chunks else embedding
            self.trunk = fw.condition(
                trunk,
                at="blocks.*.norm_*",
                operation=fw.Affine(),
                generator=GainsAndBiases(config, width),
            )

    def forward(self, batch: GanBatch) -> Float[Tensor, "B 1 S S"]:
        """An image of each class, from each noise."""
        e, z = self.embed(batch.labels), batch.noise
        if self.in_input:
            return self.trunk(torch.cat((e, z), 1))  # type: ignore[no-any-return]
        condition = e[:, None].expand(-1, self.blocks, -1)
        if self.chunks:
            parts = z.view(len(z), self.blocks + 1, -1)
            z, condition = parts[:, 0], torch.cat((condition, parts[:, 1:]), 2)
        return self.trunk(z, condition=condition)  # type: ignore[no-any-return]


class Discriminator(nn.Module):
    """Images of classes, real or generated, into logits.

    Args:
        config: see `Config`.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        classes = len(config.letters)
        self.net = ProjectionDiscriminator(classes, config.channels, config.blocks)

    def forward(self, batch: GanBatch) -> Float[Tensor, " B"]:
        """Above 0 for "real and of this class"."""
        return self.net(batch.images, batch.labels)  # type: ignore[no-any-return]


def build(config: Config) -> nn.Module:
    """Both networks, by name."""
    return nn.ModuleDict(
        {"generator": Generator(config), "discriminator": Discriminator(config)}
    )


def discriminator_loss(
    g: nn.Module, d: nn.Module, batch: GanBatch
) -> tuple[Tensor, Metrics]:
    """The hinge: max(0, 1 - D(x, y)) + max(0, 1 + D(G(z, y), y)), in the mean."""
    with torch.no_grad():
        generated = g(batch)
    # No norm of the discriminator mixes samples, so that one pass serves for both.
    both = GanBatch(
        torch.cat((batch.images, generated)),
        batch.labels.repeat(2),
        batch.noise.repeat(2, 1),
    )
    real, fake = d(both).chunk(2)
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean(), {}


def generator_loss(
    g: nn.Module, d: nn.Module, batch: GanBatch
) -> tuple[Tensor, Metrics]:
    """-D(G(z, y), y)."""
    return -d(replace(batch, images=g(batch))).mean(), {}


def sampler(network: nn.Module, batch: GanBatch, rng: torch.Generator) -> Tensor:
    """Images of the classes of a batch, each from noise of its own."""
    noise = torch.randn(batch.noise.shape, generator=rng, device=rng.device)
    return network(replace(batch, noise=noise))  # type: ignore[no-any-return]


def stepper(network: nn.Module, config: Config) -> Adversarial:
    """A step of Adam for the discriminator, then one for the generator."""
    networks = network.get_submodule("generator"), network.get_submodule("discriminator")
    rates = config.learning_rate, config.discriminator_learning_rate
    first, second = (
        torch.optim.Adam(each.parameters(), rate, (0.0, 0.999), fused=True)
        for each, rate in zip(networks, rates, strict=True)
    )
    return Adversarial(
        *networks,
        generator_loss=generator_loss,
        discriminator_loss=discriminator_loss,
        optimizers=(first, second),
        sampler=sampler,
        average=config.ema_decay,
    )
