"""``precompute``: replace the built-in conditioning modules of a network by a bank of outputs."""

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
    map from the condition to scales, shifts and gates. These are about a third of all parameters,
    and there are only as many conditions as timesteps and classes in use. Their outputs are
    recorded for every run, in evaluation mode. In a copy of the network, which shares all other
    parameters and buffers, they are replaced by modules without parameters (``TableModule``)
    whose output is the row of the condition:

        net = precompute(dit, "transformer_blocks.*.norm1.linear", runs, example=latents)
        net(latents, timestep=t, class_labels=c, condition=ids)

    The arguments that carry the condition must still be passed, since their shape determines the
    number of samples; their values are not read. Two checks are made on the first run: the
    outputs must not change with the other inputs, and the copy must equal the network. Row i is
    exact for the batch in which it was recorded: in a batch of another size a matrix product may
    round differently.

    Args:
        network: any network; it is neither changed nor run (a copy is).
        at: the modules, as in ``condition``; each must return a tensor ``(B, C)``, possibly with
            further axes of size 1.
        runs: the conditions. For each run, the arguments of the network that carry them: a dict
            of keyword arguments, or a tensor or tuple of positional arguments, which follow those
            of the example. A run of B samples gives B rows.
        example: all other arguments of the network: a tensor, a tuple of positional or a dict of
            keyword arguments. A single sample is repeated to the batch size of each run. Spatial
            sizes do not affect the rows, so use small ones.
        also: modules whose outputs only the modules at ``at`` use (embeddings of the condition);
            they are replaced by modules that return zeros.
        ids: names of the rows.
        dtype: dtype of the stored rows; the largest rounding error is measured and reported.
        path: write the rows to a bank file, and read them from there.

    Returns:
        The copy, conditioned by a ``Bank`` with one ``Shift`` per replaced module. Its modules have
        the training modes of the network.

    Raises:
        PrecomputeError: an output that depends on more than the condition, or has positions; a
            module that is never called; nested modules; a patched ``forward``; or outputs of the
            copy that differ, since other modules use an output of ``also``.
        LayoutError: a selector without a match.
        ArgumentTypeError: an argument of the wrong type.

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
        _check_independent(recorded, names, first, example, seen)
        layout = Layout(tuple(_site(name, seen[name]) for name in names))
        rows = _rows(layout, seen)
        net = Conditioned(_replaced(network, names, spare, seen), Bank(layout, rows), layout)
        _check_same(net, rows, first, example, expected, spare)
        rest = (_rows(layout, _record(recorded, names, run, example)[1]) for run in todo)
        saved = _bytes(network) - _bytes(net.backbone)
        net.replace_generator(collect(layout, chain([rows], rest), ids, dtype, path, saved))
    _restore_modes(net.backbone, network)
    return net


def share(network: nn.Module) -> nn.Module:
    """A copy of the modules of a network that shares its parameters and buffers.

    Raises:
        PrecomputeError: if the ``forward`` of a module instance is patched: the patch of a copy
            may still run the original.
    """
    for name, module in network.named_modules():
        if "forward" in vars(module):
            raise PrecomputeError(
                f"the forward of '{name}' ({type(module).__name__}) is patched or compiled, so "
                "that a copy would still run the original; precompute before that"
            )
    memo: dict[int, Any] = {id(t): t for t in chain(network.parameters(), network.buffers())}
    return copy.deepcopy(network, memo)


