"""What rows of the table of styles do: mixtures of two, and new ones for a fixed network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from jaxtyping import UInt8
from torch import Tensor

import featurewise as fw
from featurewise.core import TaskRepresentation
from featurewise.study.metric import Metric
from featurewise.study.results import Proportion
from featurewise.systems.style.style_transfer.method import (
    Config,
    Objective,
    StyleTransfer,
    TransferBatch,
    objective,
)
from featurewise.systems.style.style_transfer.sources import data
from featurewise.systems.style_classifier import StyleClassifier
from featurewise.training import hardware
from featurewise.training.steppers import Supervised

NEW_STYLE = Metric(
    "style loss of new styles",
    "style loss of paintings that were not trained on, after γ and β alone were",
    "",
    "lower",
)
NEW_STYLE_BEFORE = Metric(
    "style loss of new styles before",
    "the same with the mean of the trained γ and β",
    "",
    "lower",
)
MONOTONE = Metric(
    "monotone mixtures",
    "share of steps of a quarter, from the γ and β of one style to those of another, in "
    "which the classifier's odds of the second rise",
    "%",
    "higher",
)
MIDDLE = Metric(
    "content loss in the middle",
    "content loss of photographs halfway between two styles, over the mean of both ends",
    "×",
    "lower",
)


def learn_style(
    network: StyleTransfer,
    loss: Objective,
    batches: Iterable[TransferBatch],
    learning_rate: float,
) -> TaskRepresentation:
    """γ and β of a style that the network was not trained on; nothing else changes.

    Section 3.2 ("incorporating new styles"): a trained network learns another style by
    these parameters alone. They start as the mean of those it knows.

    Args:
        network: trained, conditioned; it is not changed.
        loss: whose only target is the new style.
        batches: of photographs; their ids are not used.
        learning_rate: of Adam.

    Returns:
        The task representation of the new style.
    """
    painter = cast("fw.Conditioned", network.painter)
    flat = mean_style(network).flat.clone().requires_grad_()
    optimizer = torch.optim.Adam([flat], learning_rate)
    for batch in batches:
        photographs = batch.content / 255
        with torch.enable_grad(), hardware.autocast(photographs.device, bfloat16=True):
            painted = painter(photographs, task=flat)
            only = torch.zeros_like(batch.targets)
            content, style = loss.losses(painted, photographs, only)
            total = content.mean() + loss.weight * style.mean()
        (flat.grad,) = torch.autograd.grad(total, [flat])
        optimizer.step()
    return TaskRepresentation(painter.layout, flat.detach())


def mean_style(network: StyleTransfer) -> TaskRepresentation:
    """The mean of γ and β over all styles that the network knows."""
    painter = cast("fw.Conditioned", network.painter)
    known = painter.represent(torch.arange(network.styles))
    return TaskRepresentation(painter.layout, known.flat.detach().mean(0))


QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)


def mixture(
    network: StyleTransfer, one: int, other: int, weight: float
) -> TaskRepresentation:
    """γ and β between those of two styles."""
    painter = cast("fw.Conditioned", network.painter)
    ends = painter.represent(torch.tensor([one, other]))
    found: TaskRepresentation = ends[0].lerp(ends[1], weight)
    return found


def mixtures(
    trained: Supervised,
    config: Config,
    images: UInt8[Tensor, "N 3 S S"],
    classify: StyleClassifier,
    loss: Objective,
) -> dict[Metric, Proportion | float]:
    """From every style to the next one, in steps of a quarter."""
    rising, middle = [], []
    with trained.evaluating() as network, torch.no_grad():
        network = cast("StyleTransfer", network)
        painter = cast("fw.Conditioned", network.painter)
        for one in range(len(config.styles)):
            other = (one + 1) % len(config.styles)
            odds, contents = [], []
            for weight in QUARTERS:
                task = mixture(network, one, other, weight)
                result = painter(images / 255, task=task)
                logits = classify.logits(result)
                odds.append(logits[:, other] - logits[:, one])
                ids = torch.full((len(images),), one)
                contents.append(loss.losses(result, images / 255, ids)[0].mean())
            rising.append(torch.stack(odds).diff(dim=0) > 0)
            middle.append(float(contents[2] / ((contents[0] + contents[-1]) / 2)))
    steps = torch.stack(rising)
    groups = torch.arange(len(images)).expand_as(steps)
    return {
        MONOTONE: Proportion.of(steps, groups=groups),
        MIDDLE: sum(middle) / len(middle),
    }


def new_styles(
    trained: Supervised, config: Config, images: UInt8[Tensor, "N 3 S S"]
) -> dict[Metric, Proportion | float]:
    """Style loss of each new painting, before and after its γ and β are learned."""
    before, after = [], []
    with trained.evaluating() as network:
        network = cast("StyleTransfer", network)
        mean = mean_style(network)
        for number, painting in enumerate(config.paintings(*config.new_styles)):
            loss = objective(config, (painting,))
            batches = data(config, 1000 + number)
            learned = learn_style(
                network,
                loss,
                (batches.batch(index) for index in range(config.new_style_steps)),
                config.new_style_learning_rate,
            )
            before.append(style_loss(network, mean, loss, images))
            after.append(style_loss(network, learned, loss, images))
    if not after:
        return {}
    return {
        NEW_STYLE: sum(after) / len(after),
        NEW_STYLE_BEFORE: sum(before) / len(before),
    }


def style_loss(
    network: StyleTransfer,
    task: TaskRepresentation,
    loss: Objective,
    images: UInt8[Tensor, "N 3 S S"],
) -> float:
    """Style loss of photographs with this γ and β, by the only style of ``loss``."""
    painter = cast("fw.Conditioned", network.painter)
    ids = torch.zeros(len(images), dtype=torch.long)
    with torch.no_grad():
        result = painter(images / 255, task=task)
        return float(loss.losses(result, images / 255, ids)[1].mean())
