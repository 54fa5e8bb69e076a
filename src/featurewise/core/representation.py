"""``TaskRepresentation``: all modulation parameters of one network, for one or many conditions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from featurewise.common.errors import wrap_errors
from featurewise.common.files import write_bytes
from featurewise.common.json import loads
from featurewise.common.opening import read_bytes
from featurewise.common.seal import PLACEHOLDER, check_tensors, seal_tensors
from featurewise.common.text import short
from featurewise.core._torch import register_pytree
from featurewise.core.broadcast import shape_of
from featurewise.core.editing import Edit
from featurewise.core.errors import ArgumentTypeError, LayoutError, ShapeError
from featurewise.core.numbers import FLOAT_TENSOR, is_float, readable, stored
from featurewise.core.site import Layout

#: Metadata key of a file; its value holds the layout. There is only one key, because safetensors
#: writes several keys in random order and equal tasks should give equal bytes.
_METADATA: Final = "featurewise.TaskRepresentation.2"
#: Key of version 0.1, whose value is the layout without a digest.
_UNSEALED: Final = "featurewise.TaskRepresentation.1"
_OTHER: Final = "not a task representation"


class TaskRepresentation:
    """The FiLM parameters of a whole network: named tensors, and one flat vector.

    A point (or a batch of points) of a vector space whose origin is the unmodified network, since
    raw parameters are offsets from the identity (see ``featurewise.core.operation``). The term is
    that of Dumoulin et al. 2018.

    Args:
        layout: which numbers belong to which site.
        flat: ``(N,)`` for one task, ``(B, N)`` for one per sample, ``(B, N, *positions)`` for one
            per time step, token or pixel; N is ``layout.size``.

    Raises:
        ShapeError: if ``flat`` does not fit the layout.
        ArgumentTypeError: if ``flat`` is not a floating-point tensor.

    Example:
        >>> mixed = task_a.lerp(task_b, 0.5)              # doctest: +SKIP
        >>> transfer = task_a + task_b - task_c           # doctest: +SKIP
    """

    __slots__ = ("flat", "layout")
    __array_ufunc__ = None  # `numpy_number * task` calls `__rmul__`

    def __init__(self, layout: Layout, flat: Tensor) -> None:
        if not is_float(flat):
            kind = flat.dtype if isinstance(flat, Tensor) else type(flat).__name__
            raise ArgumentTypeError(f"flat must be {FLOAT_TENSOR}, got {kind}")
        layout.check(flat)
        self.layout = layout
        self.flat = flat

    @classmethod
    def identity(cls, layout: Layout, batch: int | None = None) -> TaskRepresentation:
        """The initial representation of a new conditioner: ``(N,)``, or ``(batch, N)``."""
        start = layout.start()
        return cls(layout, start if batch is None else start.expand(batch, -1).clone())

    @classmethod
    def from_named(
        cls, layout: Layout, named: Mapping[str, Mapping[str, Tensor]]
    ) -> TaskRepresentation:
        """Build from ``{site: {parameter: tensor}}``; see ``Layout.join`` for the errors."""
        return cls(layout, layout.join(named))

    @classmethod
    def stack(cls, tasks: Sequence[TaskRepresentation]) -> TaskRepresentation:
        """Stack single tasks ``(N,)`` into a batch ``(B, N)``.

        Raises:
            ShapeError: if a task is already batched, or there is none.
            LayoutError: if the layouts differ.
        """
        return cls._gather(tasks, 1, torch.stack)

    @classmethod
    def cat(cls, tasks: Sequence[TaskRepresentation]) -> TaskRepresentation:
        """Concatenate batches along the batch axis.

        Raises:
            ShapeError: if a task is not batched, or there is none.
            LayoutError: if the layouts differ.
        """
        return cls._gather(tasks, 2, torch.cat)

    @classmethod
    def _gather(
        cls,
        tasks: Sequence[TaskRepresentation],
        rank: int,
        join: Callable[[list[Tensor]], Tensor],
    ) -> TaskRepresentation:
        if not tasks:
            raise ShapeError("no task representations given")
        for task in tasks:
            _check_same(tasks[0].layout, task.layout)
            if (task.flat.ndim == 1) != (rank == 1):
                raise ShapeError(
                    f"stack takes single tasks (N,), cat takes batches (B, N): got {task}"
                )
            if task.flat.shape[1:] != tasks[0].flat.shape[1:]:
                raise ShapeError(f"tasks of different positions: {tasks[0]} and {task}")
        return cls(tasks[0].layout, join([task.flat for task in tasks]))

    # --- reading ---------------------------------------------------------------------------------

    @property
    def named(self) -> dict[str, dict[str, Tensor]]:
        """``{site: {parameter: tensor}}``, views of ``flat`` with raw values."""
        return self.layout.split(self.flat)

    def effective(self) -> dict[str, dict[str, Tensor]]:
        """Effective parameters: γ as it multiplies, not its offset from one; β as it is added."""
        return {s.name: s.operation.effective(self[s.name]) for s in self.layout}

    def __getitem__(self, key: Any) -> Any:
        """``task["layer3"]`` -> named parameters of a site; ``task[3]``, ``task[1:4]`` -> rows.

        Args:
            key: name of a site, or rows: an integer, a slice, or a list or vector of row indices
                or of booleans.

        Raises:
            LayoutError: if there is no such site.
            ShapeError: rows of a single task, or one row by its index where tasks have
                positions (a task cannot have that shape; use a slice of length one).
            ArgumentTypeError: a key of another type.
            IndexError: no such row.
        """
        if isinstance(key, str):
            return self.layout.split_site(self.flat, key)
        vector = isinstance(key, Tensor) and key.ndim <= 1 and not key.is_floating_point()
        if not (vector or isinstance(key, int | slice | list)):
            raise ArgumentTypeError(
                f"key must be the name of a site or rows of the batch, got {key!r}"
            )
        if self.flat.ndim == 1:
            raise ShapeError("a single task has no rows; index it by the name of a site")
        rows = self.flat[key]
        if rows.ndim < self.flat.ndim and rows.ndim > 1:
            raise ShapeError(
                f"{self} has positions: take task[i : i + 1], which keeps the batch axis"
            )
        return self._with(rows)

    def __len__(self) -> int:
        """Number of rows of a batch.

        Raises:
            ShapeError: for a single task, which has no rows.
        """
        if self.flat.ndim == 1:
            raise ShapeError("a single task has no rows")
        return int(self.flat.shape[0])

    @property
    def shape(self) -> torch.Size:
        """Shape of the flat tensor."""
        return self.flat.shape

    def __repr__(self) -> str:
        return (
            f"TaskRepresentation({len(self.layout)} sites, flat {shape_of(self.flat)}, "
            f"{self.flat.dtype}, {self.flat.device})"
        )

    # --- a vector space --------------------------------------------------------------------------

    def __add__(self, other: TaskRepresentation) -> TaskRepresentation:
        start, end = self._pair(other)
        return self._with(start + end)

    def __sub__(self, other: TaskRepresentation) -> TaskRepresentation:
        start, end = self._pair(other)
        return self._with(start - end)

    def __mul__(self, weight: int | float | Tensor) -> TaskRepresentation:
        """Scale by a number, or row by row with a tensor ``(B,)``."""
        return self._with(self.flat * _weight(weight, self.flat))

    __rmul__ = __mul__

    def __truediv__(self, weight: int | float | Tensor) -> TaskRepresentation:
        return self._with(self.flat / _weight(weight, self.flat))

    def __neg__(self) -> TaskRepresentation:
        return self._with(-self.flat)

    def lerp(self, other: TaskRepresentation, weight: int | float | Tensor) -> TaskRepresentation:
        """``(1 - weight) * self + weight * other``; ``weight`` a number or one per row ``(B,)``.

        Exactly ``self`` at 0 and ``other`` at 1, even where the other one is not finite.
        """
        start, end = self._pair(other)
        factor = _weight(weight, start if start.ndim > end.ndim else end)
        # Zero times infinity is NaN: exclude values whose weight is zero.
        start, end = _unless(start, factor, 1), _unless(end, factor, 0)
        return self._with((1 - factor) * start + factor * end)

    def mix(self, weights: Tensor) -> TaskRepresentation:
        """Weighted sums of the rows of a batch ``(K, N)`` or ``(K, N, *positions)``.

        With weight one for one row and zero for the others, the result is exactly that row.

        Args:
            weights: ``(K,)`` gives one task ``(N,)``; ``(B, K)`` gives ``(B, N)``, a mixture per
                row. They need not sum to one.

        Raises:
            ShapeError: if there are not K weights, or the task is single, or weights ``(K,)``
                are given for tasks with positions (give ``(1, K)``, which keeps the batch axis).
            ArgumentTypeError: if the weights are not a floating-point tensor.
        """
        if not is_float(weights):
            kind = weights.dtype if isinstance(weights, Tensor) else type(weights).__name__
            raise ArgumentTypeError(f"weights must be {FLOAT_TENSOR}, got {kind}")
        rows = len(self)
        if weights.ndim not in (1, 2) or weights.shape[-1] != rows:
            raise ShapeError(
                f"weights must be ({rows},) or (B, {rows}), got {shape_of(weights)} for {self}"
            )
        if weights.ndim == 1 and self.flat.ndim > 2:
            raise ShapeError(
                f"{self} has positions: give weights (1, {rows}), which keep the batch axis"
            )
        with torch.autocast(self.flat.device.type, enabled=False):  # half precision is not exact
            return self._with(_weighted(weights.to(self.flat), self.flat))

    def mean(self) -> TaskRepresentation:
        """The mean over rows and positions ``(N,)``; a single task is returned unchanged."""
        others = tuple(axis for axis in range(self.flat.ndim) if axis != 1)
        return self if self.flat.ndim == 1 else self._with(self.flat.mean(others))

    def edit(
        self,
        at: str | Sequence[str] | None = None,
        parameter: str | None = None,
        features: int | slice | Sequence[int] | Tensor | None = None,
    ) -> Edit[TaskRepresentation]:
        """Select numbers by site, parameter and feature, to zero, set, freeze, perturb or scale.

        Args:
            at: a pattern of site names (``*`` within one component, ``**`` any number of them),
                or several; None means all.
            parameter: such as "gamma"; None means all.
            features: indices of features; None means all. See ``Edit``.

        Raises:
            LayoutError: if no site or no parameter matches.
            ShapeError: if a site has no such feature.
            ArgumentTypeError: an argument of the wrong type.

        Example:
            >>> task.edit(parameter="gamma").freeze(tasks.mean())    # doctest: +SKIP
        """
        return Edit(self, at, parameter, features)

    def _pair(self, other: object) -> tuple[Tensor, Tensor]:
        """Both flat tensors; a single task is repeated over the rows and positions of the other."""
        if not isinstance(other, TaskRepresentation):
            raise ArgumentTypeError(
                f"other must be a TaskRepresentation, got {type(other).__name__}"
            )
        _check_same(self.layout, other.layout)
        start, end = self.flat, other.flat
        if start.ndim > 1 and end.ndim > 1 and start.shape != end.shape:
            raise ShapeError(f"batches of different shape: {shape_of(start)} and {shape_of(end)}")
        positions = (1,) * (max(start.ndim, end.ndim) - 2)
        return (
            start.reshape(-1, *positions) if start.ndim == 1 else start,
            end.reshape(-1, *positions) if end.ndim == 1 else end,
        )

    def _with(self, flat: Tensor) -> TaskRepresentation:
        return TaskRepresentation(self.layout, flat)

    # --- devices, gradients, files ---------------------------------------------------------------

    def to(self, *args: Any, **kwargs: Any) -> TaskRepresentation:
        """Move or cast, with the arguments of ``torch.Tensor.to``."""
        return self._with(self.flat.to(*args, **kwargs))

    def detach(self) -> TaskRepresentation:
        """The same values without gradient history."""
        return self._with(self.flat.detach())

    def clone(self) -> TaskRepresentation:
        """A copy that shares no memory."""
        return self._with(self.flat.clone())

    def requires_grad_(self, required: bool = True) -> TaskRepresentation:
        """Enable gradients, to optimise these numbers directly; give ``flat`` to the optimiser."""
        self.flat.requires_grad_(required)
        return self

    def save(self, path: str | Path) -> None:
        """Write one safetensors file: the flat tensor; layout and SHA-256 as its metadata.

        Equal tasks give equal bytes. The file is written atomically.

        Raises:
            OSError: if the file cannot be written.
        """
        said = json.dumps({"layout": self.layout.to_json(), "sha256": PLACEHOLDER})
        raw = to_bytes({"flat": stored(self.flat)}, metadata={_METADATA: said})
        write_bytes(path, seal_tensors(raw))

    @classmethod
    def load(cls, path: str | Path, layout: Layout | None = None) -> TaskRepresentation:
        """Read a file that ``save`` wrote.

        Args:
            path: the file.
            layout: if given, the layout the file must have.

        Raises:
            LayoutError: if the file is not a task representation or is damaged, if an operation in
                it is not defined or imported, or if it has another layout.
            OSError: if there is no such file, or it cannot be read.
        """
        raw = read_bytes(path)
        with wrap_errors(path, LayoutError, what=_OTHER):
            task = cls(*_read(raw))
        if layout is not None:
            _check_same(layout, task.layout, f"{path}: ")
        return task


def _read(raw: bytes) -> tuple[Layout, Tensor]:
    """Layout and flat tensor of a file, after a check of its digest; version 0.1 wrote none."""
    tensors = from_bytes(raw)
    header = loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")], max_bytes=len(raw))
    metadata = header.get("__metadata__", {})
    if tensors.keys() != {"flat"} or metadata.keys() not in ({_METADATA}, {_UNSEALED}):
        raise LayoutError("its metadata or tensors are not those of a task representation")
    if _UNSEALED in metadata:
        return Layout.from_json(loads(metadata[_UNSEALED])), tensors["flat"]
    said = loads(metadata[_METADATA])
    check_tensors(raw, said["sha256"])
    return Layout.from_json(said["layout"]), tensors["flat"]


def _weight(weight: object, flat: Tensor) -> Any:
    """A weight in a shape that broadcasts to ``flat``: a number, or one number per row."""
    if isinstance(weight, Tensor) and weight.ndim > 0:
        if flat.ndim == 1 or weight.shape != flat.shape[:1]:
            raise ShapeError(
                f"weight must be a number or one per row: got {shape_of(weight)} "
                f"for flat {shape_of(flat)}"
            )
        return weight.reshape((-1,) + (1,) * (flat.ndim - 1))
    if isinstance(weight, Tensor):
        return weight
    if not isinstance(weight, Real):
        raise ArgumentTypeError(f"weight must be a number or a tensor, got {type(weight).__name__}")
    try:
        return float(weight)
    except OverflowError as error:
        raise ShapeError(f"weight must be representable as a float, got {short(weight)}") from error


def _unless(values: Tensor, factor: Any, limit: int) -> Tensor:
    """``values``, with zeros for those that are not finite where ``factor`` is ``limit``."""
    if not isinstance(factor, Tensor):
        return values.where(values.isfinite(), 0.0) if factor == limit else values
    return values.where(values.isfinite() | (factor.to(values.device) != limit), 0.0)


def _weighted(weights: Tensor, rows: Tensor) -> Tensor:
    """Sums of rows ``(K, ...)`` with weights ``(K,)`` or ``(B, K)``; zero excludes a row."""
    if readable(rows) and bool(rows.isfinite().all()):
        mixed: Tensor = torch.tensordot(weights, rows, dims=1)
        return mixed
    column = weights.reshape(*weights.shape, *(1,) * (rows.ndim - 1))
    kept = rows.where(rows.isfinite() | (column != 0), 0.0)
    return (column * kept).sum(weights.ndim - 1)


def _check_same(mine: Layout, theirs: Layout, where: str = "") -> None:
    if mine == theirs:
        return
    odd = ", ".join(sorted(set(mine.names) ^ set(theirs.names)))
    if not odd and mine.names != theirs.names:
        odd = "the same sites in another order"
    if not odd:
        odd = next(f"{a} is not {b}" for a, b in zip(mine, theirs, strict=True) if a != b)
    raise LayoutError(f"{where}task representations of different networks: {odd}")


def _unflatten(children: list[Any], layout: Layout) -> TaskRepresentation:
    # No checks: transforms put placeholders in place of tensors.
    task = TaskRepresentation.__new__(TaskRepresentation)
    task.layout, task.flat = layout, children[0]
    return task


register_pytree(
    TaskRepresentation,
    lambda task: ([task.flat], task.layout),
    _unflatten,
    ["flat"],
    "featurewise.TaskRepresentation",
    Layout.to_json,
    Layout.from_json,
)
