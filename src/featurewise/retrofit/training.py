"""Training of the backbone: trainable weights, and updates of running statistics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.hooks import RemovableHandle

from featurewise.core import ArgumentTypeError
from featurewise.retrofit.errors import CallError

#: Values of ``batch_norm``.
POLICIES: Final = ("train", "frozen")


def policy(batch_norm: str | None, freeze: bool) -> str:
    """The policy for running statistics; default: "frozen" if ``freeze``, else "train".

    Raises:
        ArgumentTypeError: ``freeze`` is not a bool, or ``batch_norm`` is not a policy.
    """
    if not isinstance(freeze, bool):
        raise ArgumentTypeError(f"freeze must be True or False, got {freeze!r}")
    if batch_norm is None:
        return "frozen" if freeze else "train"
    if batch_norm not in POLICIES:
        raise ArgumentTypeError(
            f"batch_norm must be one of {', '.join(POLICIES)}, got {batch_norm!r}"
        )
    return batch_norm


def freeze_parameters(network: nn.Module, trained: nn.Module) -> tuple[str, ...]:
    """Make all parameters of ``network`` untrainable, except those that ``trained`` shares.

    Returns:
        Names of the parameters that were trainable.
    """
    shared = {id(parameter) for parameter in trained.parameters()}
    frozen = tuple(
        name
        for name, parameter in network.named_parameters()
        if parameter.requires_grad and id(parameter) not in shared
    )
    _require(network, frozen, False)
    return frozen


def thaw_parameters(network: nn.Module, names: Iterable[str]) -> None:
    """Undo ``freeze_parameters``: make the parameters ``names``, if they still exist, trainable."""
    _require(network, names, True)


def _require(network: nn.Module, names: Iterable[str], wanted: bool) -> None:
    parameters = dict(network.named_parameters())
    for name in names:
        if name in parameters:
            parameters[name].requires_grad_(wanted)


def running_norms(network: nn.Module) -> Iterator[nn.Module]:
    """The norms of a network that keep running statistics."""
    for module in network.modules():
        if isinstance(module, _NormBase) and module.running_mean is not None:
            yield module


class FrozenStatistics:
    """Keeps a norm in evaluation mode, so that its running statistics are used and not updated.

    Any code may call ``train()`` on any part of a network, so a hook resets the mode each time
    before the norm runs.
    """

    def attach(self, norm: nn.Module) -> RemovableHandle:
        """Freeze the statistics of a norm until the handle is removed."""
        self.before(norm, ())
        return norm.register_forward_pre_hook(self.before)

    def before(self, norm: nn.Module, args: Any) -> None:
        """Forward pre-hook: back to evaluation mode."""
        if norm.training:
            norm.training = False


def count_trainable(network: nn.Module) -> tuple[int, int]:
    """Number of elements in trainable parameters and in all parameters; each tensor counts once.

    Raises:
        CallError: a parameter that is not yet initialised.
    """
    parameters = list(network.parameters())
    if any(nn.parameter.is_lazy(parameter) for parameter in parameters):
        raise CallError("some parameters have no shape yet: run the network once first")
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    return trainable, sum(p.numel() for p in parameters)
