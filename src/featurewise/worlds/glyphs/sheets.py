"""Contact sheets of letters, and diversity and mode coverage of generated letters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from featurewise.worlds.glyphs.errors import GlyphError

#: White pixels around each image of a sheet.
_GAP: Final = 2


@runtime_checkable
class LetterClassifier(Protocol):
    """A `Classifier`, or anything else that gives logits of letters."""

    def letters(self, images: Float[Tensor, "N 1 S S"], /) -> Float[Tensor, "N K"]:
        """Logits of the K letters."""


def sheet(
    images: Float[Tensor, "R C 1 S S"], rows: Sequence[str] = (), zoom: int = 2
) -> Image.Image:
    """R rows of C images, dark ink on white.

    Args:
        images: 1 for ink, 0 for background; values outside [0, 1] are clamped.
        rows: labels at the left, one for each row; none for no labels.
        zoom: pixels of the sheet for one pixel of an image, along each axis.

    Raises:
        ValueError: another number of labels than of rows.
    """
    down, across, _, size, _ = images.shape
    if len(rows) not in (0, down):
        raise ValueError(f"{down} rows of images need {down} labels or none, got {len(rows)}")
    font = ImageFont.load_default()
    left = max((math.ceil(font.getlength(label)) + 2 * _GAP for label in rows), default=0)
    cell = zoom * size + _GAP
    page = Image.new("L", (left + across * cell + _GAP, down * cell + _GAP), 255)
    ink = images.detach().float().cpu().clamp(0, 1)
    pixels = (255 * (1 - ink[:, :, 0])).round().to(torch.uint8)
    pixels = pixels.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    for row in range(down):
        top = row * cell + _GAP
        for column in range(across):
            image = Image.fromarray(pixels[row, column].numpy())
            page.paste(image, (left + column * cell + _GAP, top))
        if rows:
            middle = (_GAP, top + zoom * size // 2)
            ImageDraw.Draw(page).text(middle, rows[row], fill=0, font=font, anchor="lm")
    return page


#: A class counts in the mode coverage from this share of the mean class frequency on.
_COVERAGE_THRESHOLD: Final = 0.2


def mode_coverage(predictions: Int64[Tensor, " N"], classes: int) -> float:
    """Mode coverage: the share, 0 to 1, of classes that samples are classified as often enough.

    A class counts if at least 0.2 / ``classes`` of the samples are classified as it, a fifth of
    its share if all classes were equally frequent. A generator that drops modes has a lower value.

    Args:
        predictions: the class that the evaluation classifier predicts for each sample.
        classes: number of classes.

    Raises:
        GlyphError: no class, or a prediction that is not from 0 to below ``classes``.
    """
    found = sorted(set(predictions.tolist()))
    if classes < 1 or (found and not 0 <= found[0] <= found[-1] < classes):
        raise GlyphError(f"predictions must be from 0 to below {classes} classes, got {found}")
    share = torch.bincount(predictions, minlength=classes).double() / len(predictions)
    return float((share >= _COVERAGE_THRESHOLD / classes).sum()) / classes


def diversity(images: Float[Tensor, "N 1 S S"], letters: Int64[Tensor, " N"]) -> float:
    """Diversity: mean distance between two images of the same letter.

    The distance is the root mean square difference over pixels; it is averaged over the pairs of a
    letter, then over letters. Letters with one image do not count. Compared with that of real
    images, it shows a generator that makes one image of each letter.

    Args:
        images: ink 1, background 0.
        letters: label of each image.

    Raises:
        ValueError: no letter has two images.
    """
    distances = []
    for letter in torch.bincount(letters).nonzero():
        same = images[letters == letter].flatten(1).double()
        if len(same) > 1:
            pairs = torch.pdist(same) / same.shape[1] ** 0.5
            distances.append(pairs.mean())
    if not distances:
        raise ValueError("diversity needs two images of at least one letter")
    return float(torch.stack(distances).mean())
