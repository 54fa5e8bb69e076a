"""Checks of arguments that sources of small tasks share."""

from __future__ import annotations

from featurewise.worlds.small.errors import SmallWorldError


def at_least_one(value: int, name: str) -> int:
    """``value``, if it is 1 or more.

    Raises:
        SmallWorldError: it is less; the message contains ``name``.
    """
    if value < 1:
        raise SmallWorldError(f"{name} must be 1 or more, got {value}")
    return value


def check_split(split: str) -> None:
    """Raises SmallWorldError unless ``split`` is "train" or "test"."""
    if split not in ("train", "test"):
        raise SmallWorldError(f"split must be 'train' or 'test', got {split!r}")
