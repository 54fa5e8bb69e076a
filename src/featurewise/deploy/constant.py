"""``Constant``: a modulation by fixed values, used if folding into weights is not exact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from featurewise.core import ArgumentTypeError, Site, _torch


class Constant:
    """A hook that modulates the features of one site with buffers of the module of that site.

    The buffers are part of the state dict, and are moved, cast and exported with the network; the
    hook holds no tensors, so a copy of the network is complete.

    Args:
        site: the site.
        buffers: parameter of the operation -> name of the buffer.
    """

    def __init__(self, site: Site, buffers: Mapping[str, str]) -> None:
        self.site = site
        self.buffers = dict(buffers)

    @classmethod
    def on(cls, module: nn.Module, site: Site, values: Mapping[str, Tensor]) -> Constant:
        """Register ``values`` on ``module`` as buffers; return the hook that reads them."""
        buffers: dict[str, str] = {}
        for parameter, value in values.items():
            name = f"film_{parameter}"
            while hasattr(module, name):
                name += "_"
            module.register_buffer(name, value)
            buffers[parameter] = name
        return cls(site, buffers)

    def after(self, module: nn.Module, args: Any, output: Any) -> Any:
        """Forward hook: the module's output, modulated."""
        if isinstance(output, Tensor):
            return self._modulate(module, output)
        return self._leaf(module, output)

    def before(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Forward pre-hook: the module's inputs, modulated."""
        inputs: tuple[tuple[Any, ...], dict[str, Any]] = self._leaf(module, (args, kwargs))
        return inputs

    def _leaf(self, module: nn.Module, tree: Any) -> Any:
        leaves, structure = _torch.tree_flatten(tree)
        leaf = self.site.leaf
        if leaf >= len(leaves) or not isinstance(leaves[leaf], Tensor):
            found = ", ".join(type(value).__name__ for value in leaves) or "nothing"
            raise ArgumentTypeError(
                f"site '{self.site.name}': {self.site.when} leaf {leaf} must be a tensor; "
                f"the leaves are: {found}"
            )
        leaves[leaf] = self._modulate(module, leaves[leaf])
        return _torch.tree_unflatten(leaves, structure)

    def _modulate(self, module: nn.Module, x: Tensor) -> Tensor:
        values = {}
        for parameter, name in self.buffers.items():
            value = getattr(module, name).to(x.device)
            if self.site.batch_axis is not None and self._positional(parameter, value):
                value = value.expand(x.shape[self.site.batch_axis], *value.shape[1:])
            values[parameter] = value
        return self.site.modulate(x, values)

    def _positional(self, parameter: str, value: Tensor) -> bool:
        return value.ndim > len(self.site.parameters[parameter].shape)
