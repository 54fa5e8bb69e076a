"""``bank``: precompute the task representations of many conditions, to replace the generator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from featurewise.common.modes import evaluating
from featurewise.core import ArgumentTypeError, Layout, LayoutError, ShapeError, _torch
from featurewise.core.broadcast import shape_of
from featurewise.core.numbers import FLOAT_TENSOR, is_float
from featurewise.deploy.bankfile import Header, MappedRows, Writer, dtype_name, read, spans
from featurewise.deploy.errors import BankError
from featurewise.generators import ConditionError, Configured
from featurewise.generators.base import check_ids, check_range, positive
from featurewise.retrofit.conditioned import Conditioned


@dataclass(frozen=True)
class Mixture:
    """A condition for a bank: a weighted sum of rows, per sample.

    Attributes:
        ids: row numbers ``(B, K)``, or ``(K,)`` for one mixture shared by all samples.
        weights: floating point, of the same shape; differentiable.

    Raises:
        ArgumentTypeError: ids that are not integers, weights that are not floating point.
        ShapeError: other shapes.
    """

    ids: Tensor
    weights: Tensor

    def __post_init__(self) -> None:
        check_ids(self.ids, "ids of a mixture")
        if not is_float(self.weights):
            raise ArgumentTypeError(f"weights must be {FLOAT_TENSOR}, got {self.weights!r}")
        if self.ids.ndim not in (1, 2) or self.ids.shape != self.weights.shape:
            raise ShapeError(
                "ids and weights of a mixture must both be (B, K) or (K,), got "
                f"{shape_of(self.ids)} and {shape_of(self.weights)}"
            )


_torch.register_record(Mixture, ["ids", "weights"], "featurewise.Mixture")


@dataclass(frozen=True)
class BankReport:
    """Size of a bank and of the generator that it replaces; ``str`` of it is one sentence.

    Attributes:
        rows: number of conditions K.
        numbers: number of values N per condition.
        dtype: dtype of the values.
        bytes: size of all rows, in bytes.
        replaces: size of the replaced generator, in bytes; None if unknown.
        error: largest absolute error of rounding to ``dtype``; None if not rounded.
        mapped: whether the rows stay in their file.
    """

    rows: int
    numbers: int
    dtype: torch.dtype
    bytes: int
    replaces: int | None
    error: float | None
    mapped: bool

    @property
    def share(self) -> float | None:
        """Size of the rows over size of the generator."""
        return None if not self.replaces else self.bytes / self.replaces

    def __str__(self) -> str:
        where = " in a file" if self.mapped else ""
        text = (
            f"{self.rows:,} rows of {self.numbers:,} values ({str(self.dtype)[6:]}), "
            f"{_amount(self.bytes)}{where}"
        )
        if self.replaces and self.share is not None:
            text += f"; replaces a generator of {_amount(self.replaces)} ({100 * self.share:.1f} %)"
        if self.error is not None:
            text += f"; rounded by at most {self.error:.2e}"
        return text


def _amount(size: int) -> str:
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"


class Bank(Configured, nn.Module):
    """Task representations of many conditions, used as a generator.

    With ``net(x, condition=ids)`` a condition is a row number, a name, or a ``Mixture``.

    Args:
        layout: the sites.
        rows: ``(K, N)``, row i the raw parameters of condition i; N is ``layout.size``.
        names: a name for each row.
        replaces: size of the replaced generator in bytes, for the report.
        error: largest absolute error of rounding the rows to their dtype, for the report.

    Attributes:
        layout: the sites.
        rows: a buffer; None if the rows are mapped from their file.
        names: a name for each row, or None.

    Raises:
        ShapeError: if the rows do not fit the layout.
        ArgumentTypeError: if they are not a floating-point tensor.
        BankError: no rows, or names that are not one per row.
    """

    rows: Tensor | None

    def __init__(
        self,
        layout: Layout,
        rows: Tensor | MappedRows,
        *,
        names: Sequence[str] | None = None,
        replaces: int | None = None,
        error: float | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(layout, Layout):
            raise ArgumentTypeError(f"layout must be a Layout, got {type(layout).__name__}")
        self.layout = layout
        self.replaces = replaces
        self.error = error
        self._mapped = rows if isinstance(rows, MappedRows) else None
        self._rounded: torch.dtype | None = None
        if isinstance(rows, MappedRows):
            self._count = rows.header.count
            self.register_buffer("rows", None)
        else:
            self._count = len(_checked(rows, layout))
            self._rounded = rows.dtype
            self.register_buffer("rows", rows.detach())
        self.names = None if names is None else _names(names, self._count)
        self._numbers = {} if self.names is None else {n: i for i, n in enumerate(self.names)}

    def bind(self, layout: Layout) -> None:
        """Check that ``layout`` equals that of the rows.

        Raises:
            LayoutError: if it differs.
            ArgumentTypeError: if it is not a layout.
        """
        if not isinstance(layout, Layout):
            raise ArgumentTypeError(f"layout must be a Layout, got {type(layout).__name__}")
        if layout != self.layout:
            raise LayoutError(f"this bank has rows {_difference(self.layout, layout)}")

    def forward(self, condition: Any) -> Float[Tensor, "..."]:
        """Rows by number or name, or weighted sums of rows.

        Args:
            condition: row numbers ``()``, ``(B,)`` or ``(B, *positions)``; a name, or a sequence
                of B names; or a ``Mixture``.

        Returns:
            ``(N,)``, ``(B, N)`` or ``(B, N, *positions)``. Rows by number are in the dtype of the
            bank; mixtures are summed in float32 or higher precision.

        Raises:
            ArgumentTypeError: a condition of another type.
            ConditionError: no condition, or one that is not a row.
        """
        if condition is None:
            raise ConditionError("a bank needs ids as its condition, got None")
        if isinstance(condition, Mixture):
            return self._mix(condition)
        if not isinstance(condition, Tensor):
            condition = self.ids(condition)
        rows = self._take(condition)
        return rows if rows.ndim <= 2 else torch.movedim(rows, -1, 1)

    def ids(self, names: str | Sequence[str]) -> Int[Tensor, "..."]:
        """Row numbers of names: ``()`` for one, ``(B,)`` for a sequence.

        Raises:
            ArgumentTypeError: if these are not names.
            ConditionError: an unknown name, or a bank without names.
        """
        single = isinstance(names, str)
        wanted = [names] if isinstance(names, str) else names
        if not isinstance(wanted, list | tuple) or not all(isinstance(n, str) for n in wanted):
            raise ArgumentTypeError(
                "a condition of a bank is a tensor of row numbers, names or a Mixture, "
                f"got {type(names).__name__}"
            )
        if self.names is None:
            raise ConditionError("this bank was made without names; address its rows by number")
        unknown = [name for name in wanted if name not in self._numbers]
        if unknown:
            raise ConditionError(f"no row is named {', '.join(map(repr, unknown[:5]))}")
        numbers = [self._numbers[name] for name in wanted]
        device = None if self.rows is None else self.rows.device
        return torch.tensor(numbers[0] if single else numbers, device=device)

    def _mix(self, mixture: Mixture) -> Tensor:
        rows = self._take(mixture.ids)
        compute = torch.promote_types(
            torch.promote_types(rows.dtype, mixture.weights.dtype), torch.float32
        )
        weights = mixture.weights.to(rows.device, compute)
        # No matrix product: under autocast it would round, and a weight of 1 would change the row.
        column, rows = weights.unsqueeze(-1), rows.to(compute)
        # Zero times infinity is NaN: rows with weight 0 must be left out.
        return (column * rows.where(rows.isfinite() | (column != 0), 0.0)).sum(-2)

    def _take(self, ids: Tensor) -> Tensor:
        """Rows ``(*ids.shape, N)``."""
        check_ids(ids, "ids")
        if self.rows is None:
            return self._read(ids)
        if not torch.compiler.is_compiling() and not _torch.in_transform():
            check_range(ids, self._count, "ids")
        return F.embedding(ids.to(self.rows.device), self.rows)

    def _read(self, ids: Tensor) -> Tensor:
        if self._mapped is None:
            raise BankError("this bank has no rows")
        return self._mapped.read(ids)

    def __len__(self) -> int:
        """Number of rows."""
        return self._count

    def report(self) -> BankReport:
        """Size of the rows, and of the generator that they replace."""
        header = self._header()
        return BankReport(
            self._count,
            self.layout.size,
            header.dtype,
            header.size,
            header.replaces,
            header.error,
            self._mapped is not None,
        )

    def extra_repr(self) -> str:
        """The report, for ``repr``."""
        return str(self.report())

    # --- file ------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write one safetensors file: the rows, and layout, names and SHA-256 as metadata.

        The rows are written in blocks, the file is written atomically, and equal banks give equal
        bytes.

        Raises:
            OSError: if the file cannot be written.
            BankError: if there are too many names for one file.
        """
        header = self._header()
        with Writer(path, header) as file:
            for rows in self._blocks(header):
                file.add(rows)
            file.finish(header)

    @classmethod
    def load(cls, path: str | Path, layout: Layout | None = None, *, mapped: bool = False) -> Bank:
        """Read what ``save`` wrote.

        Args:
            path: the file.
            layout: if given, the layout that the file must have.
            mapped: keep the rows in the file, and read only those that are used. Their hash is
                then not verified (``verify`` reads all rows to do so). The file must not change,
                and reading from it cannot be compiled into a graph: call ``represent`` first, and
                pass the ``task``.

        Raises:
            BankError: if the file is not a bank, or damaged.
            LayoutError: if it has another layout, or an operation that is not defined or
                imported.
            OSError: if there is no such file, or it cannot be read.
        """
        rows: Tensor | MappedRows
        if mapped:
            rows = MappedRows(path)
            header = rows.header
        else:
            header, rows = read(path)
        bank = cls(
            header.layout, rows, names=header.names, replaces=header.replaces, error=header.error
        )
        if layout is not None and layout != bank.layout:
            raise LayoutError(f"{path}: a bank of rows {_difference(bank.layout, layout)}")
        return bank

    def verify(self) -> None:
        """Read all rows of a mapped bank and compare their SHA-256.

        Any other bank was verified when it was loaded.

        Raises:
            BankError: if the file is damaged.
        """
        if self._mapped is not None:
            self._mapped.verify()

    def _header(self) -> Header:
        if self._mapped is not None:
            return self._mapped.header
        dtype = torch.float32 if self.rows is None else self.rows.dtype
        error = self.error if dtype == self._rounded else None  # was cast afterwards: unknown
        return Header(self.layout, self._count, dtype, self.names, self.replaces, error)

    def _blocks(self, header: Header) -> Iterator[Tensor]:
        if self._mapped is not None:
            yield from self._mapped.blocks()
        elif self.rows is not None:
            for start, stop in spans(header.count, header.size):
                yield self.rows[start:stop]


