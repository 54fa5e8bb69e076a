"""Method of adaptive convolution: filters and biases of a network are functions of z."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

import featurewise as fw
from featurewise.generators.mlp import Perceptron
from featurewise.layers import ConcatConv
from featurewise.study import system
from featurewise.training.optim import cosine
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.small import CLASSES
from featurewise.worlds.small.noisy import NoisyImages

SIZE = 8
"""Height and width of a digit."""

SIDE = 1
"""Numbers of the side information z: the level of the noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(system.Config):
    """One network and its training.

    Attributes:
        reads: how the network reads the side information z: its "filters" are functions
            of z, as in the paper; "film" after each convolution; z is "concat"enated to
            the input of each convolution, as constant maps; or "none", not at all.
        shuffled_condition: whether every digit has the z of another one, as a control.
        widths: channels of each convolution.
        wide_widths: channels of a network with as many parameters as the adaptive one of
            ``widths``.
        is_wide: whether the network has these channels.
        kernel: height and width of the filters, an odd number.
        hidden: units of each hidden layer of the networks that read z.
        batch_size: digits per batch.
        learning_rate: of Adam; it falls along a cosine.
        split: of the digits that accuracy is measured on.
    """

    reads: Literal["filters", "film", "concat", "none"] = "filters"
    shuffled_condition: bool = False
    widths: tuple[int, ...] = (8, 16)
    wide_widths: tuple[int, ...] = (27, 42)
    is_wide: bool = False
    kernel: int = 3
    hidden: tuple[int, ...] = (16, 8)
    batch_size: int = 64
    learning_rate: float = 3e-3
    split: Literal["validation", "test"] = "test"


class AdaptiveConv(nn.Module):
    """A convolution whose filters and biases are functions of side information.

    A filter manifold network g, a perceptron, makes one point of a manifold in the space of
    filters from each z::

        h = relu(W + g_W(z) convolved with x, plus b + g_b(z))

    The bias of its last layer is W and b, those of an ordinary convolution, and its last
    weights start at zero: at the beginning the filters are the same for all z. Heights and
    widths stay.

    Args:
        in_channels: of x.
        out_channels: number of filters.
        kernel: height and width of the filters, an odd number.
        hidden: units of each hidden layer of g.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, hidden: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.start = nn.Conv2d(in_channels, out_channels, kernel)  # W and b
        self.manifold = Perceptron((SIDE, *hidden), nn.ReLU)
        numbers = out_channels * (in_channels * kernel**2 + 1)
        self.filters_of = nn.Linear(hidden[-1], numbers, bias=False)
        nn.init.zeros_(self.filters_of.weight)
        self.kernel = kernel

    def filters(
        self, z: Float[Tensor, "B Z"]
    ) -> tuple[Float[Tensor, "B D CKK"], Float[Tensor, "B D"]]:
        """Filters and biases of each sample."""
        w, b = self.start.weight.flatten(1), self.start.bias
        g_w, g_b = self.filters_of(self.manifold(z)).split((w.numel(), len(w)), dim=1)
        return w + g_w.view(len(z), *w.shape), b + g_b

    def forward(
        self, x: Float[Tensor, "B C S S"], z: Float[Tensor, "B Z"]
    ) -> Float[Tensor, "B D S S"]:
        """Each sample convolved with its own filters."""
        w, b = self.filters(z)
        patches = F.unfold(x, self.kernel, padding=self.kernel // 2)
        return torch.baddbmm(b[..., None], w, patches).view(len(x), -1, *x.shape[2:])


class ConcatenatedConv(ConcatConv):
    """A convolution of x and of constant maps of z."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__(in_channels, SIDE, out_channels, kernel, padding="same")


class PlainConv(nn.Conv2d):
    """A convolution with the same filters for all z."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__(in_channels, out_channels, kernel, padding="same")

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "B C S S"], z: Float[Tensor, "B Z"]
    ) -> Float[Tensor, "B D S S"]:
        """Reads x alone."""
        return super().forward(x)


def convolution(config: Config, before: int, after: int) -> nn.Module:
    """A layer (x, z) -> features, as the config says."""
    if config.reads == "filters":
        return AdaptiveConv(before, after, config.kernel, config.hidden)
    kind = ConcatenatedConv if config.reads == "concat" else PlainConv
    return kind(before, after, config.kernel)


class Trunk(nn.Module):
    """Convolutions, each with a ReLU and a max-pooling to half the size; then logits."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths = config.wide_widths if config.is_wide else config.widths
        self.convolutions = nn.ModuleList(
            convolution(config, before, after)
            for before, after in pairwise((1, *widths))
        )
        side = SIZE // 2 ** len(widths)
        self.classify = nn.Linear(widths[-1] * side**2, CLASSES)

    def forward(
        self, x: Float[Tensor, "B 1 S S"], z: Float[Tensor, "B Z"]
    ) -> Float[Tensor, "B 10"]:
        """Logits of the classes."""
        for convolve in self.convolutions:
            x = F.max_pool2d(F.relu(convolve(x, z)), 2)
        logits: Tensor = self.classify(x.flatten(1))
        return logits


class Recogniser(nn.Module):
    """The trunk of the config; with "film", conditioned after each convolution."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.trunk: nn.Module = Trunk(config)
        self.is_film = config.reads == "film"
        if self.is_film:
            self.trunk = fw.condition(
                self.trunk,
                at="convolutions.*",
                operation=fw.Affine(),
                generator=fw.MLP(SIDE, config.hidden),
            )

    def forward(self, batch: NoisyImages) -> Float[Tensor, "B 10"]:
        """Logits of the classes."""
        x, z = batch.images, batch.condition
        logits: Tensor = self.trunk(x, z, **({"condition": z} if self.is_film else {}))
        return logits


def objective(network: nn.Module, batch: NoisyImages) -> tuple[Tensor, Metrics]:
    """Cross-entropy of the labels."""
    return F.cross_entropy(network(batch), batch.labels), {}


def stepper(network: nn.Module, config: Config) -> Supervised:
    """Adam with a cosine schedule."""
    adam = torch.optim.Adam(network.parameters(), config.learning_rate, fused=True)
    return Supervised(network, objective, adam, schedule=cosine(config.steps))
