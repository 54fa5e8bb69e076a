"""Exceptions and warnings of retrofit, in addition to those of the core."""

from __future__ import annotations

from featurewise.core import FeaturewiseError


class CallError(FeaturewiseError, RuntimeError):
    """A conditioned network was called in a way that would give a wrong result."""


class SavingError(FeaturewiseError, ValueError):
    """A conditioner cannot be written, or the files read are not one or are damaged."""


class FormatError(SavingError):
    """The files of a conditioner are intact, but of a format that this version does not read."""


class BackboneError(FeaturewiseError, ValueError):
    """A conditioner belongs to another network; the message names the difference."""


class SiteWarning(UserWarning):
    """A site was not reached by a call: its parameters changed nothing."""
