"""Strict and bounded reading of JSON, in time linear in the length of the text.

Stricter than Python's ``json``: duplicate keys, NaN, infinities (also ``1e999``), lone surrogates,
a byte order mark, deep nesting and very long integers raise errors. ``loads`` reads a whole text,
``stream_array`` a file of any length, one element of its main array at a time. A ``Node`` is a
value together with its place in the document, for error messages.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final, TypeAlias

from featurewise.common.opening import open_regular, read_bytes
from featurewise.common.text import printable, short

#: Default limit to the length of a document for ``loads`` and ``read``, in bytes.
MAX_BYTES: Final = 1 << 26
#: Deepest nesting of lists and objects.
MAX_DEPTH: Final = 100
#: Longest integer, in digits: 128 bits have 39.
MAX_DIGITS: Final = 100
#: Longest text of one element of a streamed array, in characters.
MAX_VALUE: Final = 1 << 22

#: Characters read from a file at a time.
_CHUNK: Final = 1 << 18
#: Characters that may continue a number; empty at the end of the buffer.
_NUMBER_PARTS: Final = frozenset({"", *"0123456789.eE+-"})
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")

Fail: TypeAlias = Callable[[str, str], Exception]
"""(what is wrong, where in the document) -> the error to raise."""


class JsonError(ValueError):
    """A text is not JSON, or violates one of the restrictions of this module.

    Attributes:
        problem: what is wrong.
        where: its place in the document; empty for the document as a whole.
    """

    def __init__(self, problem: str, where: str = "") -> None:
        super().__init__(f"{where}: {problem}" if where else problem)
        self.problem, self.where = problem, where


def failing(error: Callable[[str], Exception], path: Path | str) -> Fail:
    """A ``Fail`` that makes ``error`` with a message of path, place and problem.

    Args:
        error: message -> exception.
        path: the file.
    """

    def fail(problem: str, where: str) -> Exception:
        return error(": ".join(part for part in (str(path), where, problem) if part))

    return fail


def dumps(content: Any, *, indent: int | None = 1, end: str = "\n") -> bytes:
    """``content`` as JSON, then ``end``; equal content gives equal bytes.

    Raises:
        ValueError: a number is infinite or NaN.
    """
    return (json.dumps(content, indent=indent, allow_nan=False) + end).encode()


def loads(content: bytes | str, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> Any:
    """The value of a JSON document.

    Args:
        content: UTF-8, or text.
        max_bytes: longest document, in bytes (characters of a text).
        max_depth: deepest nesting.

    Raises:
        JsonError: it is not JSON, or exceeds a limit.
    """
    if len(content) > max_bytes:
        raise JsonError(f"is longer than {max_bytes:,} bytes")
    text = content if isinstance(content, str) else _decoded(content)
    if text.startswith("\ufeff"):
        raise JsonError("begins with a byte order mark; save it as UTF-8 without one")
    try:
        value = _DECODER.decode(text)
    except RecursionError as error:
        raise JsonError(f"is nested more than {max_depth} deep") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise JsonError(f"is not JSON: {error.msg}", place) from error
    _check_depth(value, max_depth)
    if _SURROGATE.search(text):
        _check_text(value)
    return value


def read(path: Path, fail: Fail, *, max_bytes: int = MAX_BYTES) -> Node:
    """The JSON document in a regular file.

    Args:
        path: the file.
        fail: makes the error for any problem.
        max_bytes: longest file, in bytes.

    Raises:
        Exception: the result of ``fail``.
    """
    try:
        return Node(loads(read_bytes(path, limit=max_bytes), max_bytes=max_bytes), "", fail)
    except OSError as error:
        raise fail(f"cannot be read: {error.strerror or error}", "") from error
    except JsonError as error:
        raise fail(error.problem, error.where) from error


@dataclass(frozen=True, slots=True)
class Node:
    """A parsed JSON value and its place in the document.

    Args:
        value: the parsed value.
        where: its place, such as ``questions[3].answer``; empty for the whole document.
        fail: makes the error for a problem at a place.
    """

    value: Any
    where: str = ""
    fail: Fail = JsonError

    def error(self, problem: str) -> Exception:
        """The error for a problem at this place."""
        return self.fail(problem, self.where)

    def __contains__(self, key: str) -> bool:
        return key in self.mapping()

    def __getitem__(self, key: str) -> Node:
        """The value under ``key`` of an object."""
        mapping = self.mapping()
        if key not in mapping:
            raise self.error(f'key "{key}" is missing')
        return self._at(mapping[key], key)

    def mapping(self, required: Sequence[str] = (), optional: Sequence[str] = ()) -> dict[str, Any]:
        """An object; with ``required`` or ``optional``, its keys must be these and no others."""
        if not isinstance(self.value, dict):
            raise self.error(f"expected an object, found {_kind(self.value)}")
        if required or optional:
            if missing := [key for key in required if key not in self.value]:
                raise self.error(f'key "{missing[0]}" is missing')
            if unknown := self.value.keys() - {*required, *optional}:
                raise self.error(f"key {short(min(unknown))} is unknown")
        return self.value

    def entries(self) -> dict[str, Node]:
        """The values of an object, by key."""
        return {key: self._at(value, key) for key, value in self.mapping().items()}

    def items(self, count: int | None = None) -> list[Node]:
        """The elements of an array; there must be ``count`` of them, if given."""
        if not isinstance(self.value, list):
            raise self.error(f"expected a list, found {_kind(self.value)}")
        if count is not None and len(self.value) != count:
            raise self.error(f"expected {count} elements, found {len(self.value)}")
        return [Node(v, f"{self.where}[{i}]", self.fail) for i, v in enumerate(self.value)]

    def text(self, max_length: int | None = None) -> str:
        """A string of valid Unicode, at most ``max_length`` characters long."""
        if not isinstance(self.value, str):
            raise self.error(f"expected a text, found {_kind(self.value)}")
        if any("\ud800" <= letter <= "\udfff" for letter in self.value):
            raise self.error("the text holds half of a surrogate pair")
        if max_length is not None and len(self.value) > max_length:
            raise self.error(f"the text is longer than {max_length} characters")
        return self.value

    def name(self, max_length: int = 200) -> str:
        """A string of printable characters on one line, at least one of them."""
        text = self.text(max_length)
        if not text or printable(text) != text:
            raise self.error(f"expected a name of printable characters, found {short(text)}")
        return text

    def one_of(self, options: Sequence[str]) -> str:
        """A string that is one of ``options``."""
        text = self.text()
        if text not in options:
            raise self.error(f"{short(text)} is none of {', '.join(options)}")
        return text

    def integer(self, low: int, high: int) -> int:
        """An integer from ``low`` to ``high``, both included."""
        if type(self.value) is not int:
            raise self.error(f"expected an integer, found {_kind(self.value)}")
        if not low <= self.value <= high:
            raise self.error(f"{short(self.value)} lies outside {low}..{high}")
        return self.value

    def number(self, low: int | float = -math.inf, high: int | float = math.inf) -> float:
        """A finite number from ``low`` to ``high``, both included."""
        if type(self.value) not in (int, float):
            raise self.error(f"expected a number, found {_kind(self.value)}")
        try:
            number = float(self.value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self.error("the number is too large")
        if not low <= number <= high:
            raise self.error(f"{number:g} lies outside {low:g}..{high:g}")
        return number

    def _at(self, value: Any, key: str) -> Node:
        place = key if len(key) <= 60 else f"{key[:57]}..."
        return Node(value, f"{self.where}.{place}" if self.where else place, self.fail)


# --- files of any length -------------------------------------------------------------------------


def stream_array(path: Path, key: str, fail: Fail = JsonError) -> Iterator[Node]:
    """Iterate over the array under ``key`` of the top-level object in a file.

    Args:
        path: a JSON file of a data set (UTF-8, with or without a byte order mark).
        key: name of the array; its elements are called ``key[0]``, ``key[1]``, ...
        fail: makes the error for any problem.

    Raises:
        Exception: the result of ``fail`` for the first problem in the file, possibly after some
            elements.
    """
    if not path.exists():
        raise fail("no such file", "")
    if path.is_dir():
        raise fail("is a folder; give the file itself", "")
    try:
        with open_regular(path) as file:
            yield from _main_array(
                _Scanner(TextIOWrapper(file, encoding="utf-8-sig", newline=""), fail), key
            )
    except UnicodeDecodeError as error:
        raise fail(f"not UTF-8 text ({error.reason})", "") from error
    except OSError as error:
        raise fail(f"cannot be read ({error.strerror})", "") from error


def _main_array(scanner: _Scanner, key: str) -> Iterator[Node]:
    seen: set[str] = set()
    scanner.take("{", "the file")
    while not scanner.skip("}"):
        if seen:
            scanner.take(",", "the file")
        name = scanner.value("a key of the file")
        if not isinstance(name, str):
            raise scanner.error("expected a key in double quotes", "the file")
        if name in seen:
            raise scanner.error(f"key {short(name)} occurs twice", "the file")
        seen.add(name)
        scanner.take(":", name)
        if name == key:
            yield from _elements(scanner, key)
        else:
            scanner.value(name)
    if scanner.peek():
        raise scanner.error("something follows the end of the JSON object", "the file")
    if key not in seen:
        raise scanner.fail(f'key "{key}" is missing', "")


def _elements(scanner: _Scanner, key: str) -> Iterator[Node]:
    count = 0
    scanner.take("[", key)
    while not scanner.skip("]"):
        where = f"{key}[{count}]"
        if count:
            scanner.take(",", where)
        yield Node(scanner.value(where), where, scanner.fail)
        count += 1


class _Scanner:
    """Reads consecutive JSON values from a text file of any length."""

    def __init__(self, file: TextIOWrapper, fail: Fail) -> None:
        self.fail = fail
        self._file = file
        self._buffer = ""
        self._position = 0
        self._dropped = 0

    def error(self, problem: str, where: str) -> Exception:
        return self.fail(problem, f"{where} (character {self._dropped + self._position})")

    def peek(self) -> str:
        """The next character that is no white space; empty at the end of the file."""
        while True:
            while self._position < len(self._buffer):
                if self._buffer[self._position] not in " \t\r\n":
                    return self._buffer[self._position]
                self._position += 1
            if not self._read_more():
                return ""

    def skip(self, character: str) -> bool:
        """Skip ``character`` if it comes next; return whether it did."""
        found = self.peek() == character
        self._position += found
        return found

    def take(self, character: str, where: str) -> None:
        """Skip ``character``, which must come next."""
        if not self.skip(character):
            found = repr(self.peek()) if self.peek() else "the end of the file"
            raise self.error(f"expected {character!r}, found {found}", where)

    def value(self, where: str) -> Any:
        """Read the next JSON value."""
        self.peek()
        while True:
            too_long = len(self._buffer) - self._position > MAX_VALUE
            try:
                value, end = _DECODER.raw_decode(self._buffer, self._position)
            except json.JSONDecodeError as error:
                if too_long or not self._read_more():
                    problem = f"longer than {MAX_VALUE} characters" if too_long else error.msg
                    raise self.error(problem, where) from error
            except RecursionError as error:
                raise self.error("nested too deeply", where) from error
            except JsonError as error:
                raise self.error(error.problem, where) from error
            else:
                # A number at the end of the buffer may continue in the file.
                complete = self._buffer[end : end + 1] not in _NUMBER_PARTS
                if complete or too_long or not self._read_more():
                    self._check(value, end, where)
                    self._position = end
                    return value

    def _check(self, value: Any, end: int, where: str) -> None:
        opened = sum(self._buffer.count(sign, self._position, end) for sign in "[{")
        try:
            if opened > MAX_DEPTH:
                _check_depth(value, MAX_DEPTH)
        except JsonError as error:
            raise self.error(error.problem, where) from error

    def _read_more(self) -> bool:
        more = self._file.read(_CHUNK)
        self._dropped += self._position
        self._buffer = self._buffer[self._position :] + more
        self._position = 0
        return bool(more)


# --- restrictions --------------------------------------------------------------------------------


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonError(f"is not UTF-8 text ({error.reason} at byte {error.start})") from error


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise JsonError(f"key {short(key)} occurs twice in one object")
            seen.add(key)
    return mapping


def _no_constant(name: str) -> Any:
    raise JsonError(f"{name} is not JSON")


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise JsonError(f"an integer has more than {MAX_DIGITS} digits")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise JsonError(f"the number {short(text)} is too large")
    return number


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique_keys,
    parse_constant=_no_constant,
    parse_int=_integer,
    parse_float=_finite,
)


def _check_depth(value: Any, max_depth: int) -> None:
    level: list[Any] = [value]
    for _ in range(max_depth):
        level = [child for each in level for child in _children(each)]
        if not level:
            return
    raise JsonError(f"is nested more than {max_depth} deep")


def _children(value: Any) -> list[Any]:
    """The lists and objects directly in ``value``."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [child for child in inner if isinstance(child, dict | list)]


def _check_text(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise JsonError("a text holds half of a surrogate pair") from error


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", type(None): "null"}
    return names.get(type(value), f"{short(value)} ({type(value).__name__})")
