"""Method: the FiLM generator alone learns another language; the visual network is fixed.

The network and its training are those of the ablations (Perez et al. 2018, figures 2 and
3); fine-tuning is that of `cogent`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

import torch
from torch import Tensor, nn

from featurewise.generators import Recurrent
from featurewise.systems.reasoning.ablations import method as ablations
from featurewise.systems.reasoning.ablations.method import AblatedNetwork, stepper
from featurewise.systems.reasoning.cogent.method import (
    QuestionOnly,
    conditioned_trunk,
    fine_tune,
)
from featurewise.systems.reasoning.cogent.parts import require_conditioned, require_parts
from featurewise.worlds.clevr import VOCABULARY
from featurewise.worlds.clevr.words import UNKNOWN_INDEX

__all__ = [
    "Config",
    "build",
    "fine_tune",
    "stepper",
    "visual_state",
    "with_new_generator",
    "with_new_words",
]

Method: TypeAlias = Literal["generator", "no new words", "all", "new generator"]
"""What is fine-tuned: the generator; the same, with every new word read as the unknown one;
all weights; or a generator with new random weights."""


@dataclass(frozen=True, kw_only=True)
class Config(ablations.Config):
    """FiLM, and how it learns another language.

    Attributes:
        network: "film", that of the ablations; or "question only", its words alone.
        fine_tuned: whether evaluation also fine-tunes copies of the trained network.
        new_scenes: scenes that a copy is fine-tuned on, each read once, with up to four
            questions in the other language.
        scenes_per_step: scenes in a step of it.
        fine_tuning_rate: learning rate of Adam in it.
    """

    network: Literal["film", "question only"] = "film"
    fine_tuned: bool = False
    new_scenes: int = 2_048
    scenes_per_step: int = 16
    fine_tuning_rate: float = 2e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        require_conditioned(self.conditioned)
        require_parts("new_scenes", self.new_scenes, self.scenes_per_step)


def build(config: Config) -> nn.Module:
    """The network of a config."""
    if config.network == "question only":
        return QuestionOnly(config)
    return AblatedNetwork(config)


def generator_of(network: nn.Module) -> Recurrent:
    """The FiLM generator: question encoder and linear map."""
    return cast("Recurrent", conditioned_trunk(network).generator)


def with_new_words(network: nn.Module, count: int) -> nn.Module:
    """Adds vectors of new words to a network, after those of its vocabulary.

    Each begins as the vector of the unknown word, so that no answer changes yet.

    Args:
        network: is changed, and returned.
        count: of new words.
    """
    encoder = cast("nn.Module", generator_of(network).encoder)
    old = cast("nn.Embedding", encoder.embedding)
    new = nn.Embedding(len(VOCABULARY) + count, old.embedding_dim, padding_idx=0)
    with torch.no_grad():
        new.weight[: len(VOCABULARY)] = old.weight
        new.weight[len(VOCABULARY) :] = old.weight[UNKNOWN_INDEX]
    encoder.embedding = new
    return network


def with_new_generator(network: nn.Module, config: Config, seed: int) -> nn.Module:
    """Gives a network a generator with random weights; its trunk and classifier stay.

    Args:
        network: is changed, and returned.
        config: of the network.
        seed: of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        other = AblatedNetwork(config)
    generator_of(network).load_state_dict(generator_of(other).state_dict())
    return network


def visual_state(network: nn.Module) -> dict[str, Tensor]:
    """Copies of all weights and statistics outside the generator, by name."""
    inside = {
        id(each) for each in generator_of(network).state_dict(keep_vars=True).values()
    }
    return {
        name: each.detach().clone()
        for name, each in network.state_dict(keep_vars=True).items()
        if id(each) not in inside
    }
