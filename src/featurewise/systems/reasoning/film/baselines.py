"""What FiLM is compared with: the same stem, trunk and reader, joined in other ways, or not."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featurewise.generators.recurrent import RecurrentEncoder
from featurewise.models.attention import StackedAttention
from featurewise.models.trunks import PixelStem, PooledClassifier, ResidualTrunk
from featurewise.systems.reasoning.film.perception import Answers, Naming
from featurewise.systems.reasoning.film.settings import Reasoning
from featurewise.worlds.clevr import ANSWERS, VOCABULARY, Batch


class QuestionOnly(nn.Module):
    """Baseline that never looks: what the questions alone give away."""

    def __init__(self, s: Reasoning) -> None:
        super().__init__()
        self.read = RecurrentEncoder(len(VOCABULARY), s.embedding, s.hidden, "gru")
        self.answer = perceptron(s.hidden, s)

    def forward(self, batch: Batch) -> Answers:
        """Answers to all questions of a batch."""
        return Answers(self.answer(self.read((batch.questions, batch.lengths))), None)


class ImageOnly(nn.Module):
    """Baseline that never reads: the same stem and trunk, not conditioned."""

    answer: nn.Module

    def __init__(self, s: Reasoning) -> None:
        super().__init__()
        self.stem = PixelStem((*s.stem, s.channels))
        self.naming = Naming(s.channels)
        self.trunk = ResidualTrunk(s.channels, s.blocks)
        self.answer = PooledClassifier(s.channels, s.features, s.features, len(ANSWERS))

    def forward(self, batch: Batch) -> Answers:
        """Answers to all questions of a batch."""
        seen = self.see(batch)
        return Answers(self.answer(self.trunk(seen))[batch.image_index], self.naming(seen))

    def see(self, batch: Batch) -> Float[Tensor, "I C h w"]:
        """The stem's features of every picture."""
        seen: Tensor = self.stem(batch.images.to(memory_format=torch.channels_last) / 255)
        return seen


class Concatenation(ImageOnly):
    """Baseline CNN+GRU: pooled picture and question side by side (Johnson et al. 2017)."""

    def __init__(self, s: Reasoning) -> None:
        super().__init__(s)
        self.read = RecurrentEncoder(len(VOCABULARY), s.embedding, s.hidden, "gru")
        self.answer = perceptron(s.channels + s.hidden, s)

    def forward(self, batch: Batch) -> Answers:
        """Answers to all questions of a batch."""
        seen = self.see(batch)
        pooled = self.trunk(seen).amax(dim=(2, 3))[batch.image_index]
        question = self.read((batch.questions, batch.lengths))
        return Answers(self.answer(torch.cat((pooled, question), dim=1)), self.naming(seen))


class Attention(ImageOnly):
    """Baseline CNN+GRU+SA: the question attends to places, twice (Johnson et al. 2017)."""

    def __init__(self, s: Reasoning) -> None:
        super().__init__(s)
        self.read = nn.Sequential(
            RecurrentEncoder(len(VOCABULARY), s.embedding, s.hidden, "gru"),
            nn.Linear(s.hidden, s.channels),
        )
        self.attend = StackedAttention(s.channels, s.features)
        self.answer = perceptron(s.channels, s)

    def forward(self, batch: Batch) -> Answers:
        """Answers to all questions of a batch."""
        seen = self.see(batch)
        query = self.read((batch.questions, batch.lengths))
        attended = self.attend(self.trunk(seen)[batch.image_index], query)
        return Answers(self.answer(attended), self.naming(seen))


def perceptron(width: int, s: Reasoning) -> nn.Sequential:
    """The answering perceptron of the baselines."""
    return nn.Sequential(
        nn.Linear(width, s.features, bias=False),
        nn.BatchNorm1d(s.features),
        nn.ReLU(),
        nn.Linear(s.features, len(ANSWERS)),
    )
