"""Reports for people: HTML pages and figures, made from typed tables.

Fill a `Report` and `write` it: one HTML file, which opens in any browser.
"""

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
    "ImageQuestions",
    "Report",
    "ReportError",
    "Score",
    "render",
    "write",
]
