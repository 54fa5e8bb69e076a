"""Method of the bilinear transforms: eq. 1, FiLM as one of them, and what learns both.

Tenenbaum & Freeman 2000, eq. 1; Kim et al. 2017, eq. 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

import featurewise as fw
from featurewise.layers.concat import ConcatLinear
from featurewise.study import system
from featurewise.training.optim import cosine
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.small.forms import CELLS, Pairs


@dataclass(frozen=True, kw_only=True)
class Config(system.Config):
    """One layer for each function and training set, and their training.

    Attributes:
        layer: "film", with a linear generator; "bilinear", all of W; "factors", FiLM
            between two linear maps; "concat", a linear map of [x; z]; or "linear", one
            of x or z alone.
        factors: features between the two linear maps.
        reads: what a linear map reads: "inputs" x, or "condition" z.
        shuffled_condition: whether every sample has the z of another one, as a control.
        width: C, features of x and of y.
        condition_width: Z, features of z.
        few: examples of the small training sets.
        rank: factors of the bilinear transform that is learned.
        noise: standard deviation of the noise on the targets of the training examples.
        batch_size: examples per batch.
        test_examples: examples that errors are measured on.
        split: of these examples, "validation" or "test".
        learning_rate: of Adam; it falls along a cosine to a hundredth.
    """

    FORMER_NAMES: ClassVar = {"condition": "condition_width", "rows": "test_examples"}

    layer: Literal["film", "bilinear", "factors", "concat", "linear"] = "film"
    factors: int = 16
    reads: Literal["inputs", "condition"] = "inputs"
    shuffled_condition: bool = False
    width: int = 16
    condition_width: int = 16
    rank: int = 8
    few: int = 128
    noise: float = 0.1
    batch_size: int = 64
    test_examples: int = 2_000
    split: Literal["validation", "test"] = "test"
    learning_rate: float = 1e-2


def bilinear(
    x: Float[Tensor, "B I"], weight: Float[Tensor, "K I J"], z: Float[Tensor, "B J"]
) -> Float[Tensor, "B K"]:
    """Eq. 1: ``y_k = xᵀ W_k z``."""
    return torch.einsum("bi,kij,bj->bk", x, weight, z)


def append_one(x: Float[Tensor, "B C"]) -> Float[Tensor, "B D"]:
    """``[x; 1]``, so that a product with it can add: D is C + 1."""
    return torch.cat((x, torch.ones_like(x[:, :1])), dim=1)


def film_as_bilinear(
    width: int, dtype: torch.dtype | None = None
) -> Float[Tensor, "C I J"]:
    """W with ``bilinear([x; 1], W, [γ; β]) = γ ⊙ x + β``: I is C + 1, J is 2·C.

    Each of its slices has two ones, at (k, k) and (C, C + k), so that its rank is two.

    Args:
        width: C, number of features.
        dtype: of W; default: PyTorch's.
    """
    weight = torch.zeros(width, width + 1, 2 * width, dtype=dtype)
    k = torch.arange(width)
    weight[k, k, k] = weight[k, width, width + k] = 1
    return weight


class Bilinear(nn.Module):
    """``y_k = [x; 1]ᵀ W_k [z; 1]``: every product of a feature and a condition, and both alone.

    Args:
        features: width C of x.
        condition_features: width Z of the condition.
        out_features: width K of y.
    """

    def __init__(
        self, features: int, condition_features: int, out_features: int
    ) -> None:
        super().__init__()
        shape = out_features, features + 1, condition_features + 1
        self.weight = nn.Parameter(torch.randn(shape) / (shape[1] * shape[2]) ** 0.5)

    def forward(
        self, x: Float[Tensor, "B C"], condition: Float[Tensor, "B Z"]
    ) -> Float[Tensor, "B K"]:
        """The K values of each row."""
        return bilinear(append_one(x), self.weight, append_one(condition))


def build_layer(config: Config) -> nn.Module:
    """The layer that learns one function."""
    c, z = config.width, config.condition_width
    if config.layer == "bilinear":
        return Bilinear(c, z, c)
    if config.layer == "concat":
        return ConcatLinear(c, z, c)
    if config.layer == "linear":
        return nn.Linear(c if config.reads == "inputs" else z, c)
    if config.layer == "factors":
        maps = nn.Sequential(nn.Linear(c, config.factors), nn.Linear(config.factors, c))
        return fw.condition(maps, at="0", generator=fw.Linear(z))
    layer = fw.FiLM(c, z)
    weight = layer.get_submodule("generator.head").weight
    nn.init.normal_(weight, std=0.1)  # type: ignore[arg-type]
    return layer


class Students(nn.Module):
    """A layer of the same kind for each function and training set, in the order of `CELLS`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.linear, self.reads = config.layer == "linear", config.reads
        self.students = nn.ModuleDict({cell: build_layer(config) for cell in CELLS})

    def forward(self, batch: Pairs) -> Float[Tensor, "B 4 C"]:
        """Outputs y of all layers."""
        outputs = []
        for cell, student in enumerate(self.students.values()):
            x, z = batch.x[:, cell], batch.z[:, cell]
            if self.linear:
                outputs.append(student(x if self.reads == "inputs" else z))
            else:
                outputs.append(student(x, condition=z))
        return torch.stack(outputs, dim=1)


def objective(network: nn.Module, batch: Pairs) -> tuple[Tensor, Metrics]:
    """Squared error, the mean over all layers."""
    return (network(batch) - batch.y).square().mean(), {}


def stepper(network: nn.Module, config: Config) -> Supervised:
    """Adam with a cosine schedule."""
    adam = torch.optim.Adam(network.parameters(), config.learning_rate, fused=True)
    return Supervised(
        network, objective, adam, schedule=cosine(config.steps, floor=0.01)
    )
