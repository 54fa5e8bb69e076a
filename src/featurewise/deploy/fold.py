"""Folding: a constant modulation becomes part of the weights beside it, exactly.

What a module gives can be modulated by its own last linear step: ``s * (W x + b) + t`` is
``(s W) x + (s b + t)``. What it takes can be modulated by its first: ``W (s x + t) + b`` is
``(W s) x + (W t + b)``, unless padding puts zeros beside the features, which are not shifted. A
modulation never moves across a nonlinearity or a normalisation.
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
    """What the raw ``values`` of one condition do at a site.

    Raises:
        CannotFold: where it is no linear map that is the same at every position.
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
    """The new parameters of ``module``, with a modulation at ``site`` folded into them.

    Args:
        module: the module of the site; it is not changed.
        site: where the modulation is.
        change: the modulation.
        shared: identities of parameters that other modules hold as well.

    Raises:
        CannotFold: with the reason.
    """
    if change.nothing:
        return Fold()
    place = ModuleParameters(module, site, shared)
    rule = rule_of(module, site)
    if rule is not None:
        return rule(place, change)
    return fold_by_trial(place, site, change, rules_like(module, site.when), no_rule(module, site))


def rule_of(module: nn.Module, site: Site) -> Rule | None:
    """How a module of a known kind is folded; None for other kinds, and those that do more.

    Raises:
        CannotFold: if the features of the site are not those of the module.
    """
    if site.leaf:
        raise CannotFold(f"the features are leaf {site.leaf} of several")
    for kinds, on_axis, rule in _RULES[site.when]:
        if any(_runs_as(module, kind) for kind in kinds):
            if not on_axis(module, site):
                raise CannotFold(f"axis {site.axis} is not known to be the features of the module")
            return rule
    return None


def rules_like(module: nn.Module, when: str) -> list[Rule]:
    """How modules are folded whose class this one derives from, with a ``forward`` of its own."""
    return [
        rule
        for kinds, _, rule in _RULES[when]
        if any(kind is not _hf_conv1d and isinstance(module, kind) for kind in kinds)
    ]


def no_rule(module: nn.Module, site: Site) -> str:
    """Why a module of no known kind cannot be folded."""
    name = type(module).__name__
    if any(rule_of(module, dataclasses.replace(site, when=w)) for w in _RULES if w != site.when):
        return f"nothing can move into the {site.when} of a {name}"
    if any(rules_like(module, when) for when in _RULES):
        return f"this {name} has a forward of its own"
    return f"a {name} has no weights that its {site.when} goes through alone"


def _runs_as(module: nn.Module, kind: Any) -> bool:
    """Whether a module computes what torch's own class ``kind`` computes."""
    return bool(_hf_conv1d(module)) if kind is _hf_conv1d else runs_as(module, kind)


def _hf_conv1d(module: nn.Module) -> bool:
    """Whether it is the linear layer of GPT-2 in transformers, whose weight is (in, out)."""
    own = type(module)
    home = (own.__module__, own.__qualname__)
    return home == ("transformers.pytorch_utils", "Conv1D") and "forward" not in vars(module)


# --- which axis ----------------------------------------------------------------------------------


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


# --- what a module gives -------------------------------------------------------------------------


def _biased(at: ModuleParameters, change: Modulation) -> dict[str, Tensor]:
    """The bias after a modulation, a new one where the module had none."""
    bias = at("bias")
    if bias is None:
        return {} if change.shift is None else {"bias": change.shift}
    if change.multiplies:
        bias = change.rows(bias, 0)
    return {"bias": bias if change.shift is None else bias + change.shift}


def _no_matrix_in_groups(at: ModuleParameters, change: Modulation) -> None:
    groups = getattr(at.module, "groups", 1)
    if change.matrix is not None and groups != 1:
        raise CannotFold(f"a full matrix cannot enter {groups} groups")


def _out_of(dim: int) -> Callable[[ModuleParameters, Modulation], Fold]:
    """Modules whose weight has the output features on ``dim``."""

    def rule(at: ModuleParameters, change: Modulation) -> Fold:
        changed = {}
        if change.multiplies:
            _no_matrix_in_groups(at, change)
            changed["weight"] = change.rows(at.required("weight"), dim)
        return Fold({**changed, **_biased(at, change)})

    return rule


def _out_of_transposed(at: ModuleParameters, change: Modulation) -> Fold:
    """Transposed convolutions: the weight is (in, out / groups, *kernel)."""
    if at.module.groups == 1 or not change.multiplies:
        return _out_of(1)(at, change)
    _no_matrix_in_groups(at, change)
    weight = at.required("weight")
    scaled = _grouped(weight, at.module.groups)
    if change.scale is not None:
        scaled = scaled * _per_group(change.scale, at.module.groups, scaled)
    return Fold({"weight": scaled.flatten(0, 1), **_biased(at, change)})


def _out_of_norm(at: ModuleParameters, change: Modulation) -> Fold:
    """Norms with one weight and one bias for each channel, or none of both."""
    if change.matrix is not None:
        raise CannotFold("a full matrix has no place in a norm")
    weight, bias = at("weight"), at("bias")
    changed: dict[str, Tensor] = {}
    if weight is None or change.scale is not None:
        scale = torch.ones(at.width, dtype=torch.float64) if change.scale is None else change.scale
        changed["weight"] = scale if weight is None else scale * weight
    bias = torch.zeros(at.width, dtype=torch.float64) if bias is None else bias
    if change.scale is not None:
        bias = change.scale * bias
    return Fold({**changed, "bias": bias if change.shift is None else bias + change.shift})


