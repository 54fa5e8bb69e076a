"""The gate for facts from files: whatever a parser raises there becomes an error of ours."""

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
        path: what is read.
        error: message -> exception, for all that is foreign.
        own: types that say what was wrong already: they stay, and the path is put before their
            message where it is not there.
        what: begins the reason, for what is foreign.

    Raises:
        Exception: what ``error`` makes, or one of ``own``.
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
    """What a foreign exception says, on one line, not too long; with its type unless it is ours."""
    text = str(found)
    text = printable(text if len(text) <= 300 else f"{text[:297]}...")
    plain = type(found) is ValueError or type(found).__module__.startswith("featurewise.")
    return text if plain and text else f"{type(found).__name__}: {text}"
