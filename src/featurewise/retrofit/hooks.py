"""The hooks at the sites: objects, so that deepcopy and pickle carry them with their module."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from featurewise.core import KindError, LayoutError, Site, _torch
from featurewise.retrofit import calls
from featurewise.retrofit.calls import Call, Owner, Values
from featurewise.retrofit.errors import CallError


class SiteHook:
    """Modulates the features of one site when a call of its owner is active, else nothing.

    Args:
        owner: identity of the conditioned network.
        site: where it sits.
    """

    def __init__(self, owner: Owner, site: Site) -> None:
        self.owner = owner
        self.site = site

    def attach(self, module: nn.Module) -> RemovableHandle:
        """Register on the module of the site."""
        if self.site.when == "input":
            return module.register_forward_pre_hook(self.before, with_kwargs=True)
        return module.register_forward_hook(self.after)

    def after(self, module: nn.Module, args: Any, output: Any) -> Any:
        """Forward hook: the module's output, modulated."""
        call, again = calls.find(self.owner)
        if call is None:
            return None
        if isinstance(output, Tensor):
            return self._modulate(output, call, again)
        return self._modulate_leaf(output, call, again)

    def before(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Forward pre-hook: the module's inputs, modulated."""
        call, again = calls.find(self.owner)
        if call is None:
            return None
        if self.site.leaf == 0 and args and isinstance(args[0], Tensor):
            return (self._modulate(args[0], call, again), *args[1:]), kwargs
        inputs: tuple[tuple[Any, ...], dict[str, Any]]
        inputs = self._modulate_leaf((args, kwargs), call, again)
        return inputs

    def _modulate_leaf(self, tree: Any, call: Call, again: bool) -> Any:
        leaves, structure = _torch.tree_flatten(tree)
        leaf = self.site.leaf
        if leaf >= len(leaves) or not isinstance(leaves[leaf], Tensor):
            found = ", ".join(type(value).__name__ for value in leaves) or "nothing"
            raise KindError(
                f"site '{self.site.name}': {self.site.when} leaf {leaf} must be a tensor; "
                f"the leaves are: {found}"
            )
        leaves[leaf] = self._modulate(leaves[leaf], call, again)
        return _torch.tree_unflatten(leaves, structure)

    def _modulate(self, x: Tensor, call: Call, again: bool) -> Tensor:
        values = self._values(x, call, again)
        y = self.site.modulate(x, _beside(values, x))
        if not torch.compiler.is_compiling() and not again:
            self._note(call, values, y)
        return y

    def _values(self, x: Tensor, call: Call, again: bool) -> Values:
        if call.values is not None:
            return call.values[self.site.name]
        if call.local is None:
            raise LayoutError(f"site '{self.site.name}': the call has no parameters")
        memory = self._recalled(call) if again else call.memory
        values, after = call.local(self.site, x, call.condition, memory)
        if not again:
            self._remember(call, memory)
            call.memory = after
        made: Values = values
        return made

    def _recalled(self, call: Call) -> Any:
        name = self.site.name
        if name not in call.entries:
            raise CallError(
                f"site '{name}' lies in a compiled block inside an eager checkpoint, which cannot "
                "be recomputed with a local generator; pass "
                "context_fn=featurewise.retrofit.checkpoint_context to checkpoint()"
            )
        memory = call.entries[name]
        if memory is _REPEATED:
            raise CallError(
                f"site '{name}' was passed several times in one call with a memory, so that its "
                "checkpointed region cannot be recomputed; take it out of the region"
            )
        return memory

    def _remember(self, call: Call, memory: Any) -> None:
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return
        name = self.site.name
        if name in call.entries:
            repeated = memory is not None or call.entries[name] is not None
            call.entries[name] = _REPEATED if repeated else None
            return
        leaves, structure = _torch.tree_flatten(memory)
        detached = [leaf.detach() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        call.entries[name] = _torch.tree_unflatten(detached, structure)

    def _note(self, call: Call, values: Values, y: Tensor) -> None:
        call.visited.add(self.site.name)
        if call.record is not None:
            call.record[self.site.name] = dict(values)
        if torch.is_grad_enabled():
            calls.keep(call, y)
        elif call.grad:
            self._keep_without_graph(call, values, y)

    def _keep_without_graph(self, call: Call, values: Values, y: Tensor) -> None:
        """Gradients were wanted and are off: a block of ``no_grad``, or a reentrant checkpoint."""
        if call.local is None and not any(value.requires_grad for value in values.values()):
            calls.keep(call, y)
        elif _torch.in_function_forward():
            raise CallError(
                f"site '{self.site.name}' lies in a region checkpointed with use_reentrant=True, "
                "where gradients of its parameters would be lost; checkpoint with "
                "use_reentrant=False"
            )


def _beside(values: Values, x: Tensor) -> Values:
    """``values`` on the device of ``x``."""
    device = x.device
    for value in values.values():
        if value.device != device:
            return {name: value.to(device) for name, value in values.items()}
    return values


_REPEATED: Final = "featurewise: passed several times"
