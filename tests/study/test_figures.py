"""Figures as images."""

from __future__ import annotations

import builtins
from typing import Any

import pytest

from featurewise.study.figures import BAR, bars, figure
from featurewise.training.errors import ExperimentError

pytest.importorskip("matplotlib", reason="matplotlib is not installed")


def heights_in_pixels(heights: list[float]) -> list[int]:
    """Height of each bar in pixels: the maximum number of pixels of its colour in a column."""
    image = bars(heights, "layer", "points", first=2)
    colour = tuple(int(BAR[i : i + 2], 16) for i in (1, 3, 5))
    columns = [
        sum(image.getpixel((x, y)) == colour for y in range(image.height))
        for x in range(image.width)
    ]
    found, before = [], 0
    for column in columns:
        if column and not before:
            found.append(column)
        elif column:
            found[-1] = max(found[-1], column)
        before = column
    return found


def test_heights_of_bars_are_proportional_to_the_numbers() -> None:
    one, two, four = heights_in_pixels([10.0, 20.0, 40.0])
    assert two == pytest.approx(2 * one, rel=0.06)  # tolerance for antialiasing
    assert four == pytest.approx(4 * one, rel=0.06)


def test_the_axis_includes_1() -> None:
    """Otherwise differences far below one unit would look large."""
    whole, tenth = heights_in_pixels([1.0, 0.1])
    assert tenth == pytest.approx(whole / 10, abs=2)
    (single,) = heights_in_pixels([0.1])
    assert single == pytest.approx(tenth, abs=2)


def test_missing_matplotlib_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ExperimentError, match="pip install matplotlib"):
        figure(1.0, 1.0)
