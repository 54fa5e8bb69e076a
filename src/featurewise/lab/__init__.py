"""The lab: training, checkpoints, results and cards of systems it knows nothing about.

Each idea has its file; the everyday names are gathered here.
"""

from featurewise.lab.checkpoint import CheckpointStore
from featurewise.lab.errors import CheckpointError, Interrupted, LabError
from featurewise.lab.gap import GapWarning, GapWatch
from featurewise.lab.loop import Every, Fit, fit
from featurewise.lab.randomness import seed_everything
from featurewise.lab.source import Source
from featurewise.lab.steppers import (
    Adversarial,
    ClosedForm,
    Episodic,
    Generative,
    Rollout,
    Stepper,
    Supervised,
)

__all__ = [
    "Adversarial",
    "CheckpointError",
    "CheckpointStore",
    "ClosedForm",
    "Episodic",
    "Every",
    "Fit",
    "GapWarning",
    "GapWatch",
    "Generative",
    "Interrupted",
    "LabError",
    "Rollout",
    "Source",
    "Stepper",
    "Supervised",
    "fit",
    "seed_everything",
]
