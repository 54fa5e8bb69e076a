"""Errors about pretrained weights."""


class WeightsError(ValueError):
    """Weights are not in the cache, or a file of weights is missing, damaged or another one.

    The message says where, and which command remedies it.
    """
