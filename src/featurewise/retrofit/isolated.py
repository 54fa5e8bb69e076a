"""One module run by itself, really and on next to nothing: what it then does tells what it is."""

from __future__ import annotations

import copy
import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

#: Numbers in a module that is copied, and in what it is run on, at most.
_MOST: Final = 1 << 24


class CannotRun(Exception):  # noqa: N818 (a reason, not an error: it never leaves the library)
    """Why a module does not run by itself."""


class IsolatedModule:
    """A copy of one module with random weights in float64 on the CPU, and without hooks.

    The original is only read, no global random numbers are used; call it within ``Snapshot``,
    as its code may keep things elsewhere.

    Args:
        module: the module; its weights may be anywhere.
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
        """What the module gives.

        Raises:
            CannotRun: if it does not take that, or gives anything but one tensor of floats.
        """
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(0)  # of the CPU alone
                output = self.module(*(x.clone() for x in inputs))
        except Exception as error:
            raise CannotRun(f"{type(error).__name__}: {error}") from error
        if not isinstance(output, Tensor) or not output.is_floating_point():
            raise CannotRun("it does not give a tensor of floats")
        return output

    def tensor(self, name: str) -> Tensor:
        """A parameter or a buffer of the copy, to be written to."""
        path, _, own = name.rpartition(".")
        found: Tensor = getattr(self.module.get_submodule(path), own)
        return found.data

    def random(self, *shape: int) -> Tensor:
        """Normal numbers, the same ones in every process."""
        return torch.randn(shape, generator=self._rng, dtype=torch.float64)

    def _like(self, tensor: Tensor) -> Tensor:
        """Random numbers in the place of floats, positive as some must be; the rest as it is."""
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
    """Number and axis of the features of a module whose parameters hold one number for each.

    Normalisations are such modules. A copy is run on small random tensors, with the features on
    axis 1 and on the last. Then one entry of each vector of its parameters and buffers is changed:
    the features lie on the axis along which that changes one slice of the output and nothing else.

    Args:
        module: the module.
        width: number of features, where that is known.
        seen: shape of features that it gives; decides for a module that takes either axis.

    Returns:
        Width and axis: 1 or -1, with ``seen`` any axis of that shape. None where that is not told.
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


def taken_axis(module: nn.Module, taken: int, ranks: Sequence[int], least: int = 3) -> int | None:
    """The axis, 1 or -1, on which a module takes ``taken`` features; None where that is not told.

    Args:
        module: a linear map of any kind.
        taken: number of features that it takes.
        ranks: of tensors that it may take.
        least: smallest size of the other axes.
    """

    def runs(alone: IsolatedModule, shape: tuple[int, ...], axis: int) -> bool:
        return alone.run(alone.random(*shape)).ndim == len(shape)

    found = _places(module, taken, ranks, runs, least)
    return found.pop() if len(found) == 1 else None


def mixed_axis(module: nn.Module, width: int) -> int | None:
    """The axis, 1 or -1, over which a module without weights normalises ``width`` features."""

    def mixes(alone: IsolatedModule, shape: tuple[int, ...], axis: int) -> bool:
        x = alone.random(*shape)
        before = alone.run(x)
        x[(0,) * x.ndim] += 1
        places = (alone.run(x) != before).nonzero()
        return [i for i in range(x.ndim) if places[:, i].min() < places[:, i].max()] == [axis]

    found = _places(module, width, (3, 4), mixes)
    return found.pop() if len(found) == 1 else None


def is_vector(tensor: Tensor) -> bool:
    """Whether at most one axis of a tensor is not of size 1."""
    return max(tensor.shape, default=1) == tensor.numel() > 0


def _vector_axis(
    module: nn.Module, names: Sequence[str], width: int, seen: tuple[int, ...] | None
) -> int | None:
    def slices(alone: IsolatedModule, shape: tuple[int, ...], axis: int) -> bool:
        return _changed_axis(alone, names, shape) == axis

    found = _places(module, width, (3, 4), slices) or _places(module, width, (5,), slices)
    if len(found) < 2 or seen is None or width not in seen:
        return found.pop() if len(found) == 1 else None
    sizes = _free(width)
    shape = tuple(width if n == width else next(sizes) for n in seen)
    try:
        axis = _changed_axis(IsolatedModule(module), names, shape)
    except CannotRun:
        return None
    return -1 if axis is not None and 1 < axis == len(shape) - 1 else axis


def _places(
    module: nn.Module,
    width: int,
    ranks: Sequence[int],
    holds: Callable[[IsolatedModule, tuple[int, ...], int], bool],
    least: int = 3,
) -> set[int]:
    """For which of axis 1 and the last, 1 and -1, something holds in any of these ranks."""
    found: set[int] = set()
    try:
        alone = IsolatedModule(module)
    except CannotRun:
        return found
    for shape, axis in shapes(width, ranks, least):
        try:
            if holds(alone, shape, axis):
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
        ranks: of the inputs.
        least: smallest size of the other axes; no two have the same size.
    """
    for rank in ranks:
        for axis in sorted({1, rank - 1}):
            sizes = _free(width, least)
            shape = tuple(width if i == axis else next(sizes) for i in range(rank))
            if math.prod(shape) <= _MOST:
                yield shape, axis


def _free(taken: int, least: int = 3) -> Iterator[int]:
    """Sizes of axes that hold no features, all different."""
    return (size for size in itertools.count(least) if size != taken)


def _changed_axis(
    alone: IsolatedModule, names: Sequence[str], shape: tuple[int, ...]
) -> int | None:
    """The one axis along which entries of vectors change slices; None if they disagree.

    What changes other parts of the output as well, such as the weights of a mixture, says nothing.
    """
    x = alone.random(*shape)
    before = alone.run(x)
    found = [_sliced(alone, name, x, before) for name in names]
    axes = set.intersection(*filter(None, found)) if any(found) else set()
    return axes.pop() if len(axes) == 1 else None


def _sliced(alone: IsolatedModule, name: str, x: Tensor, before: Tensor) -> set[int]:
    """The axes along which each entry of a vector changes only the slice of its own number."""
    flat = alone.tensor(name).view(-1)
    axes = {axis for axis in range(before.ndim) if before.shape[axis] == len(flat)}
    touched = False
    for entry in (0, len(flat) - 1):
        kept = flat[entry].clone()
        flat[entry] += 1
        places = (alone.run(x) != before).nonzero()
        flat[entry] = kept
        touched |= len(places) > 0
        axes = {axis for axis in axes if bool((places[:, axis] == entry).all())}
    return axes if touched else set()
