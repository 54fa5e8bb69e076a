"""Method: sums of FiLM parameters for unknown combinations, and fine-tuning on them.

The network and its training are those of the ablations (Perez et al. 2018, figures 2 and
3). It is trained on condition A of CLEVR-CoGenT; here is what is done with it for B.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

import featurewise as fw
from featurewise.core import TaskRepresentation
from featurewise.retrofit import Conditioned
from featurewise.systems.reasoning.ablations import method as ablations
from featurewise.systems.reasoning.ablations.method import AblatedNetwork, stepper
from featurewise.systems.reasoning.cogent.parts import require_conditioned, require_parts
from featurewise.worlds.clevr import ANSWERS, VOCABULARY, Batch
from featurewise.worlds.clevr.combinations import Swaps

__all__ = [
    "Config",
    "Importance",
    "QuestionOnly",
    "analogy",
    "answers",
    "build",
    "fine_tune",
    "fisher",
    "penalty",
    "stepper",
    "trained_part",
]

Method: TypeAlias = Literal["all", "EWC", "generator"]
"""What fine-tuning changes: all weights; all, held by EWC; or the FiLM generator alone."""


@dataclass(frozen=True, kw_only=True)
class Config(ablations.Config):
    """FiLM, the combinations that it is trained on, and how it is fine-tuned.

    Attributes:
        network: "film", that of the ablations; or "question only", its words alone.
        combinations: of color and shape in training: those of condition "A", or "all".
        fine_tuned: whether evaluation also fine-tunes copies of the trained network on B.
        scenes_of_b: that a copy is fine-tuned on, with four questions about each (fewer,
            where a scene allows no four); each is read once.
        scenes_per_step: scenes in a step of it.
        fine_tuning_rate: learning rate of Adam in it.
        strength: λ of EWC.
        fisher_scenes: of A; the Fisher information is computed from the questions about them.
    """

    network: Literal["film", "question only"] = "film"
    combinations: Literal["A", "all"] = "A"
    fine_tuned: bool = False
    scenes_of_b: int = 2_048
    scenes_per_step: int = 16
    fine_tuning_rate: float = 1e-3
    strength: float = 100.0
    fisher_scenes: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        require_conditioned(self.conditioned)
        require_parts("scenes_of_b", self.scenes_of_b, self.scenes_per_step)


class QuestionOnly(nn.Module):
    """Question-only baseline: the encoder of the generator, and a perceptron."""

    def __init__(self, config: ablations.Config) -> None:
        super().__init__()
        generator = fw.Recurrent(len(VOCABULARY), config.embedding, config.hidden)
        self.read = cast("nn.Module", generator.encoder)
        self.answer = nn.Sequential(
            nn.Linear(config.hidden, config.features),
            nn.ReLU(),
            nn.Linear(config.features, len(ANSWERS)),
        )

    def forward(self, batch: Batch) -> Float[Tensor, "Q 28"]:
        """Logits of the answers to all questions of a batch."""
        logits: Tensor = self.answer(self.read((batch.questions, batch.lengths)))
        return logits


def build(config: Config) -> nn.Module:
    """The network of a config."""
    if config.network == "question only":
        return QuestionOnly(config)
    return AblatedNetwork(config)


# --- zero-shot: sums of FiLM parameters (section 4.5) ------------------------------


def conditioned_trunk(network: nn.Module) -> Conditioned:
    """The part of a network that the question modulates."""
    return cast("Conditioned", cast("AblatedNetwork", network).trunk)


def analogy(
    network: nn.Module, swaps: Swaps, lengths: Int64[Tensor, " P"]
) -> tuple[TaskRepresentation, TaskRepresentation, TaskRepresentation]:
    """The parts of "How many cyan cubes are there?" as a + b - c.

    a is "How many cyan spheres are there?", b is "How many yellow cubes are there?", and c
    is "How many yellow spheres are there?"; the network was trained on all three.

    Args:
        network: FiLM.
        swaps: the three questions, for each that names an unknown combination.
        lengths: of the questions; they do not change.
    """
    represent = conditioned_trunk(network).represent
    return (
        represent((swaps.shape, lengths)),
        represent((swaps.color, lengths)),
        represent((swaps.both, lengths)),
    )


def answers(
    network: nn.Module, batch: Batch, task: TaskRepresentation
) -> Float[Tensor, "Q 28"]:
    """Logits of the answers where the FiLM parameters are given, not generated."""
    maps = batch.images.float()[batch.image_index]
    network = cast("AblatedNetwork", network)
    logits: Tensor = network.answer(conditioned_trunk(network)(maps, task=task))
    return logits


# --- fine-tuning, and elastic weight consolidation (Kirkpatrick et al. 2017, eq. 3) -


@dataclass(frozen=True)
class Importance:
    """What EWC holds the weights to.

    Attributes:
        weights: of the network after A, by name.
        fisher: diagonal of the Fisher information of each, on A.
    """

    weights: Mapping[str, Tensor]
    fisher: Mapping[str, Tensor]


def fisher(network: nn.Module, batch: Batch, rng: torch.Generator) -> Importance:
    """``F_i = E[(∂ log p(y | x) / ∂ θ_i)²]`` over questions, y an answer of the network.

    Args:
        network: after A, in eval mode.
        batch: scenes of A with questions; their answers are not read.
        rng: samples the answers y from the network's own probabilities.
    """
    named = dict(network.named_parameters())
    sums = {name: torch.zeros_like(each) for name, each in named.items()}
    count = len(batch.lengths)
    for row in range(count):
        log_p = F.log_softmax(network(batch.rows(row, row + 1)).float(), 1)[0]
        answer = torch.multinomial(log_p.detach().exp().cpu(), 1, generator=rng).item()
        gradients = torch.autograd.grad(
            log_p[int(answer)], list(named.values()), allow_unused=True
        )
        for name, gradient in zip(named, gradients, strict=True):
            if gradient is not None:
                sums[name] += gradient.square() / count
    return Importance({k: v.detach().clone() for k, v in named.items()}, sums)


def penalty(network: nn.Module, held: Importance, strength: float) -> Tensor:
    """``λ / 2 · Σ_i F_i (θ_i - θ_i after A)²`` (eq. 3)."""
    terms = [
        (held.fisher[name] * (each - held.weights[name]).square()).sum()
        for name, each in network.named_parameters()
    ]
    return strength / 2 * torch.stack(terms).sum()


def trained_part(network: nn.Module, method: Method) -> list[nn.Parameter]:
    """The weights that fine-tuning changes; all others no longer need gradients.

    With the generator alone, the norms also keep their statistics: what processes images
    stays as it is, bit for bit.
    """
    network.requires_grad_(method != "generator").train(method != "generator")
    conditioned_trunk(network).generator.requires_grad_(True).train()
    return [each for each in network.parameters() if each.requires_grad]


def fine_tune(
    network: nn.Module,
    method: Method,
    batches: Iterable[Batch],
    *,
    learning_rate: float,
    held: Importance | None = None,
    strength: float = 0.0,
    clip: float = 1.0,
) -> Iterator[int]:
    """Trains a network further, each batch once; gives the number of steps so far.

    Args:
        network: is changed.
        method: what of it.
        batches: to train on.
        learning_rate: of Adam.
        held: what EWC holds the weights to.
        strength: λ of EWC.
        clip: largest norm of the gradient.
    """
    parameters = trained_part(network, method)
    optimizer = torch.optim.Adam(parameters, learning_rate)
    for step, batch in enumerate(batches, 1):
        trained_part(network, method)  # a measurement in between leaves eval mode
        with torch.enable_grad():
            loss, _ = ablations.objective(network, batch)
            if method == "EWC" and held is not None:
                loss = loss + penalty(network, held, strength)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        yield step
