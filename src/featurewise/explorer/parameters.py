"""Parameters of an explorer page: values by site, statistics, and their course over training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from featurewise import analysis
from featurewise.analysis import ParameterMatrices, ParameterQuantiles
from featurewise.common.rng import seeded_rng
from featurewise.core import TaskRepresentation
from featurewise.explorer import schema
from featurewise.explorer.bundle import ExplorerError


def titled(task: TaskRepresentation, matrices: ParameterMatrices) -> ParameterMatrices:
    """The matrices; a parameter that has not one value a feature stands at a site of its own."""
    return {
        (_title(task, site, parameter), parameter): values
        for (site, parameter), values in matrices.items()
    }


def _title(task: TaskRepresentation, site: str, parameter: str) -> str:
    whole = analysis.is_feature_parameter(task.layout[site], parameter)
    return site if whole else f"{site} ({parameter})"


def sites(
    task: TaskRepresentation,
    matrices: ParameterMatrices,
    shown: Int64[Tensor, "n"],
    most: int,
    separations: Sequence[schema.Separation],
    seed: int,
    arrays: dict[str, Tensor],
) -> list[schema.SiteValues]:
    """Values of each site; the features that separate best are among those that are shown."""
    if most < 1:
        raise ExplorerError(f"features must be at least 1, got {most}")
    origin = _origin(task)
    origins = titled(origin, analysis.parameter_matrices(origin))
    operations = {site.name: type(site.operation).__name__ for site in task.layout}
    found = []
    for title in dict.fromkeys(site for site, _ in matrices):
        own = {name: values for (site, name), values in matrices.items() if site == title}
        width = next(iter(own.values())).shape[1]
        needed = {each.feature for each in separations if each.site == title}
        order = torch.randperm(width, generator=seeded_rng(seed, f"explored features of {title}"))
        others = [number for number in order.tolist() if number not in needed]
        numbers = torch.tensor(sorted([*needed, *others[: max(0, most - len(needed))]]))
        parameters = []
        for name, values in own.items():
            key = f"sites/{title}/{name}"
            arrays[key] = values[shown][:, numbers].contiguous()
            starts = set(origins[title, name][0].tolist())
            start = starts.pop() if len(starts) == 1 else None
            parameters.append(schema.Parameter(name=name, origin=start, array=key))
        operation = operations.get(title) or operations[title.rpartition(" (")[0]]
        found.append(
            schema.SiteValues(
                name=title,
                operation=operation,
                features=schema.Count(shown=len(numbers), total=width),
                numbers=numbers.tolist(),
                parameters=parameters,
            )
        )
    return found


def _origin(task: TaskRepresentation) -> TaskRepresentation:
    """Raw parameters of 0."""
    return TaskRepresentation(task.layout, torch.zeros_like(task.flat[:1]))


def statistics(matrices: ParameterMatrices) -> list[schema.ParameterStatistics]:
    """Over all conditions, of each parameter of each site."""
    return [
        schema.ParameterStatistics(
            site=site,
            parameter=parameter,
            explained=analysis.explained_share(values) if len(values) > 1 else 0.0,
            negative=float((values < 0).double().mean()),
            minimum=float(values.min()),
            maximum=float(values.max()),
        )
        for (site, parameter), values in matrices.items()
    ]


def axes(matrices: ParameterMatrices) -> list[schema.AxesStatistics]:
    """Main axes of the scatters of γ and β, of each site that has both."""
    found = []
    for (site, parameter), gamma in matrices.items():
        beta = matrices.get((site, "beta"))
        if parameter != "gamma" or beta is None or len(gamma) < 2:
            continue
        varying = ((gamma != gamma[:1]) | (beta != beta[:1])).any(0)
        if not varying.any():
            continue
        quarter = (analysis.axis_angles(gamma, beta)[varying] / 45).long().clamp(max=3)
        shares = quarter.bincount(minlength=4).double() / len(quarter)
        found.append(schema.AxesStatistics(site=site, quarters=shares.tolist()))
    return found


def check_histories(
    matrices: ParameterMatrices, histories: Mapping[int, ParameterQuantiles]
) -> None:
    """Raise an `ExplorerError` unless the histories are of the parameters of a network."""
    for step, quantiles in histories.items():
        for key, values in quantiles.items():
            if key not in matrices:
                site, parameter = key
                raise ExplorerError(
                    f"histories: step {step} has {parameter} of site '{site}', which the network "
                    "does not have"
                )
            if len(values) != len(analysis.QUANTILES) or not all(map(math.isfinite, values)):
                raise ExplorerError(
                    f"histories: step {step} needs {len(analysis.QUANTILES)} finite quantiles, as "
                    "analysis.parameter_quantiles returns them"
                )
        if missing := matrices.keys() - quantiles.keys():
            site, parameter = min(missing)
            raise ExplorerError(f"histories: step {step} lacks {parameter} of site '{site}'")


def over_training(
    task: TaskRepresentation,
    histories: Mapping[int, ParameterQuantiles],
    arrays: dict[str, Tensor],
) -> list[schema.History]:
    """Quantiles of each parameter at the steps of training at which they were recorded."""
    steps = sorted(histories)
    found = []
    for key in histories[steps[0]] if steps else ():
        name = f"histories/{_title(task, *key)}/{key[1]}"
        arrays[name] = torch.tensor([list(histories[step][key]) for step in steps])
        found.append(
            schema.History(
                site=_title(task, *key),
                parameter=key[1],
                steps=steps,
                levels=list(analysis.QUANTILES),
                array=name,
            )
        )
    return found
