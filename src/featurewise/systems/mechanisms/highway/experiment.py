"""Experiment with highway networks: training loss by depth, lesions of layers, gates."""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from featurewise.analysis import dependence
from featurewise.study.figures import bars
from featurewise.study.metric import Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.mechanisms.highway.method import Config, Images, objective
from featurewise.training.source import Source
from featurewise.training.steppers import Supervised
from featurewise.worlds.glyphs.labelled import (
    ImageBatch,
    ImageSource,
    fashion_images,
)
from featurewise.worlds.small import DigitSource, digits


def data(config: Config, seed: int) -> Source[Images]:
    """Training images, in an order that the seed determines."""
    if config.data == "fashion":
        return ImageSource(fashion_images(size=8).train, config.batch_size, seed)
    return DigitSource(seed, config.batch_size, "train")


def evaluated_images(config: Config, split: Literal["train", "test"]) -> Images:
    """Images that a trained network is evaluated on: all digits of a split, or 1,000 others."""
    if config.data == "digits":
        return digits(split)
    splits = fashion_images(size=8)
    chosen = (splits.train if split == "train" else splits.test).first(100)
    return ImageBatch(chosen.ink, chosen.labels)


TRAINING_LOSS = Metric(
    "training loss",
    "cross-entropy on the training images (of Fashion-MNIST, on 1,000 of them), after "
    "training",
    "nats",
    "lower",
)
SPARED_LAYERS = Metric(
    "spared layers",
    "share of layers, each of which can be left out alone for less than a point of "
    "accuracy",
    "%",
)
MEAN_GATE_COST = Metric(
    "mean-gate cost",
    "accuracy lost where every gate reads the mean of its inputs",
    "points",
)
OVER_INPUTS = Metric(
    "over inputs", "share of the gates' variance that is between inputs", "%"
)
OVER_CLASSES = Metric(
    "over classes",
    "share of the variance between inputs that is between the ten classes",
    "%",
)


def accuracy(logits: Float[Tensor, "B 10"], batch: Images) -> Proportion:
    """Share of digits that are classified correctly."""
    return Proportion.of(logits.argmax(1) == batch.labels)


def lesion_costs(network: Any, batch: Images) -> list[float]:
    """Points of accuracy that leaving out each layer costs."""
    intact = accuracy(network(batch), batch).value
    lesioned = [
        accuracy(network(batch, i), batch).value for i in range(len(network.layers))
    ]
    return [100 * (intact - each) for each in lesioned]


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Training loss; accuracy, lesions and gates on the test digits."""
    train, test = evaluated_images(config, "train"), evaluated_images(config, "test")
    network: Any
    with trained.evaluating() as network:
        found, costs = accuracy(network(test), test), lesion_costs(network, test)
        numbers: dict[Metric, Proportion | float] = {
            TRAINING_LOSS: objective(network, train)[0].item(),
            SPARED_LAYERS: sum(points < 1 for points in costs) / len(costs),
        }
        if gates := list(network.gates(test)):
            share = dependence(torch.cat(gates, 1), test.labels)
            mean_gates = accuracy(network(test, mean_gates=True), test)
            numbers[MEAN_GATE_COST] = 100 * (found.value - mean_gates.value)
            numbers[OVER_INPUTS] = share.over_samples
            numbers[OVER_CLASSES] = share.over_classes
    return Measurement.of(found, numbers)


def draw(trained: Supervised, config: Config) -> Image.Image:
    """Points of accuracy that leaving out each layer costs, one bar per layer."""
    with trained.evaluating() as network:
        costs = lesion_costs(network, evaluated_images(config, "test"))
    return bars(costs, "layer that is left out", "points lost", first=2)
