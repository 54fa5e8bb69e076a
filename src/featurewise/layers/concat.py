"""Conditioning by concatenation, and the equivalent conditional bias (Dumoulin et al. 2018).

``W [x; z] = W_x x + W_z z``: concatenating a condition z to the input of a linear map adds a bias
that depends on z. For a convolution the same holds where the kernel does not reach zero padding.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featurewise.core import ArgumentTypeError, ShapeError
from featurewise.core.broadcast import check_features
from featurewise.core.numbers import FLOAT_TENSOR, is_float
from featurewise.generators import GeneratorError
from featurewise.generators.base import positive

PaddingMode: TypeAlias = Literal["zeros", "replicate", "reflect", "circular"]

_CONVOLUTIONS: Final[dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]]] = {
    1: nn.Conv1d,
    2: nn.Conv2d,
    3: nn.Conv3d,
}


class ConcatLinear(nn.Module):
    """A linear map of the concatenated features and condition: ``W [x; z] + b``.

    Args:
        in_features: width C of x.
        condition_features: width F of the condition z.
        out_features: width D of the output.
        bias: whether there is a bias b.
    """

    def __init__(
        self, in_features: int, condition_features: int, out_features: int, bias: bool = True
    ) -> None:
        super().__init__()
        self.in_features = positive(in_features, "in_features")
        self.condition_features = positive(condition_features, "condition_features")
        width = in_features + condition_features
        self.linear = nn.Linear(width, positive(out_features, "out_features"), bias)

    def forward(
        self, x: Float[Tensor, "..."], condition: Float[Tensor, "B F"]
    ) -> Float[Tensor, "..."]:
        """``(B, *positions, C)`` and ``(B, F)`` -> ``(B, *positions, D)``.

        Raises:
            ShapeError: widths or batches that do not fit.
            ArgumentTypeError: arguments that are not floating-point tensors.
        """
        check_features(x, self.in_features, -1, 0, "ConcatLinear")
        _check_condition(condition, x, self.condition_features)
        z = condition.reshape(len(x), *(1 for _ in x.shape[2:]), self.condition_features)
        z = z.expand(*x.shape[:-1], self.condition_features)
        y: Tensor = self.linear(torch.cat((x, z), dim=-1))
        return y

    def conditional_bias(self, condition: Float[Tensor, "B F"]) -> Float[Tensor, "B D"]:
        """``W_z z``: what the condition adds to ``W_x x + b``, the β of a ``Shift``."""
        return condition @ self.linear.weight[:, self.in_features :].T


class ConcatConv(nn.Module):
    """A convolution of features, concatenated with constant maps of the condition.

    It has ``k² F D`` weights for the condition, where a conditional bias has ``F D``. The two
    differ only where the kernel reaches zero padding, since the condition is zero there, too.

    Args:
        in_features: channels C of x.
        condition_features: width F of the condition.
        out_features: channels D of the output.
        kernel_size: of the convolution.
        rank: number of position axes, 1 to 3.
        stride: of the convolution.
        padding: of the convolution; "same" keeps the sizes of the positions, for stride 1.
        padding_mode: "zeros", "replicate", "reflect" or "circular".
        bias: whether there is a bias.

    Raises:
        GeneratorError: an invalid number or name, or "same" with a stride.
        ArgumentTypeError: a number that is not an integer.
    """

    def __init__(
        self,
        in_features: int,
        condition_features: int,
        out_features: int,
        kernel_size: int,
        *,
        rank: int = 2,
        stride: int = 1,
        padding: int | Literal["same"] = 0,
        padding_mode: PaddingMode = "zeros",
        bias: bool = True,
    ) -> None:
        super().__init__()
        if rank not in _CONVOLUTIONS:
            raise GeneratorError(f"rank must be 1, 2 or 3, got {rank!r}")
        _check_padding(padding, padding_mode, stride)
        self.in_features = positive(in_features, "in_features")
        self.condition_features = positive(condition_features, "condition_features")
        self.convolve = _CONVOLUTIONS[rank](
            in_features + condition_features,
            positive(out_features, "out_features"),
            positive(kernel_size, "kernel_size"),
            stride=positive(stride, "stride"),
            padding=padding,
            padding_mode=padding_mode,
            bias=bias,
        )
        self.rank = rank

    def forward(
        self, x: Float[Tensor, "B C ..."], condition: Float[Tensor, "B F"]
    ) -> Float[Tensor, "B D ..."]:
        """``(B, C, *positions)`` and ``(B, F)`` -> ``(B, D, *positions)``.

        Raises:
            ShapeError: widths, batches or ranks that do not fit.
            ArgumentTypeError: arguments that are not floating-point tensors.
        """
        check_features(x, self.in_features, 1, 0, "ConcatConv")
        if x.ndim != self.rank + 2:
            raise ShapeError(f"x must have {self.rank} position axes, got {tuple(x.shape)}")
        _check_condition(condition, x, self.condition_features)
        z = condition.reshape(*condition.shape, *(1 for _ in x.shape[2:]))
        y: Tensor = self.convolve(torch.cat((x, z.expand(-1, -1, *x.shape[2:])), dim=1))
        return y

    def conditional_bias(self, condition: Float[Tensor, "B F"]) -> Float[Tensor, "B D"]:
        """``W_z``, summed over all taps, times z: the bias where the kernel reaches no padding."""
        taps = self.convolve.weight[:, self.in_features :].flatten(2).sum(dim=2)
        return condition @ taps.T


def _check_padding(padding: object, mode: object, stride: object) -> None:
    if mode not in get_args(PaddingMode):
        raise GeneratorError(
            f"padding_mode must be one of {', '.join(get_args(PaddingMode))}, got {mode!r}"
        )
    if padding == "same":
        if stride != 1:
            raise GeneratorError(f"padding='same' needs stride 1, got stride={stride!r}")
    elif not isinstance(padding, int) or isinstance(padding, bool):
        raise ArgumentTypeError(f"padding must be an integer or 'same', got {padding!r}")
    elif padding < 0:
        raise GeneratorError(f"padding must not be negative, got {padding}")


def _check_condition(condition: object, x: Tensor, width: int) -> None:
    if not is_float(condition):
        kind = condition.dtype if isinstance(condition, Tensor) else type(condition).__name__
        raise ArgumentTypeError(f"condition must be {FLOAT_TENSOR}, got {kind}")
    if condition.device != x.device:
        raise ArgumentTypeError(f"condition is on {condition.device}, x is on {x.device}")
    if condition.shape != (len(x), width):
        raise ShapeError(f"condition must be ({len(x)}, {width}), got {tuple(condition.shape)}")