class TableModule(nn.Module):
    """Replaces a module: returns a constant tensor with one row per sample of its inputs.

    A site hook adds the row of the bank to it.

    Args:
        shape: shape of the output, without the batch axis.
        dtype: dtype of the output.
        value: the constant.
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, value: float) -> None:
        super().__init__()
        self.shape, self.dtype, self.value = shape, dtype, value

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """``(B, *shape)``; B is the size of the first axis of the input tensors."""
        batch_size, device = _batch_of(args, kwargs)
        return torch.full((batch_size, *self.shape), self.value, dtype=self.dtype, device=device)

    def extra_repr(self) -> str:
        """Shape and dtype, for ``repr``."""
        return f"{self.shape}, {self.dtype}"


def _batch_of(args: Any, kwargs: Any) -> tuple[int, torch.device]:
    """Batch size and device of inputs; inputs shared by all samples have a first axis of size 1."""
    found: Tensor | None = None
    for leaf in _torch.tree_flatten((args, kwargs))[0]:
        if not isinstance(leaf, Tensor) or leaf.ndim == 0:
            continue
        if found is not None and 1 not in (leaf.shape[0], found.shape[0]):
            if leaf.shape[0] != found.shape[0]:
                raise PrecomputeError(
                    "inputs of a precomputed module have different batch sizes: "
                    f"{shape_of(found)} and {shape_of(leaf)}"
                )
            continue
        if found is None or found.shape[0] == 1:
            found = leaf
    if found is None:
        raise PrecomputeError(
            "a precomputed module received no tensor with one row per sample, so the batch size is "
            "unknown; pass the condition to the network too (its values are not read)"
        )
    return found.shape[0], found.device


# --- recording -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Seen:
    """Output of a module, and the batch size of its inputs."""

    output: Tensor
    batch_size: int


def _record(
    network: nn.Module, names: list[str], run: Any, example: Any
) -> tuple[Any, dict[str, _Seen]]:
    """Output of the network, and outputs of its modules ``names``."""
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
        raise PrecomputeError(f"never called as modules: {', '.join(missed)}")
    return output, seen


def _watch(module: nn.Module, name: str, seen: dict[str, _Seen]) -> Any:
    def note(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if not is_float(output):
            raise PrecomputeError(
                f"'{name}' returns {type(output).__name__}, not one floating-point tensor; name "
                "modules inside it"
            )
        before = seen.get(name)
        if before is not None and not torch.equal(before.output, output):
            raise PrecomputeError(f"'{name}' is called several times with different outputs")
        seen[name] = _Seen(output.detach().clone(), _batch_of(args, kwargs)[0])

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
    rng = torch.Generator().manual_seed(0)
    varied = [_other(leaf, rng) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    pairs = zip(leaves, varied, strict=True)
    if all(not isinstance(a, Tensor) or torch.equal(a, b) for a, b in pairs):
        raise PrecomputeError(
            "the example has no tensor whose values can be varied, to check that the modules do "
            "not depend on it; pass the inputs that are not the condition as the example"
        )
    return _torch.tree_unflatten(varied, structure)


def _other(leaf: Tensor, rng: torch.Generator) -> Tensor:
    if leaf.is_floating_point():
        return torch.randn(leaf.shape, generator=rng).to(leaf)
    if leaf.dtype == torch.bool or leaf.is_complex():
        return leaf
    # Values of the example, and zero, are valid ids.
    rolled = leaf.roll(1)
    return torch.zeros_like(leaf) if torch.equal(rolled, leaf) else rolled


def _rows(layout: Layout, seen: dict[str, _Seen]) -> Tensor:
    """Recorded outputs as rows ``(B, N)``, in a dtype that represents all of them exactly."""
    parts = [seen[site.name].output.reshape(-1, site.width) for site in layout]
    if len({len(part) for part in parts}) > 1:
        shapes = ", ".join(f"'{n}' {shape_of(seen[n].output)}" for n in layout.names)
        raise PrecomputeError(f"the modules return different numbers of rows: {shapes}")
    dtype = parts[0].dtype
    for part in parts:
        dtype = torch.promote_types(dtype, part.dtype)
    return torch.cat([part.to(dtype) for part in parts], dim=1)


def _site(name: str, seen: _Seen) -> Site:
    shape = tuple(seen.output.shape)
    wide = [i for i in range(1, len(shape)) if shape[i] != 1]
    if len(shape) < 2 or len(wide) > 1 or shape[0] != seen.batch_size:
        raise PrecomputeError(
            f"'{name}' returns {shape} for a batch of {seen.batch_size}; only one row per sample, "
            "(B, C), can be precomputed (further axes may have size 1)"
        )
    return Site(name, shape[wide[0]] if wide else 1, Shift(), wide[0] if wide else 1, 0)


# --- the copy ------------------------------------------------------------------------------------


def _replaced(
    network: nn.Module, names: list[str], spare: list[str], seen: dict[str, _Seen]
) -> nn.Module:
    copied = share(network).eval()
    tables: dict[int, TableModule] = {}
    for name in names + spare:
        output = seen[name].output
        # Adding a row to negative zero changes no bit of it; adding it to zero changes -0.0 to 0.0.
        value = -0.0 if name in names else 0.0
        module = copied.get_submodule(name)
        tables[id(module)] = TableModule(tuple(output.shape[1:]), output.dtype, value)
    for name, module in list(copied.named_modules(remove_duplicate=False)):
        if id(module) in tables:
            parent, _, child = name.rpartition(".")
            setattr(copied.get_submodule(parent), child, tables[id(module)])
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
                f"'{name}' cannot be replaced: it is the network itself, selected twice, or "
                f"contains other selected modules ({', '.join(inside) or 'none'})"
            )


def _check_independent(
    network: nn.Module, names: list[str], run: Any, example: Any, seen: dict[str, _Seen]
) -> None:
    """Run again with the same condition and other inputs: the outputs must be equal."""
    _, again = _record(network, names, run, _varied(example))
    for name in names:
        if not torch.equal(seen[name].output, again[name].output):
            raise PrecomputeError(
                f"'{name}' depends on more than the condition: its output changed with the inputs "
                "of the example, or is random; select modules whose only input is the condition"
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
            "the network returns no tensors to compare; let it return plain outputs "
            "(return_dict=False)"
        )
    if not all(torch.equal(a, b) for a, b in pairs):
        raise PrecomputeError(
            "the network with precomputed rows differs from the original: "
            + (f"other modules use the outputs of {', '.join(spare)}" if spare else "it is random")
        )


def _pairs(one: Any, other: Any) -> Iterator[tuple[Tensor, Tensor]]:
    for a, b in zip(_torch.tree_flatten(one)[0], _torch.tree_flatten(other)[0], strict=True):
        if isinstance(a, Tensor):
            yield a, b
