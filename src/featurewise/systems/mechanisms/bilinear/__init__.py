"""Bilinear transforms, and FiLM as one of them. Tenenbaum & Freeman 2000, eq. 1.

A bilinear transform multiplies every feature of x by every feature of z::

    y_k = xᵀ W_k z

With x extended by a one and z = [γ; β] it contains FiLM: W_k has ones at (k, k) and (C,
C + k), so that its rank is 2. A bilinear transform of r factors is FiLM between two
linear maps, to r features and back (Kim et al. 2017, eq. 3); with as many factors as
features it contains FiLM. Each network learns two functions: a FiLM of 16 features, and
a bilinear transform of 8 factors.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

from featurewise.study.claims import (
    Claim,
    Criterion,
    Statement,
    Verdict,
    at_least,
    at_most,
    at_most_ratio,
    by_seed,
    decide,
    decide_ratio,
    numbers,
)
from featurewise.study.results import Results
from featurewise.study.system import Arm, Paper, System
from featurewise.systems.mechanisms.bilinear.experiment import (
    BILINEAR_FEW,
    BILINEAR_MANY,
    EQUAL_DECIMALS,
    ERRORS,
    FILM_FEW,
    FILM_MANY,
    PARAMETERS,
    data,
    evaluate,
)
from featurewise.systems.mechanisms.bilinear.method import Config, Students, stepper
from featurewise.training.loop import Intervals
from featurewise.worlds.small.facts import BILINEAR_TEACHERS

__all__ = ["SYSTEM", "Config"]

FACTORS = (1, 2, 4, 8, 16)
"""Factors of the arms; the bilinear transform that is learned has 8, FiLM is one of 16."""


def more_factors_help() -> Criterion:
    """Each number of factors up to 8 leaves at most 0.9 of the error of the one before it."""
    arms = tuple(f"factors{count}" for count in FACTORS[:-1])

    def verdict(results: Results) -> Verdict:
        seeds = by_seed(results, BILINEAR_MANY, *arms)
        worst = [max(more / fewer for fewer, more in pairwise(each)) for each in seeds]
        return decide_ratio(worst, 0.9)

    sentence = "Each step from 1 to 2, 4, 8 factors leaves at most 0.9 of the error."
    return Criterion(sentence, verdict, arms, (BILINEAR_MANY,), "×")


def fewest_parameters() -> Criterion:
    """How many times FiLM's parameters the next arm has that learns a FiLM; 0 for no such arm."""

    def verdict(results: Results) -> Verdict:
        ratios = []
        for seed in sorted({trial.seed for trial in results.of("film")}):
            same = replace(
                results, trials=tuple(t for t in results.trials if t.seed == seed)
            )
            if "additive" not in same.arms():
                continue
            (additive,) = numbers(same, "additive", FILM_MANY)
            learned = {
                arm: numbers(same, arm, PARAMETERS)[0]
                for arm in same.arms()
                if numbers(same, arm, FILM_MANY)[0] <= 0.1 * additive
            }
            film = learned.pop("film", math.inf)
            ratios.append(min(learned.values(), default=0.0) / film)
        return decide(ratios, low=2)

    sentence = (
        "Of the arms with at most 0.1 of the error of `additive` on FiLM, `film` has the "
        "fewest parameters; the next has at least 2 times as many."
    )
    return Criterion(
        sentence, verdict, ("film", "additive"), (FILM_MANY, PARAMETERS), "×"
    )


