"""Images under two kinds of condition: what they show, and where they show it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.labelled import ImageSource


@dataclass(frozen=True)
class Conditions:
    """The layout of a condition: class, row and column of a window, each one-hot.

    Attributes:
        classes: how many there are, K.
        size: height and width S of the images, an even number. The window is half as high and
            wide, so that each of its coordinates has P = S / 2 + 1 values.
    """

    classes: int
    size: int

    @property
    def positions(self) -> int:
        """P."""
        return self.size // 2 + 1

    @property
    def width(self) -> int:
        """K + 2 P."""
        return self.classes + 2 * self.positions

    def of_class(self, labels: Int64[Tensor, " B"]) -> Float[Tensor, "B K2P"]:
        """The class alone."""
        return F.pad(F.one_hot(labels, self.classes).float(), (0, 2 * self.positions))

    def of_window(
        self, rows: Int64[Tensor, " B"], columns: Int64[Tensor, " B"]
    ) -> Float[Tensor, "B K2P"]:
        """The position of the window alone, that of its upper left corner."""
        hot = [F.one_hot(each, self.positions).float() for each in (rows, columns)]
        return F.pad(torch.cat(hot, dim=1), (self.classes, 0))

    def uninformative(self, condition: Float[Tensor, "B K2P"]) -> Float[Tensor, "B K2P"]:
        """An equal share of each value, but still of the same kind: class or position.

        Sums stay those of one-hot rows, so that a step of Adam moves the network as far.
        """
        parts = self._parts(condition)
        equal = [part.sum(1, keepdim=True).expand_as(part) / part.shape[1] for part in parts]
        return torch.cat(equal, dim=1)

    def mask(self, condition: Float[Tensor, "B K2P"]) -> Float[Tensor, "B 1 S S"]:
        """1 within the window, 0 outside, and everywhere where no window is given."""
        _, rows, columns = self._parts(condition)
        line = torch.arange(self.size, device=condition.device)
        start = torch.arange(self.positions, device=condition.device)[:, None]
        covers = ((line >= start) & (line < start + self.size // 2)).to(condition.dtype)
        mask: Tensor = (rows @ covers)[:, :, None] * (columns @ covers)[:, None, :]
        return mask[:, None]

    def _parts(self, condition: Float[Tensor, "B K2P"]) -> tuple[Tensor, ...]:
        """Class, row and column."""
        return torch.split(condition, [self.classes, self.positions, self.positions], dim=1)


@dataclass(frozen=True)
class Pixels:
    """Black and white images and what they are conditioned on.

    Attributes:
        images: (B, 1, S, S), ink 1 on paper 0.
        condition: (B, K + 2 P), see `Conditions`.
        what: (B,), whether the condition is the class; otherwise it is the window.
    """

    images: Float[Tensor, "B 1 S S"]
    condition: Float[Tensor, "B K2P"]
    what: Bool[Tensor, "B"]


class PlacedSource:
    """Batches whose first half is conditioned on the class, the second on a window.

    What: an image of the class. Where: an image of any class, which is not given, at half the size
    in a window of random position, with paper around it.

    Args:
        source: of the images; ``batch(i)`` depends on its seed and on i alone.
        conditioned: False for a control whose condition says only of which kind it is.

    Raises:
        GlyphError: images whose size is odd.
    """

    def __init__(self, source: ImageSource, conditioned: bool = True) -> None:
        size = source.images.images.shape[-1]
        if size % 2:
            raise GlyphError(f"size must be an even number, got {size}")
        self.source, self.conditioned = source, conditioned
        self.conditions = Conditions(len(source.frequencies), size)

    def batch(self, index: int, /) -> Pixels:
        """The batch of this index."""
        found, layout = self.source.batch(index), self.conditions
        count = len(found.labels)
        rng = seeded_rng(self.source.seed, "window", index)
        rows, columns = torch.randint(layout.positions, (2, count), generator=rng)
        what = torch.arange(count) < count // 2
        images = torch.where(
            what[:, None, None, None], found.images, placed(found.images, rows, columns)
        )
        condition = torch.where(
            what[:, None], layout.of_class(found.labels), layout.of_window(rows, columns)
        )
        if not self.conditioned:
            condition = layout.uninformative(condition)
        return Pixels((images > 0.5).float(), condition, what)


def placed(
    images: Float[Tensor, "B 1 S S"], rows: Int64[Tensor, " B"], columns: Int64[Tensor, " B"]
) -> Float[Tensor, "B 1 S S"]:
    """Images at half their size, each in the window at its row and column, 0 around it."""
    half = images.shape[-1] // 2
    small, page = F.avg_pool2d(images, 2), torch.zeros_like(images)
    for image, (row, column) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
        page[image, :, row : row + half, column : column + half] = small[image]
    return page
