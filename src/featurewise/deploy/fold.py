"""Folding: absorb a constant modulation into the weights of its module, exactly.

A modulation of the output can be absorbed by the last linear step of a module:
``s * (W x + b) + t`` equals ``(s W) x + (s b + t)``. A modulation of the input can be absorbed by
the first: ``W (s x + t) + b`` equals ``(W s) x + (W t + b)``, unless padding adds zeros, which are
not shifted. A modulation never moves across a nonlinearity or a normalisation.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Set
from typing import Any, Final

import torch
from torch import Tensor, nn

from featurewise.core import Diagonal, LowRank, Site
from featurewise.deploy.fold_types import CannotFold, Fold, Modulation, ModuleParameters, Rule
from featurewise.deploy.trial import fold_by_trial
from featurewise.retrofit.module_features import runs_as


def modulation(site: Site, values: Mapping[str, Tensor]) -> Modulation:
    """The modulation at a site by the raw ``values`` of one condition.

    Raises:
        CannotFold: if it is not an affine map that is the same at every position.
    """
    operation = site.operation
    if any(v.shape != site.parameters[name].shape for name, v in values.items()):
        raise CannotFold("its parameters vary over positions")
    wide = {name: v.detach().to("cpu", torch.float64) for name, v in values.items()}
    if type(operation) is LowRank:
        product = operation.effective(wide)
        change = product["left"] @ product["right"]
        if not change.any():
            return Modulation()
        return Modulation(matrix=torch.eye(site.width, dtype=torch.float64) + change)
    if not isinstance(operation, Diagonal) or not operation.plain:
        raise CannotFold(f"{operation} is not a scale and a shift of each feature")
    scale, shift = operation.scale_shift(wide)
    if any(v is not None and v.shape != (site.width,) for v in (scale, shift)):
        raise CannotFold(f"{operation} is not one scale and one shift for each feature")
    if scale is not None and bool((scale == 1).all()):
        scale = None
    return Modulation(scale, None if shift is None or not shift.any() else shift)


def fold(module: nn.Module, site: Site, change: Modulation, shared: Set[int]) -> Fold:
    """New parameters of ``module`` that absorb a modulation at ``site``.

    Args:
        module: the module of the site; it is not changed.
        site: the site.
        change: the modulation.
        shared: ids of parameters that other modules hold as well.

    Raises:
        CannotFold: with the reason, if that is not exact.
    """
    if change.is_identity:
        return Fold()
    parameters = ModuleParameters(module, site, shared)
    rule = rule_of(module, site)
    if rule is not None:
        return rule(parameters, change)
    return fold_by_trial(
        parameters, site, change, rules_like(module, site.when), no_rule(module, site)
    )


def rule_of(module: nn.Module, site: Site) -> Rule | None:
    """The rule for a module of a known type; None for other types and overridden ``forward``.

    Raises:
        CannotFold: if the features of the site are not the features of the module.
    """
    if site.leaf:
        raise CannotFold(f"the features are leaf {site.leaf} of several leaves")
    for kinds, on_axis, rule in _RULES[site.when]:
        if any(_runs_as(module, kind) for kind in kinds):
            if not on_axis(module, site):
                raise CannotFold(f"axis {site.axis} is not known to be the features of the module")
            return rule
    return None


def rules_like(module: nn.Module, when: str) -> list[Rule]:
    """The rules of the torch classes from which a class with its own ``forward`` derives."""
    return [
        rule
        for kinds, _, rule in _RULES[when]
        if any(kind is not _hf_conv1d and isinstance(module, kind) for kind in kinds)
    ]


def no_rule(module: nn.Module, site: Site) -> str:
    """The reason why a module of another type cannot be folded."""
    name = type(module).__name__
    if any(rule_of(module, dataclasses.replace(site, when=w)) for w in _RULES if w != site.when):
        return f"a modulation cannot be folded into the {site.when} of a {name}"
    if any(rules_like(module, when) for when in _RULES):
        return f"this {name} overrides forward"
    return f"a {name} has no weights of a known form at its {site.when}"


def _runs_as(module: nn.Module, kind: Any) -> bool:
    """Whether a module computes what torch's own class ``kind`` computes."""
    return bool(_hf_conv1d(module)) if kind is _hf_conv1d else runs_as(module, kind)


def _hf_conv1d(module: nn.Module) -> bool:
    """Whether it is the linear layer of GPT-2 in transformers, whose weight is (in, out)."""
    own = type(module)
    home = (own.__module__, own.__qualname__)
    return home == ("transformers.pytorch_utils", "Conv1D") and "forward" not in vars(module)


# --- feature axis --------------------------------------------------------------------------------


def _last(module: Any, site: Site) -> bool:
    return site.axis == -1


def _channels(module: Any, site: Site) -> bool:
    if (site.axis, site.batch_axis) == (1, 0):
        return True
    axes = len(getattr(module, "kernel_size", ()))
    return axes > 0 and site.axis == -1 - axes


