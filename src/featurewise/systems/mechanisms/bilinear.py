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
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

import featurewise as fw
from featurewise.layers.concat import ConcatLinear
from featurewise.study import system
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
from featurewise.study.metric import Metric
from featurewise.study.results import Measurement, Results
from featurewise.study.system import Arm, Paper, System
from featurewise.training.batch import to_device
from featurewise.training.loop import Intervals
from featurewise.training.optim import cosine
from featurewise.training.shuffled import ShuffledCondition, previous_sample
from featurewise.training.source import Source
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.small.facts import BILINEAR_TEACHERS
from featurewise.worlds.small.forms import CELLS, FormSource, Pairs

# --- method ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Config(system.Config):
    """One layer for each function and training set, and their training.

    Attributes:
        layer: "film", with a linear generator; "bilinear", all of W; "factors", FiLM
            between two linear maps; "concat", a linear map of [x; z]; or "linear", one
            of x or z alone.
        factors: features between the two linear maps.
        reads: what a linear map reads: "inputs" x, or "condition" z.
        shuffled_condition: whether every sample has the z of another one, as a control.
        width: C, features of x and of y.
        condition_width: Z, features of z.
        few: examples of the small training sets.
        rank: factors of the bilinear transform that is learned.
        noise: standard deviation of the noise on the targets of the training examples.
        batch_size: examples per batch.
        test_examples: examples that errors are measured on.
        split: of these examples, "validation" or "test".
        learning_rate: of Adam; it falls along a cosine to a hundredth.
    """

    FORMER_NAMES: ClassVar = {"condition": "condition_width", "rows": "test_examples"}

    layer: Literal["film", "bilinear", "factors", "concat", "linear"] = "film"
    factors: int = 16
    reads: Literal["inputs", "condition"] = "inputs"
    shuffled_condition: bool = False
    width: int = 16
    condition_width: int = 16
    rank: int = 8
    few: int = 128
    noise: float = 0.1
    batch_size: int = 64
    test_examples: int = 2_000
    split: Literal["validation", "test"] = "test"
    learning_rate: float = 1e-2


def bilinear(
    x: Float[Tensor, "B I"], weight: Float[Tensor, "K I J"], z: Float[Tensor, "B J"]
) -> Float[Tensor, "B K"]:
    """Eq. 1: ``y_k = xᵀ W_k z``."""
    return torch.einsum("bi,kij,bj->bk", x, weight, z)


def append_one(x: Float[Tensor, "B C"]) -> Float[Tensor, "B D"]:
    """``[x; 1]``, so that a product with it can add: D is C + 1."""
    return torch.cat((x, torch.ones_like(x[:, :1])), dim=1)


def film_as_bilinear(
    width: int, dtype: torch.dtype | None = None
) -> Float[Tensor, "C I J"]:
    """W with ``bilinear([x; 1], W, [γ; β]) = γ ⊙ x + β``: I is C + 1, J is 2·C.

    Each of its slices has two ones, at (k, k) and (C, C + k), so that its rank is two.

    Args:
        width: C, number of features.
        dtype: of W; default: PyTorch's.
    """
    weight = torch.zeros(width, width + 1, 2 * width, dtype=dtype)
    k = torch.arange(width)
    weight[k, k, k] = weight[k, width, width + k] = 1
    return weight


class Bilinear(nn.Module):
    """``y_k = [x; 1]ᵀ W_k [z; 1]``: every product of a feature and a condition, and both alone.

    Args:
        features: width C of x.
        condition_features: width Z of the condition.
        out_features: width K of y.
    """

    def __init__(
        self, features: int, condition_features: int, out_features: int
    ) -> None:
        super().__init__()
        shape = out_features, features + 1, condition_features + 1
        self.weight = nn.Parameter(torch.randn(shape) / (shape[1] * shape[2]) ** 0.5)

    def forward(
        self, x: Float[Tensor, "B C"], condition: Float[Tensor, "B Z"]
    ) -> Float[Tensor, "B K"]:
        """The K values of each row."""
        return bilinear(append_one(x), self.weight, append_one(condition))


def build_layer(config: Config) -> nn.Module:
    """The layer that learns one function."""
    c, z = config.width, config.condition_width
    if config.layer == "bilinear":
        return Bilinear(c, z, c)
    if config.layer == "concat":
        return ConcatLinear(c, z, c)
    if config.layer == "linear":
        return nn.Linear(c if config.reads == "inputs" else z, c)
    if config.layer == "factors":
        maps = nn.Sequential(nn.Linear(c, config.factors), nn.Linear(config.factors, c))
        return fw.condition(maps, at="0", generator=fw.Linear(z))
    layer = fw.FiLM(c, z)
    weight = layer.get_submodule("generator.head").weight
    nn.init.normal_(weight, std=0.1)  # type: ignore[arg-type]
    return layer


