"""What the explorer shows of style transfer: γ and β of each painting, and what mixtures paint."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor, nn

from featurewise.core import TaskRepresentation
from featurewise.retrofit import Conditioned
from featurewise.study.exploration import Exploration
from featurewise.systems.style.style_transfer.method import Config, StyleTransfer
from featurewise.training.errors import ExperimentError
from featurewise.worlds.pictures import central_crop, contents_of

PAIRS = 6
SIZE = 96
"""Height and width of the images that are shown."""


def exploration(network: nn.Module, config: Config) -> Exploration:
    """The styles, and a photograph that was not trained on in each mixture of them.

    Args:
        network: of a conditioned arm, in eval mode.
        config: of its run.

    Raises:
        ExperimentError: the network is not conditioned.
        PictureError: the packages that paintings and photographs come from are not installed.
    """
    painter = network.painter if isinstance(network, StyleTransfer) else network
    if not isinstance(painter, Conditioned):
        raise ExperimentError(
            "this network is not conditioned; explore a run of an arm with styles of its own"
        )
    works = config.paintings(*config.trained)
    count = len(works)
    with torch.no_grad():
        task = painter.represent(torch.arange(count))
    photograph = central_crop(contents_of(config.images, "test")[0].image, SIZE)

    def respond(task: TaskRepresentation, condition: int) -> Sequence[Image.Image]:
        del condition  # all are shown on one photograph
        with torch.no_grad():
            images = (photograph / 255).expand(len(task), -1, -1, -1)
            painted: Tensor = painter(images, task=task)
        return [_image(each) for each in (255 * painted).round().byte()]

    pairs = [(number, (number + 1) % count) for number in range(min(count, PAIRS))]
    return Exploration(
        task=task,
        title="Style transfer",
        data=f"The {count} paintings that the network was trained on, and one photograph that it "
        "was not trained on.",
        labels={
            "painting": [each.title for each in works],
            "painter": [each.painter or "none" for each in works],
        },
        images=[_image(central_crop(each.image, SIZE)) for each in works],
        respond=respond,
        pairs=pairs if count > 1 else [],
        triples=[(0, 1, 2, f"{works[0].title} + {works[1].title} - {works[2].title}")]
        if count > 2
        else [],
    )


def _image(pixels: UInt8[Tensor, "3 S S"]) -> Image.Image:
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
