"""Figures as pictures."""

from __future__ import annotations

import builtins
from typing import Any

import pytest

from featurewise.study.figures import BAR, bars, figure
from featurewise.training.errors import ExperimentError

pytest.importorskip("matplotlib", reason="matplotlib is not installed")


def ink(heights: list[float]) -> list[int]:
    """How high each bar is, in pixels: the most in its colour in a column, bar by bar."""
    picture = bars(heights, "layer", "points", first=2)
    colour = tuple(int(BAR[i : i + 2], 16) for i in (1, 3, 5))
    columns = [
        sum(picture.getpixel((x, y)) == colour for y in range(picture.height))
        for x in range(picture.width)
    ]
    found, before = [], 0
    for column in columns:
        if column and not before:
            found.append(column)
        elif column:
            found[-1] = max(found[-1], column)
        before = column
    return found


def test_bars_are_as_high_as_their_numbers() -> None:
    one, two, four = ink([10.0, 20.0, 40.0])
    assert two == pytest.approx(2 * one, rel=0.06)  # edges are smoothed
    assert four == pytest.approx(4 * one, rel=0.06)


def test_small_ones_are_not_blown_up() -> None:
    """Of a hundredth of a point nothing is seen: the axis reaches to 1."""
    whole, tenth = ink([1.0, 0.1])
    assert tenth == pytest.approx(whole / 10, abs=2)
    (alone,) = ink([0.1])
    assert alone == pytest.approx(tenth, abs=2)


def test_without_matplotlib_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ExperimentError, match="pip install matplotlib"):
        figure(1.0, 1.0)