def _out_of_rms_norm(at: ModuleParameters, change: Modulation) -> Fold:
    changed = _out_of_layer_norm(at, Modulation(change.scale, None, change.matrix))
    if change.shift is None:
        return changed
    return Fold(changed.parameters, change.shift, "an RMSNorm has no bias that a shift could enter")


def _out_of_layer_norm(at: ModuleParameters, change: Modulation) -> Fold:
    """Norms over the last axes, with weights of their shape."""
    if change.matrix is not None:
        raise CannotFold("a full matrix has no place in a norm")
    shape = tuple(at.module.normalized_shape)
    changed: dict[str, Tensor] = {}
    if change.scale is not None:
        weight = at("weight")
        weight = torch.ones(shape, dtype=torch.float64) if weight is None else weight
        changed["weight"] = _on(change.scale, shape, at.axis) * weight
    bias = at("bias") if hasattr(at.module, "bias") else None
    if bias is not None and change.scale is not None:
        bias = _on(change.scale, shape, at.axis) * bias
    if change.shift is not None:
        bias = torch.zeros(shape, dtype=torch.float64) if bias is None else bias
        bias = bias + _on(change.shift, shape, at.axis)
    return Fold(changed if bias is None else {**changed, "bias": bias})


def _on(value: Tensor, shape: tuple[int, ...], axis: int) -> Tensor:
    return value.reshape(-1, *(1,) * (-1 - axis)).expand(shape)


def _out_of_embedding(at: ModuleParameters, change: Modulation) -> Fold:
    """Every row is modulated, that of ``padding_idx`` too, as it is by the conditioned network."""
    if at.module.max_norm is not None:
        raise CannotFold("its rows are renormalised when they are read (max_norm)")
    rows = at.required("weight")
    if change.multiplies:
        rows = change.rows(rows, 1)
    return Fold({"weight": rows if change.shift is None else rows + change.shift})


def _out_of_bag(at: ModuleParameters, change: Modulation) -> Fold:
    if at.module.max_norm is not None or at.module.mode == "max":
        raise CannotFold("its rows are not simply added up (max_norm, or mode='max')")
    rows = change.rows(at.required("weight"), 1) if change.multiplies else None
    changed = {} if rows is None else {"weight": rows}
    if change.shift is None:
        return Fold(changed)
    return Fold(changed, change.shift, "a bag may hold any number of rows")


# --- what a module takes -------------------------------------------------------------------------


def _into_linear(dim: int) -> Callable[[ModuleParameters, Modulation], Fold]:
    """Linear maps whose weight has the input features on ``dim`` of two."""

    def rule(at: ModuleParameters, change: Modulation) -> Fold:
        weight = at.required("weight")
        changed = {}
        if change.multiplies:
            changed["weight"] = change.rows(weight, dim, transposed=True)
        if change.shift is not None:
            added = torch.tensordot(weight, change.shift, dims=([dim], [0]))
            changed["bias"] = _plus(at("bias"), added)
        return Fold(changed)

    return rule


def _into_convolution(at: ModuleParameters, change: Modulation) -> Fold:
    """Convolutions: the weight is (out, in / groups, *kernel)."""
    zeros = at.module.padding_mode == "zeros" and any(at.module._reversed_padding_repeated_twice)
    if change.shift is not None and zeros:
        raise CannotFold("a shift does not reach the zeros that the convolution pads with")
    _no_matrix_in_groups(at, change)
    weight = at.required("weight")
    grouped = _grouped(weight, at.module.groups)  # (groups, out / groups, in / groups, *kernel)
    changed = {}
    if change.matrix is not None:
        changed["weight"] = change.rows(weight, 1, transposed=True)
    elif change.scale is not None:
        scaled = grouped * _per_group(change.scale, at.module.groups, grouped)
        changed["weight"] = scaled.flatten(0, 1)
    if change.shift is not None:
        added = (grouped * _per_group(change.shift, at.module.groups, grouped)).flatten(2).sum(2)
        changed["bias"] = _plus(at("bias"), added.flatten())
    return Fold(changed)


def _grouped(weight: Tensor, groups: int) -> Tensor:
    """``(groups, n / groups, ...)`` of a weight ``(n, ...)``."""
    return weight.reshape(groups, -1, *weight.shape[1:])


def _per_group(value: Tensor, groups: int, like: Tensor) -> Tensor:
    """``(groups, 1, C / groups, 1, ...)``, of the rank of ``like``."""
    return value.reshape(groups, 1, -1, *(1,) * (like.ndim - 3))


def _into_transposed(at: ModuleParameters, change: Modulation) -> Fold:
    """Transposed convolutions: the weight is (in, out / groups, *kernel)."""
    if change.shift is not None and not _pointwise(at.module):
        raise CannotFold("a shift does not reach all positions of a transposed convolution alike")
    _no_matrix_in_groups(at, change)
    weight = at.required("weight")
    changed = {}
    if change.multiplies:
        changed["weight"] = change.rows(weight, 0, transposed=True)
    if change.shift is not None:
        added = _grouped((weight.flatten(1).T * change.shift).T, at.module.groups)
        changed["bias"] = _plus(at("bias"), added.sum(1).flatten())
    return Fold(changed)


def _pointwise(module: Any) -> bool:
    alone = math.prod((*module.kernel_size, *module.stride)) == 1
    return alone and not any((*module.padding, *module.output_padding))


def _plus(bias: Tensor | None, added: Tensor) -> Tensor:
    return added if bias is None else bias + added


def _nothing_into(at: ModuleParameters, change: Modulation) -> Fold:
    raise CannotFold("what goes into a normalisation does not commute with it")


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
        ((*_BATCH_NORMS, nn.GroupNorm), _channels, _nothing_into),
        ((nn.LayerNorm, nn.RMSNorm), _normalised, _nothing_into),
    ),
}
