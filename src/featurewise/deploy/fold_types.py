"""What folding works with: a modulation, the module that it enters, and what changes there."""

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
    """What one condition does to the C features of a site, in float64: ``M x + t``.

    Attributes:
        scale: the diagonal of M, ``(C,)``; None where nothing is scaled.
        shift: t, ``(C,)``; None where nothing is added.
        matrix: M as a whole, ``(C, C)``, where it is not diagonal.
    """

    scale: Tensor | None = None
    shift: Tensor | None = None
    matrix: Tensor | None = None

    @property
    def multiplies(self) -> bool:
        """Whether the features are multiplied by anything."""
        return self.scale is not None or self.matrix is not None

    @property
    def nothing(self) -> bool:
        """Whether the features stay as they are."""
        return not self.multiplies and self.shift is None

    def rows(self, weight: Tensor, dim: int, transposed: bool = False) -> Tensor:
        """``M`` times ``weight`` along axis ``dim``, of size C; or its transpose."""
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
    """What folding changes.

    Attributes:
        parameters: new values of parameters of the module, float64.
        left: a shift that has no place in the module and stays behind it.
        why: the reason for that.
    """

    parameters: dict[str, Tensor] = field(default_factory=dict)
    left: Tensor | None = None
    why: str = ""


class ModuleParameters:
    """The module of a site; called with a name, it reads a parameter that folding may change.

    Args:
        module: the module.
        site: where the modulation is.
        shared: identities of parameters that other modules hold as well.
    """

    def __init__(self, module: Any, site: Site, shared: Set[int]) -> None:
        self.module = module
        self.axis = site.axis
        self.width = site.width
        self.shared = shared

    def __call__(self, name: str) -> Tensor | None:
        """The parameter in float64, or None where the module has none.

        Raises:
            CannotFold: if it may not be changed.
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
        """The parameter, where there is sure to be one."""
        value = self(name)
        if value is None:
            raise CannotFold(f"it has no {name}")
        return value


#: New parameters of a module, from the old and a modulation.
Rule = Callable[[ModuleParameters, Modulation], Fold]
