"""Patterns of dotted names: ``*`` within one component, ``**`` for any number of components."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from featurewise.core.errors import ArgumentTypeError, LayoutError


def expression(pattern: str) -> str:
    """Regular expression of a pattern, for whole names."""
    parts = pattern.split(".")
    text = ""
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        if part == "*":
            text += "[^.]+" + ("" if last else r"\.")  # no part of a name is empty
        elif part == "**":
            text += r"(?:[^.]+(?:\.[^.]+)*)?" if last else r"(?:[^.]+\.)*"
        else:
            text += re.escape(part).replace(r"\*", "[^.]*") + ("" if last else r"\.")
    # "a.**" also matches "a" itself.
    return text.replace(r"\.(?:[^.]+(?:\.[^.]+)*)?", r"(?:\.[^.]+)*")


def matching(at: str | Sequence[str] | None, names: Iterable[str]) -> list[str]:
    """Names that match a pattern, or any of several patterns; all names for None.

    Args:
        at: one pattern, several, or None.
        names: all names; the result keeps their order.

    Raises:
        LayoutError: if a pattern matches nothing, or there is no pattern.
        ArgumentTypeError: if a pattern is not a string.
    """
    names = list(names)
    if at is None:
        return names
    patterns = [at] if isinstance(at, str) or not isinstance(at, Sequence) else list(at)
    if not patterns:
        raise LayoutError("at must hold at least one pattern, got none")
    found: set[str] = set()
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise ArgumentTypeError(f"at takes patterns of names, got {type(pattern).__name__}")
        compiled = re.compile(expression(pattern))
        matched = [name for name in names if compiled.fullmatch(name)]
        if not matched:
            near = difflib.get_close_matches(pattern, names, n=5, cutoff=0.4) or names[:5]
            raise LayoutError(
                f"no site matches {pattern!r}; near names: {', '.join(near) or 'none'}"
            )
        found.update(matched)
    return [name for name in names if name in found]
