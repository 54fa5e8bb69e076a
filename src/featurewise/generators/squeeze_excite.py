"""``SqueezeExcite``: a site is conditioned on the mean of its own features."""

from __future__ import annotations

from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from featurewise.core import Layout, Site
from featurewise.generators.base import Head, LocalGenerator, positive
from featurewise.generators.errors import ConditionError
from featurewise.generators.statistics import position_mean


class SqueezeExcite(LocalGenerator):
    """Squeeze-and-excitation: ``W2 relu(W1 mean(x))`` (Hu et al. 2018, eq. 2 and 3).

    With the operation ``Gate(ceiling=1)`` it is the layer of the paper, ``x * σ(...)``. With
    ``Gate()`` the range is twice as large, and it starts as the identity, since W2 starts at zero.
    It supports all operations.

    Args:
        reduction: ratio of the width of the site to that of the hidden layer (paper: 16), which is
            at least 1.

    Raises:
        GeneratorError: if ``reduction`` is below 1.
        ArgumentTypeError: if it is not an integer.
    """

    def __init__(self, reduction: int = 16) -> None:
        super().__init__()
        self.reduction = positive(reduction, "reduction")
        self.squeeze = nn.ModuleList()
        self.excite = nn.ModuleList()

    def _build(self, layout: Layout) -> None:
        for site in layout:
            hidden = max(1, site.width // self.reduction)
            self.squeeze.append(nn.Linear(site.width, hidden))
            self.excite.append(Head(hidden, Layout((site,))))

    def forward(
        self, site: Site, x: Tensor, condition: Any = None, memory: Any = None
    ) -> tuple[dict[str, Tensor], Any]:
        """Raw parameters ``(B, C)`` of ``site`` from its features ``x``, and the memory unchanged.

        Raises:
            LayoutError: if no layout is bound, or ``site`` is not in it.
            ConditionError: if a condition is given.
            ShapeError: if ``x`` does not fit the site.
            ArgumentTypeError: an argument of the wrong type.
        """
        place = self.index(site)
        if condition is not None:
            raise ConditionError(
                "SqueezeExcite takes no condition: a site is conditioned on its own features"
            )
        hidden = F.relu(self.squeeze[place](position_mean(x, site)))
        head = cast(Head, self.excite[place])
        return head.layout.split(head(hidden))[site.name], memory
