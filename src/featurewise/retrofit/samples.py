"""``SampleTracker``: which sample each row of features belongs to, seen in one run of a network.

A site that has as many rows as there are conditions need not have a row per sample: the tokens
that an expert was given, the edges of a ring, the steps of a sequence whose axes were exchanged.
Equal sizes would hide it. So the first eager run with a condition per sample is followed operator
by operator: beside each tensor goes another of the same shape that holds the number of the sample
of each element (mostly expanded, so that it takes no memory), and what moves or selects rows does
the same to both.

What an operator does to samples is known for those that move, select, broadcast and contract. Of
others nothing is said, and their rows are taken for samples, as sizes tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor

from featurewise.core import _torch

#: Numbers in place of a sample's: of no sample (a parameter), and of several.
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
class _Owned:
    """Whose the elements of a tensor are.

    Attributes:
        samples: numbers of samples, of the tensor's shape.
        gathered: rows were selected by their content or by an input: they are no samples, even
            where their numbers happen to be in order.
    """

    samples: Tensor
    gathered: bool = False


class SampleTracker:
    """Follows the samples of one run.

    Args:
        inputs: what the network is given, as a nest of containers.
        samples: of which sample each row of an input is, ``(R,)``; tensors of R rows are taken
            for inputs with a row per sample.
    """

    def __init__(self, inputs: Any, samples: Tensor) -> None:
        self._owned: dict[Any, _Owned] = {}
        self._alive: dict[int, Any] = {}  # weak references: no storage gets the place of another
        self._inputs: set[int] = set()  # memory of inputs, of what was made of them, or at random
        self._whole = True  # whether all inputs are seen
        self._mode: AbstractContextManager[Any] | None = None
        rows = samples.shape[0]
        for leaf in _torch.tree_flatten(inputs)[0]:
            plain = leaf is None or isinstance(leaf, Tensor | bool | int | float | str)
            self._whole = self._whole and plain
            if isinstance(leaf, Tensor) and leaf.ndim and _torch.has_values(leaf):
                self._add_inputs([leaf])
                if leaf.shape[0] == rows:
                    self._set(leaf, _Owned(_along(samples, 0, leaf.shape)))

    def __enter__(self) -> SampleTracker:
        self._mode = _torch.watching(self._note)
        self._mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._mode is not None:
            self._mode.__exit__(*error)
            self._mode = None

    def trouble(self, x: Tensor, batch_axis: int, expected: Tensor, ordered: bool) -> str | None:
        """Why rows of ``x`` are not the samples that they are taken for; None where they may be.

        Args:
            x: features.
            batch_axis: axis of their rows, from the front.
            expected: of which sample each row should be, ``(R,)``.
            ordered: whether this very order is meant, of rows that are k of each sample; if not,
                a network that runs samples in another order (in reverse, say) is none of our
                business.
        """
        owned = self._owned.get(self._key(x))
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
            return None  # the network turned the batch by itself: condition i is for what is row i
        varies = [axis for axis in range(x.ndim) if samples.shape[axis] > 1]
        if batch_axis not in varies and len(varies) == 1:
            return (
                f"the samples of its features lie on axis {varies[0]}: pass batch_axis={varies[0]}"
            )
        return "rows of its features are not the samples in order"

    def _apart(self, x: Tensor, batch_axis: int) -> str | None:
        """Why features are no samples that nothing of the inputs is in; None where they may be."""
        if not self._whole or not _torch.has_storage(x) or self._is_input(x):
            return None
        if (x == x.narrow(batch_axis, 0, 1)).all():
            return None  # one for all samples, repeated for each
        return "its features come from no input (a table of positions, say): rows are no samples"

    # --- operator by operator --------------------------------------------------------------------

    def _note(self, operator: Any, inputs: Any, result: Any) -> None:
        try:
            self._follow(operator, inputs, result)
        except Exception:  # what cannot be followed is not known, and that is no error
            name = operator.name().partition("::")[2].partition(".")[0]
            lost = name in _SELECTIONS and self._of(inputs[0][0]) is not None
            for leaf in _torch.tree_flatten(result)[0]:
                if isinstance(leaf, Tensor):
                    self._set_or_drop(leaf, _nobody(leaf.shape) if lost else None)

    def _follow(self, operator: Any, inputs: Any, result: Any) -> None:
        args, kwargs = inputs
        name = operator.name().partition("::")[2].partition(".")[0]
        tensors = [t for t in _torch.tree_flatten(inputs)[0] if isinstance(t, Tensor)]
        outputs = [t for t in _torch.tree_flatten(result)[0] if isinstance(t, Tensor)]
        if any(map(self._is_input, tensors)) or _SEEDED in operator.tags:
            self._add_inputs(outputs)
        if name.removesuffix("_") in _INTO:
            return self._set_or_drop(outputs[0], self._of(args[0]))
        if not any(self._key(t) in self._owned for t in tensors) or _makes(name):
            for output in outputs:
                self._owned.pop(self._key(output), None)
            return None
        made = self._rule(operator, name)(operator, args, kwargs, outputs)
        for output, owned in zip(outputs, made, strict=False):
            self._set_or_drop(output, owned)
        return None

    def _rule(self, operator: Any, name: str) -> Callable[..., Sequence[_Owned | None]]:
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

    def _reshape(self, operator: Any, args: Any, kwargs: Any, outputs: Any) -> list[_Owned | None]:
        owned = self._of(args[0])
        return [owned and replace(owned, samples=_reshaped(owned.samples, outputs[0].shape))]

    def _move(self, operator: Any, args: Any, kwargs: Any, outputs: Any) -> list[_Owned | None]:
        """The same operator on the numbers."""
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
        return [_Owned(t, gathered) for t in _torch.tree_flatten(made)[0]]

    def _select(self, operator: Any, args: Any, kwargs: Any, outputs: Any) -> list[_Owned | None]:
        """Rows chosen by an index."""
        source = self._of(args[0])
        indices = [t for t in _torch.tree_flatten(args[1:])[0] if isinstance(t, Tensor)]
        if source is None:  # a table, looked up with what samples say
            first = next((self._of(t) for t in indices if self._of(t) is not None), None)
            return [first and _embedded(first, outputs[0].shape)]
        if operator.name().startswith("aten::masked_select"):
            return [_nobody(outputs[0].shape)]
        kept = _kept_axes(operator, args, source.samples)
        small = source.samples
        for axis in kept:
            small = small.narrow(axis, 0, 1)
        moved = [t.cpu() if isinstance(t, Tensor) else t for t in _torch.tree_flatten(args[1:])[0]]
        structure = _torch.tree_flatten(args[1:])[1]
        made = operator(small, *_torch.tree_unflatten(moved, structure)).expand(outputs[0].shape)
        if source.gathered and _in_order(made):
            return [_Owned(made)]  # put back
        across = _across_samples(operator, args, source.samples)
        chosen = any(self._is_input(t) or t.dtype == torch.bool for t in across)
        moved_rows = bool(across) and not _in_order(made)
        return [_Owned(made, source.gathered or chosen or moved_rows)]

    def _embed(self, operator: Any, args: Any, kwargs: Any, outputs: Any) -> list[_Owned | None]:
        owned = self._of(args[1])
        return [owned and _embedded(owned, outputs[0].shape)]

    def _order(self, operator: Any, args: Any, kwargs: Any, outputs: Any) -> list[_Owned | None]:
        """Rows put into an order of their content, if it goes across samples."""
        owned = self._of(args[0])
        if owned is None:
            return []
        if "unique" in operator.name():
            return [_nobody(outputs[0].shape)]  # the index that comes with it has rows as before
        dims = [kwargs["dim"]] if "dim" in kwargs else [a for a in args[1:] if type(a) is int]
        dim = dims[-1] if dims else -1
        if _varies(owned.samples, dim):
            return [_nobody(output.shape) for output in outputs]
        return [_carried(owned, output.shape) for output in outputs]

    def _multiply(self, operator: Any, args: Any, kwargs: Any, outputs: Any) -> list[_Owned | None]:
        """Products of matrices: rows are those of the left, columns those of the right."""
        left, right = (
            args[-2:] if operator.name().startswith(("aten::mm", "aten::bmm")) else args[1:3]
        )
        shape = outputs[0].shape
        parts: list[_Owned] = []
        summed = False
        for owned, axis in ((self._of(left), -1), (self._of(right), -2)):
            if owned is None:
                continue
            samples = _collapsed(owned.samples, axis)
            if (samples == _MIXED).any():
                summed = True  # over samples
            else:
                parts.append(replace(owned, samples=samples.expand(shape)))
        if not parts:
            return [_nobody(shape) if summed else None]
        merged = _merged(parts, shape)
        if merged is not None and (merged.samples == _MIXED).any():
            return [parts[0]]  # each row of the left with each column of the right
        return [merged]

    def _reduce(self, operator: Any, args: Any, kwargs: Any, outputs: Any) -> list[_Owned | None]:
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

    def _combine(self, operator: Any, args: Any, kwargs: Any, outputs: Any) -> list[_Owned | None]:
        """Element by element, with broadcasting."""
        leaves = _torch.tree_flatten((args, kwargs))[0]
        parts = [self._of(t) for t in leaves if isinstance(t, Tensor)]
        known = [part for part in parts if part is not None]
        return [_merged(known, outputs[0].shape)] * len(outputs)

    def _compute(self, operator: Any, args: Any, kwargs: Any, outputs: Any) -> list[_Owned | None]:
        """Anything else: where samples lie on one axis, and the result has it, they stay there."""
        leaves = _torch.tree_flatten((args, kwargs))[0]
        known = [t for t in leaves if isinstance(t, Tensor) and self._of(t) is not None]
        owned = next((self._of(t) for t in known if t.is_floating_point()), None)
        if owned is None:
            return []
        return [_carried(owned, output.shape) for output in outputs]

    # --- whose a tensor is -----------------------------------------------------------------------

    def _key(self, x: Tensor) -> Any:
        """What a tensor is found by: autograd may wrap the same memory again."""
        if not _torch.has_storage(x):
            return object()  # found by nothing
        storage = _torch.storage_number(x)
        if storage not in self._alive:
            self._alive[storage] = _torch.weak_storage(x)
        return storage, x.storage_offset(), tuple(x.shape), x.stride()

    def _add_inputs(self, tensors: Sequence[Tensor]) -> None:
        for tensor in filter(_torch.has_storage, tensors):
            self._key(tensor)  # holds its number
            self._inputs.add(_torch.storage_number(tensor))

    def _is_input(self, x: Tensor) -> bool:
        return _torch.has_storage(x) and _torch.storage_number(x) in self._inputs

    def _of(self, x: Any) -> _Owned | None:
        return self._owned.get(self._key(x)) if isinstance(x, Tensor) else None

    def _set(self, x: Tensor, owned: _Owned) -> None:
        self._owned[self._key(x)] = owned

    def _set_or_drop(self, x: Tensor, owned: _Owned | None) -> None:
        if owned is None or owned.samples.shape != x.shape:
            self._owned.pop(self._key(x), None)
        else:
            self._set(x, owned)


def _nobody(shape: Sequence[int]) -> _Owned:
    """Rows that are known to be no samples."""
    return _Owned(torch.full((), _FREE).expand(*shape), True)


def _makes(name: str) -> bool:
    """Whether an operator makes a tensor of the shape of another, but not of its values."""
    return name.endswith("_like") or name.startswith("new_")


def _along(numbers: Tensor, axis: int, shape: Sequence[int]) -> Tensor:
    """Numbers ``(R,)`` along one axis of a shape, expanded over the others."""
    sizes = [1] * len(shape)
    sizes[axis] = -1
    return numbers.reshape(sizes).expand(*shape)


def _varies(samples: Tensor, axis: int) -> bool:
    if samples.shape[axis] <= 1 or samples.stride(axis) == 0:
        return False
    return not bool((samples == samples.narrow(axis, 0, 1)).all())


def _collapsed(samples: Tensor, axis: int) -> Tensor:
    """One of an axis: whose the elements along it are together, those of no sample left aside."""
    if not _varies(samples, axis):
        return samples.narrow(axis, 0, 1)
    highest = samples.amax(axis, keepdim=True)
    several = (samples == _MIXED) | ((samples != highest) & (samples != _FREE))
    return torch.where(several.any(axis, keepdim=True), _MIXED, highest)


def _narrow(samples: Tensor) -> Tensor:
    """One of each axis along which nothing varies."""
    for axis in range(samples.ndim):
        if samples.shape[axis] > 1 and not _varies(samples, axis):
            samples = samples.narrow(axis, 0, 1)
    return samples


def _in_order(samples: Tensor) -> bool:
    """Whether the first axis has the samples in order, as many rows of each, and none else varies.

    So it is where rows that were sorted, by expert or by length, are put back.
    """
    small = _narrow(samples)
    rows = small.flatten()
    count = int(rows.max()) + 1
    if small.numel() != samples.shape[0] or count == 0 or len(rows) % count:
        return False
    return bool((rows == torch.arange(count).repeat_interleave(len(rows) // count)).all())


def _reshaped(samples: Tensor, shape: Sequence[int]) -> Tensor:
    """The numbers in another shape, without copying trailing axes along which nothing varies."""
    old, new = list(samples.shape), list(shape)
    same = 0
    while same < min(len(old), len(new)) and old[-1 - same] == new[-1 - same]:
        same += 1
    while same and any(_varies(samples, -1 - k) for k in range(same)):
        same -= 1
    for k in range(same):
        samples = samples.narrow(-1 - k, 0, 1)
    return samples.reshape([*new[: len(new) - same], *[1] * same]).expand(*shape)


def _embedded(owned: _Owned, shape: Sequence[int]) -> _Owned:
    samples = owned.samples
    samples = samples.reshape(*samples.shape, *[1] * (len(shape) - samples.ndim))
    return replace(owned, samples=samples.expand(*shape))


def _carried(owned: _Owned, shape: Sequence[int]) -> _Owned | None:
    samples = owned.samples
    if samples.shape == tuple(shape):
        return owned
    if len(shape) != samples.ndim:
        return None
    for axis in range(samples.ndim):
        alone = _collapsed(samples, axis)
        if not (alone == _MIXED).any():
            samples = alone
        elif samples.shape[axis] != shape[axis]:
            return None
    return replace(owned, samples=samples.expand(*shape))


def _fits(own: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether a tensor broadcasts to a shape."""
    pairs = zip(reversed(own), reversed(shape), strict=False)
    return len(own) <= len(shape) and all(a in (1, b) for a, b in pairs)


def _merged(parts: Sequence[_Owned], shape: Sequence[int]) -> _Owned | None:
    """Of whom something is that is made of several, element by element."""
    fitting = [p for p in parts if _fits(p.samples.shape, shape)]
    if not fitting:
        return None
    samples = _narrow(fitting[0].samples)
    for part in fitting[1:]:
        other = _narrow(part.samples)
        same = (samples == other) | (other == _FREE)
        samples = torch.where(samples == _FREE, other, torch.where(same, samples, _MIXED))
    gathered = any(part.gathered for part in fitting)
    return _Owned(samples.expand(*shape), gathered)


def _kept_axes(operator: Any, args: Any, samples: Tensor) -> list[int]:
    """Axes that an index leaves alone and along which nothing varies."""
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
