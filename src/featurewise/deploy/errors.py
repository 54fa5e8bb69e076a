"""Exceptions of deployment, beside those of the rooms below."""

from __future__ import annotations

from featurewise.core import FeaturewiseError


class BankError(FeaturewiseError, ValueError):
    """A bank cannot be made of these conditions, or its file is damaged."""


class PrecomputeError(FeaturewiseError, ValueError):
    """Modules cannot be replaced by rows, because something else than the condition enters."""
