"""Method: FiLM whose generator may be deeper, and what keeps it from overfitting.

The visual network is that of the ablations (Perez et al. 2018, figures 2 and 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from featurewise.common.ranges import Natural
from featurewise.core import Layout
from featurewise.generators import Generator, Head, Recurrent, deviation
from featurewise.generators.base import unbound
from featurewise.retrofit import Conditioned
from featurewise.systems.reasoning.ablations import method as ablations
from featurewise.systems.reasoning.ablations.method import AblatedNetwork
from featurewise.systems.reasoning.cogent.parts import require_conditioned
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.clevr import VOCABULARY, Batch


@dataclass(frozen=True, kw_only=True)
class Config(ablations.Config):
    """FiLM, its generator, and how that is regularised.

    Attributes:
        generator: what predicts γ and β from the last state of the GRU: one "linear" map,
            a "deep" perceptron, or a recurrent "decoder" that goes from block to block.
        layers: hidden layers of the deep perceptron.
        weight_decay: of all matrices and kernels, in Adam.
        deviation: weight of the squared distance of γ from 1 and of β from 0 in the loss.
        training_scenes: of the training data; few, so that there is something to overfit.
    """

    generator: Literal["linear", "deep", "decoder"] = "linear"
    layers: Natural = 3
    weight_decay: float = 1e-5
    deviation: float = 0.0
    training_scenes: int = 1_000

    def __post_init__(self) -> None:
        super().__post_init__()
        require_conditioned(self.conditioned)


class Decoder(Generator):
    """A GRU that makes a state for each site, and a linear map from it to the parameters.

    Its first state is the condition's features, its input at a site the state before.

    Args:
        encoder: from a condition to features ``(B, F)``.
        features: width F, which is also that of the states.
    """

    def __init__(self, encoder: nn.Module, features: int) -> None:
        super().__init__(encoder, features)
        self.cell = nn.GRUCell(features, features)
        self.heads = nn.ModuleList()

    def _build(self, layout: Layout) -> None:
        self.heads.extend(Head(self.features, Layout((site,))) for site in layout)

    def forward(self, condition: Any) -> Float[Tensor, "B N"]:
        """Flat parameters, site after site."""
        if not self.heads:
            raise unbound(self)
        state: Tensor = cast("nn.Module", self.encoder)(condition)
        before, found = torch.zeros_like(state), []
        for head in self.heads:
            before, state = state, self.cell(before, state)
            found.append(head(state))
        return torch.cat(found, dim=1)


def generator(config: Config) -> Generator:
    """The generator of a config; all read the question with the same GRU."""
    linear = Recurrent(len(VOCABULARY), config.embedding, config.hidden)
    if config.generator == "linear":
        return linear
    encoder = cast("nn.Module", linear.encoder)
    if config.generator == "decoder":
        return Decoder(encoder, config.hidden)
    hidden: list[nn.Module] = []
    for _ in range(config.layers):
        layer = nn.Linear(config.hidden, config.hidden)
        # As large at first as the features of the other generators.
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        hidden += [layer, nn.ReLU()]
    return Generator(nn.Sequential(encoder, *hidden), config.hidden)


def build(config: Config) -> AblatedNetwork:
    """The network of a config."""
    return AblatedNetwork(config, generator(config))


def objective(weight: float, network: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
    """Cross-entropy of the answers, plus the penalty of the parameters."""
    if not weight:
        return ablations.objective(network, batch)
    network = cast("AblatedNetwork", network)
    trunk = cast("Conditioned", network.trunk)
    task = trunk.represent((batch.questions, batch.lengths))
    maps = batch.images.float()[batch.image_index]
    logits: Tensor = network.answer(trunk(maps, task=task)).float()
    accuracy = (logits.argmax(1) == batch.answers).float().mean()
    penalty = cast("Tensor", deviation(task))
    loss = F.cross_entropy(logits, batch.answers) + weight * penalty
    return loss, {"accuracy": accuracy, "deviation": penalty}


def stepper(network: nn.Module, config: Config) -> Supervised:
    """That of the ablations, with the weight decay and the penalty of the config."""
    return ablations.stepper(
        network,
        config,
        weight_decay=config.weight_decay,
        objective=lambda net, batch: objective(config.deviation, net, batch),
    )
