"""Exceptions of the generators, in addition to those of the core."""

from __future__ import annotations

from featurewise.core import FeaturewiseError


class GeneratorError(FeaturewiseError, ValueError):
    """A generator has invalid settings."""


class ConditionError(FeaturewiseError, ValueError):
    """A condition is missing or superfluous, or its generator does not accept its values."""


class LimitError(GeneratorError):
    """A description exceeds the limits to parts, layers or numbers."""
