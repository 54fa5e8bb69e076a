"""Reads text in the formats of official data sets: PTB and WikiText token files, and enwik8."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from featurewise.common.opening import read_bytes
from featurewise.worlds.text.errors import TextError, TextFileError
from featurewise.worlds.text.novels import PARTS, Part
from featurewise.worlds.text.vocabulary import END

MAX_FILE: Final = 1 << 30
"""Largest file that is read, in bytes; the training file of WikiText-103 has 0.5 GB."""

ENWIK8_BYTES: Final = 10**8
"""Size of the published file ``enwik8``."""

FILES: Final = {"ptb": "ptb.{}.txt", "wikitext": "wiki.{}.tokens"}
"""Name of a format -> names of its files."""


def read_token_file(path: Path | str) -> list[str]:
    """The tokens of a file of PTB or WikiText: separated by spaces, ``<eos>`` at the end of a line.

    Blank lines, of which WikiText has one around each heading, end with it too, as is usual. A byte
    order mark at the beginning of the file is no token.

    Args:
        path: of the file.

    Raises:
        TextFileError: the file cannot be read, is not UTF-8, has no tokens, or contains ``<eos>``
            or a zero byte.
    """
    text = read_text(path)
    tokens: list[str] = []
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        found = line.split()
        if END in found:
            raise TextFileError(
                f"{path}:{number}: contains {END}, which stands for the end of a line; "
                "token files have line breaks instead"
            )
        if "\0" in line:
            raise TextFileError(f"{path}:{number}: contains a zero byte: expected a file of text")
        tokens += (*found, END)
    if not text.strip():
        raise TextFileError(f"{path}: the file has no tokens")
    return tokens


def read_token_files(folder: Path | str, form: Literal["ptb", "wikitext"], part: Part) -> list[str]:
    """The tokens of a part, from the folder of the official files.

    Args:
        folder: with ``ptb.train.txt``, ``ptb.valid.txt`` and ``ptb.test.txt``, or
            ``wiki.train.tokens`` and so on.
        form: which of the two.
        part: see `Part`.

    Raises:
        TextError: there is no such format or part.
        TextFileError: see `read_token_file`.
    """
    if form not in FILES or part not in PARTS:
        raise TextError(f"{form!r}, {part!r}: form is one of {list(FILES)}, part one of {PARTS}")
    name = FILES[form].format("valid" if part == "validation" else part)
    return read_token_file(Path(folder) / name)


def read_enwik8(path: Path | str, part: Part, *, size: int = ENWIK8_BYTES) -> UInt8[Tensor, " N"]:
    """Bytes of ``enwik8``: 90 % to train on, then 5 % to validate, then 5 % to test, as is usual.

    Args:
        path: of the file, not compressed.
        part: see `Part`.
        size: of the file in bytes, 20 or more.

    Raises:
        TextError: there is no such part, or a part would be empty.
        TextFileError: the file cannot be read or has another size.
    """
    if part not in PARTS:
        raise TextError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
    if size < 20:
        raise TextError(f"size must be 20 or more, so that no part is empty, got {size}")
    content = _read(path)
    if len(content) != size:
        raise TextFileError(f"{path}: has {len(content):,} bytes; enwik8 has {size:,}")
    ends = {"train": (0, 90), "validation": (90, 95), "test": (95, 100)}[part]
    start, stop = (size * end // 100 for end in ends)
    return torch.frombuffer(bytearray(content[start:stop]), dtype=torch.uint8)


def byte_tokens(content: UInt8[Tensor, " N"]) -> Int64[Tensor, " N"]:
    """Bytes as numbers of tokens, of which there are 256."""
    return content.long()


def read_text(path: Path | str) -> str:
    """A file of text in UTF-8, without a byte order mark.

    Raises:
        TextFileError: the file cannot be read or is not UTF-8.
    """
    return _decoded(_read(path), path)


def _read(path: Path | str) -> bytes:
    try:
        return read_bytes(path, limit=MAX_FILE)
    except OSError as error:
        raise TextFileError(f"{path}: cannot be read: {error.strerror or error}") from error


def _decoded(content: bytes, path: Path | str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise TextFileError(
            f"{path}:{line}: not UTF-8: {error.reason}; expected a file of text in UTF-8"
        ) from error
