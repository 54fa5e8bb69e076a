"""What one training step does: five kinds of descent, and one that solves.

* `Supervised`: one network, one optimizer, one loss;
* `Episodic`: a batch is several episodes, a support and a query set each;
* `Generative`: as supervised, and the network draws;
* `Adversarial`: two networks, two optimizers;
* `Rollout`: a batch is the seeds of environments, which are played, then learned from;
* `ClosedForm`: the weights are solved for.
"""

from featurewise.training.steppers.adversarial import Adversarial, GanLoss
from featurewise.training.steppers.base import (
    HasLearners,
    Learner,
    Metrics,
    Objective,
    Options,
    Sampler,
    Samples,
    Stepper,
    evaluation,
)
from featurewise.training.steppers.closed_form import ClosedForm, Solve
from featurewise.training.steppers.episodic import Auxiliary, Episodic
from featurewise.training.steppers.generative import Generative
from featurewise.training.steppers.rollout import (
    Decision,
    Environment,
    Learn,
    Rollout,
    Trajectories,
    play,
    policy_gradient,
)
from featurewise.training.steppers.supervised import Supervised

__all__ = [
    "Adversarial",
    "Auxiliary",
    "ClosedForm",
    "Decision",
    "Environment",
    "Episodic",
    "GanLoss",
    "Generative",
    "HasLearners",
    "Learn",
    "Learner",
    "Metrics",
    "Objective",
    "Options",
    "Rollout",
    "Sampler",
    "Samples",
    "Solve",
    "Stepper",
    "Supervised",
    "Trajectories",
    "evaluation",
    "play",
    "policy_gradient",
]
