"""Console of the commands: control characters, as in file names, are printed as escapes."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from featurewise.common.text import printable


class Terminal(Console):
    """A console that escapes control characters, in plain text and in the cells of tables."""

    def render_str(self, text: str, **options: Any) -> Text:
        """The escaped text; see `rich.console.Console.render_str`."""
        return super().render_str(printable(text, lines=True), **options)
