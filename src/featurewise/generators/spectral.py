"""``spectral``: a limit to the spectral norm of the heads of a generator."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from featurewise.common.text import short
from featurewise.core import ArgumentTypeError, Layout, _torch
from featurewise.core.numbers import is_finite
from featurewise.generators.base import Head
from featurewise.generators.errors import GeneratorError
from featurewise.generators.wrapper import Wrapper

#: Steps of the power iteration for each call of a head in training.
_POWER_ITERATIONS: Final = 3


def spectral(generator: nn.Module, limit: float = 1.0) -> Wrapper:
    """Limit the spectral norm of the heads of a generator, when it is bound.

    A head uses the weight ``W / max(1, σ / limit)``, where σ is the largest singular value of W.
    Encoder features that differ by d give parameters that differ by at most ``limit * d``. Below
    the limit the weight is unchanged, exactly. This includes the initial zero weight, for which
    standard spectral normalisation divides zero by zero.

    σ is estimated by power iteration, with three steps for each call of the head in training. The
    estimate approaches σ from below: while the weight changes, the norm may exceed the limit (by
    14 % with Adam at a learning rate of 0.02, by more in the first steps of SGD with a high
    learning rate), and it converges to the limit as the weight converges. The vectors of the
    iteration are two buffers of each head, ``left`` and ``right``; the weight keeps its key in the
    state dict and its weight decay.

    Args:
        generator: a generator with at least one ``Head``.
        limit: the largest spectral norm.

    Returns:
        A generator.

    Raises:
        GeneratorError: a limit that is not positive and finite; in ``bind``: there is no head.
        ArgumentTypeError: ``limit`` is not a number, or ``generator`` is not a module or is a local
            generator.

    Source:
        Miyato et al. 2018, *Spectral Normalization for Generative Adversarial Networks*,
        algorithm 1.
    """
    return Spectral(generator, limit)


class LimitedHead(Head):
    """A head that uses its weight with a spectral norm of at most ``limit``.

    Args:
        head: the head whose weight and bias are used.
        limit: the largest spectral norm.
    """

    left: Tensor
    right: Tensor

    def __init__(self, head: Head, limit: float) -> None:
        like = head.weight
        super().__init__(head.in_features, head.layout, device=like.device, dtype=like.dtype)
        self.weight, self.bias = head.weight, head.bias
        self.limit = limit
        compute = torch.float64 if like.dtype == torch.float64 else torch.float32
        for name, size in (("left", self.out_features), ("right", self.in_features)):
            vector = torch.randn(size, device=like.device, dtype=compute)
            self.register_buffer(name, F.normalize(vector, dim=0))
        for _ in range(15):  # a good estimate for a trained head
            self._iterate(self.weight)

    def forward(self, x: Float[Tensor, "... F"]) -> Float[Tensor, "... N"]:
        """The linear map with the limited weight."""
        if self.training and (torch.compiler.is_compiling() or not _torch.in_transform()):
            for _ in range(_POWER_ITERATIONS):
                self._iterate(self.weight)
        return F.linear(x, self.limited(), self.bias)

    def limited(self) -> Float[Tensor, "N F"]:
        """The limited weight."""
        # Copies: later iterations must not change tensors that the backward pass needs.
        left, right = self.left.clone(), self.right.clone()
        with torch.autocast(self.weight.device.type, enabled=False):
            sigma = torch.dot(left, self.weight.to(left.dtype) @ right)
        return self.weight / (sigma / self.limit).clamp_min(1.0).to(self.weight.dtype)

    @torch.no_grad()
    def _iterate(self, weight: Tensor) -> None:
        with torch.autocast(weight.device.type, enabled=False):
            weight = weight.to(self.left.dtype)
            _set_direction(self.left, weight @ self.right)
            _set_direction(self.right, weight.mT @ self.left)

    def extra_repr(self) -> str:
        """For ``repr``."""
        return f"{super().extra_repr()}, limit={self.limit}"


class Spectral(Wrapper):
    """The result of ``spectral``: replaces heads by limited ones; parameters pass unchanged."""

    def __init__(self, generator: nn.Module, limit: float) -> None:
        super().__init__(generator)
        if not isinstance(limit, int | float) or isinstance(limit, bool):
            raise ArgumentTypeError(f"limit must be a number, got {type(limit).__name__}")
        if not (is_finite(limit) and limit > 0):
            raise GeneratorError(f"limit must be positive and finite, got {short(limit)}")
        self.limit = float(limit)

    def _build(self, layout: Layout) -> None:
        super()._build(layout)
        made: dict[nn.Module, LimitedHead] = {}
        # A head that is registered twice stays one module.
        for name, module in list(self.named_modules(remove_duplicate=False)):
            if isinstance(module, Head):
                if module not in made:
                    made[module] = LimitedHead(module, self.limit).train(module.training)
                owner, _, last = name.rpartition(".")
                setattr(self.get_submodule(owner), last, made[module])
        if not made:
            raise GeneratorError(
                f"{type(self.generator).__name__} has no head whose norm could be limited"
            )

    def change(self, flat: Float[Tensor, "..."], layout: Layout) -> Float[Tensor, "..."]:
        """``flat`` unchanged: the limit is in the head."""
        return flat


def _set_direction(vector: Tensor, direction: Tensor) -> None:
    """Set ``vector`` to the unit vector along ``direction``, unless that is zero."""
    norm = torch.linalg.vector_norm(direction)
    # Normalised twice, since the norm of a tiny vector is inexact.
    unit = F.normalize(direction / norm.clamp_min(torch.finfo(norm.dtype).tiny), dim=0)
    vector.copy_(torch.where(norm > 0, unit, vector))
