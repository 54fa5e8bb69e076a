"""Method of MODERN: a question changes the norms of a network that others trained.

De Vries et al. 2017, conditional batch normalisation. The network, MobileNetV2 with the weights
of ImageNet, is frozen; the question encoder, the generator of Δγ and Δβ, and the head are trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

import featurewise as fw
from featurewise.study import system
from featurewise.systems.reasoning.modern.blocks import (
    PLANS,
    Backbone,
    blocks_of,
    in_channels_last,
)
from featurewise.training.optim import cosine
from featurewise.training.steppers import Metrics, Supervised


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(system.Config):
    """One network and its training.

    Attributes:
        stages: which norms the question changes: those of "all" stages but the first, of the
            "last" stage, or "none".
        other_question: whether the norms of an image read the question of another sample,
            while the head reads its own, as a control.
        reads: what the head reads: "both", the "question" alone or the "image" alone.
        backbone: "mobilenet_v2", pretrained; or "random", three layers, for tests.
        data: "easy_vqa", of its package; or "made", for tests.
        size: height and width of the images, in pixels.
        embedding: width of the embeddings of words.
        hidden: units of the LSTM.
        generator: hidden units of the MLP that predicts Δγ and Δβ.
        fused: width of the fused vector.
        batch_size: questions per batch, each with its image.
        learning_rate: of Adam, at its highest; it falls along a cosine.
        generator_rate: the same of the MLP that predicts Δγ and Δβ.
        train_images: images that are trained on, from the first one.
        test_images: images that are tested on, with all of their questions.
    """

    stages: Literal["all", "last", "none"] = "all"
    other_question: bool = False
    reads: Literal["both", "question", "image"] = "both"
    backbone: Backbone = "mobilenet_v2"
    data: Literal["easy_vqa", "made"] = "easy_vqa"
    size: int = 64
    embedding: int = 32
    hidden: int = 64
    generator: int = 128
    fused: int = 256
    batch_size: int = 64
    learning_rate: float = 3e-3
    generator_rate: float = 1e-4
    train_images: int = 4_000
    test_images: int = 250


@dataclass(frozen=True)
class Question:
    """Questions as indices of words.

    Attributes:
        words: indices, padded with 0.
        lengths: number of words.
    """

    words: Int64[Tensor, "B T"]
    lengths: Int64[Tensor, " B"]


@dataclass(frozen=True)
class Batch:
    """Questions, each with what the frozen network makes of its image.

    Attributes:
        inputs: features below the first norm that is changed; that part is fixed, so that they
            are data.
        question: what the head reads.
        given: what the norms read; another question only in a control.
        answers: index of the answer.
    """

    inputs: Float[Tensor, "B C h w"]
    question: Question
    given: Question
    answers: Int64[Tensor, " B"]


def first_block(config: Config) -> int:
    """Number of blocks whose features are data: those below the first changed norm."""
    plan = PLANS[config.backbone]
    ends = {"all": plan.below, "last": plan.last}
    return ends.get(config.stages, len(blocks_of(config.backbone)))


class Encoder(nn.Module):
    """e_q: the last state of an LSTM over the words."""

    def __init__(self, words: int, embedding: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, embedding, padding_idx=0)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True)

    def forward(self, question: Question) -> Float[Tensor, "B H"]:
        """The state after the last word of each question."""
        states, _ = self.lstm(self.embedding(question.words))
        rows = torch.arange(len(states), device=states.device)
        last: Tensor = states[rows, question.lengths - 1]
        return last


def paper_offsets(
    norm: nn.BatchNorm2d, gamma: Float[Tensor, "B C"], beta: Float[Tensor, "B C"]
) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C"]]:
    """The paper's Δγ and Δβ, of what `featurewise.Affine` applies after a batch norm.

    The paper has ``(γ_pre + Δγ) x̂ + β_pre + Δβ``, with x̂ the normalised features. Affine gives
    ``(1 + gamma) (γ_pre x̂ + β_pre) + beta``, which is the same with ``Δγ = γ_pre gamma`` and
    ``Δβ = β_pre gamma + beta``, and at zero leaves the network as it was, too.
    """
    return norm.weight * gamma, norm.bias * gamma + beta


class Modern(nn.Module):
    """Frozen blocks, whose norms a question changes; then fusion with the question.

    Args:
        config: of the network.
        words: size of the vocabulary.
        answers: number of answers.
    """

    def __init__(self, config: Config, words: int, answers: int) -> None:
        super().__init__()
        self.reads = config.reads
        if config.reads != "image":
            self.encode = Encoder(words, config.embedding, config.hidden)
            self.of_question = nn.Linear(config.hidden, config.fused)
        if config.reads != "question":
            self.of_image = nn.Linear(PLANS[config.backbone].width, config.fused)
        if config.stages != "none":
            blocks = blocks_of(config.backbone)[first_block(config) :]
            self.trunk = fw.condition(
                in_channels_last(blocks),
                at=nn.BatchNorm2d,
                operation=fw.Affine(),
                generator=fw.MLP(config.hidden, (config.generator,)),
                freeze=True,
            )
        self.answer = nn.Sequential(
            nn.Linear(config.fused, config.fused),
            nn.ReLU(),
            nn.Linear(config.fused, answers),
        )

    def forward(self, batch: Batch) -> Float[Tensor, "B A"]:
        """Logits of the answers: an MLP on ``tanh(W v) ⊙ tanh(W e_q)``."""
        parts = []
        if self.reads != "image":
            parts.append(self.of_question(self.encode(batch.question)).tanh())
        if self.reads != "question":
            parts.append(self.of_image(self.vector(batch)).tanh())
        logits: Tensor = self.answer(torch.stack(parts).prod(0))
        return logits

    def vector(self, batch: Batch) -> Float[Tensor, "B F"]:
        """v: the mean of the last features over positions, to mean 0 and deviation 1."""
        features = batch.inputs
        if hasattr(self, "trunk"):
            inputs = features.contiguous(memory_format=torch.channels_last)
            features = self.trunk(inputs, condition=self.encode(batch.given))
        pooled = features.mean((2, 3))
        return F.layer_norm(pooled, pooled.shape[1:])


def objective(network: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
    """Cross-entropy of the answers."""
    return F.cross_entropy(network(batch).float(), batch.answers), {}


def stepper(network: nn.Module, config: Config) -> Supervised:
    """Adam for all that is not frozen, with a cosine schedule."""
    learned = [each for each in network.parameters() if each.requires_grad]
    trunk = getattr(network, "trunk", None)
    slow = [] if trunk is None else list(trunk.generator.parameters())
    fast = [each for each in learned if not any(each is other for other in slow)]
    groups: list[dict[str, Any]] = [
        {"params": fast},
        {"params": slow, "lr": config.generator_rate},
    ]
    optimizer = torch.optim.Adam(groups if slow else fast, lr=config.learning_rate)
    return Supervised(network, objective, optimizer, schedule=cosine(config.steps))
