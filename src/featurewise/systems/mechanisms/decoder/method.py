"""Method of the decoder: codes and conditions into an image, conditioned in four ways.

Dumoulin et al. 2018. Each way to condition is a branch of `Decoder`; `network_sizes` gives
all of them as many parameters.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, ClassVar, Final, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

import featurewise as fw
from featurewise.common.ranges import Natural, Range
from featurewise.core import Operation
from featurewise.models.dcgan import generator
from featurewise.study import system
from featurewise.training.errors import ExperimentError
from featurewise.training.optim import cosine
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.glyphs import UPPERCASE
from featurewise.worlds.glyphs.contrast import CONTRASTS, Contrasted
from featurewise.worlds.glyphs.letter_data import LetterData, letter_splits

OPERATIONS: Final[Mapping[str, Operation]] = {
    "affine": fw.Affine(),
    "shift": fw.Shift(),
    "scale": fw.Scale(),
    "gate": fw.Gate(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(system.Config):
    """One decoder and its training.

    Attributes:
        conditioning: "norms", the condition changes the norms; "everywhere", it is
            concatenated to the input of every layer; "input", to the code; "separate", a
            network for each letter, the contrast concatenated to its code; or "none".
        operation: of the condition on the norms.
        shuffled_condition: whether each image has letter and contrast of another, as a
            control.
        typefaces: which ones, as `featurewise.worlds.glyphs.find_typefaces` takes it.
        letters: the letters.
        image_size: height and width of an image, in pixels.
        parameters: most parameters of a decoder, its codes not counted.
        code_size: numbers in the code of a typeface.
        extra_layers: convolutions between the two that upsample.
        batch_size: images per batch.
        learning_rate: of Adam; it rises for a twentieth of the steps and falls along a
            cosine.
        classifier_steps: training steps of the evaluation classifier.
    """

    FORMER_NAMES: ClassVar = {
        "where": "typefaces",
        "budget": "parameters",
        "code": "code_size",
        "rate": "learning_rate",
        "judging": "classifier_steps",
    }

    conditioning: Literal["norms", "everywhere", "input", "separate", "none"] = "norms"
    operation: Literal["affine", "shift", "scale", "gate"] = "affine"
    shuffled_condition: bool = False
    typefaces: str = "debian"
    letters: str = UPPERCASE
    image_size: Annotated[int, Range(8, multiple=4)] = 16
    parameters: int = 60_000
    code_size: int = 16
    extra_layers: Natural = 4
    batch_size: Annotated[int, Range(2)] = 64
    learning_rate: float = 0.08
    classifier_steps: int = 900

    @property
    def splits(self) -> LetterData:
        """The letters."""
        return letter_splits(self.typefaces, self.letters, self.image_size)


class Decoder(nn.Module):
    """Codes of typefaces, and a network from a code, a letter and a contrast to an image.

    With "norms", letter and contrast z change the output x of every norm:
    ``FiLM(x | z) = gamma(z) * x + beta(z)``.

    Args:
        config: how it is conditioned.
        typefaces: number of codes.
        channels: of the narrowest feature maps.
        hidden: units of the first layer.
    """

    def __init__(
        self, config: Config, typefaces: int, channels: int, hidden: int
    ) -> None:
        super().__init__()
        self.conditioning, self.letters = config.conditioning, len(config.letters)
        self.codes = nn.Embedding(typefaces, config.code_size)
        label = self.letters + len(CONTRASTS)
        concatenated = {"input": label, "separate": len(CONTRASTS)}.get(
            config.conditioning, 0
        )
        net: nn.Module = generator(
            config.code_size + concatenated,
            hidden,
            channels,
            config.image_size,
            labels=label if config.conditioning == "everywhere" else 0,
            copies=self.letters if config.conditioning == "separate" else 1,
            extra=config.extra_layers,
        )
        if config.conditioning == "norms":
            net = fw.condition(
                net,
                at=(nn.BatchNorm1d, nn.BatchNorm2d),
                operation=OPERATIONS[config.operation],
                generator=fw.Linear(label),
            )
        self.net = net

    def forward(self, batch: Contrasted) -> Float[Tensor, "B 1 S S"]:
        """The images."""
        code, (letter, contrast) = (
            self.codes(batch.typefaces),
            batch.one_hot(self.letters),
        )
        label = torch.cat((letter, contrast), 1)
        made: Tensor
        if self.conditioning == "separate":
            inputs = torch.cat((code, contrast), 1).repeat(1, self.letters)
            made = (letter[:, :, None, None] * self.net(inputs)).sum(1, keepdim=True)
        elif self.conditioning == "norms":
            made = self.net(code, condition=label)
        elif self.conditioning == "everywhere":
            made = self.net(code, label)
        elif self.conditioning == "input":
            made = self.net(torch.cat((code, label), 1))
        else:
            made = self.net(code)
        return made


def objective(network: nn.Module, batch: Contrasted) -> tuple[Tensor, Metrics]:
    """Mean squared error of the ink."""
    return F.mse_loss(network(batch).float(), batch.images), {}


def stepper(network: nn.Module, config: Config) -> Supervised:
    """Adam with a cosine schedule."""
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    schedule = cosine(config.steps, warmup=config.steps // 20)
    return Supervised(network, objective, optimizer, schedule=schedule)


def build(config: Config) -> nn.Module:
    """A decoder of as many parameters as every other."""
    typefaces = len(config.splits.train.typefaces)
    return Decoder(config, typefaces, *network_sizes(config))


@lru_cache(maxsize=32)
def network_sizes(config: Config) -> tuple[int, int]:
    """The most channels, and then the most hidden units, within the number of parameters.

    Raises:
        ExperimentError: the smallest decoder has more.
    """

    def count(channels: int, hidden: int) -> int:
        with torch.device("meta"):
            net = Decoder(config, 1, channels, hidden).net
        return sum(p.numel() for p in net.parameters())

    if (least := count(1, 4)) > config.parameters:
        raise ExperimentError(
            f"parameters must be {least} or more, got {config.parameters}"
        )
    channels = bisect(range(1, 128), config.parameters, key=lambda c: count(c, 4 * c))
    hidden = bisect(range(1, 1024), config.parameters, key=lambda h: count(channels, h))
    return channels, hidden
