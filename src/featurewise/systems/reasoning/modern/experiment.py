"""Experiment with MODERN: accuracy by kind of question, and what is left of the weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor, nn

from featurewise.study.figures import BAR, as_image, bars, figure
from featurewise.study.metric import PERCENT, Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.reasoning.modern.blocks import blocks_of
from featurewise.systems.reasoning.modern.method import Config, first_block
from featurewise.systems.reasoning.modern.sources import QuestionSource, question_set
from featurewise.training.steppers import Supervised
from featurewise.worlds.vqa import easy_vqa_versions, is_yes_or_no

_EVALUATED = 128
"""Questions at a time."""

_SHOWN = 256
"""Questions in the figure."""

ACCURACY = Metric(
    "accuracy",
    "share of test questions that are answered correctly; its interval treats the "
    "questions of one image as dependent",
    PERCENT,
    "higher",
)
CLOSED = Metric(
    "accuracy, yes or no",
    "the same of questions with the answers yes and no",
    PERCENT,
    "higher",
)
OPEN = Metric(
    "accuracy, open",
    "the same of questions for a colour or a shape",
    PERCENT,
    "higher",
)
CHANGED = Metric(
    "changed values",
    "number of weights and running statistics of the frozen blocks that are not bit for "
    "bit the published ones after training",
    "",
    "lower",
)


@torch.no_grad()
def correct(network: nn.Module, config: Config) -> Bool[Tensor, " Q"]:
    """Which test questions are answered correctly; the control reads those before."""
    source = QuestionSource(config, "test", 0)
    count = len(question_set(config, "test").questions)
    found = []
    for chosen in torch.split(torch.arange(count), _EVALUATED):
        batch = source.rows(chosen)
        if config.other_question:
            # Half a set away: the questions about one image follow each other.
            others = (chosen + count // 2) % count
            batch = replace(batch, given=source.rows(others).question)
        found.append(network(batch).argmax(1) == batch.answers)
    return torch.cat(found)


def changed_values(network: Any, config: Config) -> int:
    """How many values of the frozen blocks differ from those that were loaded."""
    published = blocks_of(config.backbone)[first_block(config) :].state_dict()
    now = network.trunk.backbone.state_dict()
    if now.keys() != published.keys():
        raise AssertionError("the conditioned blocks are not those of the backbone")
    return sum(int((now[key] != value).sum()) for key, value in published.items())


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Accuracy on the test questions; of conditioned networks also what has changed."""
    questions = question_set(config, "test")
    with trained.evaluating() as network:
        right = correct(network, config)
        changed = changed_values(network, config) if config.stages != "none" else None
    closed = is_yes_or_no(questions.answers, questions.labels)
    groups = questions.image_index
    numbers: dict[Metric, Proportion | float] = {
        CLOSED: Proportion.of(right[closed], groups[closed]),
        OPEN: Proportion.of(right[~closed], groups[~closed]),
    }
    if changed is not None:
        numbers[CHANGED] = float(changed)
    return Measurement.of(Proportion.of(right, groups), numbers)


@torch.no_grad()
def sizes(network: Any, config: Config) -> dict[str, Float[Tensor, " S"]]:
    """Root mean square of each raw parameter over questions and channels, by site."""
    source = QuestionSource(config, "test", 0)
    count = min(_SHOWN, len(question_set(config, "test").questions))
    given = network.encode(source.rows(torch.arange(count)).given)
    task = network.trunk.represent(given)
    return {
        name: torch.stack(
            [task[site.name][name].square().mean().sqrt() for site in task.layout]
        )
        for name in ("gamma", "beta")
    }


def draw(trained: Supervised, config: Config) -> Image.Image:
    """Size of Δγ and Δβ by norm; where no norm is changed, accuracy of each answer."""
    questions = question_set(config, "test")
    with trained.evaluating() as network:
        if config.stages == "none":
            right = correct(network, config)
            rows = [questions.labels == i for i in range(len(questions.answers))]
            shares = [100 * right[row].double().mean().item() for row in rows]
            return bars(shares, "number of the answer", "accuracy (%)")
        by_name = sizes(network, config)
    plot = figure(6.0, 2.8)
    axes = plot.subplots()
    for (name, values), colour in zip(by_name.items(), (BAR, "#1d4ed8"), strict=False):
        label = {"gamma": "γ", "beta": "β"}[name]
        axes.plot(range(1, len(values) + 1), values.tolist(), color=colour, label=label)
    axes.set(xlabel="norm", ylabel="root mean square")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return as_image(plot)


def versions(config: Config) -> dict[str, str]:
    """Name and version of the package of the data."""
    return easy_vqa_versions() if config.data == "easy_vqa" else {}
