"""Figures of a report: SVG that takes its text colour from the page, light or dark.

The colours are those of Okabe and Ito, which people with any colour vision can distinguish. Each
colour also has a marker shape and a dash pattern of its own.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, Final, ParamSpec

from featurewise.analysis import ParameterTable
from featurewise.explorer.tables import AccuracyTable, Curve, ReportError

#: Colours with a contrast of at least 3:1 to the light and the dark page; markers and dashes below.
COLORS: Final = ("#0072B2", "#C45500", "#008A66", "#B3578C", "#6F7D00", "#7A6BC4")
_MARKERS: Final = "osD^vP"
_DASHES: Final = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
#: A colour that no figure uses; replaced by the text colour of the page.
_INK: Final = "#010203"

_P = ParamSpec("_P")


def _styled(plot: Callable[_P, str]) -> Callable[_P, str]:
    """The function, run in the style of the report; the global style is restored afterwards."""

    @wraps(plot)
    def styled(*args: _P.args, **kwargs: _P.kwargs) -> str:
        with _style():
            return plot(*args, **kwargs)

    return styled


@_styled
def accuracy(table: AccuracyTable) -> str:
    """Accuracy with 95 % intervals: a row for each kind of question, a marker for each network."""
    figure, axes = _begin(6.4, 0.9 + 0.28 * len(table.rows))
    count = len(table.columns)
    for index, name in enumerate(table.columns):
        shift = 0.22 * (index - (count - 1) / 2) if count > 1 else 0.0
        points = [
            (100 * score.value, row + shift, 100 * score.low, 100 * score.high)
            for row, each in enumerate(table.rows)
            if (score := each.scores[index]) is not None
        ]
        color, marker = COLORS[index % len(COLORS)], _MARKERS[index % len(_MARKERS)]
        axes.hlines(
            [y for _, y, _, _ in points],
            [low for *_, low, _ in points],
            [high for *_, high in points],
            color=color,
            linewidth=1.4,
        )
        xs, ys = [x for x, *_ in points], [y for _, y, *_ in points]
        axes.plot(xs, ys, marker, color=color, markersize=5, label=name)
    axes.set_yticks(range(len(table.rows)), ["   " * r.level + r.name for r in table.rows])
    axes.set_ylim(len(table.rows) - 0.5, -0.5)
    axes.set_xlim(0, 101)
    axes.set_xlabel("accuracy in %, with 95 % interval")
    axes.grid(axis="x", alpha=0.25, color=_INK)
    axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1), ncols=min(count, 3), frameon=False)
    return _finish(figure, f"Accuracy by kind of question: {', '.join(table.columns)}.")


@_styled
def curves(losses: Sequence[Curve]) -> str:
    """Loss over training steps."""
    figure, axes = _begin(6.4, 3.2)
    for index, curve in enumerate(losses):
        axes.plot(
            curve.steps,
            curve.values,
            color=COLORS[index % len(COLORS)],
            linestyle=_DASHES[index % len(_DASHES)],
            linewidth=1.6,
            label=curve.name,
        )
    axes.set_xlabel("training step")
    axes.set_ylabel("loss")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25, color=_INK)
    axes.legend(frameon=False)
    return _finish(figure, f"Training loss: {', '.join(curve.name for curve in losses)}.")


@_styled
def histograms(table: ParameterTable) -> str:
    """Histograms of γ and β, one row of axes for each site; dashed lines mark the identity."""
    sites = len(table.sites)
    figure, grid = _begin(6.4, 0.7 + 1.15 * sites, rows=sites, columns=2)
    for row, site in enumerate(table.sites):
        part = table.at(site)
        for column, (values, letter, rest) in enumerate(
            ((part.gamma, "γ", 1.0), (part.beta, "β", 0.0))
        ):
            axes = grid[row][column]
            axes.hist(values.numpy(), bins=60, color=COLORS[column])
            axes.axvline(rest, color=_INK, linewidth=1, linestyle="--")
            axes.set_yticks([])
            axes.set_title(f"{letter} at {site}", fontsize=9, loc="left", color=_INK)
    return _finish(
        figure, f"Histograms of γ and β at {sites} sites; the table lists their extremes."
    )


def _style() -> AbstractContextManager[None]:
    """Settings of matplotlib: text is kept as text and coloured `_INK`; output is reproducible."""
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise ReportError("figures need matplotlib: pip install matplotlib") from error
    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    style: Any = {
        **dict.fromkeys(inked, _INK),
        "font.size": 10,
        "font.family": "sans-serif",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.fonttype": "none",
        "text.parse_math": False,
        "svg.hashsalt": "featurewise",
    }
    return rc_context(style)


def _begin(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    """A figure and its axes: a single one, or an array of rows and columns."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=rows * columns == 1)


def _finish(figure: Any, label: str) -> str:
    """The figure as a scalable ``svg`` element with a label, unique ids and reproducible bytes."""
    stream = io.StringIO()
    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    prefix = "f" + hashlib.sha256(svg.encode()).hexdigest()[:8]
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r"url\(#", f"url(#{prefix}-", svg)
    svg = re.sub(r'href="#', f'href="#{prefix}-', svg)
    head, _, rest = svg.partition(">")
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    name = label.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return f'{head} role="img" aria-label="{name}">{rest}'
