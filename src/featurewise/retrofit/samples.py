"""``SampleTracker``: the sample of each row of features, tracked through one run of a network.

A site with as many rows as there are conditions does not always have one row per sample: the
tokens routed to an expert, the edges of a ring, the time steps of a sequence with swapped axes.
The sizes alone do not show that. So the first eager run with a condition per sample is tracked
operator by operator: each tensor has a companion of the same shape that holds the index of the
sample of each element (mostly expanded, which needs no memory), and operators that move or select
rows are applied to both.

The effect on samples is known for operators that move, select, broadcast and contract. For others
nothing is known, and equal sizes are taken to mean that rows are samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor

from featurewise.core import _torch

#: In place of the index of a sample: no sample (a parameter), and several samples.
_FREE: Final = -1
_MIXED: Final = -2

_SAME: Final = ("clone", "_to_copy", "copy", "copy_", "contiguous", "detach", "alias", "lift_fresh")
_RESHAPES: Final = ("_unsafe_view", "_reshape_copy", "reshape", "view", "_reshape_alias")
_MOVES: Final = ("flip", "roll", "repeat", "constant_pad_nd", "cat", "stack")
_PRODUCTS: Final = ("mm", "bmm", "addmm", "baddbmm")
_REDUCTIONS: Final = (
    *(
        "sum",
        "mean",
        "amax",
        "amin",
        "prod",
        "var",
        "std",
        "logsumexp",
        "norm",
        "linalg_vector_norm",
    ),
    *("argmax", "argmin", "any", "all", "max", "min"),
)
_SEEDED: Final = torch.Tag.nondeterministic_seeded
_SELECTIONS: Final = ("index", "index_select", "gather", "masked_select", "take_along_dim")
_ORDERS: Final = ("sort", "topk", "kthvalue", "_unique2", "unique_dim", "unique_consecutive")
_INTO: Final = ("index_add", "scatter", "scatter_add", "index_put", "index_copy", "scatter_reduce")


@dataclass(frozen=True)
class _Samples:
    """The samples to which the elements of a tensor belong.

    Attributes:
        samples: indices of samples, of the tensor's shape.
        gathered: whether rows were selected by their content or by an input: then they are not
            samples, even if their indices happen to be in order.
    """

    samples: Tensor
    gathered: bool = False


class SampleTracker:
    """Tracks the samples of one run.

    Args:
        inputs: inputs of the network, in nested containers.
        samples: index of the sample of each input row, ``(R,)``; tensors with R rows are taken
            to have one row per sample.
    """

    def __init__(self, inputs: Any, samples: Tensor) -> None:
        self._samples_of: dict[Any, _Samples] = {}
        self._alive: dict[int, Any] = {}  # weak references; keep numbers of storages unique
        self._inputs: set[int] = set()  # memory of inputs, of tensors computed from them, or random
        self._whole = True  # whether all inputs are known
        self._mode: AbstractContextManager[Any] | None = None
        rows = samples.shape[0]
        for leaf in _torch.tree_flatten(inputs)[0]:
            plain = leaf is None or isinstance(leaf, Tensor | bool | int | float | str)
            self._whole = self._whole and plain
            if isinstance(leaf, Tensor) and leaf.ndim and _torch.has_values(leaf):
                self._add_inputs([leaf])
                if leaf.shape[0] == rows:
                    self._set(leaf, _Samples(_along(samples, 0, leaf.shape)))

    def __enter__(self) -> SampleTracker:
        self._mode = _torch.watching(self._note)
        self._mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._mode is not None:
            self._mode.__exit__(*error)
            self._mode = None

    def trouble(self, x: Tensor, batch_axis: int, expected: Tensor, ordered: bool) -> str | None:
        """The reason why rows of ``x`` are not the expected samples; None if they may be.

        Args:
            x: features.
            batch_axis: axis of their rows, not negative.
            expected: expected index of the sample of each row, ``(R,)``.
            ordered: whether exactly this order is required (k rows per sample); if not, a
                network that processes samples in another order (for example reversed) is
                accepted.
        """
        owned = self._samples_of.get(self._key(x))
        if owned is None:
            return self._apart(x, batch_axis)
        if owned.gathered:
            return "rows of its features were selected by an index and are not the samples in order"
        samples = _narrow(owned.samples)
        wanted = _along(expected, batch_axis, x.shape)
        for axis in range(x.ndim):
            if axis != batch_axis:
                wanted = wanted.narrow(axis, 0, 1)
        known = samples >= 0
        if (samples == _MIXED).any() or not (known & (samples != wanted)).any():
            return None
        if not ordered and not (known & (samples.amin(batch_axis, keepdim=True) == samples)).all():
            return None  # the network permuted the batch: condition i belongs to row i
        varies = [axis for axis in range(x.ndim) if samples.shape[axis] > 1]
        if batch_axis not in varies and len(varies) == 1:
            return f"the batch axis of its features is {varies[0]}: pass batch_axis={varies[0]}"
        return "rows of its features are not the samples in order"

    def _apart(self, x: Tensor, batch_axis: int) -> str | None:
        """The reason why features that depend on no input are not samples; None if they may be."""
        if not self._whole or not _torch.has_storage(x) or self._is_input(x):
            return None
        if (x == x.narrow(batch_axis, 0, 1)).all():
            return None  # equal for all samples
        return "its features depend on no input (a table of positions?): rows are not samples"

    # --- operator by operator --------------------------------------------------------------------

    def _note(self, operator: Any, inputs: Any, result: Any) -> None:
        try:
            self._follow(operator, inputs, result)
        except Exception:  # an operator that cannot be tracked is unknown, not an error
            name = operator.name().partition("::")[2].partition(".")[0]
            lost = name in _SELECTIONS and self._of(inputs[0][0]) is not None
            for leaf in _torch.tree_flatten(result)[0]:
                if isinstance(leaf, Tensor):
                    self._set_or_drop(leaf, _no_samples(leaf.shape) if lost else None)

    def _follow(self, operator: Any, inputs: Any, result: Any) -> None:
        args, kwargs = inputs
        name = operator.name().partition("::")[2].partition(".")[0]
        tensors = [t for t in _torch.tree_flatten(inputs)[0] if isinstance(t, Tensor)]
        outputs = [t for t in _torch.tree_flatten(result)[0] if isinstance(t, Tensor)]
        if any(map(self._is_input, tensors)) or _SEEDED in operator.tags:
            self._add_inputs(outputs)
        if name.removesuffix("_") in _INTO:
            return self._set_or_drop(outputs[0], self._of(args[0]))
        if not any(self._key(t) in self._samples_of for t in tensors) or _makes(name):
            for output in outputs:
                self._samples_of.pop(self._key(output), None)
            return None
        made = self._rule(operator, name)(operator, args, kwargs, outputs)
        for output, owned in zip(outputs, made, strict=False):
            self._set_or_drop(output, owned)
        return None

    def _rule(self, operator: Any, name: str) -> Callable[..., Sequence[_Samples | None]]:
        if name in _RESHAPES:
            return self._reshape
        if operator.is_view or name in _MOVES:
            return self._move
        if name == "embedding":
            return self._embed
        if name in _SELECTIONS:
            return self._select
        if name in _ORDERS:
            return self._order
        if name in _PRODUCTS:
            return self._multiply
        if name in _REDUCTIONS:
            return self._reduce
        if torch.Tag.pointwise in operator.tags or name in _SAME:
            return self._combine
        return self._compute

    def _reshape(
        self, operator: Any, args: Any, kwargs: Any, outputs: Any
    ) -> list[_Samples | None]:
        owned = self._of(args[0])
        return [owned and replace(owned, samples=_reshaped(owned.samples, outputs[0].shape))]

    def _move(self, operator: Any, args: Any, kwargs: Any, outputs: Any) -> list[_Samples | None]:
        """The same operator on the indices."""
        gathered = False

        def number(leaf: Any) -> Any:
            nonlocal gathered
            if not isinstance(leaf, Tensor):
                return leaf
            owned = self._of(leaf)
            if owned is None:
                return torch.full((), _FREE).expand(leaf.shape)
            gathered |= owned.gathered
            return owned.samples

        leaves, structure = _torch.tree_flatten((args, kwargs))
        moved_args, moved_kwargs = _torch.tree_unflatten([number(t) for t in leaves], structure)
        if operator.name().startswith("aten::constant_pad_nd"):
            moved_args = (moved_args[0], moved_args[1], _FREE)
        made = operator(*moved_args, **moved_kwargs)
        return [_Samples(t, gathered) for t in _torch.tree_flatten(made)[0]]

    def _select(self, operator: Any, args: Any, kwargs: Any, outputs: Any) -> list[_Samples | None]:
        """Rows selected by an index."""
        source = self._of(args[0])
        indices = [t for t in _torch.tree_flatten(args[1:])[0] if isinstance(t, Tensor)]
        if source is None:  # a lookup table, indexed by samples
            first = next((self._of(t) for t in indices if self._of(t) is not None), None)
            return [first and _embedded(first, outputs[0].shape)]
        if operator.name().startswith("aten::masked_select"):
            return [_no_samples(outputs[0].shape)]
        kept = _kept_axes(operator, args, source.samples)
        small = source.samples
        for axis in kept:
            small = small.narrow(axis, 0, 1)
        moved = [t.cpu() if isinstance(t, Tensor) else t for t in _torch.tree_flatten(args[1:])[0]]
        structure = _torch.tree_flatten(args[1:])[1]
        made = operator(small, *_torch.tree_unflatten(moved, structure)).expand(outputs[0].shape)
        if source.gathered and _in_order(made):
            return [_Samples(made)]  # restored to the original order
        across = _across_samples(operator, args, source.samples)
        chosen = any(self._is_input(t) or t.dtype == torch.bool for t in across)
        moved_rows = bool(across) and not _in_order(made)
        return [_Samples(made, source.gathered or chosen or moved_rows)]

    def _embed(self, operator: Any, args: Any, kwargs: Any, outputs: Any) -> list[_Samples | None]:
        owned = self._of(args[1])
        return [owned and _embedded(owned, outputs[0].shape)]

    def _order(self, operator: Any, args: Any, kwargs: Any, outputs: Any) -> list[_Samples | None]:
        """Rows sorted by their content, if the sorted axis has several samples."""
        owned = self._of(args[0])
        if owned is None:
            return []
        if "unique" in operator.name():
            return [_no_samples(outputs[0].shape)]  # the returned index has the rows of the input
        dims = [kwargs["dim"]] if "dim" in kwargs else [a for a in args[1:] if type(a) is int]
        dim = dims[-1] if dims else -1
        if _varies(owned.samples, dim):
            return [_no_samples(output.shape) for output in outputs]
        return [_carried(owned, output.shape) for output in outputs]

    def _multiply(
        self, operator: Any, args: Any, kwargs: Any, outputs: Any
    ) -> list[_Samples | None]:
        """Matrix products: rows from the left factor, columns from the right."""
        left, right = (
            args[-2:] if operator.name().startswith(("aten::mm", "aten::bmm")) else args[1:3]
        )
        shape = outputs[0].shape
        parts: list[_Samples] = []
        summed = False
        for owned, axis in ((self._of(left), -1), (self._of(right), -2)):
            if owned is None:
                continue
            samples = _collapsed(owned.samples, axis)
            if (samples == _MIXED).any():
                summed = True  # the sum is over samples
            else:
                parts.append(replace(owned, samples=samples.expand(shape)))
        if not parts:
            return [_no_samples(shape) if summed else None]
        merged = _merged(parts, shape)
        if merged is not None and (merged.samples == _MIXED).any():
            return [parts[0]]  # every row of the left with every column of the right
        return [merged]

    def _reduce(self, operator: Any, args: Any, kwargs: Any, outputs: Any) -> list[_Samples | None]:
        owned = self._of(args[0])
        over = kwargs.get("dim", next((a for a in args[1:] if isinstance(a, int | list)), None))
        if owned is None or over is None or isinstance(over, bool):
            return []
        samples = owned.samples
        axes = sorted({a % samples.ndim for a in (over if isinstance(over, list) else [over])})
        for axis in reversed(axes):
            samples = _collapsed(samples, axis)
            if outputs[0].ndim < owned.samples.ndim:
                samples = samples.squeeze(axis)
        samples = torch.where(samples == _MIXED, _FREE, samples)  # a statistic of the batch
        return [replace(owned, samples=samples)] * len(outputs)

    def _combine(
        self, operator: Any, args: Any, kwargs: Any, outputs: Any
    ) -> list[_Samples | None]:
        """Element by element, with broadcasting."""
        leaves = _torch.tree_flatten((args, kwargs))[0]
        parts = [self._of(t) for t in leaves if isinstance(t, Tensor)]
        known = [part for part in parts if part is not None]
        return [_merged(known, outputs[0].shape)] * len(outputs)

    def _compute(
        self, operator: Any, args: Any, kwargs: Any, outputs: Any
    ) -> list[_Samples | None]:
        """Any other operator: samples on one axis stay on it, if the result has that axis."""
        leaves = _torch.tree_flatten((args, kwargs))[0]
        known = [t for t in leaves if isinstance(t, Tensor) and self._of(t) is not None]
        owned = next((self._of(t) for t in known if t.is_floating_point()), None)
        if owned is None:
            return []
        return [_carried(owned, output.shape) for output in outputs]

    # --- samples of a tensor ---------------------------------------------------------------------

    def _key(self, x: Tensor) -> Any:
        """Key of a tensor by its memory: autograd may wrap the same memory in a new tensor."""
        if not _torch.has_storage(x):
            return object()  # equal to no other key
        storage = _torch.storage_number(x)
        if storage not in self._alive:
            self._alive[storage] = _torch.weak_storage(x)
        return storage, x.storage_offset(), tuple(x.shape), x.stride()

    def _add_inputs(self, tensors: Sequence[Tensor]) -> None:
        for tensor in filter(_torch.has_storage, tensors):
            self._key(tensor)  # keeps its number unique
            self._inputs.add(_torch.storage_number(tensor))

    def _is_input(self, x: Tensor) -> bool:
        return _torch.has_storage(x) and _torch.storage_number(x) in self._inputs

    def _of(self, x: Any) -> _Samples | None:
        return self._samples_of.get(self._key(x)) if isinstance(x, Tensor) else None

    def _set(self, x: Tensor, owned: _Samples) -> None:
        self._samples_of[self._key(x)] = owned

    def _set_or_drop(self, x: Tensor, owned: _Samples | None) -> None:
        if owned is None or owned.samples.shape != x.shape:
            self._samples_of.pop(self._key(x), None)
        else:
            self._set(x, owned)


def _no_samples(shape: Sequence[int]) -> _Samples:
    """Rows that are known not to be samples."""
    return _Samples(torch.full((), _FREE).expand(*shape), True)


def _makes(name: str) -> bool:
    """Whether an operator uses only the shape of its input, not the values."""
    return name.endswith("_like") or name.startswith("new_")


def _along(numbers: Tensor, axis: int, shape: Sequence[int]) -> Tensor:
    """Indices ``(R,)`` along one axis of a shape, expanded over the others."""
    sizes = [1] * len(shape)
    sizes[axis] = -1
    return numbers.reshape(sizes).expand(*shape)


def _varies(samples: Tensor, axis: int) -> bool:
    if samples.shape[axis] <= 1 or samples.stride(axis) == 0:
        return False
    return not bool((samples == samples.narrow(axis, 0, 1)).all())


def _collapsed(samples: Tensor, axis: int) -> Tensor:
    """The sample of all elements along an axis together, ignoring elements of no sample."""
    if not _varies(samples, axis):
        return samples.narrow(axis, 0, 1)
    highest = samples.amax(axis, keepdim=True)
    several = (samples == _MIXED) | ((samples != highest) & (samples != _FREE))
    return torch.where(several.any(axis, keepdim=True), _MIXED, highest)


def _narrow(samples: Tensor) -> Tensor:
    """Size 1 for each axis along which the samples do not vary."""
    for axis in range(samples.ndim):
        if samples.shape[axis] > 1 and not _varies(samples, axis):
            samples = samples.narrow(axis, 0, 1)
    return samples


def _in_order(samples: Tensor) -> bool:
    """Whether the first axis has the samples in order, with equally many rows of each.

    That is the case after rows that were sorted by expert or by length are restored.
    """
    small = _narrow(samples)
    rows = small.flatten()
    count = int(rows.max()) + 1
    if small.numel() != samples.shape[0] or count == 0 or len(rows) % count:
        return False
    return bool((rows == torch.arange(count).repeat_interleave(len(rows) // count)).all())


def _reshaped(samples: Tensor, shape: Sequence[int]) -> Tensor:
    """The indices in another shape, without copying trailing axes along which they are constant."""
    old, new = list(samples.shape), list(shape)
    same = 0
    while same < min(len(old), len(new)) and old[-1 - same] == new[-1 - same]:
        same += 1
    while same and any(_varies(samples, -1 - k) for k in range(same)):
        same -= 1
    for k in range(same):
        samples = samples.narrow(-1 - k, 0, 1)
    return samples.reshape([*new[: len(new) - same], *[1] * same]).expand(*shape)


def _embedded(owned: _Samples, shape: Sequence[int]) -> _Samples:
    samples = owned.samples
    samples = samples.reshape(*samples.shape, *[1] * (len(shape) - samples.ndim))
    return replace(owned, samples=samples.expand(*shape))


def _carried(owned: _Samples, shape: Sequence[int]) -> _Samples | None:
    samples = owned.samples
    if samples.shape == tuple(shape):
        return owned
    if len(shape) != samples.ndim:
        return None
    for axis in range(samples.ndim):
        collapsed = _collapsed(samples, axis)
        if not (collapsed == _MIXED).any():
            samples = collapsed
        elif samples.shape[axis] != shape[axis]:
            return None
    return replace(owned, samples=samples.expand(*shape))


def _fits(own: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether a tensor broadcasts to a shape."""
    pairs = zip(reversed(own), reversed(shape), strict=False)
    return len(own) <= len(shape) and all(a in (1, b) for a, b in pairs)


