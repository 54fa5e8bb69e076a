"""Figures as images, for cards and systems."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from PIL import Image

from featurewise.training.errors import ExperimentError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BAR = "#c2410c"
"""Colour of the main data of a figure."""


def figure(width: float, height: float) -> Figure:
    """An empty figure that needs no display.

    Args:
        width: in inches, of 100 pixels.
        height: in inches, of 100 pixels.

    Raises:
        ExperimentError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ExperimentError("matplotlib is not installed: pip install matplotlib") from error
    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def as_image(plot: Figure) -> Image.Image:
    """Renders a figure as an RGB image."""
    plot.savefig(buffer := BytesIO(), format="png")
    return Image.open(buffer, formats=("PNG",)).convert("RGB")


def bars(heights: Sequence[float], xlabel: str, ylabel: str, first: int = 1) -> Image.Image:
    """A bar chart with numbered bars.

    Args:
        heights: of the bars.
        xlabel: label of the x axis.
        ylabel: label of the y axis, with the unit; the axis includes 0 and 1.
        first: number of the first bar.

    Raises:
        ExperimentError: matplotlib is not installed.
    """
    plot = figure(6.0, 2.4)
    axes = plot.subplots()
    axes.bar(range(first, first + len(heights)), heights, color=BAR)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_ylim(min(0.0, *heights), max(1.0, *heights))
    axes.spines[["top", "right"]].set_visible(False)
    return as_image(plot)
