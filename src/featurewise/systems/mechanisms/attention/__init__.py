"""Attention against FiLM. Dumoulin et al. 2018, Distill; Vaswani et al. 2017, eq. 1.

Attention weights positions, the same in all features; FiLM weights features, the same at
all positions::

    attention   softmax(q(z) K(x)ᵀ / sqrt(C)) V(x)       FiLM   γ(z) ⊙ x + β(z)

So a cue z that names a position should suit attention, and one that names a feature
FiLM, at equal parameters. Their cost is counted against the length of sequences.
"""

from __future__ import annotations

from dataclasses import replace

from featurewise.study.claims import Claim, Statement, above, at_least, at_most, within
from featurewise.study.metric import ACCURACY
from featurewise.study.system import Arm, Paper, System
from featurewise.systems.mechanisms.attention.experiment import (
    EXPONENT,
    FEATURE,
    LIFT_FEATURE,
    LIFT_PLACE,
    PLACE,
    data,
    evaluate,
)
from featurewise.systems.mechanisms.attention.method import Config, Network, stepper
from featurewise.training.loop import Intervals
from featurewise.worlds.small.facts import SYMBOL_GRIDS

__all__ = ["SYSTEM", "Config"]

SMALL = Config(steps=1_500, intervals=Intervals(log=100, save=500))

SYSTEM = System(
    name="attention",
    doc=__doc__,
    paper=Paper(
        "Dumoulin et al. 2018: Feature-wise transformations. Distill; Vaswani et al. "
        "2017: Attention Is All You Need. NeurIPS",
        "https://distill.pub/2018/feature-wise-transformations",
        "related ideas, attention; Vaswani et al., eq. 1, table 1",
    ),
    world=SYMBOL_GRIDS,
    presets={
        "tiny": replace(
            SMALL, steps=30, side=3, symbols=4, batch_size=32, test_questions=64
        ),
        "small": SMALL,
        "paper": replace(SMALL, side=14, symbols=32, attention_width=63, both_width=26),
    },
    arms=(
        Arm(
            "film",
            "the system: features are scaled and shifted, the same at all positions",
        ),
        Arm(
            "attention",
            "positions are weighted by softmax and summed; as many parameters",
            conditioned=False,
            pooling="attention",
        ),
        Arm(
            "both",
            "attention over the map of a trunk with FiLM; as many parameters",
            pooling="attention",
        ),
        Arm("condition", "the cue alone", reads_grid=False, conditioned=False),
        Arm("input", "the grid alone", conditioned=False),
        Arm(
            "shuffled",
            "control: FiLM by the cue of another question of its kind",
            shuffled_condition=True,
        ),
    ),
    build=Network,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    metrics=(PLACE, FEATURE, LIFT_PLACE, LIFT_FEATURE, EXPONENT),
    finding="At equal parameters attention answers questions about a position and FiLM "
    "questions about a feature, each far better than the other; both together answer "
    "all questions.",
    claims=(
        Claim(
            "Attention answers questions about a position better than FiLM.",
            above(PLACE, "attention", "film", 10),
            Statement(
                "attention weights positions, FiLM weights features",
                "Distill, related ideas, attention",
                comparable="no: the essay has no experiment",
            ),
        ),
        Claim(
            "FiLM answers questions about a feature better than attention.",
            above(FEATURE, "film", "attention", 10),
            Statement(
                "attention weights positions, FiLM weights features",
                "Distill, related ideas, attention",
                comparable="no: the essay has no experiment",
            ),
        ),
        Claim("FiLM makes use of the cue.", above(ACCURACY, "film", "input", 20)),
        Claim(
            "FiLM uses the cue of its own question.",
            above(ACCURACY, "film", "shuffled", 20),
            added=("small",),
        ),
        Claim(
            "The cue of another question is worth no more than none.",
            within(ACCURACY, "shuffled", "input", 5),
        ),
        Claim(
            "Maxima of a map with FiLM are where the symbol of the cue is.",
            at_least(LIFT_FEATURE, "film", 2),
        ),
        Claim(
            "The cost of attention grows faster than in proportion to the length.",
            at_least(EXPONENT, "attention", 1.6),
            Statement(
                "operations per layer grow with the square of the length",
                "Vaswani et al., table 1",
                "exponent 2",
                "yes",
            ),
        ),
        Claim(
            "The cost of FiLM grows in proportion to the length.",
            at_most(EXPONENT, "film", 1.3),
        ),
    ),
    departures=(
        "The sources name no experiment; world, sizes and training are the library's.",
        "What is shown of positions is about two blocks: in one run FiLM with 4 blocks, "
        "1.7 times the parameters and 4,000 steps answered all questions of both kinds.",
        "Cost is counted in operations, of n queries on n positions. The trained task "
        "has a single query, for which both costs are linear in the positions. Times: "
        "benchmarks/length.py.",
        "Preset paper has larger grids, more symbols and wider layers; no paper's "
        "experiment is repeated.",
    ),
    tuned_on="not recorded",
    tested_on="4,000 questions, each about a grid of its own, which no run is trained "
    "on",
    expected="attention close to 100 % on places, FiLM on features; both together on "
    "both",
)
