"""Deployment: bake one condition into weights, store many in a bank, precompute projections."""

from featurewise.deploy.bake import Baked, BakeReport, bake
from featurewise.deploy.bank import Bank, BankReport, Mixture, bank
from featurewise.deploy.errors import BankError, PrecomputeError
from featurewise.deploy.precompute import precompute

__all__ = [
    "BakeReport",
    "Baked",
    "Bank",
    "BankError",
    "BankReport",
    "Mixture",
    "PrecomputeError",
    "bake",
    "bank",
    "precompute",
]