def _normalised(module: Any, site: Site) -> bool:
    axes: int = len(module.normalized_shape)
    return -axes <= site.axis < 0


# --- modulation of the output --------------------------------------------------------------------


def _biased(parameters: ModuleParameters, change: Modulation) -> dict[str, Tensor]:
    """The bias after a modulation; a new one if the module had none."""
    bias = parameters("bias")
    if bias is None:
        return {} if change.shift is None else {"bias": change.shift}
    if change.multiplies:
        bias = change.rows(bias, 0)
    return {"bias": bias if change.shift is None else bias + change.shift}


def _no_matrix_in_groups(parameters: ModuleParameters, change: Modulation) -> None:
    groups = getattr(parameters.module, "groups", 1)
    if change.matrix is not None and groups != 1:
        raise CannotFold(f"a full matrix cannot be folded into {groups} groups")


def _out_of(dim: int) -> Callable[[ModuleParameters, Modulation], Fold]:
    """Modules whose weight has the output features on ``dim``."""

    def rule(parameters: ModuleParameters, change: Modulation) -> Fold:
        changed = {}
        if change.multiplies:
            _no_matrix_in_groups(parameters, change)
            changed["weight"] = change.rows(parameters.required("weight"), dim)
        return Fold({**changed, **_biased(parameters, change)})

    return rule


def _out_of_transposed(parameters: ModuleParameters, change: Modulation) -> Fold:
    """Transposed convolutions: the weight is (in, out / groups, *kernel)."""
    if parameters.module.groups == 1 or not change.multiplies:
        return _out_of(1)(parameters, change)
    _no_matrix_in_groups(parameters, change)
    weight = parameters.required("weight")
    scaled = _grouped(weight, parameters.module.groups)
    if change.scale is not None:
        scaled = scaled * _per_group(change.scale, parameters.module.groups, scaled)
    return Fold({"weight": scaled.flatten(0, 1), **_biased(parameters, change)})


def _out_of_norm(parameters: ModuleParameters, change: Modulation) -> Fold:
    """Norms with one weight and one bias per channel, or with neither."""
    if change.matrix is not None:
        raise CannotFold("a full matrix cannot be folded into a norm")
    weight, bias = parameters("weight"), parameters("bias")
    changed: dict[str, Tensor] = {}
    if weight is None or change.scale is not None:
        scale = (
            torch.ones(parameters.width, dtype=torch.float64)
            if change.scale is None
            else change.scale
        )
        changed["weight"] = scale if weight is None else scale * weight
    bias = torch.zeros(parameters.width, dtype=torch.float64) if bias is None else bias
    if change.scale is not None:
        bias = change.scale * bias
    return Fold({**changed, "bias": bias if change.shift is None else bias + change.shift})


def _out_of_rms_norm(parameters: ModuleParameters, change: Modulation) -> Fold:
    changed = _out_of_layer_norm(parameters, Modulation(change.scale, None, change.matrix))
    if change.shift is None:
        return changed
    return Fold(
        changed.parameters, change.shift, "an RMSNorm has no bias that could absorb a shift"
    )


def _out_of_layer_norm(parameters: ModuleParameters, change: Modulation) -> Fold:
    """Norms over the last axes, with weights of their shape."""
    if change.matrix is not None:
        raise CannotFold("a full matrix cannot be folded into a norm")
    shape = tuple(parameters.module.normalized_shape)
    changed: dict[str, Tensor] = {}
    if change.scale is not None:
        weight = parameters("weight")
        weight = torch.ones(shape, dtype=torch.float64) if weight is None else weight
        changed["weight"] = _on(change.scale, shape, parameters.axis) * weight
    bias = parameters("bias") if hasattr(parameters.module, "bias") else None
    if bias is not None and change.scale is not None:
        bias = _on(change.scale, shape, parameters.axis) * bias
    if change.shift is not None:
        bias = torch.zeros(shape, dtype=torch.float64) if bias is None else bias
        bias = bias + _on(change.shift, shape, parameters.axis)
    return Fold(changed if bias is None else {**changed, "bias": bias})


def _on(value: Tensor, shape: tuple[int, ...], axis: int) -> Tensor:
    return value.reshape(-1, *(1,) * (-1 - axis)).expand(shape)


def _out_of_embedding(parameters: ModuleParameters, change: Modulation) -> Fold:
    """Every row is modulated, also that of ``padding_idx``, as in the conditioned network."""
    if parameters.module.max_norm is not None:
        raise CannotFold("its rows are renormalised when they are read (max_norm)")
    rows = parameters.required("weight")
    if change.multiplies:
        rows = change.rows(rows, 1)
    return Fold({"weight": rows if change.shift is None else rows + change.shift})


def _out_of_bag(parameters: ModuleParameters, change: Modulation) -> Fold:
    if parameters.module.max_norm is not None or parameters.module.mode == "max":
        raise CannotFold("its rows are not summed (max_norm, or mode='max')")
    rows = change.rows(parameters.required("weight"), 1) if change.multiplies else None
    changed = {} if rows is None else {"weight": rows}
    if change.shift is None:
        return Fold(changed)
    return Fold(changed, change.shift, "a bag may have any number of rows")


