"""The library's own exceptions: every message names what was wrong and what would be right."""

from __future__ import annotations


class FeaturewiseError(Exception):
    """Base of all errors raised by featurewise."""


class ShapeError(FeaturewiseError, ValueError):
    """A tensor, an axis or a width does not fit the site it is meant for."""


class KindError(FeaturewiseError, TypeError):
    """An argument is of the wrong kind: not a tensor, not floating point, on another device."""


class LayoutError(FeaturewiseError, ValueError):
    """Names or layouts do not belong together."""


class OperationError(FeaturewiseError, ValueError):
    """An operation was configured with values it cannot have, or cannot do what is asked."""
