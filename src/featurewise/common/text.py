"""Escaping of untrusted text for terminals and pages."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

#: Unicode categories: control and format characters (such as changes of direction), surrogates,
#: unassigned characters, line separators.
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_MARKUP: Final = re.compile(r"[\\`*{}\[\]<>|~&]")


def printable(text: object, *, lines: bool = False) -> str:
    r"""A text whose invisible characters are escaped: an escape character becomes ``\x1b``.

    Args:
        text: untrusted text, such as a file name or a message.
        lines: whether newlines are kept.
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
    """A text, escaped so that Markdown and HTML show it literally.

    Args:
        text: untrusted text; newlines become spaces.
    """
    return _MARKUP.sub(_entity, printable(" ".join(str(text).split("\n"))))


def code(text: object) -> str:
    """A name as inline code in Markdown, also in a table; as HTML if it has special characters."""
    plain = str(text)
    simple = plain and printable(plain) == plain and not re.search(r"[`|<>&\\]", plain)
    return f"`{plain}`" if simple else f"<code>{markdown(text)}</code>"


def _entity(found: re.Match[str]) -> str:
    # Entities work in text, table cells and link texts.
    return f"&#{ord(found[0])};"


def short(value: object) -> str:
    """``repr`` of a value on one line, truncated to 80 characters."""
    try:
        text = repr(value)
    except ValueError:  # Python does not print integers of more than 4300 digits
        return f"an integer of {value.bit_length()} bits" if isinstance(value, int) else "a value"
    return printable(text if len(text) <= 80 else f"{text[:77]}...")