def bank(
    net: Conditioned,
    conditions: Any,
    *,
    ids: Sequence[str] | None = None,
    batch_size: int = 256,
    dtype: torch.dtype | None = None,
    path: str | Path | None = None,
) -> Bank:
    """Compute the task representations of many conditions once, to replace the generator.

    Row i is bit-identical to ``net.represent`` of condition i in the same batch. In a batch of
    another size a matrix product may round the last bit differently; a bank then differs from its
    generator by as much as the generator differs between batch sizes.

    The generator runs without gradients and in evaluation mode (no dropout); its mode is restored
    afterwards.

    Args:
        net: the conditioned network.
        conditions: a tensor of K conditions, or a tuple, dict or other pytree of tensors with K
            rows each, cut into batches here; or a list, iterator or other iterable of batches,
            each a condition for the generator.
        ids: names of the conditions; default: they are addressed by number.
        batch_size: number of conditions per batch, for a tensor or pytree.
        dtype: dtype of the stored rows; the largest rounding error is measured and reported.
        path: write the rows to a bank file batch by batch, and return the bank mapped from it:
            for more rows than fit in memory.

    Returns:
        A bank of K rows.

    Raises:
        CallError: if the generator is local: it needs features.
        BankError: no conditions, parts of different length, ids that do not fit, or values that
            ``dtype`` cannot represent.
        ShapeError: if the generator returns parameters per position.
        ArgumentTypeError: an argument of the wrong type.

    Example:
        >>> import featurewise as fw
        >>> net = fw.condition(nn.Sequential(nn.Linear(3, 8)), at="0", generator=fw.Linear(16))
        >>> z, x = torch.randn(1000, 16), torch.randn(4, 3)
        >>> rows = bank(net, z)
        >>> same = net(x, condition=z[:4])
        >>> dropped = net.replace_generator(rows)
        >>> torch.equal(net(x, condition=torch.arange(4)), same)
        True
    """
    if not isinstance(net, Conditioned):
        raise ArgumentTypeError(f"net must be a Conditioned, got {type(net).__name__}")
    if dtype is not None:
        dtype_name(dtype)
    replaces = sum(p.numel() * p.itemsize for p in net.generator.parameters())
    with torch.no_grad(), evaluating(net.generator):
        chunks = _represented(net, _batches(conditions, batch_size))
        return collect(net.layout, chunks, ids, dtype, path, replaces)


