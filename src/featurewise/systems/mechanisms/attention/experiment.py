"""Experiment of attention against FiLM: questions about places and features, cost of length."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

import featurewise as fw
from featurewise.analysis.cost import LENGTHS, exponent, operations
from featurewise.models.attention import CrossAttention
from featurewise.study.metric import Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.mechanisms.attention.method import Config
from featurewise.training.batch import to_device
from featurewise.training.shuffled import ShuffledCondition
from featurewise.training.source import Source
from featurewise.training.steppers import Supervised
from featurewise.worlds.small.places import KINDS, Places, PlaceSource, lifts


def data(config: Config, seed: int) -> Source[Places]:
    """Questions about positions and about features in turn."""
    source = PlaceSource(
        side=config.side, symbols=config.symbols, batch_size=config.batch_size, seed=seed
    )
    if config.shuffled_condition:
        return ShuffledCondition(source, ("cue",), previous_of_kind)
    return source


def previous_of_kind(index: int, batch: Places) -> Int64[Tensor, " B"]:
    """Each question gets the cue of the one before it of its kind; kinds alternate in a batch."""
    return torch.arange(len(batch.cue)).roll(2)


PLACE = Metric(
    "place", "accuracy: which symbol is at the position of the cue", "%", "higher"
)
FEATURE = Metric(
    "feature", "accuracy: how many positions have the symbol of the cue", "%", "higher"
)
LIFT_PLACE = Metric(
    "attention to the place",
    "weight of the position of the cue, relative to equal weights of all positions",
    "×",
)
LIFT_FEATURE = Metric(
    "attention to the symbol",
    "weight of the positions that have the symbol, relative to equal weights of all "
    "positions",
    "×",
)
EXPONENT = Metric(
    "exponent of cost",
    "p of operations ~ length ** p, where one sequence conditions another of equal "
    "length",
)


def film_along(length: int) -> Tensor:
    """FiLM of one sequence by another, position by position."""
    layer, x = fw.FiLM(32, 32), torch.ones(1, 32, length)
    return layer(x, torch.ones(1, 32, length))  # type: ignore[no-any-return]


def attention_along(length: int) -> Tensor:
    """Attention from one sequence to another."""
    layer, x = CrossAttention(32, 32), torch.ones(1, length, 32)
    return layer(x, torch.ones(1, length, 32))  # type: ignore[no-any-return]


def cost_exponent(config: Config) -> float | None:
    """`EXPONENT` of FiLM or of attention; None for both or neither."""
    if config.shuffled_condition or config.conditioned == (
        config.pooling == "attention"
    ):
        return None
    along = film_along if config.conditioned else attention_along
    return exponent(LENGTHS, operations(along, LENGTHS))


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Accuracy by kind of question, where the network attends, how its cost grows with length."""
    source = data(replace(config, batch_size=config.test_questions), 1_000_000)
    batch = to_device(source.batch(0), trained.learner.device)
    network: Any
    with trained.evaluating() as network:
        right = network(batch).argmax(1) == batch.answers
        lift = lifts(network.attention(batch), batch) if config.reads_grid else {}
    place, feature = (Proportion.of(right[batch.task == i]) for i in range(len(KINDS)))
    found: dict[Metric, Proportion | float] = {PLACE: place, FEATURE: feature}
    if lift:
        found |= {LIFT_PLACE: lift["lift_place"], LIFT_FEATURE: lift["lift_feature"]}
    if (power := cost_exponent(config)) is not None:
        found[EXPONENT] = power
    return Measurement.of(place + feature, found)
