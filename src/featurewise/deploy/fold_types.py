"""Types of folding: a modulation, the parameters of a module, and the changes of them."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from featurewise.core import Site


class CannotFold(Exception):  # noqa: N818 (a reason, not an error: it never leaves the library)
    """Why a modulation cannot be folded."""


@dataclass(frozen=True)
class Modulation:
    """Effect of one condition on the C features of a site, in float64: ``M x + t``.

    Attributes:
        scale: the diagonal of M, ``(C,)``; None without scaling.
        shift: t, ``(C,)``; None without shift.
        matrix: the full M, ``(C, C)``, if it is not diagonal; else None.
    """

    scale: Tensor | None = None
    shift: Tensor | None = None
    matrix: Tensor | None = None

    @property
    def multiplies(self) -> bool:
        """Whether the features are scaled or multiplied by a matrix."""
        return self.scale is not None or self.matrix is not None

    @property
    def is_identity(self) -> bool:
        """Whether the features are unchanged."""
        return not self.multiplies and self.shift is None

    def rows(self, weight: Tensor, dim: int, transposed: bool = False) -> Tensor:
        """``M`` (or its transpose) times ``weight`` along axis ``dim``, which has size C."""
        at = weight.movedim(dim, 0)
        if self.matrix is not None:
            at = torch.tensordot(self.matrix.T if transposed else self.matrix, at, dims=1)
        if self.scale is not None:
            at = at * self.scale.reshape(-1, *(1,) * (at.ndim - 1))
        return at.movedim(0, dim)

    def apply(self, x: Tensor, axis: int) -> Tensor:
        """``M x + t`` with the features of ``x`` on ``axis``."""
        at = self.rows(x, axis).movedim(axis, -1)
        return (at if self.shift is None else at + self.shift).movedim(-1, axis)


@dataclass(frozen=True)
class Fold:
    """Result of folding.

    Attributes:
        parameters: new values of parameters of the module, float64.
        left: a shift that the module cannot absorb and that stays a constant layer; else None.
        why: the reason for that.
    """

    parameters: dict[str, Tensor] = field(default_factory=dict)
    left: Tensor | None = None
    why: str = ""


class ModuleParameters:
    """The parameters of the module of a site; called with a name, it returns one of them.

    Args:
        module: the module.
        site: the site.
        shared: ids of parameters that other modules hold as well.
    """

    def __init__(self, module: Any, site: Site, shared: Set[int]) -> None:
        self.module = module
        self.axis = site.axis
        self.width = site.width
        self.shared = shared

    def __call__(self, name: str) -> Tensor | None:
        """The parameter in float64, or None if the module has none.

        Raises:
            CannotFold: if it must not be changed.
        """
        if parametrize.is_parametrized(self.module, name):
            raise CannotFold(f"its {name} is parametrised")
        if name not in self.module._parameters:
            raise CannotFold(f"its {name} is computed, not a parameter")
        parameter = self.module._parameters[name]
        if parameter is None:
            return None
        if type(parameter) is not nn.Parameter or type(parameter.data) is not Tensor:
            raise CannotFold(f"its {name} is a {type(parameter.data).__name__}, not a plain tensor")
        if not parameter.is_floating_point() or parameter.element_size() < 2:
            raise CannotFold(f"its {name} is {parameter.dtype}")
        if parameter.is_meta:
            raise CannotFold(f"its {name} is on the meta device")
        if id(parameter) in self.shared:
            raise CannotFold(f"its {name} is shared with another module")
        return parameter.detach().to("cpu", torch.float64)

    def required(self, name: str) -> Tensor:
        """The parameter in float64.

        Raises:
            CannotFold: if there is none, or it must not be changed.
        """
        value = self(name)
        if value is None:
            raise CannotFold(f"it has no {name}")
        return value


#: Computes a fold from the parameters of a module and a modulation.
Rule = Callable[[ModuleParameters, Modulation], Fold]