# --- modulation of the input ---------------------------------------------------------------------


def _into_linear(dim: int) -> Callable[[ModuleParameters, Modulation], Fold]:
    """Linear maps whose weight has the input features on ``dim`` of two."""

    def rule(parameters: ModuleParameters, change: Modulation) -> Fold:
        weight = parameters.required("weight")
        changed = {}
        if change.multiplies:
            changed["weight"] = change.rows(weight, dim, transposed=True)
        if change.shift is not None:
            added = torch.tensordot(weight, change.shift, dims=([dim], [0]))
            changed["bias"] = _plus(parameters("bias"), added)
        return Fold(changed)

    return rule


def _into_convolution(parameters: ModuleParameters, change: Modulation) -> Fold:
    """Convolutions: the weight is (out, in / groups, *kernel)."""
    zeros = parameters.module.padding_mode == "zeros" and any(
        parameters.module._reversed_padding_repeated_twice
    )
    if change.shift is not None and zeros:
        raise CannotFold("a shift of the input does not apply to zero padding")
    _no_matrix_in_groups(parameters, change)
    weight = parameters.required("weight")
    grouped = _grouped(
        weight, parameters.module.groups
    )  # (groups, out / groups, in / groups, *kernel)
    changed = {}
    if change.matrix is not None:
        changed["weight"] = change.rows(weight, 1, transposed=True)
    elif change.scale is not None:
        scaled = grouped * _per_group(change.scale, parameters.module.groups, grouped)
        changed["weight"] = scaled.flatten(0, 1)
    if change.shift is not None:
        added = (
            (grouped * _per_group(change.shift, parameters.module.groups, grouped))
            .flatten(2)
            .sum(2)
        )
        changed["bias"] = _plus(parameters("bias"), added.flatten())
    return Fold(changed)


def _grouped(weight: Tensor, groups: int) -> Tensor:
    """``(groups, n / groups, ...)`` of a weight ``(n, ...)``."""
    return weight.reshape(groups, -1, *weight.shape[1:])


def _per_group(value: Tensor, groups: int, like: Tensor) -> Tensor:
    """``(groups, 1, C / groups, 1, ...)``, of the rank of ``like``."""
    return value.reshape(groups, 1, -1, *(1,) * (like.ndim - 3))


def _into_transposed(parameters: ModuleParameters, change: Modulation) -> Fold:
    """Transposed convolutions: the weight is (in, out / groups, *kernel)."""
    if change.shift is not None and not _pointwise(parameters.module):
        raise CannotFold(
            "a shift has different effects at the positions of a transposed convolution"
        )
    _no_matrix_in_groups(parameters, change)
    weight = parameters.required("weight")
    changed = {}
    if change.multiplies:
        changed["weight"] = change.rows(weight, 0, transposed=True)
    if change.shift is not None:
        added = _grouped((weight.flatten(1).T * change.shift).T, parameters.module.groups)
        changed["bias"] = _plus(parameters("bias"), added.sum(1).flatten())
    return Fold(changed)


def _pointwise(module: Any) -> bool:
    size_one = math.prod((*module.kernel_size, *module.stride)) == 1
    return size_one and not any((*module.padding, *module.output_padding))


def _plus(bias: Tensor | None, added: Tensor) -> Tensor:
    return added if bias is None else bias + added


def _cannot_enter(parameters: ModuleParameters, change: Modulation) -> Fold:
    raise CannotFold("a modulation of the input does not commute with a normalisation")


# --- the table -----------------------------------------------------------------------------------

_CONVOLUTIONS: Final = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED: Final = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_BATCH_NORMS: Final = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)
_Row = tuple[tuple[Any, ...], Callable[[Any, Site], bool], Rule]
_RULES: Final[Mapping[str, tuple[_Row, ...]]] = {
    "output": (
        ((nn.Linear,), _last, _out_of(0)),
        ((_hf_conv1d,), _last, _out_of(1)),
        (_CONVOLUTIONS, _channels, _out_of(0)),
        (_TRANSPOSED, _channels, _out_of_transposed),
        ((*_BATCH_NORMS, nn.GroupNorm), _channels, _out_of_norm),
        ((nn.LayerNorm,), _normalised, _out_of_layer_norm),
        ((nn.RMSNorm,), _normalised, _out_of_rms_norm),
        ((nn.Embedding,), _last, _out_of_embedding),
        ((nn.EmbeddingBag,), _last, _out_of_bag),
    ),
    "input": (
        ((nn.Linear,), _last, _into_linear(1)),
        ((_hf_conv1d,), _last, _into_linear(0)),
        (_CONVOLUTIONS, _channels, _into_convolution),
        (_TRANSPOSED, _channels, _into_transposed),
        ((*_BATCH_NORMS, nn.GroupNorm), _channels, _cannot_enter),
        ((nn.LayerNorm, nn.RMSNorm), _normalised, _cannot_enter),
    ),
}
