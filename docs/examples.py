"""For the reference pages: show the ``Example:`` of a docstring as code."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """The docstring parser formats ``Examples:`` as code, but ``Example:`` as a note."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every parsed object."""
        if obj.docstring:
            text = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.M)
            # Directives of doctest are of no use to readers.
            obj.docstring.value = re.sub(r" *# doctest: .*", "", text)
