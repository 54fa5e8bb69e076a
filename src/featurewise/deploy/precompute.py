"""``precompute``: rows in place of a conditioner that is built into a network."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featurewise.core import ArgumentTypeError, Layout, Shift, Site, _torch
from featurewise.core.broadcast import shape_of
from featurewise.core.numbers import is_float
from featurewise.deploy.bank import Bank, collect
from featurewise.deploy.bankfile import dtype_name
from featurewise.deploy.errors import PrecomputeError
from featurewise.retrofit.conditioned import Conditioned
from featurewise.retrofit.probe import arguments
from featurewise.retrofit.select import Where, resolve


def precompute(
    network: nn.Module,
    at: Where,
    runs: Iterable[Any],
    *,
    example: Any,
    also: Where | None = None,
    ids: Sequence[str] | None = None,
    dtype: torch.dtype | None = None,
    path: str | Path | None = None,
) -> Conditioned:
    """Replace modules that depend on the condition alone by a bank of their outputs.

    The adaLN projections of a diffusion transformer are such modules: every block has a linear
    map from the condition to scales, shifts and gates, a good third of all parameters, and there
    are only as many conditions as timesteps and classes in use. Their outputs are recorded for
    every run, in evaluation mode; in a copy of the network that shares all other parameters and
    buffers they become stubs without parameters, whose output is the row of the condition:

        net = precompute(dit, "transformer_blocks.*.norm1.linear", runs, example=latents)
        net(latents, timestep=t, class_labels=c, condition=ids)

    What the network was given as its condition is still passed, since the stubs take the number
    of samples from it; its values are not read. That the outputs depend on nothing else is
    checked by running twice with different other inputs, and the copy is compared with the
    network on the first run. Row i is exact for the batch in which it was recorded: a matrix
    product may round otherwise in a batch of another size.

    Args:
        network: any network; it is neither changed nor run itself.
        at: the modules, as in ``condition``; each must give a tensor ``(B, C)``, or one with
            further axes of size one.
        runs: the conditions: for each run the arguments of the network that carry them, a dict
            of keyword arguments, or a tensor or tuple of positional arguments, which follow those
            of the example. A run of B samples makes B rows.
        example: all other arguments of the network: a tensor, a tuple of positional or a dict of
            keyword arguments. One sample is repeated as often as a run needs. Its size is free,
            as the rows do not depend on it: a small one is fast.
        also: modules whose outputs nothing uses but the modules at ``at`` (embedders of the
            condition); they become stubs that give zeros.
        ids: names of the rows, to address them by.
        dtype: to store the rows in; the largest rounding error is measured and reported.
        path: write the rows to a bank file, and read them from there.

    Returns:
        The copy, conditioned by a ``Bank`` with one ``Shift`` per replaced module. It has the
        modes (training or not) of the network.

    Raises:
        PrecomputeError: an output that depends on more than the condition, or has positions; a
            module never run; modules within each other; a network that patches the ``forward`` of
            a module; or outputs of the copy that differ, since ``also`` feeds something else.
        LayoutError: a selector without a match.
        ArgumentTypeError: an argument of the wrong kind.

    Source:
        Peebles & Xie 2023, *Scalable Diffusion Models with Transformers*, sec. 3.2 (adaLN-Zero).
    """
    if not isinstance(network, nn.Module):
        raise ArgumentTypeError(f"network must be a module, got {type(network).__name__}")
    if dtype is not None:
        dtype_name(dtype)
    names = list(resolve(network, at, Shift()))
    spare = [] if also is None else list(resolve(network, also, Shift()))
    _check_names(names, spare)
    recorded = share(network).eval()
    todo = iter(runs)
    first = next(todo, None)
    if first is None:
        raise PrecomputeError("no runs given")
    with torch.no_grad():
        expected, seen = _record(recorded, names + spare, first, example)
        _check_alone(recorded, names, first, example, seen)
        layout = Layout(tuple(_site(name, seen[name]) for name in names))
        rows = _rows(layout, seen)
        net = Conditioned(_stubbed(network, names, spare, seen), Bank(layout, rows), layout)
        _check_same(net, rows, first, example, expected, spare)
        rest = (_rows(layout, _record(recorded, names, run, example)[1]) for run in todo)
        saved = _bytes(network) - _bytes(net.backbone)
        net.replace_generator(collect(layout, chain([rows], rest), ids, dtype, path, saved))
    _restore_modes(net.backbone, network)
    return net


def share(network: nn.Module) -> nn.Module:
    """A copy of the modules of a network that shares its parameters and buffers.

    Raises:
        PrecomputeError: if some module has a ``forward`` of its own in place of its class's: such
            a patch, copied, may still run the original.
    """
    for name, module in network.named_modules():
        if "forward" in vars(module):
            raise PrecomputeError(
                f"the forward of '{name}' ({type(module).__name__}) is patched or compiled, so "
                "that a copy would still run the original; precompute before"
            )
    memo: dict[int, Any] = {id(t): t for t in chain(network.parameters(), network.buffers())}
    return copy.deepcopy(network, memo)


class TableModule(nn.Module):
    """Stands for a module without computing: one number, once per sample of its inputs.

    Args:
        shape: of the output, without the samples.
        dtype: of the output.
        value: the number.
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, value: float) -> None:
        super().__init__()
        self.shape, self.dtype, self.value = shape, dtype, value

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """``(B, *shape)``; B is the first size of the tensors among the inputs."""
        rows, device = _samples(args, kwargs)
        return torch.full((rows, *self.shape), self.value, dtype=self.dtype, device=device)

    def extra_repr(self) -> str:
        """Shape and dtype, for ``repr``."""
        return f"{self.shape}, {self.dtype}"


