"""Exceptions of the generators, beside those of the core."""

from __future__ import annotations

from featurewise.core import FeaturewiseError


class GeneratorError(FeaturewiseError, ValueError):
    """A generator was configured with values it cannot have."""


class ConditionError(FeaturewiseError, ValueError):
    """A condition is missing, superfluous, or holds values that its generator cannot take."""


class LimitError(GeneratorError):
    """A description asks for more parts, layers or numbers than are made from a file."""
