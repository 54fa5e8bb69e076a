"""One module run in isolation on small random inputs, to find the axis of its features.

``IsolatedModule`` is a copy of one module with random weights; the functions below run it, change
single weights or inputs, and see which axis of the output changes.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

#: Largest number of elements of a module that is copied, and of its inputs.
_MOST: Final = 1 << 24


class CannotRun(Exception):  # noqa: N818 (a reason, not an error: it never leaves the library)
    """Why a module cannot be run in isolation."""


class IsolatedModule:
    """A copy of one module with random weights in float64 on the CPU, and without hooks.

    The original is only read and no global random generator is used. Call it within ``Snapshot``,
    since the code of the module may change other state.

    Args:
        module: the module; its weights may be on any device.
        training: the mode of the copy.

    Raises:
        CannotRun: if it cannot be copied.
    """

    def __init__(self, module: nn.Module, training: bool = False) -> None:
        self._rng = torch.Generator().manual_seed(0)
        tensors = {id(t): t for t in (*module.parameters(), *module.buffers())}
        if sum(t.numel() for t in tensors.values()) > _MOST:
            raise CannotRun("it is too large")
        memo: dict[int, Any] = {key: self._like(t) for key, t in tensors.items()}
        for inner in module.modules():
            for name, value in vars(inner).items():
                if name.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called")):
                    memo[id(value)] = OrderedDict()
        try:
            self.module = copy.deepcopy(module, memo)
            for inner in self.module.modules():
                inner.training = training
        except Exception as error:
            raise CannotRun(f"it cannot be copied: {error}") from error

    def run(self, *inputs: Tensor) -> Tensor:
        """The output of the module.

        Raises:
            CannotRun: if it does not accept these inputs, or returns anything but one
                floating-point tensor.
        """
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(0)  # that of the CPU only
                output = self.module(*(x.clone() for x in inputs))
        except Exception as error:
            raise CannotRun(f"{type(error).__name__}: {error}") from error
        if not isinstance(output, Tensor) or not output.is_floating_point():
            raise CannotRun("it does not return a floating-point tensor")
        return output

    def tensor(self, name: str) -> Tensor:
        """A parameter or a buffer of the copy; it may be written to."""
        path, _, own = name.rpartition(".")
        found: Tensor = getattr(self.module.get_submodule(path), own)
        return found.data

    def random(self, *shape: int) -> Tensor:
        """Standard normal numbers from a fixed seed."""
        return torch.randn(shape, generator=self._rng, dtype=torch.float64)

    def _like(self, tensor: Tensor) -> Tensor:
        """Random positive floats (a variance must be positive); other values are copied."""
        made = tensor.detach()
        if tensor.is_floating_point():
            made = 0.5 + torch.rand(tensor.shape, generator=self._rng, dtype=torch.float64)
        elif tensor.is_meta:
            raise CannotRun("it is on the meta device")
        else:
            made = made.to("cpu", copy=True)
        keeps = isinstance(tensor, nn.Parameter)
        return nn.Parameter(made, requires_grad=False) if keeps else made


# --- on which axis its features are --------------------------------------------------------------


def vector_features(
    module: nn.Module, width: int | None = None, seen: tuple[int, ...] | None = None
) -> tuple[int, int] | None:
    """Number and axis of the features of a module with one parameter entry per feature.

    Normalisations are such modules. A copy is run on small random tensors, with the features on
    axis 1 and on the last axis. Then one entry of each vector of its parameters and buffers is
    changed: if that changes a single slice of the output, the axis of the slice is the feature
    axis.

    Args:
        module: the module.
        width: number of features, where that is known.
        seen: shape of the features that it returns; decides for a module that accepts either axis.

    Returns:
        Width and axis: 1 or -1, with ``seen`` any axis of that shape. None if ambiguous.
    """
    named: dict[str, Tensor] = dict(module.named_parameters())
    if not all(is_vector(parameter) for parameter in named.values()):
        return None
    named |= {n: b for n, b in module.named_buffers() if b.is_floating_point()}
    widths = {t.numel() for t in named.values() if is_vector(t) and t.numel() > 1}
    found = set()
    for each in widths if width is None else widths & {width}:
        names = [n for n, t in named.items() if is_vector(t) and t.numel() == each]
        axis = _vector_axis(module, names, each, seen)
        if axis is not None:
            found.add((each, axis))
    return found.pop() if len(found) == 1 else None


def input_axis(module: nn.Module, width: int, ranks: Sequence[int], least: int = 3) -> int | None:
    """The axis, 1 or -1, on which a module takes ``width`` features; None if ambiguous.

    Args:
        module: a linear map of any kind.
        width: number of its input features.
        ranks: numbers of axes of the inputs to try.
        least: smallest size of the other axes.
    """

    def runs(isolated: IsolatedModule, shape: tuple[int, ...], axis: int) -> bool:
        return isolated.run(isolated.random(*shape)).ndim == len(shape)

    found = _axes_where(module, width, ranks, runs, least)
    return found.pop() if len(found) == 1 else None


def normalised_axis(module: nn.Module, width: int) -> int | None:
    """The axis, 1 or -1, over which a module without weights normalises ``width`` features."""

    def mixes(isolated: IsolatedModule, shape: tuple[int, ...], axis: int) -> bool:
        x = isolated.random(*shape)
        before = isolated.run(x)
        x[(0,) * x.ndim] += 1
        places = (isolated.run(x) != before).nonzero()
        return [i for i in range(x.ndim) if places[:, i].min() < places[:, i].max()] == [axis]

    found = _axes_where(module, width, (3, 4), mixes)
    return found.pop() if len(found) == 1 else None


def is_vector(tensor: Tensor) -> bool:
    """Whether at most one axis of a tensor has a size other than 1."""
    return max(tensor.shape, default=1) == tensor.numel() > 0


def _vector_axis(
    module: nn.Module, names: Sequence[str], width: int, seen: tuple[int, ...] | None
) -> int | None:
    def slices(isolated: IsolatedModule, shape: tuple[int, ...], axis: int) -> bool:
        return _changed_axis(isolated, names, shape) == axis

    found = _axes_where(module, width, (3, 4), slices)
    found = found or _axes_where(module, width, (5,), slices)
    if len(found) < 2 or seen is None or width not in seen:
        return found.pop() if len(found) == 1 else None
    sizes = _other_sizes(width)
    shape = tuple(width if n == width else next(sizes) for n in seen)
    try:
        axis = _changed_axis(IsolatedModule(module), names, shape)
    except CannotRun:
        return None
    return -1 if axis is not None and 1 < axis == len(shape) - 1 else axis


def _axes_where(
    module: nn.Module,
    width: int,
    ranks: Sequence[int],
    test: Callable[[IsolatedModule, tuple[int, ...], int], bool],
    least: int = 3,
) -> set[int]:
    """Which of 1 and -1 pass a test as feature axis, for inputs of any of these ranks."""
    found: set[int] = set()
    try:
        isolated = IsolatedModule(module)
    except CannotRun:
        return found
    for shape, axis in shapes(width, ranks, least):
        try:
            if test(isolated, shape, axis):
                found.add(1 if axis == 1 else -1)
        except CannotRun:
            continue
    return found


def shapes(
    width: int, ranks: Sequence[int], least: int = 3
) -> Iterator[tuple[tuple[int, ...], int]]:
    """Shapes of small inputs with the features on axis 1 and on the last, and that axis.

    Args:
        width: number of features.
        ranks: numbers of axes of the inputs.
        least: smallest size of the other axes; no two have the same size.
    """
    for rank in ranks:
        for axis in sorted({1, rank - 1}):
            sizes = _other_sizes(width, least)
            shape = tuple(width if i == axis else next(sizes) for i in range(rank))
            if math.prod(shape) <= _MOST:
                yield shape, axis


def _other_sizes(width: int, least: int = 3) -> Iterator[int]:
    """Sizes for the other axes, all different and none equal to the width."""
    return (size for size in itertools.count(least) if size != width)


def _changed_axis(
    isolated: IsolatedModule, names: Sequence[str], shape: tuple[int, ...]
) -> int | None:
    """The one axis along which entries of vectors change slices; None if they disagree.

    Vectors that change other parts of the output as well (weights of a mixture) are ignored.
    """
    x = isolated.random(*shape)
    before = isolated.run(x)
    found = [_sliced(isolated, name, x, before) for name in names]
    axes = set.intersection(*filter(None, found)) if any(found) else set()
    return axes.pop() if len(axes) == 1 else None


def _sliced(isolated: IsolatedModule, name: str, x: Tensor, before: Tensor) -> set[int]:
    """The axes along which each entry of a vector changes only the slice of its own number."""
    flat = isolated.tensor(name).view(-1)
    axes = {axis for axis in range(before.ndim) if before.shape[axis] == len(flat)}
    changes_output = False
    for entry in (0, len(flat) - 1):
        kept = flat[entry].clone()
        flat[entry] += 1
        places = (isolated.run(x) != before).nonzero()
        flat[entry] = kept
        changes_output |= len(places) > 0
        axes = {axis for axis in axes if bool((places[:, axis] == entry).all())}
    return axes if changes_output else set()
