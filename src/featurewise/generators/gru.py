"""``GRU``: a drop-in ``nn.GRU`` that trains faster on a CPU, with the same parameters and results.

A step of a GRU (Cho et al. 2014; gates in the order reset, update, new), where p are the
projected inputs ``W_i x + b_i``:

    r = σ(p_r + W_r h + b_r)    z = σ(p_z + W_z h + b_z)    q = W_n h + b_n
    n = tanh(p_n + r q)         h' = n + z (h - n)

Three things are slow in ``nn.GRU``: autograd stores a node for every operation of every step; the
gradient of W is accumulated step by step, which reads and writes a 3H × H matrix each time; and
every token is projected, although there are few different ones. Here one autograd node covers all
steps. Its backward pass stores the gradients of the gates and computes that of W in one product
over all steps. A small vocabulary is projected once.

Packed means: sequences are sorted by decreasing length; all first steps come first, then all second
steps, and so on; ``sizes[t]`` sequences have a step t. P is the number of all steps, H the width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from featurewise.core import _torch


class GRU(nn.GRU):
    """One layer, one direction; packed sequences use the fast path in training on a CPU.

    Everything else (inference, padded batches, other devices) uses ``nn.GRU``, which has the same
    state dict.

    Args:
        input_size: width E of the inputs.
        hidden_size: width H of the state.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, batch_first=True)

    def forward(  # type: ignore[override]
        self, input: Tensor | PackedSequence, table: Float[Tensor, "V E"] | None = None
    ) -> tuple[Tensor | PackedSequence, Float[Tensor, "1 B H"]]:
        """States after every step, and after the last.

        Args:
            input: a padded batch ``(B, T, E)``, or packed sequences of inputs ``(P, E)``.
            table: if given, ``input`` packs indices ``(P,)`` of rows of this table of inputs.
        """
        if not isinstance(input, PackedSequence):
            return super().forward(input)
        if input.data.device.type != "cpu" or not torch.is_grad_enabled():
            vectors = input.data if table is None else F.embedding(input.data, table)
            return super().forward(_with_data(input, vectors))
        weight_i, weight, bias_i, bias = self.all_weights[0]
        projected = F.linear(input.data if table is None else table, weight_i, bias_i)
        projected = projected.to(
            weight.dtype
        )  # autocast rounds products; the steps compute in this dtype
        if table is not None:
            projected = F.embedding(input.data, projected)
        # Element by element: `tolist` fails within functional transforms before torch 2.10.
        sizes = [int(size) for size in input.batch_sizes]
        states = gru_states(projected, weight, bias, sizes)
        last = states[_last_rows(input.batch_sizes)]
        if input.unsorted_indices is not None:
            last = last[input.unsorted_indices]
        return _with_data(input, states), last.unsqueeze(0)


def gru_states(
    projected: Float[Tensor, "P G"],
    weight: Float[Tensor, "G H"],
    bias: Float[Tensor, " G"],
    sizes: Sequence[int],
) -> Float[Tensor, "P H"]:
    """States after every step of a GRU whose initial state is zero; G = 3H.

    Under autocast, matrix products use its dtype, everything else the dtype of ``projected``.

    Args:
        projected: inputs times the input weight, plus the input bias, packed.
        weight: recurrent weight.
        bias: recurrent bias.
        sizes: number of sequences at each step, not increasing; their sum is P.

    Returns:
        The states, packed as the inputs are.
    """
    product = projected.dtype
    if torch.is_autocast_enabled("cpu"):
        product = torch.get_autocast_dtype("cpu")
    states, _ = cast(Any, _States).apply(projected, weight, bias, tuple(sizes), product)
    return cast(Tensor, states)


def plain_states(
    projected: Float[Tensor, "P G"],
    weight: Float[Tensor, "G H"],
    bias: Float[Tensor, " G"],
    sizes: Sequence[int],
) -> Float[Tensor, "P H"]:
    """Reference for ``gru_states``, with autograd through every operation."""
    h = projected.new_zeros(sizes[0], weight.shape[1])
    states = []
    for step in torch.split(projected, list(sizes)):
        h = h[: len(step)]
        p_r, p_z, p_n = step.chunk(3, dim=1)
        h_r, h_z, q = torch.addmm(bias, h, weight.T).chunk(3, dim=1)
        n = torch.tanh(p_n + torch.sigmoid(p_r + h_r) * q)
        h = n + torch.sigmoid(p_z + h_z) * (h - n)
        states.append(h)
    return torch.cat(states)


