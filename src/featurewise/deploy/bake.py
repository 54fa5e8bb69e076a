"""``bake``: fix one condition, and return a plain network of the backbone's own class."""

from __future__ import annotations

import copy
import dis
import inspect
import types
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from featurewise.core import ArgumentTypeError, ShapeError, Shift, Site, TaskRepresentation, _torch
from featurewise.deploy.constant import Constant
from featurewise.deploy.fold import fold, modulation
from featurewise.deploy.fold_types import CannotFold, Fold, Modulation
from featurewise.deploy.prune import prune_channels
from featurewise.retrofit.conditioned import Conditioned
from featurewise.retrofit.errors import CallError
from featurewise.retrofit.site_checks import check_attached, unwatch_runs
from featurewise.retrofit.snapshot import Snapshot
from featurewise.retrofit.training import thaw_parameters

FOLDED: Final = "folded"


class BakeReport(dict[str, str]):
    """The result at each site: ``{site: "folded" | "constant: <reason>"}``.

    Attributes:
        gained: keys of the state dict that the backbone does not have: biases and weights of
            modules that had none, and the buffers of constant layers.
        pruned: with ``prune=True``, for each site with dead features, the number removed, or the
            reason why none was.
    """

    def __init__(self, sites: Mapping[str, str] = types.MappingProxyType({})) -> None:
        super().__init__(sites)
        self.gained: tuple[str, ...] = ()
        self.pruned: dict[str, str] = {}

    @property
    def folded(self) -> bool:
        """Whether every site was folded into weights."""
        return all(result == FOLDED for result in self.values())

    def __str__(self) -> str:
        rows = [
            *self.items(),
            *((f"{site} (dead)", result) for site, result in self.pruned.items()),
        ]
        width = max((len(site) for site, _ in rows), default=0)
        lines = [f"{site.ljust(width)}  {result}" for site, result in rows]
        if self.gained:
            lines.append(f"new in the state dict: {', '.join(self.gained)}")
        return "\n".join(lines)


class Baked(NamedTuple):
    """The result of ``bake``.

    Attributes:
        module: the plain network.
        report: the result at each site.
    """

    module: nn.Module
    report: BakeReport


def bake(
    net: Conditioned,
    *,
    condition: Any = None,
    task: TaskRepresentation | Tensor | None = None,
    prune: bool = False,
) -> Baked:
    """Fix one condition: return a plain network that needs neither generator nor condition.

    The network is a copy of the backbone, of the same class and in the same mode, including hooks
    of other libraries. The modulation of each site is folded into the weights of its module if
    that is exact, computed in float64 and rounded once. Otherwise it stays as a *constant layer*:
    a hook that reads its values from buffers of the module. ``net`` is not changed.

    Folding assumes that a network calls its modules. If the code of a module reads the weights of
    another (``x @ self.embed.weight.T``) or calls its ``forward``, the site stays a constant
    layer.

    Args:
        net: the conditioned network.
        condition: input of the generator, for one sample.
        task: parameters instead of a condition: ``(N,)`` or ``(1, N)``; ``(1, N, *positions)``
            stay constant layers.
        prune: remove the features that the condition sets to zero (scale and shift both zero), if
            their producer and their only consumer are in one ``nn.Sequential``.

    Returns:
        ``module`` and ``report``.

    Raises:
        CallError: neither condition nor task although one is needed, or both; a local generator,
            whose parameters depend on the input; conditioning that was removed; a site whose
            module was replaced.
        ShapeError: parameters of more than one sample.
        LayoutError: a task for other sites.
        ArgumentTypeError: an argument of the wrong type, or a backbone that cannot be copied: one
            whose ``forward`` was replaced by a function, or that holds a lock.

    Example:
        >>> from featurewise.generators import Linear
        >>> from featurewise.retrofit import condition
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        >>> net = condition(network, at="0", generator=Linear(16))
        >>> plain, report = bake(net, condition=torch.randn(1, 16))
        >>> type(plain).__name__, report["0"]
        ('Sequential', 'folded')
    """
    if not isinstance(net, Conditioned):
        raise ArgumentTypeError(f"net must be a Conditioned, got {type(net).__name__}")
    if not isinstance(prune, bool):
        raise ArgumentTypeError(f"prune must be True or False, got {prune!r}")
    if net._removed:
        raise CallError("the conditioning was removed, so there is nothing to bake")
    check_attached(net.backbone, net.layout, net._owner)
    with torch.no_grad():
        baking = _Baking.of(net, _single(net, condition, task))
        with Snapshot(net.backbone):  # baking runs copies of its modules
            for site in net.layout:
                baking.bake(site)
        if prune:
            baking.report.pruned = prune_channels(baking.network, baking.dead, set(baking.read))
    baking.report.gained = tuple(
        key for key in baking.network.state_dict() if key not in net.backbone.state_dict()
    )
    return Baked(baking.network, baking.report)


