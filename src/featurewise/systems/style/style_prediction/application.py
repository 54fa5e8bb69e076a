"""Images of any size in the style of any image: what ``featurewise stylize`` calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor, nn

from featurewise.core import Layout, TaskRepresentation
from featurewise.models.style_features import style_features
from featurewise.study.stylist import OwnStyle
from featurewise.systems.style.style_prediction.method import (
    Config,
    Objective,
    StylePrediction,
    loss_network,
)
from featurewise.systems.style.style_prediction.sources import seen, works
from featurewise.systems.style_painting import LEAST, NARROWEST, padded_to_multiple
from featurewise.training.errors import ExperimentError
from featurewise.worlds.pictures import central_crop


class PredictingStylist:
    """A `featurewise.study.stylist.Stylist` that needs one look at a style."""

    def styles(self, config: Config, /) -> tuple[str, ...]:
        """Names of the paintings of training, and of those that were kept for the test."""
        return (*config.styles, *config.unseen)

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
        net = cast("StylePrediction", network)
        names = self.styles(config)
        if unknown := [
            name for name in weights if name not in names and name not in own
        ]:
            raise ExperimentError(
                f"no style is called {unknown[0]!r}; there is {', '.join(names)}"
            )
        tasks = [
            own[name] if name in own else self._named(net, config, name)
            for name in weights
        ]
        flat = torch.stack([task.flat for task in tasks])
        mixed = TaskRepresentation(net.painter.layout, flat).mix(
            torch.tensor(list(weights.values()))
        )
        height, width = image.shape[1:]
        with torch.no_grad():
            painted: Tensor = net.painter(padded_to_multiple(image), task=mixed)
        return (255 * painted[0, :, :height, :width]).round().byte()

    def least(self, network: nn.Module, /) -> int:
        """See `featurewise.study.stylist.Stylist.least`."""
        return LEAST

    def layout(self, network: nn.Module, /) -> Layout:
        """See `featurewise.study.stylist.Stylist.layout`."""
        return cast("StylePrediction", network).painter.layout

    def learn(
        self,
        network: nn.Module,
        config: Config,
        painting: UInt8[Tensor, "3 H W"],
        photograph: UInt8[Tensor, "3 h w"],
        on_step: Callable[[int, int], None],
        /,
    ) -> OwnStyle:
        """The style of any image, predicted from its middle; nothing is trained.

        The losses are those of the photograph's middle in this style, and in the mean of the
        network's: see `featurewise.study.stylist.Stylist.learn`.
        """
        for image, what in ((painting, "it"), (photograph, "the image to be painted")):
            shorter, longer = sorted(image.shape[1:])
            if longer > NARROWEST * shorter:
                raise ExperimentError(
                    f"{what} has {image.shape[2]} x {image.shape[1]} pixels; a style is "
                    f"predicted of images whose sides differ by {NARROWEST:g} times at most"
                )
        net = cast("StylePrediction", network)
        on_step(0, 1)
        style = seen(config, _middle(painting, config.size)[None])
        shown = _middle(photograph, config.size)[None] / 255
        loss = Objective(loss_network(config), config.style_weight)
        with torch.no_grad():
            task = net.predict(style.features)[0]
            # The bias alone: γ and β of no style in particular.
            start = net.painter.represent(torch.zeros(1, config.embedding))[0]
            before, after = (
                float(loss.losses(net.painter(shown, task=each), shown, style.grams)[1])
                for each in (start, task)
            )
        on_step(1, 1)
        return OwnStyle(TaskRepresentation(net.painter.layout, task.flat), before, after)

    def _named(
        self, network: StylePrediction, config: Config, name: str
    ) -> TaskRepresentation:
        """The style of a painting of the collection."""
        (work,) = works(config, (name,), made=False)
        features = style_features(config.encoder, _middle(work.image, config.size)[None])
        with torch.no_grad():
            found: TaskRepresentation = network.predict(features)[0]
        return found


def _middle(image: UInt8[Tensor, "3 H W"], size: int) -> UInt8[Tensor, "3 S S"]:
    """The middle square; an image that is smaller is enlarged first."""
    if (shorter := min(image.shape[1:])) < size:
        larger = F.interpolate(image[None] / 1.0, scale_factor=size / shorter + 1e-3)
        image = larger[0].byte()
    return central_crop(image, size)
