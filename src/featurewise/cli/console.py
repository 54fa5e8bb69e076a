"""The terminal as commands write to it: what files are called cannot steer it."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from featurewise.common.text import printable


class Terminal(Console):
    """A console that writes out control characters, in plain text and in the cells of tables."""

    def render_str(self, text: str, **options: Any) -> Text:
        """The text as it is shown; see `rich.console.Console.render_str`."""
        return super().render_str(printable(text, lines=True), **options)
