"""Weight-decay groups, with separate groups for generator heads and multipliers."""

from __future__ import annotations

from typing import Any

from torch import nn

from featurewise.common.text import short
from featurewise.core import ArgumentTypeError
from featurewise.core.numbers import is_finite
from featurewise.generators.errors import GeneratorError


def parameter_groups(
    module: nn.Module,
    weight_decay: float,
    head_weight_decay: float | None = None,
    multiplier_weight_decay: float = 0.01,
) -> list[dict[str, Any]]:
    """Parameter groups for an optimiser, with a weight decay for each kind of parameter.

    * "weights": matrices and kernels, with ``weight_decay``;
    * "heads": weights of generator heads, lookup tables and learned vectors, with
      ``head_weight_decay``. It pulls them towards the raw zero vector, which is the identity for
      the usual operations (Perez et al. 2018 use 1e-5);
    * "multipliers": multipliers of ``GatedGenerator``, with ``multiplier_weight_decay``;
    * "plain": biases, scales of norms (at most one axis) and embeddings, without weight decay, as
      is usual: it would shift activations, and shrink the embeddings of words that are not in a
      batch.

    Frozen parameters and empty groups are omitted.

    Args:
        module: the network, or a generator alone.
        weight_decay: for weights.
        head_weight_decay: for heads; default: ``weight_decay``, still in a separate group.
        multiplier_weight_decay: for learned multipliers (Oreshkin et al. 2018: 0.01, with SGD).

    Returns:
        Dicts with "params", "weight_decay" and "name".

    Raises:
        GeneratorError: a weight decay that is negative or not finite, or no trainable parameters.
        ArgumentTypeError: ``module`` is not a module, or a weight decay is not a number.
    """
    if not isinstance(module, nn.Module):
        raise ArgumentTypeError(f"module must be a module, got {type(module).__name__}")
    decays = {
        "weights": _decay(weight_decay, "weight_decay"),
        "heads": _decay(
            weight_decay if head_weight_decay is None else head_weight_decay, "head_weight_decay"
        ),
        "multipliers": _decay(multiplier_weight_decay, "multiplier_weight_decay"),
        "plain": 0.0,
    }
    named: dict[str, list[nn.Parameter]] = {name: [] for name in decays}
    seen: set[nn.Parameter] = set()
    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                named[_group(owner, name, parameter)].append(parameter)
    if not seen:
        raise GeneratorError("the module has no trainable parameters")
    return [
        {"params": params, "weight_decay": decays[name], "name": name}
        for name, params in named.items()
        if params
    ]


def _group(owner: nn.Module, name: str, parameter: nn.Parameter) -> str:
    if name in getattr(owner, "head_weights", ()):
        return "heads"
    if name in getattr(owner, "multiplier_weights", ()):
        return "multipliers"
    embedding = isinstance(owner, nn.Embedding | nn.EmbeddingBag)
    return "plain" if embedding or parameter.ndim <= 1 else "weights"


def _decay(value: object, name: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ArgumentTypeError(f"{name} must be a number, got {type(value).__name__}")
    if not (is_finite(value) and value >= 0):
        raise GeneratorError(f"{name} must be finite and not negative, got {short(value)}")
    return float(value)
