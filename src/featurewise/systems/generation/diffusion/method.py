"""Method of the diffusion model: a conditioned U-Net, noisy images, guided samples.

Dhariwal & Nichol 2021, section 3; Ho & Salimans 2022, eq. 6. The noise schedule, the loss
and the steps of sampling are in `featurewise.training.diffusion`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

import featurewise as fw
from featurewise.common.ranges import Fraction, Range
from featurewise.generators import Generator
from featurewise.models.unet import TimeAndClass, UNet
from featurewise.study import system
from featurewise.systems.image_config import ImageConfig
from featurewise.training.diffusion import (
    Denoiser,
    DiffusionBatch,
    DiffusionSource,
    noise_error,
)
from featurewise.training.errors import ExperimentError
from featurewise.training.optim import cosine
from featurewise.training.source import Source
from featurewise.training.steppers import Generative, Sampler
from featurewise.worlds.glyphs.labelled import ImageBatch

NULL_CLASS = 10
"""Stands for a class that is not given; both data sets have ten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(ImageConfig):
    """One network and its training.

    Attributes:
        operation: "affine", scale and shift after the norm; or "shift", added to the
            features before the norm.
        conditioned: whether the class is ever given; the timestep always is.
        shuffled_condition: whether the classes are permuted within each batch, as a
            control.
        widths: channels of each level of the U-Net, from fine to coarse.
        samples_per_class: samples of each class that are evaluated, at each weight of
            guidance.
        embedding_size: width of the embeddings of timestep and class.
        timesteps: T of the noise schedule.
        sampling_steps: timesteps that sampling visits.
        condition_dropout: probability that the null class replaces the class of an
            image.
        test_batches: batches that the loss of a part of the data is measured on.
    """

    FORMER_NAMES: ClassVar = {
        "embedding": "embedding_size",
        "times": "timesteps",
        "visited": "sampling_steps",
        "drop": "condition_dropout",
        "tested": "test_batches",
    }

    operation: Literal["affine", "shift"] = "affine"
    conditioned: bool = True
    shuffled_condition: bool = False
    widths: tuple[Annotated[int, Range(8, multiple=8)], ...] = (16, 32, 32)
    samples_per_class: int = 50
    embedding_size: Annotated[int, Range(2, multiple=2)] = 64
    timesteps: int = 1000
    sampling_steps: int = 25
    condition_dropout: Fraction = 0.15
    test_batches: int = 32

    def __post_init__(self) -> None:
        system.Config.__post_init__(self)
        if self.image_size % (1 << (len(self.widths) - 1)):
            raise ExperimentError(
                f"image_size must be a multiple of {1 << (len(self.widths) - 1)}, as each of "
                f"{len(self.widths)} widths but the first halves it; got {self.image_size}"
            )


def build(config: Config) -> nn.Module:
    """A U-Net whose every block is conditioned on timestep t and class y.

    ``h <- (1 + s(t, y)) * GroupNorm(h) + b(t, y)`` at the second norm of each block.
    """
    affine = config.operation == "affine"
    trunk = UNet(1, config.widths)
    embedding = TimeAndClass(config.embedding_size, NULL_CLASS + 1)
    net = fw.condition(
        trunk,
        at="**.second_norm" if affine else "**.first",
        operation=fw.Affine() if affine else fw.Shift(),
        generator=Generator(embedding, config.embedding_size),
    )
    return Denoiser(net, NULL_CLASS, config.timesteps)


def noisy(
    source: Source[ImageBatch], config: Config, dropout: float, seed: int
) -> DiffusionSource:
    """Images, ink at 1 and paper at -1, with noise; the null class for some of the classes.

    Args:
        source: images in [0, 1] and their classes.
        config: see `Config`.
        dropout: probability that the null class replaces the class of an image.
        seed: of timesteps, noise and dropped classes.
    """
    return DiffusionSource(
        source,
        read=lambda batch: (2 * batch.images - 1, batch.labels),
        times=config.timesteps,
        seed=seed,
        null_class=NULL_CLASS,
        drop=dropout if config.conditioned else 1.0,
    )


def sampler(config: Config, weight: float) -> Sampler:
    """Samples images in [0, 1] by DDIM, with guidance of this weight w.

    The noise is ``e(x, null) + w * (e(x, y) - e(x, null))`` (Ho & Salimans, eq. 6).
    """

    def sample(
        network: nn.Module, batch: DiffusionBatch, rng: torch.Generator
    ) -> Tensor:
        denoiser = cast(Denoiser, network)
        return (denoiser.draw(batch, rng, config.sampling_steps, weight) + 1) / 2

    return sample


def stepper(network: nn.Module, config: Config) -> Generative:
    """Adam on the squared error of the noise; a cosine schedule; an average of the weights."""
    return Generative(
        network,
        noise_error,
        torch.optim.Adam(network.parameters(), config.learning_rate),
        sampler=sampler(config, 2.0),
        schedule=cosine(config.steps, warmup=config.steps // 20),
        clip=1.0,
        average=config.ema_decay,
    )