class Students(nn.Module):
    """A layer of the same kind for each function and training set, in the order of `CELLS`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.linear, self.reads = config.layer == "linear", config.reads
        self.students = nn.ModuleDict({cell: build_layer(config) for cell in CELLS})

    def forward(self, batch: Pairs) -> Float[Tensor, "B 4 C"]:
        """Outputs y of all layers."""
        outputs = []
        for cell, student in enumerate(self.students.values()):
            x, z = batch.x[:, cell], batch.z[:, cell]
            if self.linear:
                outputs.append(student(x if self.reads == "inputs" else z))
            else:
                outputs.append(student(x, condition=z))
        return torch.stack(outputs, dim=1)


def objective(network: nn.Module, batch: Pairs) -> tuple[Tensor, Metrics]:
    """Squared error, the mean over all layers."""
    return (network(batch) - batch.y).square().mean(), {}


def stepper(network: nn.Module, config: Config) -> Supervised:
    """Adam with a cosine schedule."""
    adam = torch.optim.Adam(network.parameters(), config.learning_rate, fused=True)
    return Supervised(
        network, objective, adam, schedule=cosine(config.steps, floor=0.01)
    )


def examples(config: Config, seed: int) -> FormSource:
    """Examples of both functions."""
    return FormSource(
        width=config.width,
        condition=config.condition_width,
        rank=config.rank,
        few=config.few,
        batch_size=config.batch_size,
        noise=config.noise,
        seed=seed,
    )


def data(config: Config, seed: int) -> Source[Pairs]:
    """Training examples of both functions."""
    source = examples(config, seed)
    if config.shuffled_condition:
        return ShuffledCondition(source, ("z",), previous_sample)
    return source


# --- experiment ------------------------------------------------------------------------

FILM_FEW = Metric(
    "error on FiLM, few examples",
    "mean squared error over the variance of y; trained on 128 examples of a FiLM",
    better="lower",
)
FILM_MANY = Metric(
    "error on FiLM, new examples",
    "mean squared error over the variance of y; trained on new examples of a FiLM in "
    "every batch",
    better="lower",
)
BILINEAR_FEW = Metric(
    "error on bilinear, few examples",
    "mean squared error over the variance of y; trained on 128 examples of a bilinear "
    "transform of 8 factors",
    better="lower",
)
BILINEAR_MANY = Metric(
    "error on bilinear, new examples",
    "mean squared error over the variance of y; trained on new examples of a bilinear "
    "transform of 8 factors, in every batch",
    better="lower",
)
ERRORS = (FILM_FEW, FILM_MANY, BILINEAR_FEW, BILINEAR_MANY)
PARAMETERS = Metric("parameters", "of the four layers of an arm together")
EQUAL_DECIMALS = Metric(
    "equal decimals",
    "decimals to which FiLM and the bilinear transform that it is agree, in double "
    "precision",
    better="higher",
)
FACTORS = (1, 2, 4, 8, 16)
"""Factors of the arms; the bilinear transform that is learned has 8, FiLM is one of 16."""


@torch.no_grad()
def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Errors on new examples without noise, as shares of the variance of y."""
    exact = examples(config, 0).exact(config.test_examples, config.split)
    if config.shuffled_condition:
        exact = replace(exact, z=exact.z[previous_sample(0, exact)])
    batch = to_device(exact, trained.learner.device)
    with trained.evaluating() as network:
        error = (network(batch) - batch.y).square().mean((0, 2)) / batch.y.var(0).mean(1)
        found = dict(zip(ERRORS, error.tolist(), strict=True))
        found[PARAMETERS] = sum(parameter.numel() for parameter in network.parameters())
    if config.layer == "bilinear":
        found[EQUAL_DECIMALS] = equal_decimals(config)
    return Measurement.of(numbers=found)


def equal_decimals(config: Config) -> float:
    """See `EQUAL_DECIMALS`; 16 where they are bit-identical."""
    rng = torch.Generator().manual_seed(0)
    shape = 3, config.test_examples, config.width
    x, gamma, beta = torch.randn(shape, generator=rng, dtype=torch.float64)
    weight, z = film_as_bilinear(config.width, x.dtype), torch.cat((gamma, beta), dim=1)
    gap = (bilinear(append_one(x), weight, z) - fw.film(x, gamma, beta)).abs().max()
    return -math.log10(max(float(gap), 1e-16))


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
