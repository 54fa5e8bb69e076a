"""Retrofit: condition a network that knows nothing of conditioning, and undo it."""

from featurewise.retrofit.calls import checkpoint_context
from featurewise.retrofit.conditioned import Conditioned, condition
from featurewise.retrofit.errors import CallError, SiteWarning
from featurewise.retrofit.select import Selector, Where, select

__all__ = [
    "CallError",
    "Conditioned",
    "Selector",
    "SiteWarning",
    "Where",
    "checkpoint_context",
    "condition",
    "select",
]
