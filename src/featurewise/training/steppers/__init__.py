"""Steppers: what one training step does. Five use gradient descent, one a closed-form solution.

* `Supervised`: one network, one optimizer, one loss;
* `Episodic`: a batch consists of episodes, each with a support set and a query set;
* `Generative`: as `Supervised`, for a network that can be sampled from;
* `Adversarial`: generator and discriminator, with an optimizer each;
* `Rollout`: a batch consists of seeds of environments; a policy-gradient step on their episodes;
* `ClosedForm`: the weights are computed by a solver.
"""

from featurewise.training.steppers.adversarial import Adversarial, GanLoss
from featurewise.training.steppers.base import (
    CanCalibrate,
    CanSample,
    HasLearners,
    Learner,
    Metrics,
    Objective,
    Options,
    Sampler,
    Stepper,
    evaluation,
)
from featurewise.training.steppers.closed_form import ClosedForm, Solve
from featurewise.training.steppers.episodic import Auxiliary, Episodic
from featurewise.training.steppers.generative import Generative
from featurewise.training.steppers.rollout import (
    Decision,
    Environment,
    PolicyLoss,
    Rollout,
    Trajectories,
    play,
    policy_gradient,
)
from featurewise.training.steppers.supervised import Supervised

__all__ = [
    "Adversarial",
    "Auxiliary",
    "CanCalibrate",
    "CanSample",
    "ClosedForm",
    "Decision",
    "Environment",
    "Episodic",
    "GanLoss",
    "Generative",
    "HasLearners",
    "Learner",
    "Metrics",
    "Objective",
    "Options",
    "PolicyLoss",
    "Rollout",
    "Sampler",
    "Solve",
    "Stepper",
    "Supervised",
    "Trajectories",
    "evaluation",
    "play",
    "policy_gradient",
]
