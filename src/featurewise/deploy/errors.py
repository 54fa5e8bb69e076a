"""Exceptions of deployment, in addition to those of core, generators and retrofit."""

from __future__ import annotations

from featurewise.core import FeaturewiseError


class BankError(FeaturewiseError, ValueError):
    """A bank cannot be created from these conditions, or its file is damaged."""


class PrecomputeError(FeaturewiseError, ValueError):
    """Modules cannot be replaced by rows: their outputs depend on more than the condition."""