def _merged(parts: Sequence[_Samples], shape: Sequence[int]) -> _Samples | None:
    """Samples of an element-wise combination of several tensors."""
    fitting = [p for p in parts if _fits(p.samples.shape, shape)]
    if not fitting:
        return None
    samples = _narrow(fitting[0].samples)
    for part in fitting[1:]:
        other = _narrow(part.samples)
        same = (samples == other) | (other == _FREE)
        samples = torch.where(samples == _FREE, other, torch.where(same, samples, _MIXED))
    gathered = any(part.gathered for part in fitting)
    return _Samples(samples.expand(*shape), gathered)


def _kept_axes(operator: Any, args: Any, samples: Tensor) -> list[int]:
    """Axes that are not indexed and along which the samples do not vary."""
    if operator.name().startswith("aten::index."):
        taken = sum(
            index.ndim if index.dtype == torch.bool else 1 for index in args[1] if index is not None
        )
        whole = all(index is not None for index in args[1])
        axes = list(range(taken, samples.ndim)) if whole else []
    else:
        axes = [a for a in range(samples.ndim) if a != args[1] % samples.ndim]
        if operator.name().startswith("aten::gather"):
            axes = []
    return [a for a in axes if not _varies(samples, a)]


def _across_samples(operator: Any, args: Any, samples: Tensor) -> list[Tensor]:
    """The indices that act on an axis along which samples vary."""
    if not operator.name().startswith("aten::index."):
        return [args[2]] if _varies(samples, args[1]) else []
    found = []
    place = 0
    for index in args[1]:
        width = index.ndim if index is not None and index.dtype == torch.bool else 1
        axes = range(place, place + width)
        if index is not None and any(_varies(samples, axis) for axis in axes):
            found.append(index)
        place += width
    return found
