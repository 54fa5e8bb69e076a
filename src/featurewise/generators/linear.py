"""``Linear``: one linear map from a condition to all parameters, the default generator."""

from __future__ import annotations

from featurewise.generators.base import Generator, positive


class Linear(Generator):
    """Condition vector -> parameters, by one linear map (Perez et al. 2018, section 2.2).

    Conditions are ``(F,)``, ``(B, F)`` or ``(B, F, *positions)``.

    Args:
        in_features: width F of the condition.

    Raises:
        GeneratorError: if ``in_features`` is below 1.
        ArgumentTypeError: if it is not an integer.
    """

    def __init__(self, in_features: int) -> None:
        super().__init__(None, positive(in_features, "in_features"))
