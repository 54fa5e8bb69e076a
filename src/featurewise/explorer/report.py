"""A report as one HTML file: it opens in any browser, loads no other file and runs no code."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from PIL.Image import Image

from featurewise.analysis import ParameterTable
from featurewise.common.files import write_bytes
from featurewise.explorer import figures
from featurewise.explorer.tables import Report, ReportError, Score

_TEMPLATE = Path(__file__).with_name("report.html.j2")


def render(report: Report) -> str:
    """The page as HTML text.

    Raises:
        ReportError: Jinja or matplotlib is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise ReportError("a report needs Jinja: pip install jinja2") from error
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(percent=_percent, score=_score, number=_number, data=_data)
    page = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    parameters = report.parameters
    return page.render(
        report=report,
        accuracy=[(table, Markup(figures.accuracy(table))) for table in report.accuracy],
        curves=Markup(figures.curves(report.losses)) if report.losses else None,
        histograms=None if parameters is None else Markup(figures.histograms(parameters)),
        sites=[] if parameters is None else _sites(parameters),
    )


def write(report: Report, path: Path | str) -> Path:
    """Write the page as one file, atomically.

    Raises:
        ReportError: see `render`.
        OSError: the file cannot be written.
    """
    path = Path(path)
    text = render(report)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, text.encode())
    return path


def _sites(parameters: ParameterTable) -> list[dict[str, Any]]:
    """Summary statistics of each site, one row per site."""
    return [{"site": site, **parameters.at(site).summary()} for site in parameters.sites]


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _score(score: Score | None) -> str:
    if score is None:
        return "–"
    return f"{100 * score.value:.1f} [{100 * score.low:.1f}, {100 * score.high:.1f}]"


def _number(value: float | None) -> str:
    return "–" if value is None else format(value, ".4g")


def _data(image: Image) -> str:
    """An image as a ``data:`` URL."""
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
