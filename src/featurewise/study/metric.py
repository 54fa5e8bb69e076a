"""A measure as an object: one name, one definition, one unit, printed wherever it is used."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from featurewise.training.errors import ExperimentError

PERCENT: Final = "%"
"""Unit of a share: stored from 0 to 1, shown and compared from 0 to 100."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A number that an evaluation gives.

    Attributes:
        name: as results, tables and claims write it, as in "training loss".
        what: its definition, as in "cross-entropy on the training digits".
        unit: "%" for a share, which is stored from 0 to 1; "points" for a difference of two
            shares, times 100; "nats", "px" and so on; empty for a number without a unit.
        better: which direction is an improvement; empty where neither is.
        ends: least and largest value that any result could have, in the unit; a share ends at 0
            and 100.

    Raises:
        ExperimentError: the name or the definition is missing.
    """

    name: str
    what: str
    unit: str = ""
    better: Literal["higher", "lower", ""] = ""
    ends: tuple[float, float] = (-math.inf, math.inf)

    def __post_init__(self) -> None:
        if not self.name or not self.what:
            raise ExperimentError(f"a metric needs a name and a definition: {self.name!r}")
        if self.unit == PERCENT and math.isinf(self.ends[1]):
            object.__setattr__(self, "ends", (0.0, 100.0))

    @property
    def scale(self) -> float:
        """What a stored value is multiplied by to be shown in the unit."""
        return 100.0 if self.unit == PERCENT else 1.0

    @property
    def heading(self) -> str:
        """Name and unit, as the head of a column."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def text(self, value: float) -> str:
        """A value in the unit, with as many digits as mean something; without the unit.

        Args:
            value: in the unit, so that a share lies between 0 and 100.
        """
        if self.unit in (PERCENT, "points"):
            return f"{value:.1f}"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"

    def with_unit(self, value: float | int) -> str:
        """A number as sentences write it, as in "98 %"."""
        return f"{value:g} {self.unit}".rstrip()


ACCURACY: Final = Metric(
    "accuracy", "share of test samples that are classified correctly", PERCENT, "higher"
)
"""The metric of that name, where a system does not define its own more exactly."""
