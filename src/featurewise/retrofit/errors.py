"""Exceptions and warnings of the retrofit, beside those of the core."""

from __future__ import annotations

from featurewise.core import FeaturewiseError


class CallError(FeaturewiseError, RuntimeError):
    """A conditioned network was run in a way that cannot be served exactly."""


class SavingError(FeaturewiseError, ValueError):
    """A conditioner cannot be written there, or what was read is none or is damaged."""


class FormatError(SavingError):
    """A conditioner is sound, but of a format that this version does not read."""


class BackboneError(FeaturewiseError, ValueError):
    """A conditioner belongs to another network; the message names the difference."""


class SiteWarning(UserWarning):
    """A site was not reached by a call: its parameters changed nothing."""
