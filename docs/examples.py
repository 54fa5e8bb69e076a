"""For the reference pages: show the ``Example:`` of a docstring as the code it is."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """The parser of docstrings takes ``Examples:`` for code, and ``Example:`` for a remark."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called with everything that has been read."""
        if obj.docstring:
            text = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.M)
            # Marks for doctest are no news to a reader.
            obj.docstring.value = re.sub(r" *# doctest: .*", "", text)
