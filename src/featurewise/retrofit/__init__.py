"""Retrofit: condition a network that knows nothing of conditioning, and undo it."""

from featurewise.retrofit.adapt import adapt
from featurewise.retrofit.advice import Advice, advice
from featurewise.retrofit.bake import Baked, BakeReport, bake
from featurewise.retrofit.bank import Bank, BankReport, Mixture, bank
from featurewise.retrofit.calls import checkpoint_context
from featurewise.retrofit.conditioned import Conditioned, condition
from featurewise.retrofit.errors import (
    BackboneError,
    BankError,
    CallError,
    FormatError,
    SavingError,
    SiteWarning,
    TabulationError,
)
from featurewise.retrofit.guidance import guide
from featurewise.retrofit.select import Selection, Selector, Where, resolve, select
from featurewise.retrofit.tabulate import tabulate

__all__ = [
    "Advice",
    "BackboneError",
    "BakeReport",
    "Baked",
    "Bank",
    "BankError",
    "BankReport",
    "CallError",
    "Conditioned",
    "FormatError",
    "Mixture",
    "SavingError",
    "Selection",
    "Selector",
    "SiteWarning",
    "TabulationError",
    "Where",
    "adapt",
    "advice",
    "bake",
    "bank",
    "checkpoint_context",
    "condition",
    "guide",
    "resolve",
    "select",
    "tabulate",
]
