"""What keeps a FiLM generator from overfitting. Perez et al. 2018, section 3.2.

A network with few scenes to train on, whose FiLM generator is one linear map, a deep
perceptron, or a recurrent decoder that goes from block to block. Adam has more or less
weight decay, and the loss may have a penalty on how far γ and β go from the identity::

    loss = cross-entropy + λ · mean((γ - 1)² and β²)

What is compared is the accuracy on new scenes, and the gap between it and that on the
scenes of training.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from featurewise.study.claims import Claim, Statement, above, within
from featurewise.study.metric import ACCURACY
from featurewise.study.system import Arm, Intervals, Paper, System
from featurewise.systems.reasoning.ablations import method as ablations
from featurewise.systems.reasoning.cogent.presets import PRESETS as COGENT
from featurewise.systems.reasoning.regularization.experiment import (
    GAP,
    METRICS,
    data,
    evaluate,
)
from featurewise.systems.reasoning.regularization.method import (
    Config,
    build,
    stepper,
)
from featurewise.worlds.clevr.splits import CLEVR

__all__ = ["SYSTEM", "Config"]

# --- experiment --------------------------------------------------------------------

PENALTY = 0.1


def _preset(name: str, **changes: Any) -> Config:
    """Scenes and sizes of `cogent`, with all combinations of color and shape."""
    like = COGENT[name]
    shared = {f.name: getattr(like, f.name) for f in fields(ablations.Config)}
    return Config(**shared | changes)


def _shortened(config: Config, steps: int) -> Config:
    stages = tuple(replace(stage, steps=steps) for stage in config.curriculum)
    return replace(config, steps=steps, curriculum=stages)


PRESETS = {
    "tiny": _preset("tiny", training_scenes=32),
    "small": _shortened(
        _preset("small", intervals=Intervals(log=50, evaluate=900, save=300)), 900
    ),
    "paper": _preset("paper", training_scenes=70_000),
}
_ANECDOTE = Statement(
    "FiLM without weight decay loses about ten points",
    "no paper: H. de Vries, in a discussion",
    "about 10 points",
    "no: one person's report, without a published measurement",
)
_DEEP = (
    "a generator of several layers overfits unless its output is held near the identity"
)
SYSTEM = System(
    name="regularization",
    doc=__doc__,
    paper=Paper(
        "Perez, Strub, de Vries, Dumoulin, Courville 2018: FiLM: Visual Reasoning "
        "with a General Conditioning Layer. AAAI",
        "https://arxiv.org/abs/1709.07871",
        "section 3.2",
        "weight decay of 1e-5, a linear generator; without comparison",
    ),
    world=CLEVR,
    presets=PRESETS,
    arms=(
        Arm("linear", "the system: a linear generator, weight decay of 1e-5"),
        Arm("linear_decay_0", "without weight decay", weight_decay=0.0),
        Arm("linear_decay_6", "weight decay of 1e-6", weight_decay=1e-6),
        Arm("linear_decay_4", "weight decay of 1e-4", weight_decay=1e-4),
        Arm("linear_penalty", "with the penalty", deviation=PENALTY),
        Arm(
            "linear_penalty_0",
            "with the penalty, without weight decay",
            deviation=PENALTY,
            weight_decay=0.0,
        ),
        Arm("deep", "a deep generator", generator="deep"),
        Arm(
            "deep_decay_0",
            "a deep generator, without weight decay",
            generator="deep",
            weight_decay=0.0,
        ),
        Arm(
            "deep_penalty",
            "a deep generator with the penalty",
            generator="deep",
            deviation=PENALTY,
        ),
        Arm("decoder", "a recurrent decoder from block to block", generator="decoder"),
        Arm(
            "decoder_decay_0",
            "a recurrent decoder, without weight decay",
            generator="decoder",
            weight_decay=0.0,
        ),
        Arm(
            "decoder_penalty",
            "a recurrent decoder with the penalty",
            generator="decoder",
            deviation=PENALTY,
        ),
        Arm(
            "shuffled",
            "control: each question is replaced by that of another scene, answers stay",
            shuffled_questions=True,
        ),
    ),
    build=build,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    metrics=METRICS,
    claims=(
        Claim(
            "The network uses the question that it is conditioned on.",
            above(ACCURACY, "linear", "shuffled", 20),
        ),
        Claim(
            "Without weight decay it is far worse.",
            above(ACCURACY, "linear", "linear_decay_0", 5),
            _ANECDOTE,
        ),
        Claim(
            "Weight decay narrows the gap between training and new scenes.",
            above(GAP, "linear_decay_0", "linear_decay_4", 1),
        ),
        Claim(
            "A deep generator is worse than a linear one.",
            above(ACCURACY, "linear", "deep", 1),
            Statement(
                _DEEP,
                "Oreshkin et al. 2018, section 2.2",
                "no number",
                "direction only: another task, and another form of the penalty",
            ),
        ),
        Claim(
            "With the penalty it is as good as the linear one.",
            within(ACCURACY, "deep_penalty", "linear", 2),
        ),
        Claim(
            "The penalty narrows the gap of a deep generator.",
            above(GAP, "deep", "deep_penalty", 1),
        ),
        Claim(
            "A recurrent decoder is worse than a linear generator.",
            above(ACCURACY, "linear", "decoder", 1),
        ),
        Claim(
            "With the penalty a linear generator is no better than without.",
            within(ACCURACY, "linear_penalty", "linear", 2),
        ),
    ),
    departures=(
        "Maps of what stands where in place of images, scenes of 1 to 3 objects, questions "
        "without relations, as in `cogent`; 1,000 scenes to train on, each read about "
        "29 times, so that there is something to overfit.",
        "Weight decays of 1e-6 and 1e-4 are tried with the linear generator alone.",
        "TADAM penalises learned multipliers of its γ and β; this is the distance of γ and "
        "β themselves, as in CNAPs, with a weight of 0.1 that was not tuned.",
        "Preset paper has the widths of FiLM and 70,000 scenes.",
    ),
    tuned_on="nothing: learning rate and widths are those of `cogent`",
    tested_on="1,000 scenes with up to 10 questions each that no trial is trained on; scenes "
    "are the independent units",
    cost={"tiny": "seconds", "paper": "one GPU; never run"},
)
