"""``find_sites``: width, axes and extent of sites, by the type of a module or by a dry run.

A dry run executes the network on fake tensors: shapes are known, no values are computed.
"""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from featurewise.core import ArgumentTypeError, LayoutError, Operation, ShapeError, Site, _torch
from featurewise.retrofit.feature_axes import Axes, FeatureAxes
from featurewise.retrofit.module_features import Features, batch_first, features_of, runs_as
from featurewise.retrofit.snapshot import Snapshot, check_gone


@dataclass(frozen=True)
class Seen:
    """What a dry run found at a site.

    Attributes:
        leaf: index of the leaf that holds the features.
        shape: their shape.
        axes: the feature axes, as propagated through the run; None if unknown.
    """

    leaf: int
    shape: tuple[int, ...]
    axes: Axes | None = None


def find_sites(
    network: nn.Module,
    chosen: Mapping[str, Operation],
    *,
    when: str,
    axis: int | None,
    batch_axis: int | None,
    example: Any,
) -> tuple[Site, ...]:
    """The sites of the chosen modules, with width, axes and, if needed, extent.

    Args:
        network: the network.
        chosen: module names with their operations.
        when: "output" or "input".
        axis: feature axis of all sites; None: found for each.
        batch_axis: batch axis of all sites; None: found for each.
        example: inputs for a dry run; see ``condition``.

    Raises:
        LayoutError: a module that cannot be a site, or is not run with the example.
        ShapeError: features that do not fit the operation.
        ArgumentTypeError: uninitialised parameters, or features that are not a floating-point
            tensor.
    """
    for name in chosen:
        _check_module(name, network.get_submodule(name))
    with Snapshot(network) as state:
        runs = None if example is None else _dry_runs(network, list(chosen), when, example, state)
        return tuple(
            _site_of(network, name, operation, when, axis, batch_axis, runs)
            for name, operation in chosen.items()
        )


def _site_of(
    network: nn.Module,
    name: str,
    operation: Operation,
    when: str,
    axis: int | None,
    batch_axis: int | None,
    runs: _Runs | None,
) -> Site:
    module = network.get_submodule(name)
    seen, doubled = (None, None) if runs is None else (runs.seen[name], runs.doubled.get(name))
    features = _features(name, module, when, axis, seen)
    if batch_axis is None:
        batch_axis = _batch_axis(network, name, features, seen, doubled)
    return _site(name, operation, features, batch_axis, when, seen)


def arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of an ``example``."""
    if example is None:
        return (), {}
    if isinstance(example, dict):
        return (), example
    return (example if isinstance(example, tuple) else (example,)), {}


def _check_module(name: str, module: nn.Module) -> None:
    if isinstance(module, (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)):
        raise LayoutError(
            f"'{name}' is a {type(module).__name__}, which is never called; name modules inside it"
        )
    if type(module).__name__ == "NonDynamicallyQuantizableLinear":
        raise LayoutError(
            f"'{name}' belongs to a MultiheadAttention, which uses its weights and never calls it; "
            f"modulate the output of '{name.rpartition('.')[0]}' instead"
        )
    if any(isinstance(p, UninitializedParameter) for p in module.parameters()):
        raise ArgumentTypeError(
            f"'{name}' is lazy and not yet initialised; run the network once first"
        )


def _features(
    name: str, module: nn.Module, when: str, axis: int | None, seen: Seen | None
) -> Features:
    declared = features_of(module, when, None if seen is None else seen.shape)
    if declared is not None and axis is not None and declared.sure:
        _check_axis(name, module, declared, axis, seen)
    if seen is None:
        if declared is None:
            raise LayoutError(
                f"site '{name}' is a {type(module).__name__}, whose features are unknown; "
                "pass example=<inputs of the network> for a dry run"
            )
        return declared if axis is None else dataclasses.replace(declared, axis=axis)
    if axis is None:
        axis = declared.axis if declared is not None else _found(name, module, seen)
    if not -len(seen.shape) <= axis < len(seen.shape):
        raise ShapeError(f"site '{name}': axis={axis} is not an axis of its features {seen.shape}")
    width = seen.shape[axis]
    if declared is not None and declared.axis == axis and declared.width != width:
        raise ShapeError(
            f"site '{name}': expected {declared.width} features on axis {axis}, "
            f"the dry run had {seen.shape}"
        )
    return Features(width, axis, None if declared is None else declared.batch_axis)


def _check_axis(
    name: str, module: nn.Module, declared: Features, axis: int, seen: Seen | None
) -> None:
    """Check that a given axis is the feature axis of the module itself."""
    same = axis == declared.axis
    if seen is not None and -len(seen.shape) <= axis < len(seen.shape):
        same = axis % len(seen.shape) == declared.axis % len(seen.shape)
    elif isinstance(module, nn.BatchNorm1d):
        same = axis in (1, -1)  # of (B, C) both are the same
    if not same:
        shape = "" if seen is None else f" of {seen.shape}"
        raise LayoutError(
            f"site '{name}': axis={axis} contradicts its {type(module).__name__}, which has its "
            f"{declared.width} features on axis {declared.axis}{shape}; omit axis, then the axis "
            "of each site is found"
        )


def _found(name: str, module: nn.Module, seen: Seen) -> int:
    """Feature axis of a module that does not determine it, from the dry run."""
    rank = len(seen.shape)
    if seen.axes is not None and len(seen.axes) == 1:
        (axis,) = seen.axes
        return axis - rank if 1 < axis == rank - 1 else axis
    if runs_as(module, nn.LayerNorm) or runs_as(module, nn.RMSNorm):
        normalised: Any = module.normalized_shape
        return -len(normalised)  # over several axes; the features are the first of them
    if rank == 2:
        return 1
    raise LayoutError(
        f"site '{name}' is a {type(module).__name__} with features {seen.shape}; "
        "the feature axis is ambiguous: pass axis="
    )


def _batch_axis(
    network: nn.Module, name: str, features: Features, seen: Seen | None, doubled: Seen | None
) -> int | None:
    if seen is not None:
        rank = len(seen.shape)
        if rank == 1:
            return None
        if doubled is not None and len(doubled.shape) == rank:
            grown = [i for i in range(rank) if seen.shape[i] != doubled.shape[i]]
            if len(grown) == 1 and grown[0] != features.axis % rank:
                return grown[0]
    if features.batch_axis is not None:
        return features.batch_axis
    return 1 if batch_first(network, name) is False else 0


def _site(
    name: str,
    operation: Operation,
    features: Features,
    batch_axis: int | None,
    when: str,
    seen: Seen | None,
) -> Site:
    site = Site(
        name,
        features.width,
        operation,
        features.axis,
        batch_axis,
        when,
        0 if seen is None else seen.leaf,
    )
    try:
        operation.parameters(site.width, None)
        return site
    except ShapeError as error:
        if seen is None:
            raise ShapeError(f"site '{name}': {error}; pass example= for a dry run") from error
    rank = len(seen.shape)
    own = (site.axis % rank, None if batch_axis is None else batch_axis % rank)
    extent = tuple(n for i, n in enumerate(seen.shape) if i not in own)
    try:
        operation.parameters(site.width, extent)
    except ShapeError as error:
        raise ShapeError(f"site '{name}', features {seen.shape}: {error}") from error
    return dataclasses.replace(site, extent=extent)


# --- the dry run ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Runs:
    """What the sites receive for the example, and for twice as many samples if that runs."""

    seen: dict[str, Seen]
    doubled: dict[str, Seen]


def _dry_runs(
    network: nn.Module, names: list[str], when: str, example: Any, state: Snapshot
) -> _Runs:
    args, kwargs = arguments(example)
    seen = dry_run(network, names, when, args, kwargs, state)
    first = 1 if _sequence_first(network) else 0
    for axis in (first, 0) if first else (0,):
        try:
            return _Runs(seen, dry_run(network, names, when, *_doubled(args, kwargs, axis), state))
        except (LayoutError, IndexError):
            continue
    return _Runs(seen, {})


def _sequence_first(network: nn.Module) -> bool:
    flags = {
        getattr(module, "batch_first", None)
        for module in network.modules()
        if isinstance(getattr(module, "batch_first", None), bool)
    }
    return flags == {False}


def _doubled(
    args: tuple[Any, ...], kwargs: dict[str, Any], axis: int
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    leaves, structure = _torch.tree_flatten((args, kwargs))
    first = next((leaf for leaf in leaves if isinstance(leaf, Tensor)), None)
    if first is None:
        raise LayoutError("the example has no tensor")
    size = first.shape[axis]

    def grow(leaf: Any) -> Any:
        if isinstance(leaf, Tensor) and leaf.ndim > axis and leaf.shape[axis] == size:
            shape = list(leaf.shape)
            shape[axis] = 2 * size
            with torch.no_grad(), torch.device("meta"):
                return torch.empty(shape, dtype=leaf.dtype)
        return leaf

    args, kwargs = _torch.tree_unflatten([grow(leaf) for leaf in leaves], structure)
    return args, kwargs


def dry_run(
    network: nn.Module,
    names: list[str],
    when: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    state: Snapshot,
) -> dict[str, Seen]:
    """Shapes of the features at the named modules, without computing values or changing state.

    Raises:
        LayoutError: as ``run_on_fakes``, or if the network does not run a named module.
        ArgumentTypeError: if a module has no floating-point tensor as input or output.
    """
    seen: dict[str, Seen] = {}
    feature_axes = FeatureAxes()

    def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for name in names:
            _watch(network.get_submodule(name), name, when, seen, feature_axes)
        feature_axes.start((args, kwargs))
        try:
            with _torch.watching(feature_axes.note):
                network(*args, **kwargs)
        finally:
            feature_axes.forget()

    run_on_fakes(network, run, args, kwargs, state)
    missed = [name for name in names if name not in seen]
    if missed:
        raise LayoutError(
            f"never called as modules with the example: {', '.join(missed)}; they cannot be "
            "modulated"
        )
    return seen


def run_on_fakes(
    network: nn.Module,
    run: Callable[[tuple[Any, ...], dict[str, Any]], None],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    state: Snapshot,
) -> None:
    """Run a network on fake tensors in place of its inputs and weights; no values are computed.

    All state that the run changes is restored, including hooks that ``run`` registers.

    Args:
        network: the network.
        run: runs the network on the arguments that it receives; must not keep their tensors.
        args: positional arguments, with real or fake tensors.
        kwargs: keyword arguments, likewise.
        state: a snapshot of the network.

    Raises:
        LayoutError: if the network does not run on the example, or a tensor of the run is still
            referenced afterwards.
        ArgumentTypeError, ShapeError: raised by ``run``.
    """
    if any(isinstance(p, UninitializedParameter) for p in network.parameters()):
        raise ArgumentTypeError("the network is lazy and not yet initialised; run it once first")
    fakes = _torch.FakeRun()
    failure = None
    try:
        _run(state.modules, run, args, kwargs, fakes)
    except Exception as error:
        failure = _without_frames(error)
    finally:
        state.restore()
    check_gone(fakes.alive)
    if failure is not None:
        raise failure


def _run(
    modules: Sequence[nn.Module],
    run: Callable[[tuple[Any, ...], dict[str, Any]], None],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    fakes: _torch.FakeRun,
) -> None:
    devices = {tensor.device for tensor in (*modules[0].parameters(), *modules[0].buffers())}
    device = next(iter(devices)) if len(devices) == 1 else None
    leaves, structure = _torch.tree_flatten((args, kwargs))
    with torch.no_grad(), fakes:
        made = [_fake(fakes, leaf, device) for leaf in leaves]
        fake_args, fake_kwargs = _torch.tree_unflatten(made, structure)
        _fake_weights(modules, fakes)
        run(fake_args, fake_kwargs)


def _fake_weights(modules: Iterable[nn.Module], fakes: _torch.FakeRun) -> None:
    """Replace parameters and buffers by fakes; operators replace other tensors on first use."""
    for module in modules:
        for store in (module._parameters, module._buffers):
            for name, tensor in store.items():
                if tensor is not None:
                    store[name] = fakes.fake(tensor)  # type: ignore[assignment]


def _fake(fakes: _torch.FakeRun, leaf: Any, device: torch.device | None) -> Any:
    """A fake of an input, on the device of the network: an example may be on any device."""
    if not isinstance(leaf, Tensor):
        return leaf
    fake = fakes.fake(leaf)
    return fake if device is None else torch.empty_like(fake, device=device)


def _without_frames(error: Exception) -> Exception:
    """The error to raise, with its traceback as text: frames would keep the tensors of the run."""
    if isinstance(error, (ArgumentTypeError, ShapeError)):
        return type(error)(*error.args)
    failure = LayoutError(
        f"the network does not run on the example: {type(error).__name__}: {error}"
    )
    failure.add_note("".join(traceback.format_exception(error)))
    return failure


def _watch(
    module: nn.Module, name: str, when: str, seen: dict[str, Seen], feature_axes: FeatureAxes
) -> None:
    def note(tree: Any) -> None:
        if name not in seen:
            seen[name] = _first_features(name, tree, feature_axes)

    if when == "input":
        module.register_forward_pre_hook(
            lambda module, args, kwargs: note((args, kwargs)), with_kwargs=True
        )
    else:
        module.register_forward_hook(lambda module, args, output: note(output), prepend=True)


def _first_features(name: str, tree: Any, feature_axes: FeatureAxes) -> Seen:
    leaves, _ = _torch.tree_flatten(tree)
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.ndim:
            return Seen(i, tuple(leaf.shape), feature_axes.axes(leaf))
    found = ", ".join(type(leaf).__name__ for leaf in leaves) or "nothing"
    raise ArgumentTypeError(f"site '{name}' has no floating-point tensor; its leaves are: {found}")
