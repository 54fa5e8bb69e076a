"""``MLP``: a multi-layer perceptron before the linear head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

from jaxtyping import Float
from torch import Tensor, nn

from featurewise.core import ArgumentTypeError
from featurewise.generators.base import Generator, along_features, check_condition, positive
from featurewise.generators.errors import GeneratorError


class Perceptron(nn.Module):
    """Linear layers with an activation after each; features are on axis 1."""

    def __init__(self, widths: Sequence[int], activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), activation()]
        self.layers = nn.Sequential(*layers)

    def forward(self, condition: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """``(F,)``, ``(B, F)`` or ``(B, F, *positions)`` -> the same with the last width."""
        first = cast(nn.Linear, self.layers[0])
        check_condition(condition, first.weight, "condition")
        return along_features(self.layers, condition)


class MLP(Generator):
    """Condition vector -> hidden layers -> parameters.

    Args:
        in_features: width F of the condition, which is ``(F,)``, ``(B, F)`` or
            ``(B, F, *positions)``.
        hidden: widths of the hidden layers, at least one (without any, use ``Linear``).
        activation: factory of the activation after each hidden layer.

    Raises:
        GeneratorError: a width below 1, or no hidden layer.
        ArgumentTypeError: a width that is not an integer, or an activation that returns no module.
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int] = (256,),
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        if not isinstance(hidden, Sequence):
            raise ArgumentTypeError(
                f"hidden must be a sequence of widths, got {type(hidden).__name__}"
            )
        if not hidden:
            raise GeneratorError("hidden must name at least one layer; without any, use Linear")
        if not callable(activation) or not isinstance(activation(), nn.Module):
            raise ArgumentTypeError(
                f"activation must make a module, as nn.ReLU does, got {activation!r}"
            )
        widths = [positive(in_features, "in_features"), *(positive(h, "hidden") for h in hidden)]
        super().__init__(Perceptron(widths, activation), widths[-1])
