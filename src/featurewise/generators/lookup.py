"""``Lookup``: a table with one row of parameters per condition."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featurewise.core import Layout
from featurewise.generators.base import Generator, check_ids, check_range, positive, unbound
from featurewise.generators.errors import ConditionError


class Lookup(Generator):
    """Ids -> rows of a table, which is initialised to the identity.

    Dumoulin et al. 2017, *A Learned Representation for Artistic Style*, eq. 5, use such a table for
    many styles in one network. It equals ``Linear`` of a one-hot vector, without the product.

    Args:
        count: number of conditions.

    Attributes:
        table: ``(count, N)``; None until bound. Row i is the task representation of condition i.

    Raises:
        GeneratorError: if ``count`` is below 1.
        ArgumentTypeError: if it is not an integer.
    """

    head_weights: ClassVar[tuple[str, ...]] = ("table",)
    table: nn.Parameter | None

    def __init__(self, count: int) -> None:
        super().__init__(None, positive(count, "count"))
        self.count = count
        self.register_parameter("table", None)

    def _build(self, layout: Layout) -> None:
        self.table = nn.Parameter(layout.start().repeat(self.count, 1))

    def forward(self, condition: Any) -> Float[Tensor, "..."]:
        """Rows of the table: ids of shape ``()`` give ``(N,)``, ids ``(B,)`` give ``(B, N)``.

        Ids ``(B, *positions)`` give ``(B, N, *positions)``.

        Raises:
            LayoutError: if no layout is bound.
            ArgumentTypeError: if the ids are not an integer tensor.
            ConditionError: if the ids are None, or an id is out of range.
        """
        if self.table is None:
            raise unbound(self)
        if condition is None:
            raise ConditionError("Lookup needs ids as its condition, got None")
        check_ids(condition, "ids")
        check_range(condition, self.count, "ids")
        rows = nn.functional.embedding(condition, self.table)
        return rows if rows.ndim <= 2 else torch.movedim(rows, -1, 1)
