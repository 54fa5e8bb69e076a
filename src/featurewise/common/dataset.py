"""Facts of a data set, which stand with the world that renders or reads it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """What a reader of a result has to know of its data.

    Attributes:
        what: the data, in a sentence or two; never under the name of an official data set that
            they are not.
        licence: of the data.
        needs: what must be installed for them, and the line that does it; empty for nothing.
    """

    what: str
    licence: str
    needs: str = ""
