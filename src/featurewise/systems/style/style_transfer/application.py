"""Images of any size in a mixture of styles: what ``featurewise stylize`` calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor, nn

import featurewise as fw
from featurewise.core import Layout, TaskRepresentation
from featurewise.study.stylist import OwnStyle
from featurewise.systems.style.style_transfer.method import (
    Config,
    StyleTransfer,
    TransferBatch,
    objective,
)
from featurewise.systems.style.style_transfer.sources import TransferSource
from featurewise.systems.style.style_transfer.tables import (
    learn_style,
    mean_style,
    style_loss,
)
from featurewise.training.errors import ExperimentError
from featurewise.worlds.pictures import (
    Painting,
    Photograph,
    StyleSource,
    central_crop,
    with_shorter_side,
)
from featurewise.worlds.pictures.photos import SHORT_SIDE

MULTIPLE = 4
"""Two convolutions of stride 2: the output is as large as an input of such a size."""

LEAST = 8
"""Pixels that mirror padding and the norms of the blocks need."""

NARROWEST = 8.0
"""Longer side over shorter side of an image that a style is learned of or for."""


class TransferStylist:
    """A `featurewise.study.stylist.Stylist` of the transfer network."""

    def styles(self, config: Config, /) -> tuple[str, ...]:
        """Names of the paintings; none for an unconditional network."""
        return config.trained if config.condition != "none" else ()

    def paint(
        self,
        network: nn.Module,
        config: Config,
        image: UInt8[Tensor, "3 H W"],
        weights: Mapping[str, float],
        own: Mapping[str, TaskRepresentation],
        /,
    ) -> UInt8[Tensor, "3 H W"]:
        """See `featurewise.study.stylist.Stylist.paint`."""
        height, width = image.shape[1:]
        if min(height, width) < LEAST:
            raise ExperimentError(
                f"at this size it has {width} x {height} pixels; the network needs at least "
                f"{LEAST} x {LEAST}"
            )
        painter = cast("fw.Conditioned", cast("StyleTransfer", network).painter)
        task = self._task(painter, config, weights, own)
        bottom, right = -height % MULTIPLE, -width % MULTIPLE
        padded = F.pad(image[None] / 255, (0, right, 0, bottom), mode="reflect")
        with torch.no_grad():
            painted: Tensor = painter(padded, task=task)
        return (255 * painted[0, :, :height, :width]).round().byte()

    def least(self, network: nn.Module, /) -> int:
        """See `featurewise.study.stylist.Stylist.least`."""
        return LEAST

    def layout(self, network: nn.Module, /) -> Layout:
        """See `featurewise.study.stylist.Stylist.layout`."""
        return cast("fw.Conditioned", cast("StyleTransfer", network).painter).layout

    def learn(
        self,
        network: nn.Module,
        config: Config,
        painting: UInt8[Tensor, "3 H W"],
        photograph: UInt8[Tensor, "3 h w"],
        on_step: Callable[[int, int], None],
        /,
    ) -> OwnStyle:
        """See `featurewise.study.stylist.Stylist.learn`; section 3.2 of the paper."""
        for image, what in ((painting, "it"), (photograph, "the image to be painted")):
            shorter, longer = sorted(image.shape[1:])
            if longer > NARROWEST * shorter:
                raise ExperimentError(
                    f"{what} has {image.shape[2]} x {image.shape[1]} pixels; a style is "
                    f"learned of images whose sides differ by {NARROWEST:g} times at most"
                )
        network = cast("StyleTransfer", network)
        loss = objective(config, (Painting("own", "", "", "", painting),))
        scaled = with_shorter_side(photograph, max(SHORT_SIDE, config.size))
        crops = StyleSource(
            (Photograph("own", scaled),), 1, config.size, config.batch_size, seed=0
        )
        source = TransferSource(crops, reconstruct=0)
        steps = config.new_style_steps

        def batches() -> Iterator[TransferBatch]:
            for index in range(steps):
                on_step(index, steps)
                yield source.batch(index)

        task = learn_style(network, loss, batches(), config.new_style_learning_rate)
        on_step(steps, steps)
        shown = central_crop(scaled, config.size)[None]
        before = style_loss(network, mean_style(network), loss, shown)
        return OwnStyle(task, before, style_loss(network, task, loss, shown))

    def _task(
        self,
        painter: fw.Conditioned,
        config: Config,
        weights: Mapping[str, float],
        own: Mapping[str, TaskRepresentation],
    ) -> TaskRepresentation:
        """The weighted sum of the rows of the table, and of the styles beside it."""
        names = self.styles(config)
        if unknown := [
            name for name in weights if name not in names and name not in own
        ]:
            raise ExperimentError(
                f"no style is called {unknown[0]!r}; there is {', '.join(names)}"
            )
        rows = painter.represent(torch.arange(len(names))).flat
        flat = torch.stack([*rows, *(task.flat for task in own.values())])
        shares = [weights.get(name, 0.0) for name in (*names, *own)]
        return TaskRepresentation(painter.layout, flat).mix(torch.tensor(shares))
