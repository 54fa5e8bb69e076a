"""Pruning: remove the features that one condition sets to zero, if nothing else uses them."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, Final

from torch import Tensor, nn

from featurewise.deploy.fold_types import CannotFold

#: Element-wise modules that map zero to zero, for any number of axes.
_ELEMENTWISE: Final = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Tanh, nn.Tanhshrink, nn.Softshrink, nn.Hardshrink, nn.Softsign, nn.Hardswish),
    *(nn.Identity, nn.Dropout),
)
#: Modules that also keep the channels of a convolution separate.
_POOLS: Final = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(nn.Upsample, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
)
_CONVOLUTIONS: Final = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_BATCH_NORMS: Final = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def prune_channels(
    network: nn.Module, dead: Mapping[str, Tensor], read: Set[nn.Module]
) -> dict[str, str]:
    """Remove dead features from their producer, the batch norm after it, and their consumer.

    A chain is found in one ``nn.Sequential``: a convolution, an optional batch norm, activations
    and pools that map zero to zero, a convolution; or a linear layer, activations, a linear
    layer. It is assumed that the sequence is run as a whole, as its class does.

    Args:
        network: changed in place.
        dead: ``(C,)`` booleans by site: which of its output features are zero.
        read: modules whose weights other code uses.

    Returns:
        A text per site: the number of features removed, or the reason why they are kept.
    """
    report: dict[str, str] = {}
    for name, features in dead.items():
        width, count = features.numel(), int(features.sum())
        try:
            modules = _chain(network, name, read)
            if count == width:
                raise CannotFold("all features are zero, and a layer needs at least one")
            _remove(modules, (~features).nonzero().flatten())
            report[name] = f"{count} of {width} removed"
        except CannotFold as reason:
            report[name] = f"{count} of {width} kept: {reason}"
    return report


def _chain(network: nn.Module, name: str, read: Set[nn.Module]) -> list[Any]:
    """Producer, batch norm if any, and consumer."""
    parent, _, child = name.rpartition(".")
    sequence = network.get_submodule(parent)
    if type(sequence) is not nn.Sequential or not name:
        raise CannotFold("it is not in an nn.Sequential")
    steps = list(sequence)
    start = list(sequence._modules).index(child)
    chain: list[Any] = [steps[start]]
    if type(steps[start]) in _BATCH_NORMS and start > 0:
        chain.insert(0, steps[start - 1])
        if type(chain[0]) not in _CONVOLUTIONS:
            raise CannotFold("the input of the norm is not the output of a convolution")
    passing: list[nn.Module] = []
    for step in steps[start + 1 :]:
        if type(step) in (*_CONVOLUTIONS, nn.Linear):
            chain.append(step)
            break
        passing.append(step)
    else:
        raise CannotFold("the consumer of the features is not in the same nn.Sequential")
    _check(chain, passing)
    _check_unshared(network, [*chain, *passing], read)
    return chain


def _check(chain: list[Any], passing: list[nn.Module]) -> None:
    producer, consumer = chain[0], chain[-1]
    convolution = type(producer) in _CONVOLUTIONS
    if not convolution and type(producer) is not nn.Linear:
        raise CannotFold(f"a {type(producer).__name__} has no separate weights per feature")
    if convolution != (type(consumer) in _CONVOLUTIONS):
        raise CannotFold(f"the consumer is a {type(consumer).__name__}, with other axes")
    if convolution and (producer.groups, consumer.groups) != (1, 1):
        raise CannotFold("the convolutions have groups")
    allowed = _ELEMENTWISE + (_POOLS if convolution else ())
    for step in passing:
        if type(step) not in allowed:
            raise CannotFold(f"a {type(step).__name__} between them may not map zero to zero")


def _check_unshared(network: nn.Module, modules: list[Any], read: Set[nn.Module]) -> None:
    names: dict[nn.Module, int] = {}
    holders: dict[int, int] = {}
    for _, module in network.named_modules(remove_duplicate=False):
        names[module] = names.get(module, 0) + 1
    for module in names:
        for parameter in module._parameters.values():
            holders[id(parameter)] = holders.get(id(parameter), 0) + (parameter is not None)
    for module in modules:
        kind = type(module).__name__
        if names[module] > 1 or any(holders[id(p)] > 1 for p in module.parameters()):
            raise CannotFold(f"the {kind} or its weights are also used elsewhere")
        if module in read:
            raise CannotFold(f"the weights of the {kind} are used directly")
        if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
            raise CannotFold(f"the {kind} has hooks or overrides forward")
        if any(type(p) is not nn.Parameter or p.is_meta for p in module.parameters()):
            raise CannotFold(f"the {kind} has weights that are not plain tensors")


def _remove(chain: list[Any], kept: Tensor) -> None:
    producer, *norms, consumer = chain if len(chain) == 3 else (chain[0], chain[-1])
    for module in (producer, *norms):
        for name in ("weight", "bias"):
            _select(module, name, 0, kept)
    for norm in norms:
        for name in ("running_mean", "running_var"):
            if norm._buffers.get(name) is not None:
                norm._buffers[name] = norm._buffers[name].index_select(0, _at(norm, kept))
        norm.num_features = len(kept)
    _select(consumer, "weight", 1, kept)
    convolution = type(producer) in _CONVOLUTIONS
    setattr(producer, "out_channels" if convolution else "out_features", len(kept))
    setattr(consumer, "in_channels" if convolution else "in_features", len(kept))


def _select(module: nn.Module, name: str, dim: int, kept: Tensor) -> None:
    old = module._parameters[name]
    if old is not None:
        new = old.detach().index_select(dim, kept.to(old.device))
        setattr(module, name, nn.Parameter(new, requires_grad=old.requires_grad))


def _at(module: nn.Module, kept: Tensor) -> Tensor:
    return kept.to(next(module.buffers()).device)
