"""What FiLM is compared with: its stem, trunk and encoder, combined in other ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

import featurewise as fw
from featurewise.systems.reasoning.film.config import Config
from featurewise.systems.reasoning.film.network import (
    Answers,
    FilmNetwork,
    PooledClassifier,
    image_features,
    image_stem,
    residual_trunk,
)
from featurewise.systems.reasoning.film.perception import AttributeHead
from featurewise.worlds.clevr import ANSWERS, VOCABULARY, Batch


def question_encoder(config: Config) -> nn.Module:
    """That of the FiLM generator: word vectors, then the last state of a GRU."""
    generator = fw.Recurrent(len(VOCABULARY), config.embedding, config.hidden)
    return cast("nn.Module", generator.encoder)


def perceptron(inputs: int, config: Config) -> nn.Sequential:
    """The classifier of vectors: two layers."""
    return nn.Sequential(
        nn.Linear(inputs, config.features, bias=False),
        nn.BatchNorm1d(config.features),
        nn.ReLU(),
        nn.Linear(config.features, len(ANSWERS)),
    )


class QuestionOnly(nn.Module):
    """Question-only baseline: what the questions alone tell of their answers."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.read = question_encoder(config)
        self.answer = perceptron(config.hidden, config)

    def forward(self, batch: Batch) -> Answers:
        """Answers to all questions of a batch."""
        return Answers(self.answer(self.read((batch.questions, batch.lengths))), None)


class ImageOnly(nn.Module):
    """Image-only baseline: stem and trunk, not conditioned."""

    answer: nn.Module

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.stem = image_stem(config)
        self.naming = AttributeHead(config.channels)
        self.trunk = residual_trunk(config)
        self.answer = PooledClassifier(
            config.channels,
            config.features,
            config.classifier or config.features,
            len(ANSWERS),
        )

    def forward(self, batch: Batch) -> Answers:
        """Answers to all questions of a batch."""
        image = image_features(self.stem, batch.images)
        return Answers(
            self.answer(self.trunk(image))[batch.image_index], self.naming(image)
        )


class Concatenation(ImageOnly):
    """CNN + GRU: pooled features and question side by side (Johnson et al. 2017)."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.read = question_encoder(config)
        self.answer = perceptron(config.channels + config.hidden, config)

    def forward(self, batch: Batch) -> Answers:
        """Answers to all questions of a batch."""
        image = image_features(self.stem, batch.images)
        pooled = self.trunk(image).amax(dim=(2, 3))[batch.image_index]
        question = self.read((batch.questions, batch.lengths))
        return Answers(
            self.answer(torch.cat((pooled, question), dim=1)), self.naming(image)
        )


class StackedAttention(nn.Module):
    """Stacked attention: every round adds the attended features to the query.

    ``p = softmax(W tanh(W_v v + W_u u)); u <- u + Σ p v`` per round (Yang et al. 2016,
    *Stacked Attention Networks for Image Question Answering*, eq. 15 to 19).

    Args:
        channels: width C of the map and of the query.
        hidden: width of the attention layer.
        rounds: number of attention rounds.
    """

    def __init__(self, channels: int, hidden: int, rounds: int = 2) -> None:
        super().__init__()
        self.value = nn.ModuleList(nn.Conv2d(channels, hidden, 1) for _ in range(rounds))
        self.query = nn.ModuleList(
            nn.Linear(channels, hidden, bias=False) for _ in range(rounds)
        )
        self.score = nn.ModuleList(nn.Conv2d(hidden, 1, 1) for _ in range(rounds))

    def forward(
        self, x: Float[Tensor, "N C H W"], query: Float[Tensor, "N C"]
    ) -> Float[Tensor, "N C"]:
        """The query after its last round."""
        for value, project, score in zip(
            self.value, self.query, self.score, strict=True
        ):
            hidden = torch.tanh(value(x) + project(query)[:, :, None, None])
            weight = score(hidden).flatten(2).softmax(dim=2)
            query = query + (x.flatten(2) * weight).sum(dim=2)
        return query


class Attention(ImageOnly):
    """CNN + GRU + SA: the question attends to positions, twice (Johnson et al. 2017)."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.read = nn.Sequential(
            question_encoder(config), nn.Linear(config.hidden, config.channels)
        )
        self.attend = StackedAttention(config.channels, config.features)
        self.answer = perceptron(config.channels, config)

    def forward(self, batch: Batch) -> Answers:
        """Answers to all questions of a batch."""
        image = image_features(self.stem, batch.images)
        query = self.read((batch.questions, batch.lengths))
        attended = self.attend(self.trunk(image)[batch.image_index], query)
        return Answers(self.answer(attended), self.naming(image))


NETWORKS: dict[str, Callable[[Config], nn.Module]] = {
    "film": FilmNetwork,
    "question only": QuestionOnly,
    "image only": ImageOnly,
    "concatenation": Concatenation,
    "stacked attention": Attention,
}
"""By ``Config.network``."""


def build(config: Config) -> nn.Module:
    """The network of a config."""
    network = NETWORKS[config.network](config)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
