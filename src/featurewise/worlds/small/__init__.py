"""The small world: tasks that train in seconds, and the digits of scikit-learn."""

from featurewise.worlds.small.digits import CLASSES, SPLITS, Digits, DigitSource, digits
from featurewise.worlds.small.errors import MissingPackageError, SmallWorldError
from featurewise.worlds.small.tasks import (
    TASKS,
    Questions,
    Tasks,
    TaskSource,
    detect,
    fallback,
    match,
    parity,
)

__all__ = [
    "CLASSES",
    "SPLITS",
    "TASKS",
    "DigitSource",
    "Digits",
    "MissingPackageError",
    "Questions",
    "SmallWorldError",
    "TaskSource",
    "Tasks",
    "detect",
    "digits",
    "fallback",
    "match",
    "parity",
]
