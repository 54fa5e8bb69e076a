"""What people look at: the explorer of task representations, and reports.

`explore` makes an `ExplorerBundle` of a conditioned network: a page with linked figures.
`featurewise.explorer.server` serves the page of a `Live` network, which answers new conditions.
Fill a `Report` and `write` it: one HTML file without code, made from typed tables.
"""

from featurewise.explorer.build import explore
from featurewise.explorer.bundle import ExplorerBundle, ExplorerError
from featurewise.explorer.live import Live, LiveError
from featurewise.explorer.report import render, write
from featurewise.explorer.tables import (
    AccuracyRow,
    AccuracyTable,
    AnsweredQuestion,
    Claim,
    Curve,
    ImageQuestions,
    Report,
    ReportError,
    Score,
)

__all__ = [
    "AccuracyRow",
    "AccuracyTable",
    "AnsweredQuestion",
    "Claim",
    "Curve",
    "ExplorerBundle",
    "ExplorerError",
    "ImageQuestions",
    "Live",
    "LiveError",
    "Report",
    "ReportError",
    "Score",
    "explore",
    "render",
    "write",
]
