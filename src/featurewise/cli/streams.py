"""Output streams: results go to standard output, everything else to standard error.

Characters that the encoding of a terminal lacks are replaced by others that it has.
"""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata
import warnings
from pathlib import Path
from typing import TextIO

from featurewise.cli.console import Terminal

_PLAIN = {
    "█": "#",
    "–": "-",
    "—": "-",
    "→": "->",
    "×": "x",
    "≤": "<=",
    "≥": ">=",
    "…": "...",
    "✓": "+",
}
_NAME = "featurewise"


def notes() -> Terminal:
    """Console on standard error, for progress, warnings and errors."""
    return Terminal(stderr=True, highlight=False, soft_wrap=True)


def spell_out(text: str) -> str:
    """The text in ASCII: ``γ`` becomes ``gamma``, ``é`` becomes ``e``, unknown characters ``?``."""
    return "".join(map(_letter, text))


def _letter(letter: str) -> str:
    if letter.isascii() or letter in _PLAIN:
        return _PLAIN.get(letter, letter)
    name = unicodedata.name(letter, "")
    if name.startswith("GREEK "):
        word = name.split()[-1].lower()
        return word.capitalize() if "CAPITAL" in name else word
    plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return plain or "?"


def _spelled(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return spell_out(error.object[error.start : error.end]), error.end


def accept_any_terminal() -> None:
    """Makes the standard streams replace characters that their encoding lacks, not raise."""
    codecs.register_error(_NAME, _spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_NAME)


def plain_warnings() -> None:
    """Makes warnings of this library one line on standard error, without the place in its code."""
    usual = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if not Path(filename).is_relative_to(Path(__file__).parents[1]):
            usual(message, category, filename, lineno, file, line)
            return
        console = notes()
        console.print("[bold yellow]warning:[/]", end=" ")
        console.print(str(message), markup=False)

    warnings.showwarning = show
