"""Exceptions and warnings of the retrofit, beside those of the core."""

from __future__ import annotations

from featurewise.core import FeaturewiseError


class CallError(FeaturewiseError, RuntimeError):
    """A conditioned network was run in a way that cannot be served exactly."""


class SiteWarning(UserWarning):
    """A site was not reached by a call: its parameters changed nothing."""
