"""Method of the conditional gated PixelCNN: a bias in every gate, its loss and its samples.

van den Oord et al. 2016, eq. 4 and 5. The layers of figure 2 are in
`featurewise.models.autoregressive`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

import featurewise as fw
from featurewise.common.ranges import Decay, Range
from featurewise.generators import Generator
from featurewise.models.autoregressive import GatedPixelCNN, sample_pixels
from featurewise.systems.image_config import ImageConfig
from featurewise.training.optim import cosine
from featurewise.training.steppers import Generative, Metrics
from featurewise.worlds.glyphs.placed import Conditions, Pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(ImageConfig):
    """One network and its training.

    Attributes:
        bias: "feature", the same at all positions (eq. 4); or "location" (eq. 5).
        conditioned: False gives only the kind of the condition, class or window.
        shuffled_condition: whether conditions are permuted within each batch, as a
            control.
        channels: of the gated layers.
        layers: how many.
        map_channels: of the map s.
        jitter: how far training and test images are turned, scaled, sheared and shifted
            at random; see `featurewise.worlds.glyphs.GlyphSource`.
        learning_rate: of Adam; it falls along a cosine.
        ema_decay: decay of the exponential moving average of the weights, which is
            evaluated.
        samples_per_class: samples of each class that are evaluated; as many of windows
            in all.
        test_images: images of each part of the data that nats are measured on.
    """

    FORMER_NAMES: ClassVar = {"map": "map_channels", "tested": "test_images"}

    bias: Literal["feature", "location"] = "feature"
    conditioned: bool = True
    shuffled_condition: bool = False
    channels: int = 16
    layers: Annotated[int, Range(2)] = 6
    map_channels: int = 10
    learning_rate: float = 1e-2
    ema_decay: Decay = 0.98
    jitter: float = 0.5
    test_images: int = 1024

    @property
    def conditions(self) -> Conditions:
        """The layout of the condition."""
        return Conditions(len(self.class_names), self.image_size)


class PixelCNN(nn.Module):
    """A gated PixelCNN with a conditional bias in every gate.

    ``y = tanh(W_f * x + V_f h) * σ(W_g * x + V_g h)`` (eq. 4); or, with a map s = m(h),
    ``y = tanh(W_f * x + V_f * s) * σ(W_g * x + V_g * s)`` (eq. 5).
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        generator: nn.Module = fw.Linear(config.conditions.width)
        if config.bias == "location":
            window_map = WindowMap(config.conditions, config.map_channels)
            generator = Generator(window_map, config.map_channels)
        self.net = fw.condition(
            GatedPixelCNN(config.channels, config.layers),
            at="layers.*.*_gate.shift",
            operation=fw.Shift(),
            generator=generator,
        )

    def forward(self, batch: Pixels) -> Float[Tensor, "B 1 S S"]:
        """Logits of ink, of each pixel from those before it; paper is -1, outside is 0."""
        logits: Tensor = self.net(2 * batch.images - 1, condition=batch.condition)
        return logits


class WindowMap(nn.Module):
    """m: a condition -> a map s of the class, the same everywhere, and the mask of the window.

    Two convolutions of 5×5 with ReLU between them, which see no border.

    Args:
        conditions: layout of the condition.
        channels: of the map.
    """

    def __init__(self, conditions: Conditions, channels: int) -> None:
        super().__init__()
        self.conditions = conditions
        self.first = nn.Conv2d(
            conditions.classes + 1, channels, 5, padding=2, padding_mode="replicate"
        )
        self.second = nn.Conv2d(
            channels, channels, 5, padding=2, padding_mode="replicate"
        )

    def forward(self, condition: Float[Tensor, "B K"]) -> Float[Tensor, "B C S S"]:
        """The map."""
        mask = self.conditions.mask(condition)
        classes = condition[:, : self.conditions.classes, None, None]
        planes = classes.expand(-1, -1, *mask.shape[2:])
        s: Tensor = self.second(F.relu(self.first(torch.cat((planes, mask), dim=1))))
        return s


def nats(network: nn.Module, batch: Pixels) -> Float[Tensor, " B"]:
    """Negative log-likelihood of each image, summed over its pixels."""
    each = F.binary_cross_entropy_with_logits(
        network(batch), batch.images, reduction="none"
    )
    return each.sum((1, 2, 3))


def objective(network: nn.Module, batch: Pixels) -> tuple[Tensor, Metrics]:
    """Nats per pixel."""
    return nats(network, batch).mean() / batch.images[0].numel(), {}


def sampler(network: nn.Module, batch: Pixels, rng: torch.Generator) -> Tensor:
    """Images under the conditions of a batch, sampled pixel by pixel in reading order."""
    net: fw.Conditioned = network.net  # type: ignore[assignment]
    task = net.represent(batch.condition).flat

    def rows_context(rows: slice) -> AbstractContextManager[object]:
        return net.using(task=task[:, :, rows] if task.ndim > 2 else task, partial=True)

    return sample_pixels(net.backbone, batch.images, rng, rows_context)


def stepper(network: nn.Module, config: Config) -> Generative:
    """Adam, a cosine schedule, an average of the weights."""
    return Generative(
        network,
        objective,
        torch.optim.Adam(network.parameters(), config.learning_rate),
        sampler=sampler,
        schedule=cosine(config.steps, warmup=config.steps // 20),
        clip=1.0,
        average=config.ema_decay,
    )
