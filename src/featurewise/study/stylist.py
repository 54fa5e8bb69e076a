"""What a system offers that paints images in styles: the interface of ``featurewise stylize``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from jaxtyping import UInt8
from torch import Tensor, nn

from featurewise.core import Layout, TaskRepresentation

ConfigT = TypeVar("ConfigT", contravariant=True)


@dataclass(frozen=True)
class OwnStyle:
    """A style that a trained network learned of one image.

    Attributes:
        task: γ and β of the style.
        before: style loss of a painted photograph with the mean of the trained styles.
        after: the same with this one.
    """

    task: TaskRepresentation
    before: float
    after: float


class Stylist(Protocol[ConfigT]):
    """Paints images of any size in the styles of a trained network."""

    def styles(self, config: ConfigT, /) -> tuple[str, ...]:
        """Names of the styles, which are known without the images that they were learned from.

        Args:
            config: of the network.
        """

    def paint(
        self,
        network: nn.Module,
        config: ConfigT,
        image: UInt8[Tensor, "3 H W"],
        weights: Mapping[str, float],
        own: Mapping[str, TaskRepresentation],
        /,
    ) -> UInt8[Tensor, "3 H W"]:
        """The image in a mixture of styles.

        Args:
            network: trained, in eval mode.
            config: that it was built with.
            image: RGB, of any size.
            weights: name of a style -> its weight; weights outside of 0 to 1 extrapolate.
            own: further styles, by name, as `learn` found them.

        Raises:
            ExperimentError: a style is unknown, or the image is too small.
        """

    def least(self, network: nn.Module, /) -> int:
        """Pixels that the shorter side of an image must have."""

    def layout(self, network: nn.Module, /) -> Layout:
        """Which γ and β a style consists of."""

    def learn(
        self,
        network: nn.Module,
        config: ConfigT,
        painting: UInt8[Tensor, "3 H W"],
        photograph: UInt8[Tensor, "3 h w"],
        on_step: Callable[[int, int], None],
        /,
    ) -> OwnStyle:
        """The style of any image; the network stays as it is.

        Args:
            network: trained, in eval mode.
            config: that it was built with.
            painting: RGB; what the style is taken from.
            photograph: RGB; whose crops are painted meanwhile.
            on_step: is called with the number of completed and of all steps.

        Raises:
            ExperimentError: an image is too narrow.
            WeightsError: the weights of the pretrained loss network are not in the cache.
        """