SMALL = Config(steps=2_000, intervals=Intervals(log=100, save=1_000))
SYSTEM = System(
    name="bilinear",
    doc=__doc__,
    paper=Paper(
        "Tenenbaum, Freeman 2000: Separating Style and Content with Bilinear Models. "
        "Neural Computation",
        "https://doi.org/10.1162/089976600300015349",
        "eq. 1",
    ),
    world=BILINEAR_TEACHERS,
    presets={
        "tiny": replace(
            SMALL, steps=30, width=4, condition_width=4, rank=2, few=16, batch_size=16
        ),
        "small": SMALL,
        "paper": replace(SMALL, steps=20_000, width=64, condition_width=64, few=512),
    },
    arms=(
        Arm("film", "the system: scale and shift, linear in z"),
        Arm("bilinear", "all of W", layer="bilinear"),
        *(
            Arm(
                f"factors{r}",
                f"FiLM between linear maps to {r} features and back",
                layer="factors",
                factors=r,
            )
            for r in FACTORS
        ),
        Arm("additive", "a linear map of x and z side by side", layer="concat"),
        Arm("input", "a linear map of x alone", layer="linear"),
        Arm("condition", "a linear map of z alone", layer="linear", reads="condition"),
        Arm(
            "shuffled",
            "control: FiLM by the z of another example",
            shuffled_condition=True,
        ),
    ),
    build=Students,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    metrics=(*ERRORS, PARAMETERS, EQUAL_DECIMALS),
    score=FILM_FEW,
    finding="FiLM equals its bilinear transform to the precision of doubles and learns a "
    "FiLM from few examples, which a full bilinear layer with 8.5 times the parameters "
    "does not. A bilinear transform of rank 8 it does not learn; FiLM between two linear "
    "maps does, with exactly 8 factors.",
    claims=(
        Claim(
            "FiLM is a bilinear transform.",
            at_least(EQUAL_DECIMALS, "bilinear", 12),
            Statement(
                "FiLM is a special case of a bilinear transform",
                "Dumoulin et al. 2018, Distill, related ideas",
                comparable="yes",
            ),
        ),
        Claim("FiLM learns a FiLM.", at_most(FILM_MANY, "film", 0.02)),
        Claim(
            "From few examples FiLM learns a FiLM better than all of W does.",
            at_most_ratio(FILM_FEW, "film", "bilinear", 0.2),
        ),
        Claim(
            "FiLM learns by what its condition says.",
            at_most_ratio(FILM_MANY, "film", "shuffled", 0.1),
        ),
        Claim("No layer with fewer parameters learns a FiLM.", fewest_parameters()),
        Claim(
            "FiLM does not learn a bilinear transform.",
            at_least(BILINEAR_MANY, "film", 0.5),
        ),
        Claim(
            "All of W learns a bilinear transform.",
            at_most(BILINEAR_MANY, "bilinear", 0.02),
        ),
        Claim(
            "FiLM between linear maps learns it with as many factors as it has.",
            at_most(BILINEAR_MANY, "factors8", 0.02),
            Statement(
                "a bilinear transform of low rank is a product of two linear maps, "
                "mapped back",
                "Kim et al. 2017, eq. 3",
                comparable="yes",
            ),
        ),
        Claim("Up to that number, each factor counts.", more_factors_help()),
        Claim(
            "From few examples as many factors learn it better than all of W does.",
            at_most_ratio(BILINEAR_FEW, "factors8", "bilinear", 0.2),
        ),
        Claim(
            "These factors are too few for a FiLM of twice as many features.",
            at_least(FILM_MANY, "factors8", 0.2),
        ),
        Claim("A sum does not learn a FiLM.", at_least(FILM_MANY, "additive", 0.4)),
        Claim(
            "With the condition of another example nothing is learned.",
            at_least(FILM_MANY, "shuffled", 0.95),
        ),
    ),
    departures=(
        "Trained by gradient descent; system style_content solves by singular values.",
        "Preset paper is larger only, as no paper's experiment is repeated.",
    ),
    tuned_on="validation examples, with seeds 100 and 101: the bars of the claims; on "
    "which examples the learning rate was chosen is not recorded",
    tested_on="2,000 examples, independent of each other and of all that is trained on; "
    "both functions are the same for all seeds",
    expected="errors below 1e-3 from new examples where the layer contains the "
    "function, 0.3 to 1 where it does not",
)
