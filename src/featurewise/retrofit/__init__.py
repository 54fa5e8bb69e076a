"""Retrofit: condition an existing network without changing its code, and undo it."""

from featurewise.retrofit.adapt import adapt
from featurewise.retrofit.advice import Advice, advice
from featurewise.retrofit.calls import checkpoint_context
from featurewise.retrofit.conditioned import Conditioned, condition
from featurewise.retrofit.errors import (
    BackboneError,
    CallError,
    FormatError,
    SavingError,
    SiteWarning,
)
from featurewise.retrofit.guidance import guide
from featurewise.retrofit.select import Selection, Selector, Where, resolve, select

__all__ = [
    "Advice",
    "BackboneError",
    "CallError",
    "Conditioned",
    "FormatError",
    "SavingError",
    "Selection",
    "Selector",
    "SiteWarning",
    "Where",
    "adapt",
    "advice",
    "checkpoint_context",
    "condition",
    "guide",
    "resolve",
    "select",
]
