"""``Learned``: parameters without a condition."""

from __future__ import annotations

from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from featurewise.core import Layout
from featurewise.generators.base import Generator, unbound
from featurewise.generators.errors import ConditionError


class Learned(Generator):
    """No condition: one learned vector for all samples, initialised to the identity.

    For an unconditional control of a conditioned network, and to fit one new task.

    Attributes:
        vector: ``(N,)``; None until bound.
    """

    head_weights: ClassVar[tuple[str, ...]] = ("vector",)
    vector: nn.Parameter | None

    def __init__(self) -> None:
        super().__init__(None, 1)
        self.register_parameter("vector", None)

    def _build(self, layout: Layout) -> None:
        self.vector = nn.Parameter(layout.start())

    def forward(self, condition: Any = None) -> Float[Tensor, " N"]:
        """The vector ``(N,)``.

        Raises:
            LayoutError: if no layout is bound.
            ConditionError: if a condition is given.
        """
        if self.vector is None:
            raise unbound(self)
        if condition is not None:
            raise ConditionError("Learned takes no condition")
        # A view: in-place methods such as `task.requires_grad_()` must not change the parameter.
        return self.vector.view(-1)
