"""Method of TADAM: an embedding conditioned on its task, and an auxiliary task.

Oreshkin et al. 2018, section 2: FiLM from the mean of the support (2.2, figure 1), and
co-training on an auxiliary task (2.4). The loss of the queries is that of all prototypical
networks, `featurewise.systems.episodes.query_loss`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

import featurewise as fw
from featurewise.generators import GatedGenerator, parameter_groups
from featurewise.models.prototypes import embed_images, prototypes, squared_distances
from featurewise.models.trunks import PoolingTrunk
from featurewise.systems.episodes import EpisodeConfig, query_loss, sampled_episodes
from featurewise.training.optim import cosine
from featurewise.training.steppers import Auxiliary, Episodic, Metrics
from featurewise.worlds.glyphs.domains import DOMAINS
from featurewise.worlds.glyphs.episodes import ConditionedEpisodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(EpisodeConfig):
    """One network and its training.

    Attributes:
        domains: names of the domains, one of which each episode is in.
        conditioned: whether the embedding is conditioned on the task.
        shuffled_condition: whether each episode is conditioned on the support images of
            another one, as a control.
        auxiliary_task: whether some training steps are on the auxiliary task.
        auxiliary_images: images of the auxiliary task for each episode.
        hidden_width: of the perceptron that generates FiLM.
        learning_rate: of Adam, at the beginning; it falls along a cosine.
        multiplier_learning_rate: the same for γ0 and β0.
        weight_decay: of all weights but the multipliers.
        multiplier_weight_decay: of γ0 and β0.
    """

    FORMER_NAMES: ClassVar = {
        "hidden": "hidden_width",
        "extra": "auxiliary_images",
        "penalty": "multiplier_weight_decay",
    }

    domains: tuple[str, ...] = tuple(DOMAINS)
    conditioned: bool = True
    shuffled_condition: bool = False
    auxiliary_task: bool = True
    auxiliary_images: int = 16
    hidden_width: int = 32
    learning_rate: float = 5e-3
    multiplier_learning_rate: float = 0.02
    weight_decay: float = 5e-4
    multiplier_weight_decay: float = 0.01


class Tadam(nn.Module):
    """The system and, with parts left out, its baselines.

    FiLM stands after the norm of each block b, generated from the mean c of the support
    vectors: ``y = (1 + γ0_b h_b(c)) * x + β0_b g_b(c)``.

    Args:
        config: sizes, and which parts there are.
        classes: number of classes of the auxiliary task.
    """

    def __init__(self, config: Config, classes: int) -> None:
        super().__init__()
        self.way = config.way
        self.embed: nn.Module = PoolingTrunk(config.channels)
        width = config.channels * (config.image_size // 16) ** 2
        if config.conditioned:
            hidden = (config.hidden_width, config.hidden_width)
            generator = GatedGenerator(fw.MLP(width, hidden, nn.ELU))
            self.embed = fw.condition(
                self.embed, at="blocks.*.norm", generator=generator
            )
        self.scale = nn.Parameter(torch.tensor(0.1))
        self.name = nn.Linear(width, classes) if config.auxiliary_task else None
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(
        self, batch: ConditionedEpisodes, auxiliary: bool = False
    ) -> Float[Tensor, "E M K"]:
        """Logits of the classes of an episode for each query, or those of the auxiliary task.

        A class k has the logit ``-α |f(x, c) - c_k|²`` with its prototype c_k.

        Args:
            batch: of episodes.
            auxiliary: for each auxiliary image, the logits of all training classes; the
                embedding is then not conditioned.
        """
        if auxiliary and self.name is not None and batch.auxiliary_images is not None:
            vectors = self.embed_unconditioned(batch.auxiliary_images, self.training)
            return self.name(vectors)  # type: ignore[no-any-return]
        support_size = batch.support.shape[1]
        images = torch.cat((batch.support, batch.query), dim=1)
        vectors = self.embed_conditioned(images, batch.condition)
        centres = prototypes(vectors[:, :support_size], batch.support_labels, self.way)
        return -self.scale * squared_distances(vectors[:, support_size:], centres)

    @property
    def trunk(self) -> nn.Module:
        """The embedding without FiLM."""
        return (
            self.embed.backbone if isinstance(self.embed, fw.Conditioned) else self.embed
        )

    def embed_conditioned(
        self,
        images: Float[Tensor, "E M C S S"],
        condition: Float[Tensor, "E NK C S S"] | None,
    ) -> Float[Tensor, "E M D"]:
        """The second pass, conditioned on the mean vector of a first pass over the condition.

        As all classes have as many support images, it is the mean of their prototypes,
        too.
        """
        if condition is None or not isinstance(self.embed, fw.Conditioned):
            return embed_images(self.trunk, images)
        task = self.embed.generator(self.embed_unconditioned(condition).mean(1))
        rows = task[:, None].expand(-1, images.shape[1], -1).flatten(0, 1)
        vectors: Tensor = self.embed(images.flatten(0, 1), task=rows)
        return vectors.view(*images.shape[:2], -1)

    def embed_unconditioned(
        self, images: Float[Tensor, "E M C S S"], batch_statistics: bool = False
    ) -> Float[Tensor, "E M D"]:
        """The embedding without FiLM, whose norms leave their running statistics alone.

        These belong to conditioned features, which alone are classified in the end;
        statistics of both passes together would fit neither.

        Args:
            images: M images of each of E episodes.
            batch_statistics: normalise by the statistics of these images; default: by
                the running ones, in training too.
        """
        trunk: Any = self.trunk
        x = images.flatten(0, 1)
        for block in trunk.blocks:
            x, norm = block.convolve(x), block.norm
            mean = None if batch_statistics else norm.running_mean.clone()
            variance = None if batch_statistics else norm.running_var.clone()
            x = F.batch_norm(
                x, mean, variance, norm.weight, norm.bias, batch_statistics, eps=norm.eps
            )
            x = F.max_pool2d(F.relu(x), 2)
        return x.flatten(1).view(*images.shape[:2], -1)


def build(config: Config) -> Tadam:
    """The network; its auxiliary task has all training classes."""
    return Tadam(config, len(sampled_episodes(config, "train", 0).classes))


def auxiliary_loss(
    network: nn.Module, batch: ConditionedEpisodes
) -> tuple[Tensor, Metrics]:
    """Cross-entropy of the auxiliary task, and its accuracy."""
    logits = network(batch, auxiliary=True).flatten(0, 1)
    labels = batch.auxiliary_labels.flatten()  # type: ignore[union-attr]
    accuracy = (logits.detach().argmax(1) == labels).float().mean()
    return F.cross_entropy(logits, labels), {"accuracy": accuracy}


def stepper(network: nn.Module, config: Config) -> Episodic:
    """Adam; the probability of an auxiliary step falls from 1 in 20 stages."""
    groups = parameter_groups(
        network,
        config.weight_decay,
        multiplier_weight_decay=config.multiplier_weight_decay,
    )
    for group in groups:
        is_multiplier = group["name"] == "multipliers"
        group["lr"] = (
            config.multiplier_learning_rate if is_multiplier else config.learning_rate
        )
    auxiliary = Auxiliary(
        auxiliary_loss, lambda step: 0.9 ** (20 * step // config.steps)
    )
    return Episodic(
        network,
        query_loss,
        torch.optim.Adam(groups),
        auxiliary=auxiliary if config.auxiliary_task else None,
        schedule=cosine(config.steps, floor=0.01),
    )
