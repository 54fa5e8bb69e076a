"""Experiment with gated attention: accuracy by kind of question, other queries, baselines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import torch
from jaxtyping import Bool
from PIL import Image
from torch import Tensor, nn

from featurewise.study.figures import BAR, as_image, figure
from featurewise.study.metric import PERCENT, Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.language.gated_attention.method import Config, Reader
from featurewise.training.shuffled import ShuffledCondition, previous_sample
from featurewise.training.source import Source
from featurewise.training.steppers import Supervised
from featurewise.worlds.text import (
    ClozeBatch,
    HeldOutQuestions,
    cloze_source,
    cloze_vocabulary,
    held_out_questions,
    last_mention,
    majority,
    most_mentions,
    share_right,
)

QUERY = ("query", "query_lengths", "blank")
"""What a batch says of the queries."""

SHOWN = 40
"""Tokens of a document in the figure, at most."""

SHOWN_QUERY = 10
"""Tokens of a query in the figure, at most."""

_EVALUATED = 50
"""Test questions at a time."""

ACCURACY = Metric(
    "accuracy",
    "share of test questions whose answer has the largest probability of the candidates",
    PERCENT,
    "higher",
)
ONE_STEP = Metric(
    "accuracy, one step",
    "accuracy of the questions whose answer one sentence names together with the person that "
    "the question is on",
    PERCENT,
    "higher",
)
TWO_STEPS = Metric(
    "accuracy, two steps",
    "accuracy of the questions whose answer no sentence names together with the person or "
    "thing that the question is on: two sentences say it",
    PERCENT,
    "higher",
)
OTHER = Metric(
    "accuracy, other query",
    "accuracy of the trained network where each document is read with the query of another "
    "test question; candidates and answers stay",
    PERCENT,
    "",
)
LAST = Metric(
    "last candidate",
    "share of test questions whose answer is the candidate that the document mentions last",
    PERCENT,
    "",
)
MOST = Metric(
    "most frequent candidate",
    "share of test questions whose answer is the candidate that the document mentions most; of "
    "equals, the one that it mentions last",
    PERCENT,
    "",
)
MAJORITY = Metric(
    "majority",
    "share of test questions that have the most frequent answer",
    PERCENT,
    "",
)


def build(config: Config) -> Reader:
    """The network, with a vector for each token of the training questions."""
    return Reader(config, len(cloze_vocabulary(config.data)))


def data(config: Config, seed: int) -> Source[ClozeBatch]:
    """Training questions; in the control each document has the query of another one."""
    own = cloze_source(config.data, seed, config.batch_size)
    if config.shuffled:
        return ShuffledCondition(own, QUERY, previous_sample)
    return own


def with_other_queries(batch: ClozeBatch) -> ClozeBatch:
    """Each document with the query of the question before it; the first with the last one."""
    return replace(batch, **{name: getattr(batch, name).roll(1, 0) for name in QUERY})


def parts(batch: ClozeBatch) -> Iterator[ClozeBatch]:
    """So many questions at a time as fit in memory."""
    for start in range(0, len(batch), _EVALUATED):
        yield batch.select(slice(start, start + _EVALUATED))


@torch.no_grad()
def right(network: nn.Module, batch: ClozeBatch) -> Bool[Tensor, " B"]:
    """Whether each question is answered correctly."""
    return torch.cat([network(each).argmax(1) == each.labels for each in parts(batch)])


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Accuracy, also by the number of steps and with other queries; baselines."""
    test = held_out_questions(config.data, "test")
    with trained.evaluating() as network:
        numbers = measured(network, config, test)
    accuracy = numbers.pop(ACCURACY)
    return Measurement.of(cast(Proportion, accuracy), numbers)


def measured(
    network: nn.Module, config: Config, test: HeldOutQuestions
) -> dict[Metric, Proportion | float]:
    """All that is measured of a network."""
    questions = test.questions
    other = with_other_queries(questions)
    found = right(network, other if config.shuffled else questions)
    numbers: dict[Metric, Proportion | float] = {ACCURACY: Proportion.of(found)}
    if test.two_steps is not None:
        numbers[ONE_STEP] = Proportion.of(found[~test.two_steps])
        numbers[TWO_STEPS] = Proportion.of(found[test.two_steps])
    if not config.shuffled:
        numbers[OTHER] = Proportion.of(right(network, other))
    numbers[LAST] = share_right(last_mention(questions), questions)
    numbers[MOST] = share_right(most_mentions(questions), questions)
    numbers[MAJORITY] = majority(questions)
    return numbers


def shown(config: Config) -> ClozeBatch:
    """The question of the figure: the first of the test that takes two steps, or the first."""
    test = held_out_questions(config.data, "test")
    first = 0 if test.two_steps is None else int(test.two_steps.long().argmax())
    questions = with_other_queries(test.questions) if config.shuffled else test.questions
    return questions.select(slice(first, first + 1))


def around(place: int, count: int, length: int) -> slice:
    """So many tokens of a text, or all, with a place in their middle or near it."""
    start = max(0, min(place - count // 2, length - count))
    return slice(start, min(start + count, length))


@torch.no_grad()
def draw(trained: Supervised, config: Config) -> Image.Image:
    """What each token of a document attends to in the query, hop by hop; and the answer."""
    batch = shown(config)
    with trained.evaluating() as network:
        s, attended = network.read(batch)  # type: ignore[operator]
    vocabulary = cloze_vocabulary(config.data)
    window = around(int(s[0].argmax()), SHOWN, s.shape[1])
    asking = around(int(batch.blank[0]), SHOWN_QUERY, batch.query.shape[1])
    document = vocabulary.decode(batch.document[0, window].tolist())
    query = vocabulary.decode(batch.query[0, asking].tolist())
    plot = figure(11.0, 1.8 * len(attended) + 2.2)
    rows = plot.subplots(len(attended) + 1, 1, squeeze=False)[:, 0]
    for hop, (axes, alpha) in enumerate(zip(rows, attended, strict=False), start=1):
        weights = alpha[0, window, asking].T.tolist()
        axes.imshow(weights, cmap="Oranges", vmin=0, vmax=1, aspect="auto")
        axes.set(ylabel=f"after hop {hop}", xticks=[])
        axes.set_yticks(range(len(query)), query)
    rows[-1].bar(range(len(document)), s[0, window].tolist(), color=BAR)
    rows[-1].set_xticks(range(len(document)), document, rotation=90)
    rows[-1].set(ylabel="last hop", xlim=(-0.5, len(document) - 0.5))
    rows[-1].spines[["top", "right"]].set_visible(False)
    return as_image(plot)