def collect(
    layout: Layout,
    chunks: Iterator[Tensor],
    ids: Sequence[str] | None,
    dtype: torch.dtype | None,
    path: str | Path | None,
    replaces: int,
) -> Bank:
    """A bank of rows given in chunks ``(b, N)``; the other arguments are those of ``bank``."""
    rounded = _Rounded(chunks, dtype)
    if path is not None:
        return _streamed(layout, rounded, ids, replaces, path)
    made = list(rounded)
    if not made:
        raise BankError("no conditions given")
    return Bank(layout, torch.cat(made), names=ids, replaces=replaces, error=rounded.error)


def _streamed(
    layout: Layout,
    chunks: _Rounded,
    ids: Sequence[str] | None,
    replaces: int,
    path: str | Path,
) -> Bank:
    names = None if ids is None else _names(ids, len(ids))
    count = 0
    with Writer(path, Header(layout, 0, torch.bfloat16, names, replaces)) as file:
        for chunk in chunks:
            file.add(chunk)
            count += len(chunk)
        if count == 0:
            raise BankError("no conditions given")
        if names is not None:
            _names(names, count)
        file.finish(Header(layout, count, chunk.dtype, names, replaces, chunks.error))
    return Bank.load(path, mapped=True)


class _Rounded:
    """Chunks converted to another dtype, with the largest rounding error."""

    def __init__(self, chunks: Iterator[Tensor], dtype: torch.dtype | None) -> None:
        self.chunks, self.dtype = chunks, dtype
        self.error: float | None = None

    def __iter__(self) -> Iterator[Tensor]:
        for chunk in self.chunks:
            if self.dtype is None or chunk.dtype == self.dtype:
                self.dtype = chunk.dtype
                yield chunk
                continue
            rounded = chunk.to(self.dtype)
            error = float((rounded.to(torch.float64) - chunk.to(torch.float64)).abs().max())
            if not error < float("inf"):
                raise BankError(
                    f"values up to {float(chunk.abs().max())} cannot be represented in {self.dtype}"
                )
            self.error = max(error, self.error or 0.0)
            yield rounded


