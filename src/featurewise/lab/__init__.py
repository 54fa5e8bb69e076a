"""The lab: training, checkpoints, results and cards of systems it knows nothing about.

Each idea has its file; the everyday names are gathered here.
"""

from featurewise.lab.checkpoint import CheckpointStore
from featurewise.lab.errors import CheckpointError, Interrupted, LabError
from featurewise.lab.gap import GapWarning, GapWatch
from featurewise.lab.loop import Every, Fit, fit
from featurewise.lab.randomness import seed_everything
from featurewise.lab.source import Source
from featurewise.lab.stepper import Stepper, Supervised

__all__ = [
    "CheckpointError",
    "CheckpointStore",
    "Every",
    "Fit",
    "GapWarning",
    "GapWatch",
    "Interrupted",
    "LabError",
    "Source",
    "Stepper",
    "Supervised",
    "fit",
    "seed_everything",
]
