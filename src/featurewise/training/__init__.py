"""Training of any network: loop, steppers, checkpoints, optimisation.

One module per topic; the most used names can be imported from here.
"""

from featurewise.training.checkpoint import CheckpointStore
from featurewise.training.errors import CheckpointError, ExperimentError, Interrupted
from featurewise.training.loop import Fit, Intervals, fit
from featurewise.training.overfit import OverfitMonitor, OverfitWarning
from featurewise.training.randomness import seed_everything
from featurewise.training.source import Source
from featurewise.training.steppers import (
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
    "ExperimentError",
    "Fit",
    "Generative",
    "Interrupted",
    "Intervals",
    "OverfitMonitor",
    "OverfitWarning",
    "Rollout",
    "Source",
    "Stepper",
    "Supervised",
    "fit",
    "seed_everything",
]