def _represented(net: Conditioned, batches: Iterable[Any]) -> Iterator[Tensor]:
    for batch in batches:
        flat = net.represent(batch).flat
        if flat.ndim > 2:
            raise ShapeError(
                f"a bank has one row per condition, the generator returned {shape_of(flat)}"
            )
        yield flat.reshape(-1, net.layout.size)


def _batches(conditions: Any, size: int) -> Iterable[Any]:
    positive(size, "batch_size")
    leaves, structure = _torch.tree_flatten(conditions)
    whole = isinstance(conditions, Tensor) or not isinstance(conditions, list | Iterator)
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    if whole and tensors:
        return _split(leaves, structure, tensors, size)
    if isinstance(conditions, Iterable) and not isinstance(conditions, str | bytes | dict):
        return conditions
    raise ArgumentTypeError(
        "conditions must be a tensor or pytree of tensors, or an iterable of batches, "
        f"got {type(conditions).__name__}"
    )


def _split(leaves: list[Any], structure: Any, tensors: list[Tensor], size: int) -> Iterator[Any]:
    counts = {0 if leaf.ndim == 0 else leaf.shape[0] for leaf in tensors}
    if len(counts) > 1 or 0 in counts:
        shapes = ", ".join(shape_of(leaf) for leaf in tensors)
        raise BankError(
            f"conditions need at least one row, and all tensors the same number: {shapes}"
        )
    for start in range(0, counts.pop(), size):
        part = [leaf[start : start + size] if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        yield _torch.tree_unflatten(part, structure)


def _checked(rows: object, layout: Layout) -> Tensor:
    if not isinstance(rows, Tensor):
        raise ArgumentTypeError(f"rows must be a tensor, got {type(rows).__name__}")
    dtype_name(rows.dtype)
    if rows.ndim != 2 or rows.shape[1] != layout.size:
        raise ShapeError(f"rows must be (K, {layout.size}) for this layout, got {shape_of(rows)}")
    if rows.numel() == 0:
        raise BankError("a bank needs rows, and a layout with parameters")
    return rows


def _names(names: Sequence[str], count: int) -> tuple[str, ...]:
    odd = None if not isinstance(names, str) else names
    odd = next((n for n in names if not isinstance(n, str)), odd)
    if odd is not None:
        raise ArgumentTypeError(f"ids must be a sequence of names (strings), got {odd!r}")
    if len(names) != count:
        raise BankError(f"ids: {len(names)} names for {count} rows")
    if len(set(names)) != count:
        raise BankError("ids: two rows have the same name")
    return tuple(names)


def _difference(mine: Layout, theirs: Layout) -> str:
    """Text: the sites of a bank, and those of another layout."""
    if mine.names != theirs.names:
        return f"for the sites {', '.join(mine.names)}, not for {', '.join(theirs.names)}"
    odd = next(f"{a}, not for {b}" for a, b in zip(mine, theirs, strict=True) if a != b)
    return f"for {odd}"
