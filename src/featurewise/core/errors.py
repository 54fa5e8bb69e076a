"""The library's own exceptions: every message names what was wrong and what would be right."""

from __future__ import annotations

from featurewise.common.text import printable


class FeaturewiseError(Exception):
    """Base of all errors raised by featurewise.

    What a message quotes may be anybody's, such as the name of a file: characters that would steer
    a terminal are written out.
    """

    def __str__(self) -> str:
        return printable(super().__str__(), lines=True)


class ShapeError(FeaturewiseError, ValueError):
    """A tensor, an axis or a width does not fit the site it is meant for."""


class ArgumentTypeError(FeaturewiseError, TypeError):
    """An argument is of the wrong kind: not a tensor, not floating point, on another device."""


class LayoutError(FeaturewiseError, ValueError):
    """Names or layouts do not belong together."""


class OperationError(FeaturewiseError, ValueError):
    """An operation was configured with values it cannot have, or cannot do what is asked."""
