"""A reference for every operation: loops over indices in float64, written from the formulas."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from featurewise.core import Affine, Gate, LowRank, Operation, RowColumn, Scale, Shift, film

OPERATIONS: tuple[Operation, ...] = (
    Shift(),
    Scale(),
    Scale(raw=True),
    Scale(activation="exp"),
    Affine(),
    Affine(raw=True),
    Affine(activation="exp"),
    Affine(activation="softplus"),
    Affine(activation="sigmoid"),
    Affine(activation="tanh"),
    Gate(),
    Gate(ceiling=1.0),
    RowColumn(),
    LowRank(),
    LowRank(rank=2),
)

SCALES: dict[str, Callable[[float], float]] = {
    "identity": lambda g: 1.0 + g,
    "exp": math.exp,
    "softplus": lambda g: math.log2(1.0 + 2.0**g),
    "sigmoid": lambda g: 1.0 / (1.0 + math.exp(-g)),
    "tanh": math.tanh,
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise tests that take ``operation`` over all operations."""
    if "operation" in metafunc.fixturenames:
        metafunc.parametrize("operation", OPERATIONS, ids=str)


class Reference:
    """Reference loops in float64 for the batched operations of the library."""

    def __call__(
        self,
        operation: Operation | None,
        x: Tensor,
        values: Mapping[str, Tensor],
        axis: int = 1,
        batch_axis: int | None = 0,
    ) -> tuple[Tensor, Tensor]:
        """The result, and the sum of the magnitudes of its terms (the scale of rounding errors).

        ``operation`` None is ``film`` itself.
        """
        axis %= x.ndim
        batch_axis = None if batch_axis is None else batch_axis % x.ndim
        features = x.detach().double().numpy()
        numbers = {name: value.detach().double().numpy() for name, value in values.items()}
        y = torch.zeros(x.shape, dtype=torch.float64)
        size = torch.zeros(x.shape, dtype=torch.float64)
        for index in itertools.product(*map(range, x.shape)):
            at = [p for i, p in enumerate(index) if i not in (axis, batch_axis)]
            sample = None if batch_axis is None else index[batch_axis]

            def read(name: str, *own: int, at: Any = at, sample: Any = sample) -> float:
                value = numbers[name]
                if value.ndim == len(own):
                    return float(value[own])
                rest = value.shape[1 + len(own) :]
                where = tuple(0 if n == 1 else p for n, p in zip(rest, at, strict=False))
                return float(value[(sample, *own, *where)])

            def feature(j: int, index: Any = index) -> float:
                return float(features[(*index[:axis], j, *index[axis + 1 :])])

            y[index], size[index] = _one(operation, feature, read, index[axis], x.shape[axis], at)
        return y, size

    def values(
        self,
        operation: Operation | None,
        x: Tensor,
        axis: int = 1,
        batch_axis: int | None = 0,
        form: str = "sample",
    ) -> dict[str, Tensor]:
        """Random float64 parameters that fit ``x``: "shared", "sample", "position" or "repeated".

        "repeated" positions have size one at every second axis. Parameters that do not vary over
        positions come per sample then.
        """
        axis, places = axis % x.ndim, list(x.shape)
        batch = None if batch_axis is None else batch_axis % x.ndim
        rest = [n for i, n in enumerate(places) if i not in (axis, batch)]
        if form == "repeated":
            rest = [1 if i % 2 == 0 else n for i, n in enumerate(rest)]
        made = {}
        for name, shape, positional in self.parameters(operation, x, axis, batch):
            full = list(shape)
            if form != "shared" and batch is not None:
                full = [places[batch], *shape]
                if form != "sample" and positional:
                    full += rest
            made[name] = torch.randn(full, dtype=torch.float64)
        return made

    def parameters(
        self, operation: Operation | None, x: Tensor, axis: int, batch: int | None
    ) -> list[tuple[str, tuple[int, ...], bool]]:
        """Name, shape and whether it may vary over positions."""
        if operation is None:
            return [(name, (x.shape[axis],), True) for name in ("gamma", "beta")]
        extent = tuple(n for i, n in enumerate(x.shape) if i not in (axis, batch))
        declared = operation.parameters(x.shape[axis], extent)
        return [(name, p.shape, p.positional) for name, p in declared.items()]

    def run(
        self,
        operation: Operation | None,
        x: Tensor,
        values: Mapping[str, Tensor],
        axis: int = 1,
        batch_axis: int | None = 0,
    ) -> Tensor:
        """The library's result."""
        if operation is None:
            return film(x, values["gamma"], values["beta"], axis=axis, batch_axis=batch_axis)
        return operation(x, values, axis=axis, batch_axis=batch_axis)

    def places(
        self, operation: Operation | None, shape: tuple[int, ...]
    ) -> Iterator[tuple[int, int | None]]:
        """All (axis, batch_axis) for features of a shape: both from the front, both from the end.

        Hypothesis mixes the two.
        """
        rank = len(shape)
        for axis, batch in itertools.product(range(rank), [None, *range(rank)]):
            if axis == batch or (isinstance(operation, LowRank) and shape[axis] < operation.rank):
                continue
            if isinstance(operation, RowColumn) and rank - 1 - (batch is not None) != 2:
                continue
            yield axis, batch
            yield axis - rank, None if batch is None else batch - rank


def _one(
    operation: Operation | None,
    feature: Callable[[int], float],
    read: Callable[..., float],
    c: int,
    width: int,
    at: list[int],
) -> tuple[float, float]:
    x = feature(c)
    if operation is None:
        scaled, beta = read("gamma", c) * x, read("beta", c)
        return scaled + beta, abs(scaled) + abs(beta)
    if isinstance(operation, Shift):
        return x + read("beta", c), abs(x) + abs(read("beta", c))
    if isinstance(operation, Scale):  # and Affine
        g = read("gamma", c)
        scaled = (g if operation.raw else SCALES[operation.activation](g)) * x
        beta = read("beta", c) if isinstance(operation, Affine) else 0.0
        return scaled + beta, abs(scaled) + abs(beta)
    if isinstance(operation, Gate):
        y = operation.ceiling * SCALES["sigmoid"](read("gamma", c)) * x
        return y, abs(y)
    if isinstance(operation, RowColumn):
        terms = [1.0, read("row", at[0]), read("column", at[1]), read("gamma", c)]
        beta = read("beta", c)
        return sum(terms) * x + beta, sum(map(abs, terms)) * abs(x) + abs(beta)
    if isinstance(operation, LowRank):
        y, size = x, abs(x)
        for r in range(operation.rank):
            for j in range(width):
                term = read("left", c, r) * (cosine(r, j, width) + read("right", r, j)) * feature(j)
                y, size = y + term, size + abs(term)
        return y, size
    raise AssertionError(f"no reference for {operation}")


def cosine(k: int, n: int, width: int) -> float:
    """Entry of the orthonormal type-II discrete cosine transform."""
    norm = math.sqrt((1.0 if k == 0 else 2.0) / width)
    return norm * math.cos(math.pi * k * (2 * n + 1) / (2 * width))


@pytest.fixture(scope="session")
def reference() -> Reference:
    return Reference()


@pytest.fixture(scope="session")
def operations() -> tuple[Operation, ...]:
    return OPERATIONS
