"""Exceptions of the library. Messages state what was wrong and what is expected."""

from __future__ import annotations

from featurewise.common.text import printable


class FeaturewiseError(Exception):
    """Base of all errors raised by featurewise.

    Messages may quote untrusted text, such as the name of a file. Control characters are escaped,
    so that they cannot change a terminal.
    """

    def __str__(self) -> str:
        return printable(super().__str__(), lines=True)


class ShapeError(FeaturewiseError, ValueError):
    """A tensor, an axis or a width does not fit its site."""


class ArgumentTypeError(FeaturewiseError, TypeError):
    """An argument has a wrong type, dtype or device."""


class LayoutError(FeaturewiseError, ValueError):
    """Names or layouts do not match."""


class OperationError(FeaturewiseError, ValueError):
    """An operation has invalid settings, or does not support the requested use."""
