"""``spectral``: a limit on how strongly parameters answer to a change of the condition."""

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

#: Of the power iteration, each time a head runs in training.
_ROUNDS: Final = 3


def spectral(generator: nn.Module, limit: float = 1.0) -> Wrapper:
    """Limit the spectral norm of the heads of a generator, once it is bound.

    A head computes with ``W / max(1, σ / limit)``, where σ is the largest singular value of its
    weight W: features of the encoder that differ by d give parameters that differ by at most
    ``limit * d``. Below the limit the weight is used as it is, bit for bit; so is the zero weight
    of birth, on which plain spectral normalisation divides zero by zero.

    σ is found by power iteration, three rounds each time the head runs in training, and is
    approached from below: while the weight still moves, the norm may lie above the limit (14 %
    with Adam at a step of 0.02, more in the first steps of a fast SGD), and it settles on the
    limit as the weight does. The vectors of the iteration are two buffers, ``left`` and
    ``right``, beside the weight of each head; the weight keeps its key and its weight decay.

    Args:
        generator: a generator with at least one ``Head``.
        limit: the largest spectral norm.

    Returns:
        A generator.

    Raises:
        GeneratorError: a limit that is not positive and finite; when bound: there is no head.
        ArgumentTypeError: ``limit`` is no number, or ``generator`` no module or a local one.

    Source:
        Miyato et al. 2018, *Spectral Normalization for Generative Adversarial Networks*,
        algorithm 1.
    """
    return Spectral(generator, limit)


class LimitedHead(Head):
    """A head whose weight has a spectral norm of at most ``limit`` where it is used.

    Args:
        head: the head whose weight and bias this one takes over.
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
        for _ in range(15):  # a head that has learned already is known at once
            self._iterate(self.weight)

    def forward(self, x: Float[Tensor, "... F"]) -> Float[Tensor, "... N"]:
        """The linear map with its limited weight."""
        if self.training and (torch.compiler.is_compiling() or not _torch.in_transform()):
            for _ in range(_ROUNDS):
                self._iterate(self.weight)
        return F.linear(x, self.limited(), self.bias)

    def limited(self) -> Float[Tensor, "N F"]:
        """The weight as it is used."""
        # Copies: the next round of the iteration must not change what backward will read.
        left, right = self.left.clone(), self.right.clone()
        with torch.autocast(self.weight.device.type, enabled=False):
            sigma = torch.dot(left, self.weight.to(left.dtype) @ right)
        return self.weight / (sigma / self.limit).clamp_min(1.0).to(self.weight.dtype)

    @torch.no_grad()
    def _iterate(self, weight: Tensor) -> None:
        with torch.autocast(weight.device.type, enabled=False):
            weight = weight.to(self.left.dtype)
            _turn(self.left, weight @ self.right)
            _turn(self.right, weight.mT @ self.left)

    def extra_repr(self) -> str:
        """For ``repr``."""
        return f"{super().extra_repr()}, limit={self.limit}"


class Spectral(Wrapper):
    """What ``spectral`` returns: heads replaced by limited ones, parameters passed through."""

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
        # A head that stands in two places stays one.
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
        """``flat``, as it is: the head has been limited."""
        return flat


def _turn(vector: Tensor, image: Tensor) -> None:
    """Point ``vector`` along ``image``; leave it where it is when that is zero."""
    norm = torch.linalg.vector_norm(image)
    # Twice, since the length of a tiny vector is lost in rounding: dividing by it is not enough.
    unit = F.normalize(image / norm.clamp_min(torch.finfo(norm.dtype).tiny), dim=0)
    vector.copy_(torch.where(norm > 0, unit, vector))
