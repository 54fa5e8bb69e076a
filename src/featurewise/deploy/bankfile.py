"""The file of a bank: one safetensors tensor of rows, written and read in parts.

The rows may exceed the memory, so they are written batch by batch after space reserved for the
header, and read through a memory map. Any safetensors reader can open the file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from featurewise.common.errors import wrap_errors
from featurewise.common.files import writing
from featurewise.common.json import Node, loads
from featurewise.common.opening import open_regular
from featurewise.core import ArgumentTypeError, FeaturewiseError, Layout, LayoutError
from featurewise.core.numbers import stored
from featurewise.deploy.errors import BankError
from featurewise.generators.base import check_range

#: The one metadata key of a file; safetensors would write several in random order.
_METADATA: Final = "featurewise.Bank.1"

#: Names in safetensors of the dtypes that rows can have.
_NAMES: Final = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
}
_DTYPES: Final = {name: dtype for dtype, name in _NAMES.items()}

#: Largest header that safetensors reads, in bytes.
_LONGEST: Final = 100_000_000

#: Largest integer that a file may contain as number of rows or bytes.
_MOST: Final = 1 << 62

#: Rows are hashed and copied in blocks of about this many bytes.
_BLOCK: Final = 1 << 24


@dataclass(frozen=True)
class Header:
    """Description of the rows in a file.

    Attributes:
        layout: the sites; assigns the values of a row to them.
        count: number of rows K.
        dtype: dtype of the rows.
        names: names of the rows, or None.
        replaces: size of the replaced generator, in bytes; None if unknown.
        error: largest absolute error of rounding the rows to ``dtype``; None if not rounded.
    """

    layout: Layout
    count: int
    dtype: torch.dtype
    names: tuple[str, ...] | None = None
    replaces: int | None = None
    error: float | None = None

    @property
    def size(self) -> int:
        """Size of all rows, in bytes."""
        return self.count * self.layout.size * self.dtype.itemsize

    def text(self) -> str:
        """The header as JSON; equal headers give equal text."""
        return json.dumps(
            {
                "layout": self.layout.to_json(),
                "shape": [self.count, self.layout.size],
                "dtype": dtype_name(self.dtype),
                "names": self.names,
                "replaces": self.replaces,
                "error": self.error,
            },
            sort_keys=True,
        )

    @classmethod
    def parse(cls, text: str) -> Header:
        """The inverse of ``text``.

        Raises:
            BankError: if rows and layout do not match.
            LayoutError: if the layout cannot be restored.
            JsonError: if it is not a header.
        """
        data = Node(loads(text, max_bytes=_LONGEST), "header")
        data.mapping(("layout", "shape", "dtype", "names", "replaces", "error"))
        try:
            layout = Layout.from_json(data["layout"].value)
        except FeaturewiseError as found:
            raise LayoutError(f"its layout cannot be restored: {found}") from found
        count, size = (each.integer(1, _MOST) for each in data["shape"].items(2))
        if size != layout.size:
            raise BankError(f"rows of {size} values do not fit a layout of {layout.size}")
        names = data["names"]
        replaces, error = data["replaces"], data["error"]
        return cls(
            layout,
            count,
            _DTYPES[data["dtype"].one_of(tuple(_DTYPES))],
            None if names.value is None else tuple(n.text() for n in names.items(count)),
            None if replaces.value is None else replaces.integer(0, _MOST),
            None if error.value is None else error.number(0),
        )


def dtype_name(dtype: torch.dtype) -> str:
    """Name of ``dtype`` in safetensors.

    Raises:
        ArgumentTypeError: if rows cannot have this dtype.
    """
    if dtype not in _NAMES:
        raise ArgumentTypeError(
            f"dtype of a bank must be one of {', '.join(map(str, _NAMES))}: {dtype}"
        )
    return _NAMES[dtype]


class Writer:
    """Writes rows batch by batch; the file appears when ``finish`` has been called.

    Args:
        path: the file; an older one of that name is replaced.
        header: a preliminary header, from which the space to reserve is computed.

    Raises:
        BankError: if the header is longer than safetensors reads.
        OSError: if the file cannot be written.
    """

    def __init__(self, path: str | Path, header: Header) -> None:
        self.path = Path(path)
        # The final count, offsets, error and digest may have more digits.
        self.room = _aligned(len(_file_header(header, "")) + 256)
        if self.room > _LONGEST:
            raise BankError(
                f"{self.path}: layout and names take {self.room} bytes, a file can have "
                f"{_LONGEST}; omit the names and address the rows by number"
            )
        self.digest = hashlib.sha256()

    def __enter__(self) -> Writer:
        self.stack = ExitStack()
        self.file = self.stack.enter_context(writing(self.path))
        self.file.seek(8 + self.room)
        return self

    def __exit__(self, *exception: Any) -> None:
        self.stack.__exit__(*exception)

    def add(self, rows: Tensor) -> None:
        """Append rows ``(b, N)``."""
        data = _bytes(rows)
        self.digest.update(data)
        self.file.write(data)

    def finish(self, header: Header) -> None:
        """Write the header; the file gets its name at the end of the block."""
        self.digest.update(header.text().encode())
        text = _file_header(header, self.digest.hexdigest())
        self.file.seek(0)
        self.file.write(self.room.to_bytes(8, "little") + text.ljust(self.room))


def _file_header(header: Header, digest: str, text: str | None = None) -> bytes:
    """The header of a file; ``text`` is the JSON of ``header`` as read from a file, if it was."""
    metadata = json.dumps({"header": header.text() if text is None else text, "sha256": digest})
    tensor = {
        "dtype": dtype_name(header.dtype),
        "shape": [header.count, header.layout.size],
        "data_offsets": [0, header.size],
    }
    return json.dumps({"__metadata__": {_METADATA: metadata}, "rows": tensor}).encode()


def _aligned(size: int) -> int:
    """The next larger header size with which the rows begin at a multiple of 64 bytes."""
    return (size + 8 + 63) // 64 * 64 - 8


def _bytes(rows: Tensor) -> Any:
    """The memory of ``rows``, in the byte order of the file."""
    return stored(rows).view(torch.uint8).numpy().reshape(-1).data


class MappedRows:
    """Rows in a file, read through a memory map when they are used.

    Copies share the map; in another process, after pickling, the file is opened again.

    Args:
        path: the file; its rows are not read, so their hash is not verified.

    Raises:
        BankError: if the file is not a bank, or truncated.
        LayoutError: if it uses an operation that is not defined or imported.
        OSError: if there is no such file.
    """

    def __init__(self, path: str | Path) -> None:
        _exclude_from_compilation()
        self.path = Path(path).absolute()
        self._stored = _open(self.path)
        self.header = self._stored.header
        # numpy has no bfloat16, so the bits are read as integers. A read-only map does not count as
        # used memory, unlike the private map that torch would create.
        bits = np.dtype(f"<i{self.header.dtype.itemsize}")
        shape = (self.header.count, self.header.layout.size)
        self._bits: np.ndarray[Any, Any] = np.memmap(
            self.path, bits, "r", self._stored.offset, shape
        )

    def read(self, ids: Tensor) -> Tensor:
        """Rows ``(*ids.shape, N)`` on the device of the ids, which are checked; never compiled."""
        own = ids.cpu()
        check_range(own, self.header.count, "ids")
        return self.take(own).to(ids.device)

    def take(self, ids: Tensor) -> Tensor:
        """Rows ``(*ids.shape, N)``, on the CPU."""
        found = np.asarray(self._bits)[ids.detach().cpu().numpy()]
        return torch.from_numpy(np.atleast_1d(found)).view(self.header.dtype)

    def blocks(self) -> Iterator[Tensor]:
        """All rows in order, ``(b, N)`` at a time."""
        for start, stop in spans(self.header.count, self.header.size):
            yield self.take(torch.arange(start, stop))

    def verify(self) -> None:
        """Read the whole file once and compare its SHA-256.

        Raises:
            BankError: if it is damaged.
        """
        _verify(self.path, self._stored, self.blocks())

    def __deepcopy__(self, memo: dict[int, Any]) -> MappedRows:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.path, self._stored.digest)


@lru_cache(maxsize=1)
def _exclude_from_compilation() -> None:
    """Let compilers call `MappedRows.read` as it is; the cache makes this run once.

    Only with the first file: the decorator imports the whole compiler, which takes a second.
    """
    MappedRows.read = torch.compiler.disable(MappedRows.read)  # type: ignore[method-assign, no-untyped-call]


def _reopened(path: Path, digest: str) -> MappedRows:
    rows = MappedRows(path)
    if rows._stored.digest != digest:
        raise BankError(f"{path}: has been replaced by another bank")
    return rows


def spans(count: int, size: int) -> Iterator[tuple[int, int]]:
    """Split ``count`` rows with ``size`` bytes in total into blocks."""
    step = max(1, _BLOCK * count // max(size, 1))
    for start in range(0, count, step):
        yield start, min(start + step, count)


def read(path: str | Path) -> tuple[Header, Tensor]:
    """Header and all rows, verified.

    Raises:
        BankError: if the file is not a bank, or damaged.
        LayoutError: if it uses an operation that is not defined or imported.
        OSError: if there is no such file.
    """
    path = Path(path)
    found = _open(path)
    header = found.header
    with open_regular(path) as file:
        file.seek(found.offset)
        content = bytearray(file.read(header.size))
    if len(content) != header.size:
        raise BankError(f"{path}: not a bank (it is truncated)")
    rows = torch.frombuffer(content, dtype=header.dtype).view(header.count, header.layout.size)
    blocks = spans(header.count, header.size)
    _verify(path, found, (rows[start:stop] for start, stop in blocks))
    return header, rows


@dataclass(frozen=True)
class _Stored:
    """Metadata of a file.

    Attributes:
        header: the parsed header.
        text: its JSON, as in the file.
        digest: SHA-256 of the rows and of ``text``.
        offset: position of the first row, in bytes.
    """

    header: Header
    text: str
    digest: str
    offset: int


def _open(path: Path) -> _Stored:
    with open_regular(path) as file, wrap_errors(path, BankError, LayoutError, what="not a bank"):
        room = int.from_bytes(file.read(8), "little")
        if room > _LONGEST:
            raise BankError(f"its header has {room} bytes, at most {_LONGEST} are allowed")
        raw = file.read(room)
        top = Node(loads(raw, max_bytes=_LONGEST))
        if set(top.mapping()) != {"__metadata__", "rows"} or _METADATA not in top["__metadata__"]:
            raise BankError("its metadata or its tensors are not those of a bank")
        metadata = Node(loads(top["__metadata__"][_METADATA].text(), max_bytes=_LONGEST))
        text, digest = (metadata[name].text() for name in ("header", "sha256"))
        header = Header.parse(text)
        if raw.rstrip(b" ") != _file_header(header, digest, text):
            raise BankError("its header is damaged, or rows and header disagree")
        if os.fstat(file.fileno()).st_size != 8 + room + header.size:
            raise BankError("it is truncated, or has data after its rows")
        return _Stored(header, text, digest, 8 + room)


def _verify(path: Path, stored_as: _Stored, blocks: Iterator[Tensor]) -> None:
    found = hashlib.sha256()
    for rows in blocks:
        found.update(_bytes(rows))
    found.update(stored_as.text.encode())
    if found.hexdigest() != stored_as.digest:
        raise BankError(
            f"{path}: damaged: its SHA-256 differs from the one it contains; copy it again"
        )
