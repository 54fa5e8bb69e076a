"""Small residual networks for images of one channel, with named sites.

He et al. 2016, *Deep Residual Learning for Image Recognition*, figure 2 and section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def convolution(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    """A 3×3 convolution that keeps the positions of features, or every second one."""
    return nn.Conv2d(before, after, 3, stride, padding=1, bias=False)


class ResidualBlock(nn.Module):
    """``relu(branch(x) + shortcut(x))``; the branch is convolution, norm, ReLU, convolution, norm.

    Args:
        before: channels of x.
        after: channels of the result. Where they differ from ``before``, height and width are
            halved, and the shortcut is a 1×1 convolution with a norm; else it is the identity.
        inner: channels between the convolutions of the branch.
    """

    def __init__(self, before: int, after: int, inner: int) -> None:
        super().__init__()
        stride = 1 if before == after else 2
        self.branch = nn.Sequential(
            convolution(before, inner, stride),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            convolution(inner, after),
            nn.BatchNorm2d(after),
        )
        self.shortcut: nn.Module = nn.Identity()
        if before != after:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D h w"]:
        """Features, of half the height and width where the number of channels changes."""
        return F.relu(self.branch(x) + self.shortcut(x))


class ResidualTrunk(nn.Module):
    """A convolution, residual blocks, and the mean over positions.

    Sites: ``blocks.*.branch.4``, the ends of the residual branches, and all norms.

    Args:
        widths: channels of each block; those of the first also of the convolution before it.
        extra: channels by which the middle of each branch is wider than its end.
        inputs: channels of the images.
    """

    def __init__(self, widths: Sequence[int], extra: int = 0, inputs: int = 1) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            convolution(inputs, widths[0]), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        before = (widths[0], *widths[:-1])
        self.blocks = nn.Sequential(
            *(
                ResidualBlock(one, other, other + extra)
                for one, other in zip(before, widths, strict=True)
            )
        )

    def forward(self, images: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D"]:
        """A vector of each image."""
        return self.blocks(self.stem(images)).mean((2, 3))  # type: ignore[no-any-return]