def _single(net: Conditioned, condition: Any, task: Any) -> Tensor:
    """The flat parameters of one condition: ``(N,)``, or ``(1, N, *positions)``."""
    flat = net._task(condition, task).flat.detach()
    if flat.ndim > 1 and flat.shape[0] != 1:
        raise ShapeError(
            f"bake takes the parameters of one condition, ({net.layout.size},) or "
            f"(1, {net.layout.size}), got {tuple(flat.shape)}: select one row"
        )
    return flat.reshape(-1) if flat.numel() == net.layout.size else flat


@dataclass
class _Baking:
    """A copy of the backbone during baking."""

    network: nn.Module
    hooks: set[int]  # keys of the site hooks
    values: dict[str, dict[str, Tensor]]
    shared: Set[int]  # ids of parameters that several modules hold
    read: dict[nn.Module, str]  # modules whose weights other code reads -> the reason
    report: BakeReport
    dead: dict[str, Tensor]  # by site: features that are zero for every input

    @classmethod
    def of(cls, net: Conditioned, flat: Tensor) -> _Baking:
        network = _copied(net.backbone)
        unwatch_runs(network)
        for (
            handle
        ) in net._frozen_norms:  # a policy for training, which a baked network does not need
            for module in network.modules():
                _torch.remove_hook(module, handle.id)
        thaw_parameters(network, net._frozen)
        hooks = {handle.id for handle in net._handles}
        values = net.layout.split(flat)
        return cls(network, hooks, values, _shared(network), _read(network), BakeReport(), {})

    def bake(self, site: Site) -> None:
        """Fold one site, or replace it by a constant layer."""
        module = self.network.get_submodule(site.name)
        hooks = module._forward_hooks if site.when == "output" else module._forward_pre_hooks
        key = next(key for key in hooks if key in self.hooks)
        values = self.values[site.name]
        try:
            change = modulation(site, values)
            self._note_dead(site, change)
            if not change.is_identity:
                self._check_calls(module, site, list(hooks), key)
            self._apply(module, site, key, fold(module, site, change, self.shared))
        except CannotFold as reason:
            self.report[site.name] = f"constant: {reason}"
            own = {name: self._beside(module, value) for name, value in values.items()}
            _replace_hook(module, key, Constant.on(module, site, own))

    def _check_calls(self, module: nn.Module, site: Site, hooks: list[int], key: int) -> None:
        if module in self.read:
            raise CannotFold(self.read[module])
        order = hooks.index(key)
        others = hooks[:order] if site.when == "output" else hooks[order + 1 :]
        if others or (site.when == "input" and module._forward_hooks):
            raise CannotFold("other hooks run between the features and the weights")

    def _apply(self, module: nn.Module, site: Site, key: int, folded: Fold) -> None:
        like = self._like(module)
        rounded = {n: _rounded(module, n, v, like) for n, v in folded.parameters.items()}
        for name, parameter in rounded.items():
            setattr(module, name, parameter)
        _flag_affine(module, rounded)
        if folded.left is None:
            self.report[site.name] = FOLDED
            _torch.remove_hook(module, key)
            return
        scaled = "; its scale is folded" if folded.parameters else ""
        self.report[site.name] = f"constant: {folded.why}{scaled}"
        left = Site(site.name, site.width, Shift(), site.axis, site.batch_axis, site.when)
        shift = folded.left.to(like.device, like.dtype)
        _replace_hook(module, key, Constant.on(module, left, {"beta": shift}))

    def _note_dead(self, site: Site, change: Modulation) -> None:
        if site.when == "output" and change.scale is not None:
            dead = change.scale == 0
            if change.shift is not None:
                dead &= change.shift == 0
            if dead.any():
                self.dead[site.name] = dead

    def _like(self, module: nn.Module) -> Tensor:
        """A tensor with the dtype and device for new parameters of ``module``."""
        for source in (module, self.network):
            for tensor in (*source.parameters(), *source.buffers()):
                if tensor.is_floating_point() and tensor.element_size() > 1:
                    return tensor
        return next(iter(next(iter(self.values.values())).values()))

    def _beside(self, module: nn.Module, value: Tensor) -> Tensor:
        device = self._like(module).device
        return (
            value.detach().clone() if device.type == "meta" else value.detach().to(device).clone()
        )


