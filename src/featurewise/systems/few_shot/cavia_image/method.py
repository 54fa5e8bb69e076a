"""Method of CAVIA for images: a perceptron conditioned on a context, and its inner loop.

Zintgraf et al. 2019, eq. 3 and 4. The inner loop itself is
`featurewise.training.inner.Context`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

import featurewise as fw
from featurewise.common.ranges import Natural
from featurewise.study import system
from featurewise.systems.few_shot.cavia_image.baselines import Kriging
from featurewise.training.inner import Context, Weights, linear_without_bias
from featurewise.training.optim import cosine
from featurewise.training.steppers import Episodic, Metrics
from featurewise.worlds.glyphs import UPPERCASE
from featurewise.worlds.glyphs.labelled import ImageSplits, letter_images


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(system.Config):
    """One model that completes images, and its training.

    Attributes:
        model: "context", a context that becomes FiLM; "concat", a context that is
            concatenated; "film", gamma and beta without a context; "unadapted", no inner
            step; or "kriging".
        ordered: whether the given pixels are the first rows instead of random ones.
        shuffled_support: whether each image is given the pixels of another, as a
            control.
        width: units of every hidden layer.
        depth: hidden layers.
        context: numbers in phi.
        typefaces: which ones, as `featurewise.worlds.glyphs.find_typefaces` takes it.
        letters: the letters.
        image_size: height and width of an image, in pixels.
        tasks: images per batch.
        shots: given pixels of an image.
        inner_steps: steps of the inner loop.
        inner_learning_rate: of the inner loop.
        learning_rate: of Adam in the outer loop; it falls along a cosine.
        test_tasks: images that are evaluated on.
        classifier_steps: training steps of the evaluation classifier.
    """

    FORMER_NAMES: ClassVar = {
        "rate": "inner_learning_rate",
        "size": "image_size",
        "inner": "inner_steps",
        "held_out": "test_tasks",
    }

    model: Literal["context", "concat", "film", "unadapted", "kriging"] = "context"
    ordered: bool = False
    shuffled_support: bool = False
    width: int = 64
    depth: int = 4
    context: int = 64
    typefaces: str = "debian"
    letters: str = UPPERCASE
    image_size: int = 16
    tasks: int = 8
    shots: int = 26
    inner_steps: Natural = 3
    inner_learning_rate: float = 3.0
    learning_rate: float = 3e-3
    test_tasks: int = 500
    classifier_steps: int = 900

    @property
    def splits(self) -> ImageSplits:
        """The letters."""
        return letter_images(self.typefaces, self.letters, self.image_size)


def build(config: Config) -> nn.Module:
    """A perceptron in its inner loop; or kriging.

    Hidden layers are ``h_l = relu(gamma_l(phi) * (W_l h_(l-1) + b_l) + beta_l(phi))``;
    the inner loop takes steps of ``phi = phi - alpha * grad_phi L(f(phi, theta), given
    pixels)`` from phi = 0 (eq. 3).
    """
    if config.model == "kriging":
        return Kriging()
    layers: list[nn.Module] = []
    for before, after in pairwise((2, *[config.width] * config.depth)):
        layers += [nn.Linear(before, after), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(config.width, 1))
    if config.model == "unadapted":
        return Weights(net, steps=0)
    hidden = [str(2 * layer) for layer in range(config.depth)]
    generator = linear_without_bias(config.context)
    size = config.context
    if config.model == "film":  # the inner loop adapts the task representation itself
        conditioned = fw.condition(net, at=hidden, axis=-1, generator=nn.Identity())
        size = conditioned.layout.size
    elif config.model == "concat":  # which is a shift after the first layer
        conditioned = fw.condition(
            net, at="0", operation=fw.Shift(), axis=-1, generator=generator
        )
    else:
        conditioned = fw.condition(net, at=hidden, axis=-1, generator=generator)
    return Context(
        conditioned,
        size,
        steps=config.inner_steps,
        learning_rate=config.inner_learning_rate,
    )


def objective(network: nn.Module, tasks: Any) -> tuple[Tensor, Metrics]:
    """The error of all pixels, after the inner loop (eq. 4)."""
    return (network(tasks) - tasks.query_y).square().mean(), {}


def stepper(network: nn.Module, config: Config) -> Episodic:
    """Adam on the weights that images share."""
    adam = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    return Episodic(network, objective, adam, schedule=cosine(config.steps), clip=10.0)
