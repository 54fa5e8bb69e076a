"""Method of MAC: cells of control, read and write (Hudson & Manning 2018, section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from featurewise.common.ranges import Range
from featurewise.models.trunks import CoordinateConv
from featurewise.systems.reasoning.ablations import method as ablations
from featurewise.training.optim import linear
from featurewise.training.steppers import Supervised
from featurewise.worlds.clevr import ANSWERS, VOCABULARY, Batch
from featurewise.worlds.clevr.maps import MAP_CHANNELS


@dataclass(frozen=True, kw_only=True)
class Config(ablations.Config):
    """A MAC network, or FiLM on the same maps, and the share of the data it is given.

    Attributes:
        network: "mac"; "film", that of the ablations; or "question only", MAC's words
            and classifier alone.
        share: of the scenes of every stage that the network is trained on.
        cells: number p of cells, each with weights that all share but for its own
            projection of the question.
        width: d, of words, control, memory and map.
        mac_learning_rate: of Adam; `learning_rate` is FiLM's.
    """

    network: Literal["mac", "film", "question only"] = "mac"
    share: Annotated[float, Range(0, 1, above=True)] = 1.0
    cells: int = 4
    width: Annotated[int, Range(2, multiple=2)] = 64
    mac_learning_rate: float = 2e-3


class Control(nn.Module):
    """Attention over the words, by the last control and the question (eq. c1 to c2.3).

    ``c_i = Σ_s softmax_s(w · (q'_i ⊙ cw_s)) cw_s`` with ``q'_i = W [c_{i-1}, q_i]``.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.combine = nn.Linear(2 * width, width)
        self.score = nn.Linear(width, 1)

    def forward(
        self,
        control: Float[Tensor, "Q d"],
        question: Float[Tensor, "Q d"],
        words: Float[Tensor, "Q T d"],
        padding: Bool[Tensor, "Q T"],
    ) -> Float[Tensor, "Q d"]:
        """The next control."""
        wanted = self.combine(torch.cat((control, question), 1))
        scores = self.score(wanted[:, None] * words).squeeze(2)
        weights = scores.masked_fill(padding, -torch.inf).softmax(1)
        return torch.einsum("qt,qtd->qd", weights, words)


class Read(nn.Module):
    """Attention over the map, by the memory and the control (eq. r1 to r3.3).

    ``I = (W_m m) ⊙ (W_k k)``, ``I' = W [I, k]``, and the map is summed with the weights
    ``softmax(w · elu(c ⊙ I'))``.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.memory = nn.Linear(width, width)
        self.place = nn.Linear(width, width)
        self.combine = nn.Linear(2 * width, width)
        self.score = nn.Linear(width, 1)

    def forward(
        self,
        memory: Float[Tensor, "Q d"],
        control: Float[Tensor, "Q d"],
        places: Float[Tensor, "Q P d"],
    ) -> Float[Tensor, "Q d"]:
        """What is read."""
        related = self.memory(memory)[:, None] * self.place(places)
        found = self.combine(torch.cat((related, places), 2))
        scores = self.score(F.elu(control[:, None] * found)).squeeze(2)
        return torch.einsum("qp,qpd->qd", scores.softmax(1), places)


class Words(nn.Module):
    """Words in their context: states of an LSTM in both directions (section 3.1)."""

    def __init__(self, embedding: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(VOCABULARY), embedding, padding_idx=0)
        self.encoder = nn.LSTM(
            embedding, width // 2, batch_first=True, bidirectional=True
        )

    def forward(
        self, questions: Int64[Tensor, "Q T"], lengths: Int64[Tensor, " Q"]
    ) -> tuple[Float[Tensor, "Q T d"], Float[Tensor, "Q d"]]:
        """The words, and the question: the last states of both directions."""
        packed = pack_padded_sequence(
            self.embedding(questions), lengths.cpu(), True, enforce_sorted=False
        )
        states, (last, _) = self.encoder(packed)
        words, _ = pad_packed_sequence(states, True, total_length=questions.shape[1])
        return words, torch.cat((last[0], last[1]), 1)


def classifier(inputs: int, width: int) -> nn.Sequential:
    """Two layers to the logits of the answers."""
    return nn.Sequential(
        nn.Linear(inputs, 2 * width), nn.ELU(), nn.Linear(2 * width, len(ANSWERS))
    )


class QuestionOnly(nn.Module):
    """What the questions alone say of their answers."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.words = Words(config.embedding, config.width)
        self.answer = classifier(config.width, config.width)

    def forward(self, batch: Batch) -> Float[Tensor, "Q 28"]:
        """Logits of the answers to all questions of a batch."""
        logits: Tensor = self.answer(self.words(batch.questions, batch.lengths)[1])
        return logits


class MacNetwork(nn.Module):
    """Cells that read a map step by step; the memory of the last one answers (figure 2)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.width
        self.words = Words(config.embedding, width)
        self.place = CoordinateConv(MAP_CHANNELS, width)
        self.questions = nn.ModuleList(
            nn.Linear(width, width) for _ in range(config.cells)
        )
        self.control, self.read = Control(width), Read(width)
        self.write = nn.Linear(2 * width, width)
        self.first_control = nn.Parameter(torch.randn(width) * width**-0.5)
        self.first_memory = nn.Parameter(torch.randn(width) * width**-0.5)
        self.answer = classifier(2 * width, width)

    def forward(self, batch: Batch) -> Float[Tensor, "Q 28"]:
        """Logits of the answers to all questions of a batch of maps."""
        words, question = self.words(batch.questions, batch.lengths)
        steps = torch.arange(words.shape[1], device=words.device)
        padding = steps >= batch.lengths[:, None]
        maps = F.elu(self.place(batch.images.float()))
        places = maps.flatten(2).mT[batch.image_index]
        control = self.first_control.expand_as(question)
        memory = self.first_memory.expand_as(question)
        for project in self.questions:
            control = self.control(control, project(question), words, padding)
            found = self.read(memory, control, places)
            memory = self.write(torch.cat((found, memory), 1))
        logits: Tensor = self.answer(torch.cat((question, memory), 1))
        return logits


def build(config: Config) -> nn.Module:
    """The network of a config."""
    if config.network == "film":
        return ablations.AblatedNetwork(config)
    return MacNetwork(config) if config.network == "mac" else QuestionOnly(config)


def stepper(network: nn.Module, config: Config) -> Supervised:
    """Adam for MAC, without weight decay; for FiLM as in the ablations."""
    if config.network == "film":
        return ablations.stepper(network, config)
    return Supervised(
        network,
        ablations.objective,
        torch.optim.Adam(network.parameters(), config.mac_learning_rate, fused=True),
        schedule=linear(
            config.steps, warmup=min(100, config.steps // 10), start=0.5, floor=0.02
        ),
        clip=8.0,
        average=0.995,
    )
