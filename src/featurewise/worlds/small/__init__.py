"""The small world: tasks that take seconds, and the digits of scikit-learn."""

from featurewise.worlds.small.digits import CLASSES, SPLITS, Digits, DigitSource, digits
from featurewise.worlds.small.errors import MissingPackageError, SmallWorldError
from featurewise.worlds.small.tasks import TASKS, Asked, Tasks, TaskSource, detect, match, parity

__all__ = [
    "CLASSES",
    "SPLITS",
    "TASKS",
    "Asked",
    "DigitSource",
    "Digits",
    "MissingPackageError",
    "SmallWorldError",
    "TaskSource",
    "Tasks",
    "detect",
    "digits",
    "match",
    "parity",
]
