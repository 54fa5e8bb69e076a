"""Parameters over training: quantiles of γ and β, site by site, recorded in a run's log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from featurewise.analysis import QUANTILES, ParameterQuantiles, parameter_quantiles
from featurewise.common.modes import evaluating
from featurewise.core import TaskRepresentation
from featurewise.study.recording import conditioned_part, recorded_call
from featurewise.training.batch import to_device
from featurewise.training.loop import OBSERVED


def observed_quantiles(networks: Iterable[nn.Module], batch: Any) -> dict[str, float]:
    """Quantiles of the parameters that a network, in eval mode, gives the conditions of a batch.

    Args:
        networks: those that a stepper trains; the first that is conditioned by a generator is
            observed.
        batch: a batch of training data.

    Returns:
        "level parameter site", as in "0.5 gamma blocks.0.norm" -> the quantile of effective values
        over conditions and features; empty if no network is conditioned, if it does not use the
        condition of this batch, or if its representations are not (B, N).
    """
    for network in networks:
        part = conditioned_part(network)
        if part is None:
            continue
        device = next((p.device for p in network.parameters()), torch.device("cpu"))
        with evaluating(network):
            call = recorded_call(network, part, to_device(batch, device))
        if call is None or call[1].ndim != 2:
            return {}
        found = parameter_quantiles(TaskRepresentation(part.layout, call[1]))
        return {
            f"{level} {parameter} {site}": value
            for (site, parameter), values in found.items()
            for level, value in zip(QUANTILES, values, strict=True)
        }
    return {}


def logged_quantiles(records: Iterable[Mapping[str, Any]]) -> dict[int, ParameterQuantiles]:
    """Step -> quantiles of parameters, from the records of a log; empty for one without them.

    Args:
        records: see `featurewise.training.metrics.read_metrics`.
    """
    found: dict[int, ParameterQuantiles] = {}
    for record in records:
        if record["kind"] != OBSERVED:
            continue
        values: dict[tuple[str, str], list[float]] = {}
        for name, value in record.items():
            if name not in ("step", "kind"):
                _, parameter, site = name.split(" ", 2)
                values.setdefault((site, parameter), []).append(float(value))
        found[int(record["step"])] = values
    return found
