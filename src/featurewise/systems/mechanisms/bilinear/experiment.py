"""Experiment of the bilinear transforms: errors on two functions, equality of FiLM."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

import featurewise as fw
from featurewise.study.metric import Metric
from featurewise.study.results import Measurement
from featurewise.systems.mechanisms.bilinear.method import (
    Config,
    append_one,
    bilinear,
    film_as_bilinear,
)
from featurewise.training.batch import to_device
from featurewise.training.shuffled import ShuffledCondition, previous_sample
from featurewise.training.source import Source
from featurewise.training.steppers import Supervised
from featurewise.worlds.small.forms import FormSource, Pairs


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
