"""Checks that sites can be reached and were, so that no site stays unmodulated unnoticed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from featurewise.core import Layout, _torch
from featurewise.retrofit import calls
from featurewise.retrofit.calls import Call, Owner
from featurewise.retrofit.errors import CallError, SiteWarning
from featurewise.retrofit.hooks import SiteHook
from featurewise.retrofit.rows import repeated
from featurewise.retrofit.samples import SampleTracker

Track = Callable[[Call, Any], SampleTracker | None]


def check_not_compiled(network: nn.Module, layout: Layout) -> None:
    """Check that no site is inside a compiled module: compiled code ignores new hooks.

    Raises:
        CallError: if a site is in a compiled module; the message names it.
    """
    for site in layout:
        parts = site.name.split(".") if site.name else []
        for i in range(len(parts) + 1):
            name = ".".join(parts[:i])
            if _torch.is_compiled(network.get_submodule(name)):
                where = f"'{name}' of the network" if name else "the network"
                raise CallError(
                    f"site '{site.name}': {where} was compiled before it was conditioned, and "
                    "compiled code ignores new hooks; condition it first, then compile"
                )


def has_compiled_code(network: nn.Module, layout: Layout) -> bool:
    """Whether the network or a module around a site has compiled code."""
    names = {""} | {_around(network, site.name) for site in layout}
    return any(_torch.has_compiled_code(network.get_submodule(name)) for name in names)


def check_attached(network: nn.Module, layout: Layout, owner: Owner) -> None:
    """Check that the module at each site is the one that was conditioned.

    Raises:
        CallError: if a module was replaced or removed; the message names the sites.
    """
    lost = [
        site.name
        for index, site in enumerate(layout)
        if not _attached(network, site.name, owner, index)
    ]
    if lost:
        raise CallError(
            f"the module at {', '.join(repr(name) for name in lost)} was replaced or removed "
            "after the network was conditioned, so nothing is modulated there; replace "
            "modules first, then condition"
        )


def _attached(network: nn.Module, name: str, owner: Owner, index: int) -> bool:
    try:
        module = network.get_submodule(name)
    except AttributeError:
        return False
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    found = (getattr(hook, "__self__", None) for hook in hooks)
    return any(isinstance(h, SiteHook) and h.owner is owner and h.index == index for h in found)


def start_tracking(call: Call, inputs: Any, layout: Layout) -> SampleTracker | None:
    """A tracker for a run whose inputs have a row per condition, or k rows if ``repeat`` is set.

    None if that is not known: another number of rows, sequences whose first axis could be time or
    batch, one condition, rows given by an index, code that is traced or transformed.
    """
    if call.parameters is None or call.parameters.flat.ndim < 2 or not _eager():
        return None
    batch = call.parameters.flat.shape[0]
    first = None if batch < 2 else _first_tensor(inputs)
    if first is None or not _torch.has_values(first):
        return None
    sizes = first.shape
    if len(sizes) > 1 and sizes[0] == sizes[1] and any(s.batch_axis for s in layout):
        return None
    samples = torch.arange(batch)
    if call.rows is not None:
        if call.rows.repeat is None or sizes[0] % batch:
            return None
        samples = repeated(samples, call.rows.repeat, sizes[0], "inputs")
    return SampleTracker(inputs, samples) if sizes[0] == samples.shape[0] else None


def _first_tensor(inputs: Any) -> Tensor | None:
    args, kwargs = inputs
    for value in (
        *args,
        *kwargs.values(),
        *_torch.tree_flatten(inputs)[0],
    ):  # mostly the first value
        if isinstance(value, Tensor) and value.ndim:
            return value
    return None


def _eager() -> bool:
    return not _torch.is_traced() and not _torch.in_transform() and _torch.graph_task() == -1


class Watched:
    """Records of the runs of a network within one scope of ``using``.

    Args:
        track: makes a tracker for a run, given the call and the inputs, or None.
    """

    def __init__(self, track: Track) -> None:
        self.track = track
        self.before: set[str] = set()  # sites reached by earlier runs
        self.entered: set[str] = set()  # modules around sites that this run entered
        self.reported: set[str] = set()


def watch_runs(network: nn.Module, layout: Layout, owner: Owner) -> None:
    """Check each run of ``network`` in a scope for sites that it bypasses.

    A site is bypassed if the module around it runs and the site does not: its weights are used by
    other code, as by a state-space model that takes a single step of its convolution. A part of
    the network that does not run at all (an encoder while its decoder runs) is not reported, nor
    is a module of a list of which another one ran (experts).

    The hooks stay until the conditioning is removed, and do nothing outside of scopes. Calling
    this again adds none.
    """
    if not any(isinstance(hook, _RunHook) for hook in _own_hooks(network, owner)):
        hook = _RunHook(owner, layout)
        network.register_forward_hook(hook.after, always_call=True)
        network.register_forward_pre_hook(hook.before, prepend=True, with_kwargs=True)
    for name in {_around(network, site.name) for site in layout} - {""}:
        module = network.get_submodule(name)
        if not any(isinstance(hook, _EnterHook) for hook in _own_hooks(module, owner)):
            module.register_forward_pre_hook(_EnterHook(owner, name).before)


def unwatch_runs(network: nn.Module, owner: Owner | None = None) -> None:
    """Remove the hooks of ``watch_runs``, of one owner or, in a copy, of all."""
    for module in network.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key, hook in list(hooks.items()):
                own = getattr(hook, "__self__", None)
                if isinstance(own, _RunHook | _EnterHook) and owner in (None, own.owner):
                    _torch.remove_hook(module, key)


def _own_hooks(module: nn.Module, owner: Owner) -> Iterator[Any]:
    for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values()):
        own = getattr(hook, "__self__", None)
        if getattr(own, "owner", None) is owner:
            yield own


def _around(network: nn.Module, name: str) -> str:
    """Name of the module whose forward calls a site: its nearest ancestor but containers."""
    while name:
        name = name.rpartition(".")[0]
        if not isinstance(network.get_submodule(name), nn.ModuleList | nn.ModuleDict):
            break
    return name


class _RunHook:
    """Begins and ends the records of each run of a network in a scope."""

    def __init__(self, owner: Owner, layout: Layout) -> None:
        self.owner = owner
        self._layout = layout

    def before(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Forward pre-hook of the network."""
        call = _scoped(self.owner)
        if call is None or call.watched is None:
            return
        call.watched.before, call.visited = call.visited, set()
        call.watched.entered = {""}
        if call.tracker is None:
            tracker = call.watched.track(call, (args, kwargs))
            if tracker is not None:
                call.tracker = tracker.__enter__()

    def after(self, module: nn.Module, args: Any, output: Any) -> None:
        """Forward hook of the network, called after errors too."""
        call = _scoped(self.owner)
        if call is None or call.watched is None:
            return
        if call.tracker is not None:
            call.tracker.__exit__(None, None, None)
            call.tracker = None
        if output is not None and len(call.visited) < len(self._layout):
            self._report(module, call, call.watched)
        call.visited |= call.watched.before

    def _report(self, network: nn.Module, call: Call, watched: Watched) -> None:
        bypassed = [
            site.name
            for index, site in enumerate(self._layout)
            if site.name not in call.visited | watched.reported
            and _attached(network, site.name, call.owner, index)
            and _around(network, site.name) in watched.entered
            and not calls.was_traced(call.owner, index)
            and not _alternative(network, site.name, call.visited)
        ]
        if bypassed:
            watched.reported.update(bypassed)
            warnings.warn(
                f"a run of the network bypassed {', '.join(bypassed)}: the module around it ran, "
                "but the site was not called, so nothing was modulated there in this run",
                SiteWarning,
                stacklevel=4,
            )


class _EnterHook:
    """Records that a module around a site runs."""

    def __init__(self, owner: Owner, name: str) -> None:
        self.owner = owner
        self._name = name

    def before(self, module: nn.Module, args: Any) -> None:
        """Forward pre-hook."""
        call = _scoped(self.owner)
        if call is not None and call.watched is not None:
            call.watched.entered.add(self._name)


def _scoped(owner: Owner) -> Call | None:
    """The call of the active scope, if there is one."""
    return None if torch.compiler.is_compiling() else calls.active(owner)


def _alternative(network: nn.Module, name: str, visited: set[str]) -> bool:
    """Whether a site is in a list of modules of which another was reached."""
    parts = name.split(".")
    for i in range(len(parts) - 1, -1, -1):
        above = ".".join(parts[:i])
        if isinstance(network.get_submodule(above), nn.ModuleList | nn.ModuleDict):
            own = ".".join(parts[: i + 1])
            prefix = f"{above}." if above else ""
            return any(v.startswith(prefix) and not f"{v}.".startswith(f"{own}.") for v in visited)
        if i < len(parts) - 1:
            return False
    return False
