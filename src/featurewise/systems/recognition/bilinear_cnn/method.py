"""Method of the bilinear CNN: two streams of features, multiplied at each place, and summed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from featurewise.common.ranges import Range
from featurewise.study import system
from featurewise.training.errors import ExperimentError
from featurewise.training.optim import cosine
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.glyphs import LETTERS, find_typefaces, glyphs
from featurewise.worlds.glyphs.lines import FOLDS
from featurewise.worlds.glyphs.render import Glyphs

Pooling: TypeAlias = Literal["bilinear", "average", "wide average", "flat"]

_EPSILON: Final = 1e-3
"""Under the square root, whose slope at 0 is infinite."""

WIDER: Final = 10
"""So many times as many features has the wide average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(system.Config):
    """One network and its training.

    Attributes:
        pooling: "bilinear", the sum over all places of the products of two streams of
            features; "average", the mean of the features of one stream; "wide average",
            the mean of ten times as many features, after one more convolution; or "flat",
            the features of all places, each with its own weights.
        streams: 1, where a stream is multiplied by itself; or 2, with convolutions of
            their own.
        normalised: whether the root of each element of a bilinear vector is taken, with its
            sign, and the vector brought to one length.
        shuffled_stream: whether the second stream reads the line of another typeface, as
            a control.
        typefaces: which ones, as `featurewise.worlds.glyphs.find_typefaces` takes it.
        letters: the letters.
        fold: which third of the letters is only tested on.
        image_size: height and width of a letter, in pixels.
        line: letters in a line.
        widths: channels of each convolution; the last is the number of features.
        batch_size: lines per batch.
        learning_rate: of Adam; it falls along a cosine.
    """

    pooling: Pooling = "bilinear"
    streams: Literal[1, 2] = 1
    normalised: bool = True
    shuffled_stream: bool = False
    typefaces: str = "debian"
    letters: str = LETTERS
    fold: Annotated[int, Range(0, FOLDS - 1)] = 0
    image_size: Annotated[int, Range(8, multiple=4)] = 24
    line: int = 4
    widths: tuple[int, int, int] = (24, 48, 48)
    batch_size: Annotated[int, Range(2)] = 64
    learning_rate: float = 1e-3

    @property
    def glyphs(self) -> Glyphs:
        """The letters of all typefaces.

        Raises:
            TypefaceError: there are no typefaces.
            GlyphError: wrong letters.
        """
        found = find_typefaces(self.typefaces, self.letters)
        return glyphs(found, self.letters, self.image_size)


@dataclass(frozen=True)
class Batch:
    """Lines of letters, and what the second stream reads.

    Attributes:
        images: what the first stream reads; ink 1, background 0.
        second: what the second stream reads: the same images, but in the control.
        typefaces: index of the typeface.
    """

    images: Float[Tensor, "B 1 S W"]
    second: Float[Tensor, "B 1 S W"]
    typefaces: Int64[Tensor, " B"]


def bilinear(
    x: Float[Tensor, "B C L"], y: Float[Tensor, "B D L"]
) -> Float[Tensor, "B C*D"]:
    """Products of two streams of features at each place, averaged over all places: x·yᵀ / L.

    Section 2: the sum of the outer products; the mean differs by a constant, which
    `normalised` removes. Element ``c * D + d`` is the product of features c and d.
    """
    return (x @ y.mT).flatten(1) / x.shape[2]


def normalised(x: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
    """The root of each element with its sign, then every vector at length √N. Section 2.

    The length is 1 in the paper, whose classifier is trained apart. With √N an element is as large
    as the classifier's initial weights expect; at length 1 the network hardly learned.
    """
    root = x.sign() * (x.abs() + _EPSILON).sqrt()
    return F.normalize(root, dim=1) * math.sqrt(x.shape[1])


def stream(widths: Sequence[int]) -> nn.Sequential:
    """Convolutions with norm and ReLU; after each but the last, a maximum over 2 × 2."""
    layers: list[nn.Module] = []
    for before, after in zip((1, *widths), widths, strict=False):
        layers += [
            *((nn.MaxPool2d(2),) if layers else ()),
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


class BilinearCNN(nn.Module):
    """Streams of features, their pooling over places, and a linear classifier.

    Args:
        config: which pooling, and the sizes.
        classes: number of typefaces.
    """

    def __init__(self, config: Config, classes: int) -> None:
        super().__init__()
        self.pooling, self.is_normalised = config.pooling, config.normalised
        self.reads_apart = config.streams == 2 or config.shuffled_stream
        self.first = stream(config.widths)
        features = config.widths[-1]
        inputs = features**2
        self.second = stream(config.widths) if config.streams == 2 else None
        if config.pooling == "wide average":
            inputs = WIDER * features
            self.first += nn.Sequential(
                nn.Conv2d(features, inputs, 1, bias=False),
                nn.BatchNorm2d(inputs),
                nn.ReLU(),
            )
        elif config.pooling != "bilinear":
            places = config.line * (config.image_size // 4) ** 2
            inputs = features * (places if config.pooling == "flat" else 1)
        self.classify = nn.Linear(inputs, classes)

    def pooled(self, batch: Batch) -> Float[Tensor, "B N"]:
        """The vector of an image that the classifier reads."""
        x: Tensor = self.first(batch.images).flatten(2)
        if self.pooling == "bilinear":
            second = self.second or self.first
            y = second(batch.second).flatten(2) if self.reads_apart else x
            products = bilinear(x, y)
            return normalised(products) if self.is_normalised else products
        return x.flatten(1) if self.pooling == "flat" else x.mean(2)

    def forward(self, batch: Batch) -> Float[Tensor, "B classes"]:
        """Logits of the typefaces."""
        return self.classify(self.pooled(batch))  # type: ignore[no-any-return]


def build(config: Config) -> BilinearCNN:
    """The network for all typefaces of the configuration.

    Raises:
        ExperimentError: two streams are wanted, of a pooling that reads one.
        GlyphError: wrong letters, or no typefaces.
    """
    if config.streams == 2 and config.pooling != "bilinear":
        raise ExperimentError(f"pooling {config.pooling!r} reads one stream, not two")
    return BilinearCNN(config, len(config.glyphs.typefaces))


def objective(network: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
    """Cross-entropy of the typefaces."""
    return F.cross_entropy(network(batch).float(), batch.typefaces), {}


def stepper(network: nn.Module, config: Config) -> Supervised:
    """Adam with a cosine schedule."""
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    return Supervised(network, objective, optimizer, schedule=cosine(config.steps))