class _States(torch.autograd.Function):
    """``gru_states`` as one node of the graph."""

    @staticmethod
    def forward(
        projected: Tensor,
        weight: Tensor,
        bias: Tensor,
        sizes: tuple[int, ...],
        product: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        """The states, and the gates r, z, n, q of every step ``(P, 4H)`` for the backward pass."""
        width = weight.shape[1]
        states = projected.new_empty(len(projected), width)
        gates = projected.new_empty(len(projected), 4 * width, dtype=product)
        work = projected.new_empty(sizes[0], 4 * width)
        h = projected.new_zeros(sizes[0], width)
        with torch.autocast("cpu", enabled=False):
            multiply = _product(weight.to(product), sizes)
            for start, stop in _steps(sizes):
                h, p = h[: stop - start], projected[start:stop]
                gate = gates[start:stop] if product == h.dtype else work[: stop - start]
                r, z, n, q = gate.chunk(4, dim=1)
                hidden = multiply(h.to(product)).to(h.dtype).add_(bias)
                q.copy_(hidden[:, 2 * width :])
                both = gate[:, : 2 * width]  # r and z together
                torch.add(p[:, : 2 * width], hidden[:, : 2 * width], out=both).sigmoid_()
                torch.addcmul(p[:, 2 * width :], r, q, out=n).tanh_()
                h = torch.lerp(n, h, z, out=states[start:stop])
                if product != h.dtype:
                    gates[start:stop] = gate
        return states, gates

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Save tensors for the backward pass."""
        projected, weight, bias, ctx.sizes, ctx.product = inputs
        states, gates = output
        ctx.mark_non_differentiable(gates)
        ctx.save_for_backward(projected, weight, bias, states, gates)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the inputs; second derivatives use ``plain_states``."""
        projected, weight, bias, states, gates = ctx.saved_tensors
        needed = ctx.needs_input_grad[:3]
        found: tuple[Tensor | None, ...]
        if torch.is_grad_enabled():
            inputs = (projected, weight, bias)
            wanted = [x for x, need in zip(inputs, needed, strict=True) if need]
            again = plain_states(projected, weight, bias, ctx.sizes)
            grads = iter(torch.autograd.grad(again, wanted, grad, create_graph=True))
            found = tuple(next(grads) if need else None for need in needed)
        else:
            with torch.autocast("cpu", enabled=False):
                d_projected, d_hidden = _gate_gradients(
                    weight.to(ctx.product), states, gates, ctx.sizes, grad
                )
                d_weight = _weight_gradient(d_hidden, states, ctx.sizes)
                found = (d_projected, d_weight, d_hidden.sum(0, dtype=grad.dtype))
        return (*found, None, None)


def _gate_gradients(
    weight: Tensor, states: Tensor, gates: Tensor, sizes: tuple[int, ...], grad: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of the projected inputs and of ``W h + b``, both ``(P, 3H)``.

    The first has the dtype of the states, the second that of the matrix products.
    """
    width = states.shape[1]
    d_projected = states.new_empty(len(states), 3 * width)
    d_hidden = weight.new_empty(len(states), 3 * width)
    multiply = _product(weight.T, sizes)
    carried = grad.new_zeros(sizes[0], width)  # gradient of the state that goes to the next step
    steps = _steps(sizes)
    for t in reversed(range(len(steps))):
        start, stop = steps[t]
        r, z, n, q = gates[start:stop].to(grad.dtype).chunk(4, dim=1)
        d_r, d_z, d_n = d_projected[start:stop].chunk(3, dim=1)
        d = carried[: stop - start].add_(grad[start:stop])
        before = states[steps[t - 1][0] :][: stop - start] if t else torch.zeros_like(n)
        torch.mul(d * (before - n), z * (1 - z), out=d_z)
        torch.mul(d * (1 - z), 1 - n * n, out=d_n)
        d_q = d_n * r
        torch.mul(d_q * q, 1 - r, out=d_r)
        d_h = d_hidden[start:stop]
        d_h[:, : 2 * width] = d_projected[start:stop, : 2 * width]
        d_h[:, 2 * width :] = d_q
        if t:
            d.mul_(z).add_(multiply(d_h))
    return d_projected, d_hidden


def _weight_gradient(d_hidden: Tensor, states: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Gradient of the recurrent weight: one product over all steps but the first, where h is 0."""
    before = [
        states[start : start + later]
        for (start, _), later in zip(_steps(sizes), sizes[1:], strict=False)
    ]
    if not before:
        return states.new_zeros(d_hidden.shape[1], states.shape[1])
    late = d_hidden[sizes[0] :]
    return (late.T @ torch.cat(before).to(late.dtype)).to(states.dtype)


PACKED_WIDTH: Final = 1024
PACKED_STEPS: Final = 8
"""From this width and number of steps on, laying out a weight saves more time than it takes."""


def _product(weight: Tensor, sizes: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """``x -> x @ weight.T``, for the products of all steps with one weight."""
    if min(weight.shape) >= PACKED_WIDTH and len(sizes) >= PACKED_STEPS:
        packed = _torch.prepacked(weight.contiguous(), sizes[0])
        if packed is not None:
            return packed
    transposed = weight.T
    return lambda x: x @ transposed


def _steps(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """First row of each step, and the row after its last."""
    steps, start = [], 0
    for size in sizes:
        steps.append((start, start + size))
        start += size
    return steps


def _last_rows(sizes: Tensor) -> Tensor:
    """Row of the last step of each sequence, longest first."""
    sequence = torch.arange(int(sizes[0]))
    length = (sizes.unsqueeze(1) > sequence).sum(0)
    first = sizes.cumsum(0) - sizes
    return first[length - 1] + sequence


def _with_data(like: PackedSequence, data: Tensor) -> PackedSequence:
    return PackedSequence(data, like.batch_sizes, like.sorted_indices, like.unsorted_indices)
