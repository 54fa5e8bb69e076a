"""Figures as pictures, for cards and what systems draw."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from PIL import Image

from featurewise.training.errors import ExperimentError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BAR = "#c2410c"
"""Colour of what a picture is about."""


def figure(width: float, height: float) -> Figure:
    """An empty figure, drawn without a screen.

    Args:
        width: in inches of 100 dots.
        height: likewise.

    Raises:
        ExperimentError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ExperimentError("matplotlib is not installed: pip install matplotlib") from error
    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def as_image(drawn: Figure) -> Image.Image:
    """The picture of a figure, in RGB."""
    drawn.savefig(buffer := BytesIO(), format="png")
    return Image.open(buffer, formats=("PNG",)).convert("RGB")


def bars(heights: Sequence[float], across: str, up: str, first: int = 1) -> Image.Image:
    """A bar for each number, from 0.

    Args:
        heights: of the bars.
        across: what the bars are, counted from ``first``.
        up: what their heights are, with the unit; the axis reaches from 0 to 1 at least.
        first: number of the first bar.

    Raises:
        ExperimentError: matplotlib is not installed.
    """
    drawn = figure(6.0, 2.4)
    axes = drawn.subplots()
    axes.bar(range(first, first + len(heights)), heights, color=BAR)
    axes.set(xlabel=across, ylabel=up)
    axes.set_ylim(min(0.0, *heights), max(1.0, *heights))
    axes.spines[["top", "right"]].set_visible(False)
    return as_image(drawn)