def _samples(args: Any, kwargs: Any) -> tuple[int, torch.device]:
    """Number of samples and device of inputs; inputs for all samples have a first size of one."""
    found: Tensor | None = None
    for leaf in _torch.tree_flatten((args, kwargs))[0]:
        if not isinstance(leaf, Tensor) or leaf.ndim == 0:
            continue
        if found is not None and 1 not in (leaf.shape[0], found.shape[0]):
            if leaf.shape[0] != found.shape[0]:
                raise PrecomputeError(
                    "inputs of a precomputed module have different numbers of samples: "
                    f"{shape_of(found)} and {shape_of(leaf)}"
                )
            continue
        if found is None or found.shape[0] == 1:
            found = leaf
    if found is None:
        raise PrecomputeError(
            "a precomputed module was given no tensor with one row per sample, so that the number "
            "of samples is not known; pass the network its condition too (its values are not read)"
        )
    return found.shape[0], found.device


# --- recording -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Seen:
    """Output of a module, and the number of samples among its inputs."""

    output: Tensor
    samples: int


def _record(
    network: nn.Module, names: list[str], run: Any, example: Any
) -> tuple[Any, dict[str, _Seen]]:
    """Output of the network, and what its modules ``names`` gave."""
    seen: dict[str, _Seen] = {}
    handles = [_watch(network.get_submodule(name), name, seen) for name in names]
    args, kwargs = _joined(run, example)
    try:
        output = network(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    missed = [name for name in names if name not in seen]
    if missed:
        raise PrecomputeError(f"never run as modules: {', '.join(missed)}")
    return output, seen


def _watch(module: nn.Module, name: str, seen: dict[str, _Seen]) -> Any:
    def note(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if not is_float(output):
            raise PrecomputeError(
                f"'{name}' gives {type(output).__name__}, not one floating-point tensor; name "
                "modules within it"
            )
        before = seen.get(name)
        if before is not None and not torch.equal(before.output, output):
            raise PrecomputeError(f"'{name}' is run several times with different outputs")
        seen[name] = _Seen(output.detach().clone(), _samples(args, kwargs)[0])

    return module.register_forward_hook(note, with_kwargs=True)


def _joined(run: Any, example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of the network: those of the example, then those of the run."""
    if not isinstance(run, Tensor | tuple | dict):
        raise ArgumentTypeError(
            "a run is a dict of keyword arguments, or a tensor or tuple of positional ones; "
            f"got {type(run).__name__}"
        )
    args, kwargs = arguments(run)
    tensors = [leaf for leaf in _torch.tree_flatten(run)[0] if isinstance(leaf, Tensor)]
    sizes = [tensor.shape[0] for tensor in tensors if tensor.ndim]
    own_args, own_kwargs = arguments(_repeated(example, max(sizes, default=1)))
    twice = set(kwargs) & set(own_kwargs)
    if twice:
        raise PrecomputeError(f"given by the example and by a run: {', '.join(sorted(twice))}")
    return (*own_args, *args), {**own_kwargs, **kwargs}


def _repeated(example: Any, count: int) -> Any:
    leaves, structure = _torch.tree_flatten(example)
    repeated = [
        leaf.repeat(count, *(1 for _ in leaf.shape[1:]))
        if isinstance(leaf, Tensor) and leaf.ndim and leaf.shape[0] == 1
        else leaf
        for leaf in leaves
    ]
    return _torch.tree_unflatten(repeated, structure)


def _varied(example: Any) -> Any:
    """The example with other values in its tensors."""
    leaves, structure = _torch.tree_flatten(example)
    noise = torch.Generator().manual_seed(0)
    varied = [_other(leaf, noise) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    pairs = zip(leaves, varied, strict=True)
    if all(not isinstance(a, Tensor) or torch.equal(a, b) for a, b in pairs):
        raise PrecomputeError(
            "the example has no tensor whose values could be varied, to check that the modules do "
            "not depend on it; give it the inputs that are not the condition"
        )
    return _torch.tree_unflatten(varied, structure)


def _other(leaf: Tensor, noise: torch.Generator) -> Tensor:
    if leaf.is_floating_point():
        return torch.randn(leaf.shape, generator=noise).to(leaf)
    if leaf.dtype == torch.bool or leaf.is_complex():
        return leaf
    # Values that are there already, or zero, are valid ids wherever the example's are.
    rolled = leaf.roll(1)
    return torch.zeros_like(leaf) if torch.equal(rolled, leaf) else rolled


def _rows(layout: Layout, seen: dict[str, _Seen]) -> Tensor:
    """Recorded outputs as rows ``(B, N)``, in a dtype that holds all of them exactly."""
    parts = [seen[site.name].output.reshape(-1, site.width) for site in layout]
    if len({len(part) for part in parts}) > 1:
        shapes = ", ".join(f"'{n}' {shape_of(seen[n].output)}" for n in layout.names)
        raise PrecomputeError(f"the modules give different numbers of rows: {shapes}")
    dtype = parts[0].dtype
    for part in parts:
        dtype = torch.promote_types(dtype, part.dtype)
    return torch.cat([part.to(dtype) for part in parts], dim=1)


def _site(name: str, seen: _Seen) -> Site:
    shape = tuple(seen.output.shape)
    wide = [i for i in range(1, len(shape)) if shape[i] != 1]
    if len(shape) < 2 or len(wide) > 1 or shape[0] != seen.samples:
        raise PrecomputeError(
            f"'{name}' gives {shape} for {seen.samples} samples; only one row (B, C) per sample "
            "can be precomputed (further axes may have size one)"
        )
    return Site(name, shape[wide[0]] if wide else 1, Shift(), wide[0] if wide else 1, 0)


# --- the copy ------------------------------------------------------------------------------------


def _stubbed(
    network: nn.Module, names: list[str], spare: list[str], seen: dict[str, _Seen]
) -> nn.Module:
    copied = share(network).eval()
    stubs: dict[int, TableModule] = {}
    for name in names + spare:
        output = seen[name].output
        # Negative zero is the one number to which every row can be added without changing a bit.
        value = -0.0 if name in names else 0.0
        module = copied.get_submodule(name)
        stubs[id(module)] = TableModule(tuple(output.shape[1:]), output.dtype, value)
    for name, module in list(copied.named_modules(remove_duplicate=False)):
        if id(module) in stubs:
            parent, _, child = name.rpartition(".")
            setattr(copied.get_submodule(parent), child, stubs[id(module)])
    return copied


def _restore_modes(copied: nn.Module, network: nn.Module) -> None:
    modes = {name: module.training for name, module in network.named_modules()}
    for name, module in copied.named_modules():
        module.training = modes.get(name, module.training)


def _bytes(network: nn.Module) -> int:
    return sum(p.numel() * p.itemsize for p in network.parameters())


# --- checks --------------------------------------------------------------------------------------


def _check_names(names: list[str], spare: list[str]) -> None:
    every = names + spare
    for name in every:
        inside = [other for other in every if other.startswith(f"{name}.")]
        if name == "" or inside or every.count(name) > 1:
            raise PrecomputeError(
                f"'{name}' cannot be replaced: it is the network itself, named twice, or has "
                f"others that are named within it ({', '.join(inside) or 'none'})"
            )


def _check_alone(
    network: nn.Module, names: list[str], run: Any, example: Any, seen: dict[str, _Seen]
) -> None:
    """Run again with other inputs beside the condition: the outputs must be the same."""
    _, again = _record(network, names, run, _varied(example))
    for name in names:
        if not torch.equal(seen[name].output, again[name].output):
            raise PrecomputeError(
                f"'{name}' depends on more than the condition: its output changed with the inputs "
                "of the example, or is random; name modules that see the condition alone"
            )


def _check_same(
    net: Conditioned, rows: Tensor, run: Any, example: Any, expected: Any, spare: list[str]
) -> None:
    args, kwargs = _joined(run, example)
    with net.using(task=rows):
        found = net.backbone(*args, **kwargs)
    pairs = list(_pairs(expected, found))
    if not pairs:
        raise PrecomputeError(
            "the network gives no tensors that could be compared; ask it for plain outputs "
            "(return_dict=False)"
        )
    if not all(torch.equal(a, b) for a, b in pairs):
        raise PrecomputeError(
            "the network with rows differs from the network without: "
            + (
                f"something else uses the outputs of {', '.join(spare)}"
                if spare
                else "it is random"
            )
        )


def _pairs(one: Any, other: Any) -> Iterator[tuple[Tensor, Tensor]]:
    for a, b in zip(_torch.tree_flatten(one)[0], _torch.tree_flatten(other)[0], strict=True):
        if isinstance(a, Tensor):
            yield a, b
