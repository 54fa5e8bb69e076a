"""JSON from strangers: read piece by piece, refused with path and place when it is not right.

Stricter than Python's ``json``: duplicate keys and NaN are refused. A file of any length is read
in a bounded amount of memory, one element of its main array at a time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from featurewise.worlds.clevr.errors import FormatError

#: Characters read from a file at a time.
_CHUNK: Final = 1 << 18
#: Longest text of one value, in characters; a scene or a question has a few thousand.
MAX_VALUE: Final = 1 << 22
#: What may follow the beginning of a number, the end of what was read included.
_NUMBER_PARTS: Final = frozenset({"", *"0123456789.eE+-"})


@dataclass(frozen=True, slots=True)
class Node:
    """A parsed JSON value that knows where it came from.

    Args:
        value: what ``json`` made of it.
        path: the file.
        where: its place in the file, such as ``questions[3].answer``.
    """

    value: Any
    path: Path
    where: str

    def error(self, problem: str) -> FormatError:
        """The error for something wrong at this place."""
        return FormatError.at(self.path, problem, self.where)

    def __contains__(self, key: str) -> bool:
        return key in self._mapping()

    def __getitem__(self, key: str) -> Node:
        """The value under ``key`` of an object."""
        mapping = self._mapping()
        if key not in mapping:
            raise self.error(f'key "{key}" is missing')
        return Node(mapping[key], self.path, f"{self.where}.{key}")

    def items(self, count: int | None = None) -> list[Node]:
        """The elements of an array, which must be ``count`` if that is given."""
        if not isinstance(self.value, list):
            raise self.error(f"expected a list, found {_kind(self.value)}")
        if count is not None and len(self.value) != count:
            raise self.error(f"expected {count} elements, found {len(self.value)}")
        return [Node(v, self.path, f"{self.where}[{i}]") for i, v in enumerate(self.value)]

    def text(self) -> str:
        """A string of valid Unicode."""
        if not isinstance(self.value, str):
            raise self.error(f"expected a text, found {_kind(self.value)}")
        if any("\ud800" <= letter <= "\udfff" for letter in self.value):
            raise self.error("the text holds half of a surrogate pair")
        return self.value

    def one_of(self, options: Sequence[str]) -> str:
        """A string that is one of ``options``."""
        text = self.text()
        if text not in options:
            raise self.error(f"{_short(text)} is none of {', '.join(options)}")
        return text

    def integer(self, low: int, high: int) -> int:
        """An integer from ``low`` to ``high``, both included."""
        if type(self.value) is not int:
            raise self.error(f"expected an integer, found {_kind(self.value)}")
        if not low <= self.value <= high:
            raise self.error(f"{_short(self.value)} lies outside {low}..{high}")
        return self.value

    def number(self) -> float:
        """A finite number."""
        if type(self.value) not in (int, float):
            raise self.error(f"expected a number, found {_kind(self.value)}")
        try:
            number = float(self.value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self.error("the number is too large")
        return number

    def _mapping(self) -> dict[str, Any]:
        if not isinstance(self.value, dict):
            raise self.error(f"expected an object, found {_kind(self.value)}")
        return self.value


def stream_array(path: Path, key: str) -> Iterator[Node]:
    """The elements of the array under ``key`` of the object that fills a file, one by one.

    Args:
        path: a JSON file (UTF-8, with or without a byte order mark).
        key: name of the array; its elements are called ``key[0]``, ``key[1]``, ...

    Raises:
        FormatError: at the first thing wrong in the file, so possibly after some elements.
    """
    if not path.is_file():
        raise FormatError.at(path, "no such file")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _main_array(_Scanner(file, path), key)
    except UnicodeDecodeError as error:
        raise FormatError.at(path, f"not UTF-8 text ({error.reason})") from error
    except OSError as error:
        raise FormatError.at(path, f"cannot be read ({error.strerror})") from error


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
            raise scanner.error(f'key "{name}" occurs twice', "the file")
        seen.add(name)
        scanner.take(":", name)
        if name == key:
            yield from _elements(scanner, key)
        else:
            scanner.value(name)
    if scanner.peek():
        raise scanner.error("something follows the end of the JSON object", "the file")
    if key not in seen:
        raise FormatError.at(scanner.path, f'key "{key}" is missing')


def _elements(scanner: _Scanner, key: str) -> Iterator[Node]:
    count = 0
    scanner.take("[", key)
    while not scanner.skip("]"):
        where = f"{key}[{count}]"
        if count:
            scanner.take(",", where)
        yield Node(scanner.value(where), scanner.path, where)
        count += 1


class _Scanner:
    """Takes JSON values from the front of a text file of any length."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self.path = path
        self._file = file
        self._buffer = ""
        self._position = 0
        self._dropped = 0

    def error(self, problem: str, where: str) -> FormatError:
        place = f"{where} (character {self._dropped + self._position})"
        return FormatError.at(self.path, problem, place)

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
        """Pass over ``character`` if it comes next; tells whether it did."""
        comes = self.peek() == character
        self._position += comes
        return comes

    def take(self, character: str, where: str) -> None:
        """Pass over ``character``, which must come next."""
        if not self.skip(character):
            found = repr(self.peek()) if self.peek() else "the end of the file"
            raise self.error(f"expected {character!r}, found {found}", where)

    def value(self, where: str) -> Any:
        """Take the JSON value that comes next."""
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
            except ValueError as error:
                raise self.error(str(error), where) from error
            else:
                # A number near the end of the buffer may go on in the file.
                complete = self._buffer[end : end + 1] not in _NUMBER_PARTS
                if complete or too_long or not self._read_more():
                    self._position = end
                    return value

    def _read_more(self) -> bool:
        more = self._file.read(_CHUNK)
        self._dropped += self._position
        self._buffer = self._buffer[self._position :] + more
        self._position = 0
        return bool(more)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {_short(twice)} occurs twice in one object")
    return mapping


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_no_constant)


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", type(None): "null"}
    return names.get(type(value), f"{_short(value)} ({type(value).__name__})")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
