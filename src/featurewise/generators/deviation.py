"""``deviation``: distance of a task representation from the unmodified network."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from featurewise.common.text import short
from featurewise.core import (
    ArgumentTypeError,
    Diagonal,
    Layout,
    LayoutError,
    ShapeError,
    Site,
    TaskRepresentation,
)
from featurewise.core.broadcast import shape_of
from featurewise.core.kernels import cast, compute_dtype
from featurewise.core.numbers import is_finite
from featurewise.generators.errors import GeneratorError


def deviation(
    task: TaskRepresentation | Tensor,
    layout: Layout | None = None,
    *,
    per_site: bool = False,
    weights: Mapping[str, float] | None = None,
) -> Tensor | dict[str, Tensor]:
    """Mean squared distance of the effective scales from one and of the shifts from zero.

    It is a penalty for a loss: ``loss + 0.1 * deviation(net.represent(z))``. It is computed from
    effective parameters, so it is the same for ``Scale()``, ``Scale(raw=True)`` and ``Gate()``.
    Parameters other than scale and shift count by their distance from their initial values.
    A local generator has a task representation only after a call: pass ``net.layout.join(record)``
    with the record of ``net.using(record=...)``.

    Args:
        task: a task representation, or a flat tensor ``(N,)``, ``(B, N)`` or
            ``(B, N, *positions)``.
        layout: the layout of a flat tensor.
        per_site: return one number for each site instead of one for all.
        weights: factors of the squares by parameter, such as ``{"gamma": 1.0, "beta": 0.1}``;
            default: 1.

    Returns:
        A scalar, the mean over all numbers of all sites, samples and positions, in float32 at
        least; or such a mean for each site by name. Differentiable in ``task``.

    Raises:
        LayoutError: a flat tensor without a layout, or a task representation with another layout.
        ShapeError: a flat tensor that does not fit the layout.
        ArgumentTypeError: an argument of the wrong type.
        GeneratorError: a weight that is negative, not finite or of an unknown parameter.

    Source:
        Oreshkin et al. 2018, *TADAM*, section 2.2 (penalised γ and β); Requeima et al. 2019,
        *CNAPs* (the same penalty).
    """
    flat, layout = _flat(task, layout)
    factors = _weights(weights, layout)
    totals: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    for site in layout:
        _check_positions(site, flat)
        squares = [
            (difference.square().sum() * factors.get(name, 1.0), difference.numel())
            for name, difference in difference_from_identity(
                site, layout.split_site(flat, site.name)
            ).items()
        ]
        totals[site.name] = torch.stack([total for total, _ in squares]).sum()
        counts[site.name] = sum(count for _, count in squares)
    if per_site:
        return {name: total / counts[name] for name, total in totals.items()}
    return torch.stack(list(totals.values())).sum() / sum(counts.values())


def difference_from_identity(site: Site, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Difference of each effective parameter of a site from the identity.

    Args:
        site: the site.
        values: its raw parameters.

    Returns:
        For operations that scale and shift, "gamma" (minus one) and "beta"; for others, each
        effective parameter minus its initial value.
    """
    values = {name: cast(value, compute_dtype(value)) for name, value in values.items()}
    operation = site.operation
    if isinstance(operation, Diagonal):
        scale, shift = operation.scale_shift(values)
        scales = {} if scale is None else {"gamma": scale - 1.0}
        return scales if shift is None else {**scales, "beta": shift}
    start = {
        name: torch.full_like(values[name], parameter.start)
        for name, parameter in site.parameters.items()
    }
    neutral = operation.effective(start)
    return {name: value - neutral[name] for name, value in operation.effective(values).items()}


def _flat(task: object, layout: Layout | None) -> tuple[Tensor, Layout]:
    if layout is not None and not isinstance(layout, Layout):
        raise ArgumentTypeError(f"layout must be a Layout, got {type(layout).__name__}")
    if isinstance(task, TaskRepresentation):
        if layout is not None and task.layout != layout:
            raise LayoutError(
                f"the task belongs to sites {', '.join(task.layout.names)}, "
                f"the layout given to {', '.join(layout.names)}"
            )
        flat, layout = task.flat, task.layout
    elif isinstance(task, Tensor):
        if layout is None:
            raise LayoutError("a flat tensor needs a layout: deviation(flat, net.layout)")
        layout.check(task)
        flat = task
    else:
        raise ArgumentTypeError(
            f"task must be a TaskRepresentation or a flat tensor, got {type(task).__name__}"
        )
    if layout.size == 0 or flat.numel() == 0:
        raise LayoutError("there are no parameters to measure")
    return flat, layout


def _check_positions(site: Site, flat: Tensor) -> None:
    fixed = [name for name, p in site.parameters.items() if not p.positional]
    if flat.ndim > 2 and fixed:
        raise ShapeError(
            f"site '{site.name}': {fixed[0]} cannot vary over positions, got flat {shape_of(flat)}"
        )


def _weights(weights: object, layout: Layout) -> dict[str, float]:
    if weights is None:
        return {}
    if not isinstance(weights, Mapping):
        raise ArgumentTypeError(
            f"weights must map parameters to numbers, got {type(weights).__name__}"
        )
    known = {"gamma", "beta"} | {name for site in layout for name in site.parameters}
    for name, weight in weights.items():
        if not isinstance(weight, int | float) or isinstance(weight, bool):
            raise ArgumentTypeError(
                f"weights[{name!r}] must be a number, got {type(weight).__name__}"
            )
        if not (is_finite(weight) and weight >= 0):
            raise GeneratorError(
                f"weights[{name!r}] must be finite and not negative, got {short(weight)}"
            )
        if name not in known:
            raise GeneratorError(
                f"weights names {name!r}, which no site has; there are {', '.join(sorted(known))}"
            )
    return dict(weights)