def _copied(network: nn.Module) -> nn.Module:
    # Weights that hooks compute (spectral norm, masks) are stored as results, which torch does not
    # copy; the next call computes them again.
    results = {
        id(value): value.detach().clone()
        for module in network.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    for name, module in network.named_modules():
        if isinstance(vars(module).get("forward"), types.FunctionType):
            raise ArgumentTypeError(
                f"forward of module '{name}' was replaced by a function, which a copy would share "
                "with the original; undo the replacement, or define a method of a class"
            )
    try:
        return copy.deepcopy(network, results)
    except (RuntimeError, TypeError) as error:
        raise ArgumentTypeError(f"the backbone cannot be copied: {error}") from error


def _rounded(module: nn.Module, name: str, value: Tensor, like: Tensor) -> nn.Parameter:
    """A float64 ``value`` as parameter ``name``, with dtype, device and strides of the old one."""
    old = module._parameters.get(name)
    kept = like.new_empty(value.shape) if old is None else torch.empty_like(old)
    kept = kept.detach().copy_(value)
    if bool(value.isfinite().all()) and not bool(kept.isfinite().all()):
        raise CannotFold(f"its {name} would overflow {kept.dtype}")
    trained = like.requires_grad if old is None else old.requires_grad
    parameter = nn.Parameter(kept, requires_grad=trained)
    if old is not None:
        parameter.__dict__.update(vars(old))
    return parameter


def _flag_affine(module: Any, gained: Mapping[str, nn.Parameter]) -> None:
    """Set the flags of norms that gained affine parameters."""
    for flag in ("affine", "elementwise_affine"):
        if "weight" in gained and hasattr(module, flag):
            setattr(module, flag, True)


def _replace_hook(module: nn.Module, key: int, constant: Constant) -> None:
    """Replace a site hook by a constant layer, at the same position among the hooks."""
    if constant.site.when == "input":
        module._forward_pre_hooks[key] = constant.before
        module._forward_pre_hooks_with_kwargs[key] = True
    else:
        module._forward_hooks[key] = constant.after
        module._forward_hooks_with_kwargs.pop(key, None)


def _shared(network: nn.Module) -> Set[int]:
    """Ids of parameters that several modules hold."""
    held = Counter(
        id(parameter)
        for module in network.modules()
        for parameter in module._parameters.values()
        if parameter is not None
    )
    return {key for key, count in held.items() if count > 1}


# --- modules whose weights other code uses -------------------------------------------------------

#: Attributes of a weight that do not depend on its values.
_HARMLESS: Final = {"dtype", "device", "shape", "ndim", "is_cuda", "requires_grad", "size"}
#: Methods that run before the first forward pass.
_BEFORE: Final = ("__init__", "_init", "init", "reset", "_reset", "tie", "_tie", "load", "_load")


def _read(network: nn.Module) -> dict[nn.Module, str]:
    """Modules whose weights or ``forward`` the code of an enclosing module uses directly."""
    uses: dict[type, dict[str, str]] = {}
    found: dict[nn.Module, str] = {}
    modules = dict(network.named_modules(remove_duplicate=False))
    for name, module in modules.items():
        parts = name.split(".") if name else []
        for i in range(len(parts)):
            kind = type(modules[".".join(parts[:i])])
            if kind not in uses:
                uses[kind] = _uses(kind)
            if parts[-1] in uses[kind]:
                found[module] = uses[kind][parts[-1]]
    return found


def _uses(kind: type) -> dict[str, str]:
    """``{child: reason}`` for each ``self.<...>.child.weight`` in the methods of a class."""
    uses: dict[str, str] = {}
    for base in kind.__mro__:
        if base is object or base.__module__.partition(".")[0] == "torch":
            continue
        for name, member in vars(base).items():
            function: Any = member.fget if isinstance(member, property) else member
            function = inspect.unwrap(function) if callable(function) else None
            if isinstance(function, types.FunctionType) and not name.startswith(_BEFORE):
                for child, what in _chains(function.__code__):
                    uses.setdefault(child, f"{kind.__name__}.{name} uses its {what} directly")
    return uses


def _chains(code: types.CodeType) -> Iterator[tuple[str, str]]:
    """Pairs ``(child, attribute)`` of expressions that read weights or ``forward`` of a child."""
    loads = ("LOAD_ATTR", "LOAD_METHOD")
    steps = [s for s in dis.get_instructions(code) if s.opname not in ("CACHE", "NOP")]
    names = [s.argval if s.opname in loads else None for s in steps] + [None, None]
    for child, attribute, after in zip(names, names[1:], names[2:], strict=False):
        if child is None or attribute is None or after in _HARMLESS:
            continue
        if attribute in ("weight", "bias", "forward"):
            yield child, attribute
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _chains(constant)
