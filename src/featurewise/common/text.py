"""Text from strangers on its way to a terminal or a page."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

#: Controls, formats (which turn the direction of what follows), surrogates, line separators.
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_MARKUP: Final = re.compile(r"[\\`*{}\[\]<>|~&]")


def printable(text: object, *, lines: bool = False) -> str:
    r"""A text whose invisible characters are written out: an escape becomes ``\x1b``.

    Args:
        text: of anybody: a file name, a message.
        lines: whether new lines stay.
    """
    found = str(text)
    if found.isascii() and found.isprintable():
        return found
    return "".join(letter if letter == "\n" and lines else _shown(letter) for letter in found)


def _shown(letter: str) -> str:
    if unicodedata.category(letter) not in _HIDDEN:
        return letter
    code = ord(letter)
    return (
        f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    )


def markdown(text: object) -> str:
    """A text that Markdown, and HTML in it, show as it is.

    Args:
        text: of anybody; put on one line.
    """
    return _MARKUP.sub(_entity, printable(" ".join(str(text).split("\n"))))


def code(text: object) -> str:
    """A name as Markdown shows code, also in a table; ``markdown`` where that would not hold it."""
    plain = str(text)
    simple = plain and printable(plain) == plain and not re.search(r"[`|<>&\\]", plain)
    return f"`{plain}`" if simple else f"<code>{markdown(text)}</code>"


def _entity(found: re.Match[str]) -> str:
    # An entity means the same in text, table cells, link texts and code that is none.
    return f"&#{ord(found[0])};"


def short(value: object) -> str:
    """A value as Python writes it, on one line, all of it or the beginning of what is long."""
    try:
        text = repr(value)
    except ValueError:  # Python writes out no integer of more than 4300 digits
        return f"an integer of {value.bit_length()} bits" if isinstance(value, int) else "a value"
    return printable(text if len(text) <= 80 else f"{text[:77]}...")
