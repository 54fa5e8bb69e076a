"""What people look at: pages and figures, drawn from typed tables.

Fill a `Report` and `write` it: one HTML file that opens anywhere.
"""

from featurewise.explorer.report import render, write
from featurewise.explorer.tables import (
    AccuracyRow,
    AccuracyTable,
    Asked,
    Claim,
    Curve,
    Picture,
    Report,
    ReportError,
    Score,
)

__all__ = [
    "AccuracyRow",
    "AccuracyTable",
    "Asked",
    "Claim",
    "Curve",
    "Picture",
    "Report",
    "ReportError",
    "Score",
    "render",
    "write",
]
