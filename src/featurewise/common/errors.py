"""Conversion of errors from parsers of files into errors of the library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from featurewise.common.text import printable


@contextmanager
def wrap_errors(
    path: str | Path,
    error: Callable[[str], Exception],
    *own: type[Exception],
    what: str = "is damaged",
) -> Iterator[None]:
    """Turn every exception raised inside into one whose message begins with the path.

    Args:
        path: the file or folder that is read.
        error: message -> exception; used for exceptions of other types than ``own``.
        own: types whose messages state the problem already; they keep their type, and the path is
            added to messages that do not begin with it.
        what: first words of the reason, for exceptions of other types.

    Raises:
        Exception: the result of ``error``, or one of ``own``.
    """
    try:
        yield
    except own as found:
        if str(found).startswith((str(path), printable(path, lines=True))):
            raise
        raise type(found)(f"{path}: {found}") from found
    except OSError as found:
        raise error(f"{path}: cannot be read: {found.strerror or found}") from found
    except Exception as found:
        raise error(f"{path}: {what}: {error_text(found)}") from found


def error_text(found: Exception) -> str:
    """Message of an exception, on one line, shortened; with its type, except for our own errors."""
    text = str(found)
    text = printable(text if len(text) <= 300 else f"{text[:297]}...")
    plain = type(found) is ValueError or type(found).__module__.startswith("featurewise.")
    return text if plain and text else f"{type(found).__name__}: {text}"
