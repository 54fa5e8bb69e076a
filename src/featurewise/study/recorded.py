"""What the explorer shows of a system that says nothing of its own: conditions of its batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featurewise.core import TaskRepresentation
from featurewise.study.exploration import Exploration
from featurewise.study.recording import conditioned_part, recorded_call
from featurewise.study.system import ConfigT, System
from featurewise.training.errors import ExperimentError

CONDITIONS: Final = 1_000
_BATCHES: Final = 100
_SEED: Final = 79_000
_COLUMNS: Final = 6
"""Most columns of a condition that are labels of their own."""


def recorded(
    system: System[ConfigT], network: nn.Module, config: ConfigT, *, conditions: int = CONDITIONS
) -> Exploration:
    """Task representations of the conditions in batches of a system's training data.

    The batches are of a seed that no run has. Whole numbers in them, one for each condition, become
    labels, and so do a condition's own columns where they are few.

    Args:
        system: its record.
        network: trained, in eval mode.
        config: of its run.
        conditions: number of conditions, fewer where a hundred batches hold fewer.

    Raises:
        ExperimentError: no part of the network is conditioned, or its task representations are not
            one for each sample.
    """
    conditioned = conditioned_part(network)
    if conditioned is None:
        raise ExperimentError(
            f"{system.name}: no part of this network is conditioned by a generator; explore a run "
            "of another arm"
        )
    source = system.data(config, _SEED)
    tasks: list[Tensor] = []
    labels: dict[str, list[Any]] = {}
    for index in range(_BATCHES):
        batch = source.batch(index)
        call = recorded_call(network, conditioned, batch)
        if call is None:
            raise ExperimentError(f"{system.name}: its network does not use its condition")
        condition, flat = call
        if flat.ndim != 2:
            raise ExperimentError(
                f"{system.name}: has task representations of shape {tuple(flat.shape)}; the "
                "explorer shows one for each sample, (B, N)"
            )
        tasks.append(flat)
        for name, values in _labels(batch, condition, len(flat)).items():
            labels.setdefault(name, []).extend(values)
        if sum(map(len, tasks)) >= conditions:
            break
    task = TaskRepresentation(conditioned.layout, torch.cat(tasks)[:conditions])
    return Exploration(
        task=task,
        title=system.prose.title,
        data=f"{len(task):,} conditions of batches as in training, of a seed that no run has.",
        labels={
            name: values[: len(task)]
            for name, values in labels.items()
            if len(values) == sum(map(len, tasks))  # a last batch may lack a label
        },
    )


def _labels(batch: Any, condition: Any, count: int) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    if isinstance(condition, Tensor) and condition.shape[:1] == (count,):
        found.update(_columns(condition.detach().flatten(1) if condition.ndim > 1 else condition))
    for name, values in _fields(batch).items():
        whole = isinstance(values, Tensor) and values.shape == (count,)
        if whole and not values.is_floating_point():
            found[name.replace("_", " ")] = values.tolist()
    return found


def _columns(condition: Tensor) -> dict[str, list[Any]]:
    """Labels of a condition itself: a class, or a few numbers."""
    if condition.ndim == 1:
        return {"condition": condition.tolist()}
    if _is_one_hot(condition):
        return {"condition": condition.argmax(1).tolist()}
    if condition.shape[1] > _COLUMNS:
        return {}
    columns = condition.T.tolist()
    return {f"condition {number}": values for number, values in enumerate(columns)}


def _is_one_hot(values: Float[Tensor, "B K"] | Tensor) -> bool:
    ones = values == 1
    return bool((ones.sum(1) == 1).all() and ((values == 0) | ones).all())


def _fields(batch: Any) -> Mapping[str, Any]:
    if is_dataclass(batch):
        return {each.name: getattr(batch, each.name) for each in fields(batch)}
    return batch if isinstance(batch, Mapping) else {}
