"""FiLM parameters as a table, for plots of γ and β (Perez et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from featurewise.core import LayoutError, Site, TaskRepresentation

ParameterMatrices = Mapping[tuple[str, str], Float[Tensor, "B F"]]
"""(Site, parameter) -> effective values of B conditions; F may differ."""

QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Levels of `parameter_quantiles`."""

ParameterQuantiles = Mapping[tuple[str, str], Sequence[float]]
"""(Site, parameter) -> one value for each level of `QUANTILES`."""


@dataclass(frozen=True)
class ParameterTable:
    """Effective γ and β of many conditions, one row for each (condition, feature).

    Attributes:
        sites: names of the sites.
        site: index into ``sites`` of each row.
        feature: index of the feature within its site.
        condition: index of the condition.
        gamma: the effective scale (not its offset from one).
        beta: the shift.
    """

    sites: tuple[str, ...]
    site: Int64[Tensor, "R"]
    feature: Int64[Tensor, "R"]
    condition: Int64[Tensor, "R"]
    gamma: Float[Tensor, "R"]
    beta: Float[Tensor, "R"]

    def at(self, site: str) -> ParameterTable:
        """The rows of one site.

        Raises:
            LayoutError: if the table has no such site.
        """
        if site not in self.sites:
            raise LayoutError(f"no site '{site}' in the table; it has {', '.join(self.sites)}")
        keep = self.site == self.sites.index(site)
        return ParameterTable(
            self.sites,
            self.site[keep],
            self.feature[keep],
            self.condition[keep],
            self.gamma[keep],
            self.beta[keep],
        )

    def summary(self) -> dict[str, float]:
        """Statistics of the paper: extremes, and the shares of γ < 0, |γ| < 0.1 and β < 0."""
        return {
            "gamma_min": float(self.gamma.min()),
            "gamma_max": float(self.gamma.max()),
            "beta_min": float(self.beta.min()),
            "beta_max": float(self.beta.max()),
            "gamma_negative": float((self.gamma < 0).double().mean()),
            "gamma_near_zero": float((self.gamma.abs() < 0.1).double().mean()),
            "beta_negative": float((self.beta < 0).double().mean()),
        }


def is_feature_parameter(site: Site, name: str) -> bool:
    """Whether a parameter of a site's operation has one value for each of its features.

    γ and β have; rows and columns of positions have not, and neither have factors of matrices.

    Args:
        site: the site.
        name: of the parameter.
    """
    # A row of as many positions as there are features has the same shape, hence another width.
    wider = site.operation.parameters(site.width + 1, site.extent)
    shapes = site.parameters[name].shape, wider[name].shape
    return shapes == ((site.width,), (site.width + 1,))


def parameter_matrices(task: TaskRepresentation) -> dict[tuple[str, str], Float[Tensor, "B F"]]:
    """The effective parameters of a batch of task representations, of any operation.

    Args:
        task: ``(B, N)``.

    Returns:
        (Site, parameter) -> float32 values on the CPU. A parameter of several values a feature,
        such as a factor of a low-rank matrix, has them in one row.

    Raises:
        LayoutError: the representation is not ``(B, N)``, is of no condition, or has no sites.
    """
    if task.flat.ndim != 2 or not len(task):
        raise LayoutError(f"expected a batch of task representations (B, N), got {task}")
    found = {
        (site, name): values.float().cpu().reshape(len(task), -1)
        for site, parameters in task.detach().effective().items()
        for name, values in parameters.items()
    }
    if not found:
        raise LayoutError("the task representation has no sites")
    return found


def parameter_quantiles(task: TaskRepresentation) -> dict[tuple[str, str], list[float]]:
    """How effective parameters are distributed over conditions and features, for a log of training.

    Args:
        task: ``(B, N)``, of any operation.

    Returns:
        (Site, parameter) -> the nearest value to each level of `QUANTILES`.

    Raises:
        LayoutError: the representation is not ``(B, N)``, is of no condition, or has no sites.
    """
    found = {}
    for key, values in parameter_matrices(task).items():
        ordered = values.flatten().sort().values
        places = [round(level * (len(ordered) - 1)) for level in QUANTILES]
        found[key] = [float(value) for value in ordered[places]]
    return found


def parameter_table(task: TaskRepresentation) -> ParameterTable:
    """The table of a batch of task representations whose sites are affine.

    Args:
        task: ``(B, N)``; every site must have one γ and one β per feature.

    Raises:
        LayoutError: if a site has other parameters, or the representation is not ``(B, N)``.
    """
    if task.flat.ndim != 2:
        raise LayoutError(f"expected a batch of task representations (B, N), got {task}")
    columns: list[tuple[Tensor, ...]] = []
    for index, (name, values) in enumerate(task.detach().effective().items()):
        if set(values) != {"gamma", "beta"}:
            raise LayoutError(f"site '{name}' has {sorted(values)}, not gamma and beta")
        batch, width = values["gamma"].shape
        condition, feature = torch.meshgrid(torch.arange(batch), torch.arange(width), indexing="ij")
        columns.append(
            (
                torch.full((batch * width,), index),
                feature.reshape(-1),
                condition.reshape(-1),
                values["gamma"].float().cpu().reshape(-1),
                values["beta"].float().cpu().reshape(-1),
            )
        )
    if not columns:
        raise LayoutError("the task representation has no sites")
    return ParameterTable(task.layout.names, *(torch.cat(c) for c in zip(*columns, strict=True)))
