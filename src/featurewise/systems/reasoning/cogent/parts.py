"""What settings have to be so that a generator can be compared or fine-tuned."""

from __future__ import annotations

from typing import Final

from featurewise.training.errors import ExperimentError

PARTS: Final = 16
"""Accuracy is also measured after this part of the fine-tuning, in whole steps."""


def require_parts(name: str, scenes: int, per_step: int) -> None:
    """Raise unless fine-tuning has a step for each of `PARTS`.

    Args:
        name: of the setting.
        scenes: its value, of all steps together.
        per_step: scenes in a step.

    Raises:
        ExperimentError: there are fewer steps.
    """
    if scenes < PARTS * per_step:
        raise ExperimentError(
            f"{name} must be at least {PARTS} times scenes_per_step, {PARTS * per_step}, as "
            f"accuracy is measured after 1/{PARTS} of the steps, too; got {scenes}"
        )


def require_conditioned(conditioned: int | None) -> None:
    """Raise where no block is conditioned, so that there is no generator.

    Raises:
        ExperimentError: the number of conditioned blocks is 0.
    """
    if conditioned == 0:
        raise ExperimentError(
            "conditioned must be 1 or more: without it there is no generator"
        )
