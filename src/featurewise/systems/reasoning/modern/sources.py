"""Data of MODERN: questions, and the features of their images below the first changed norm."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from featurewise.systems.reasoning.modern.blocks import (
    Backbone,
    blocks_of,
    in_channels_last,
    lower_features,
)
from featurewise.systems.reasoning.modern.method import (
    Batch,
    Config,
    Modern,
    Question,
    first_block,
)
from featurewise.training.shuffled import ShuffledCondition, previous_sample
from featurewise.training.source import Source
from featurewise.worlds.vqa import (
    QuestionSet,
    Split,
    Vocabulary,
    easy_vqa,
    made_questions,
    random_questions,
)

LONGEST = 9
"""Words of the longest question."""

_AT_A_TIME = 200
"""Images whose features are computed at a time."""

_KEPT_FROM = 3
"""From so many fixed blocks on, features of all images are computed once and kept."""


@lru_cache(maxsize=4)
def _questions(data: str, size: int, count: int, split: Split) -> QuestionSet:
    if data == "made":
        return made_questions(count, size, seed=int(split == "test"))
    return easy_vqa(split).about(0, count).resized(size)


def question_set(config: Config, split: Split) -> QuestionSet:
    """The questions of a split, about as many images as the config says."""
    count = config.train_images if split == "train" else config.test_images
    return _questions(config.data, config.size, count, split)


@lru_cache(maxsize=2)
def _vocabulary(questions: QuestionSet) -> Vocabulary:
    return Vocabulary.of(each.text for each in questions.questions)


def data_digests(config: Config) -> dict[str, str]:
    """SHA-256 of the words and the answers, which number rows of weights."""
    train = question_set(config, "train")
    numbered = json.dumps([_vocabulary(train).words, train.answers])
    digest = sha256(numbered.encode()).hexdigest()
    return {"list of words and answers": f"SHA-256 {digest}"}


@lru_cache(maxsize=4)
def _encoded(questions: QuestionSet, vocabulary: Vocabulary) -> Question:
    return Question(*questions.encoded(vocabulary, LONGEST))


@lru_cache(maxsize=4)
def _fixed(backbone: Backbone, below: int) -> nn.Module:
    return in_channels_last(blocks_of(backbone)[:below])


@lru_cache(maxsize=4)
def _kept(
    questions: QuestionSet, backbone: Backbone, below: int
) -> Float[Tensor, "N C h w"]:
    blocks = _fixed(backbone, below)
    parts = torch.split(questions.images, _AT_A_TIME)
    return torch.cat([lower_features(blocks, part) for part in parts])


def features(
    config: Config, questions: QuestionSet, images: Int64[Tensor, " B"]
) -> Float[Tensor, "B C h w"]:
    """Features of images of these numbers below the first changed norm."""
    below = first_block(config)
    if below >= _KEPT_FROM:
        return _kept(questions, config.backbone, below)[images]
    return lower_features(_fixed(config.backbone, below), questions.images[images])


@dataclass(frozen=True)
class QuestionSource:
    """Batches of random questions, with features of their images.

    Attributes:
        config: sizes, and what part of the network is fixed.
        split: official split of the questions.
        seed: of the order.
    """

    config: Config
    split: Split
    seed: int

    def batch(self, index: int, /) -> Batch:
        """The batch of this index."""
        count = len(question_set(self.config, self.split).questions)
        return self.rows(
            random_questions(self.config.batch_size, self.seed, index, count)
        )

    def rows(self, chosen: Int64[Tensor, " B"]) -> Batch:
        """A batch of the questions of these numbers."""
        questions = question_set(self.config, self.split)
        vocabulary = _vocabulary(question_set(self.config, "train"))
        all_of_them = _encoded(questions, vocabulary)
        question = Question(all_of_them.words[chosen], all_of_them.lengths[chosen])
        return Batch(
            features(self.config, questions, questions.image_index[chosen]),
            question,
            question,
            questions.labels[chosen],
        )


def data(config: Config, seed: int) -> Source[Batch]:
    """Training questions; in the control, norms read that of the sample before."""
    source = QuestionSource(config, "train", seed)
    if config.other_question:
        return ShuffledCondition(
            source, ("given.words", "given.lengths"), previous_sample
        )
    return source


def build(config: Config) -> Modern:
    """The network of a config."""
    train = question_set(config, "train")
    return Modern(config, len(_vocabulary(train)), len(train.answers))
