"""Pictures of glyphs side by side, and what a judge says of made ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from featurewise.worlds.glyphs.render import Glyphs
from featurewise.worlds.glyphs.source import as_ink

_GAP = 2


@runtime_checkable
class Reader(Protocol):
    """Tells letters: a `Judge`, or anything else that gives logits."""

    def letters(self, images: Float[Tensor, "N 1 S S"], /) -> Float[Tensor, "N K"]:
        """Logits of the K letters."""


def sheet(
    images: Float[Tensor, "R C 1 S S"], rows: Sequence[str] = (), zoom: int = 2
) -> Image.Image:
    """R rows of C pictures, dark ink on white paper.

    Args:
        images: ink in [0, 1], 1 for ink; what is outside is cut off.
        rows: labels at the left, one a row; none for no labels.
        zoom: how many pixels of the sheet one of a picture takes.

    Raises:
        ValueError: another number of labels than of rows.
    """
    down, across, _, size, _ = images.shape
    if len(rows) not in (0, down):
        raise ValueError(f"{down} rows of pictures need {down} labels or none, got {len(rows)}")
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
            picture = Image.fromarray(pixels[row, column].numpy())
            page.paste(picture, (left + column * cell + _GAP, top))
        if rows:
            middle = (_GAP, top + zoom * size // 2)
            ImageDraw.Draw(page).text(middle, rows[row], fill=0, font=font, anchor="lm")
    return page


def grade(
    samples: Float[Tensor, "N 1 S S"], letters: Int64[Tensor, " N"], judge: Reader
) -> dict[str, float]:
    """What a judge reads in made pictures, of which the letters were asked.

    Letters should be asked equally often; then a generator that makes all letters equally often
    has an entropy of 1, whatever was asked.

    Returns:
        ``accuracy`` of the judged on the asked letters, ``correct`` and ``total``; of the
        judged letters alone: ``covered``, the number of letters that have at least a fifth of
        their fair share 1 / K, and ``entropy`` of their histogram, as a share of that of K
        equally frequent ones; ``confidence``, the mean probability of the letter that is judged.

    Raises:
        ValueError: there are no samples.
    """
    if len(samples) == 0:
        raise ValueError("there are no samples to be graded")
    with torch.no_grad():
        chances = judge.letters(samples).softmax(1)
    confidence, judged = chances.max(1)
    share = torch.bincount(judged, minlength=chances.shape[1]).double() / len(judged)
    correct = int((judged == letters.to(judged.device)).sum())
    return {
        "accuracy": correct / len(judged),
        "correct": float(correct),
        "total": float(len(judged)),
        "covered": float((share >= 0.2 / len(share)).sum()),
        "entropy": abs(float(torch.xlogy(share, share).sum())) / math.log(max(len(share), 2)),
        "confidence": float(confidence.mean()),
    }


def spread(images: Float[Tensor, "N 1 S S"], letters: Int64[Tensor, " N"]) -> float:
    """Mean distance (root mean square over pixels) of two pictures of the same letter.

    That of made pictures, as a share of that of real ones, shows a generator that knows one way
    to draw each letter. Letters with one picture do not count.

    Raises:
        ValueError: no letter has two pictures.
    """
    distances = []
    for letter in torch.bincount(letters).nonzero():
        of = images[letters == letter].flatten(1).double()
        if len(of) > 1:
            pairs = torch.pdist(of) / of.shape[1] ** 0.5
            distances.append(pairs.mean())
    if not distances:
        raise ValueError("no letter has two pictures, so that none has a spread")
    return float(torch.stack(distances).mean())


COMPARED: dict[str, str] = {
    "covered": "share of letters that have a fifth of their fair share of what is read",
    "entropy": "of letters as read, 1 where all are as frequent",
    "confidence": "of the judge in what it reads, 0 to 1",
    "spread": "distance of drawings that are read as one letter, over that of real ones",
    "real": "share of real letters that the judge reads",
}
"""What `compare` measures, besides what is right."""


def compare(
    samples: Float[Tensor, "N 1 S S"], letters: Int64[Tensor, " N"], judge: Reader, real: Glyphs
) -> dict[str, float]:
    """`grade` of made pictures, and how they compare with real ones.

    Returns:
        As `grade`, but ``covered`` as a share of all letters, and without ``accuracy``, which is
        correct / total; ``spread`` within what is read as one letter, as a share of that of the
        real ones within a letter; ``real``, the share of the real ones that the judge reads.
    """
    found = grade(samples, letters, judge)
    del found["accuracy"]
    images = as_ink(real.images.flatten(0, 1))
    count = len(real.letters)
    true = torch.arange(count).repeat(len(real.faces))
    # By what is read, not what was asked: one that is not told the letter has a spread, too.
    with torch.no_grad():
        read = judge.letters(samples).argmax(1)
        told = judge.letters(images).argmax(1)
    return {
        **found,
        "covered": found["covered"] / count,
        "spread": spread(samples, read) / spread(images, true),
        "real": float((told == true).double().mean()),
    }
