"""The hooks at the sites; they are objects so that deepcopy and pickle include them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, is_grad_enabled, nn
from torch.compiler import is_compiling
from torch.utils.hooks import RemovableHandle

from featurewise.core import ArgumentTypeError, LayoutError, ShapeError, Site, _torch
from featurewise.core._torch import graph_task
from featurewise.core.kernels import SMALL, compute_dtype, fast, modulate
from featurewise.core.plan import Pair, pair_fits
from featurewise.retrofit import calls
from featurewise.retrofit.calls import Call, Owner, Values
from featurewise.retrofit.errors import CallError
from featurewise.retrofit.module_features import batched_rank
from featurewise.retrofit.rows import RowMap, remedy, repeated


class SiteHook:
    """Modulates the features of one site while a call of its owner is active.

    Args:
        owner: identity of the conditioned network.
        site: the site.
        index: index of the site in its layout.
    """

    def __init__(self, owner: Owner, site: Site, index: int) -> None:
        self.owner = owner
        self.site = site
        self.index = index
        # Copied from the site: compiled code guards every attribute access on the way to a value.
        self.width, self.axis, self.batch_axis = site.width, site.axis, site.batch_axis
        self.name = site.name
        self._forms: dict[int, _Form | None] = {}  # by the number of axes of the features
        self._misfits: dict[str | None, str] = {}  # by `repeat`: why rows are not samples here
        self._mark = calls.traced_mark(owner, index)
        # Shape of the last features if they were few, B of their call, view of (B, C) or (C,).
        self._usual: tuple[tuple[int, ...], int | None, tuple[int, ...] | None] | None = None
        self._rank: int | None = None  # axes of batched features, if the batch axis may be missing

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._usual = None  # absent from older states, as is the name
        self.__dict__.update(state)
        self.name = self.site.name
        self._mark = calls.traced_mark(self.owner, self.index)  # a copy has its own owner

    def attach(self, module: nn.Module) -> RemovableHandle:
        """Register on the module of the site."""
        self._rank = batched_rank(module) if (self.axis, self.batch_axis) == (1, 0) else None
        if self.site.when == "input":
            return module.register_forward_pre_hook(self.before, with_kwargs=True)
        return module.register_forward_hook(self.after)

    def after(self, module: nn.Module, args: Any, output: Any) -> Any:
        """Forward hook: the module's output, modulated."""
        if not is_compiling():  # first: a compiler would guard whatever is read before
            y = self._quick(output)
            if y is not None:
                return y
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
        if self.site.leaf == 0 and args and not is_compiling():
            y = self._quick(args[0])
            if y is not None:
                return (y, *args[1:]), kwargs
        call, again = calls.find(self.owner)
        if call is None:
            return None
        if self.site.leaf == 0 and args and isinstance(args[0], Tensor):
            return (self._modulate(args[0], call, again), *args[1:]), kwargs
        inputs: tuple[tuple[Any, ...], dict[str, Any]]
        inputs = self._modulate_leaf((args, kwargs), call, again)
        return inputs

    def _quick(self, x: Any) -> Tensor | None:
        """What `_modulate` returns, in the most frequent case; None in all others.

        That is: the features have the shape of the last ones, and the formula takes them; the call
        that began last is this network's, and nothing about it is special. At a site of few
        features the time goes to Python. Therefore this is one function: it compares with what was
        prepared once for the call (``calls.prepare``) and once for the shape (`_prepared`).
        """
        stack, usual = calls.here.calls, self._usual
        if not stack or usual is None:
            return None
        call, (shape, batch, size) = stack[-1], usual
        if (
            call.owner is not self.owner
            or call.quick is None
            or call.backward != graph_task()  # a recomputation, which is another call's
            or call.tracker is not None
            or call.batch != batch
            or type(x) is not Tensor
            or x.shape != shape
            or x.dtype is not call.dtype
            or x.device != call.device
            or self._misfits
        ):
            return None
        pair = call.quick[self.index]
        if pair is None:
            return None
        y: Tensor = x
        scale, shift = pair
        if scale is not None:
            y = y * (scale if size is None else scale.view(size))
        if shift is not None:
            y = y + (shift if size is None else shift.view(size))
        call.visited.add(self.name)
        if is_grad_enabled():
            calls.keep(call, y)
        elif call.grad:
            self._keep_without_graph(call, y)
        return y

    def _modulate_leaf(self, tree: Any, call: Call, again: bool) -> Any:
        leaves, structure = _torch.tree_flatten(tree)
        leaf = self.site.leaf
        if leaf >= len(leaves) or not isinstance(leaves[leaf], Tensor):
            found = ", ".join(type(value).__name__ for value in leaves) or "nothing"
            raise ArgumentTypeError(
                f"site '{self.site.name}': {self.site.when} leaf {leaf} must be a tensor; "
                f"the leaves are: {found}"
            )
        leaves[leaf] = self._modulate(leaves[leaf], call, again)
        return _torch.tree_unflatten(leaves, structure)

    def _modulate(self, x: Tensor, call: Call, again: bool) -> Tensor:
        if is_compiling():
            return self._traced(x, call, again)
        if call.tracker is not None or self._misfits:
            self._check_rows(x, call)
        pair, batch = None if call.pairs is None else call.pairs[self.index], call.batch
        if call.rows is not None and pair is not None and batch is not None:
            pair, batch = self._expand_pair(pair, batch, x, call.rows)
        y = self._prepared(x, call, pair, batch)
        values = None
        if y is None:  # a form that the fast path does not handle, or an error
            values = self._values(x, call, again)
            y = self._checked(x, self._expand(_beside(values, x), x, call))
        if not again:
            self._note(call, values, y)
        return y

    def _checked(self, x: Tensor, values: Values) -> Tensor:
        """``Site.modulate``; if the number of rows does not fit, the error names a remedy."""
        self._check_rank(x.ndim)
        try:
            return self.site.modulate(x, values)
        except ShapeError as error:
            count, given = self._rows(x), self._batch(values)
            fits = -x.ndim <= self.axis < x.ndim and x.shape[self.axis] == self.width
            if not fits or count is None or given is None or count == given:
                raise
            raise ShapeError(f"{error}; {remedy(count, given)}") from None

    def _traced(self, x: Tensor, call: Call, again: bool) -> Tensor:
        """``_modulate`` for compilers, with as few guarded values as possible."""
        calls.note_traced(self._mark)
        pair = None if call.pairs is None else call.pairs[self.index]
        one_to_one = call.rows is None
        if (
            pair is None
            or not one_to_one
            or not pair_fits(x, pair, self.width, self.axis, self.batch_axis)
        ):
            values = _beside(self._values(x, call, again), x)
            return self._checked(x, values if one_to_one else self._expand(values, x, call))
        batch = None if self.batch_axis is None else self.batch_axis % x.ndim
        return modulate(x, pair[0], pair[1], self.axis % x.ndim, batch)

    # --- rows of the features and conditions -----------------------------------------------------

    def _rows(self, x: Tensor) -> int | None:
        """Number of rows of the features; None if they have no batch axis."""
        axis = self.batch_axis
        return None if axis is None or not -x.ndim <= axis < x.ndim else x.shape[axis]

    def _batch(self, values: Values) -> int | None:
        """Number of conditions that the values have; None if all samples share them."""
        for name, parameter in self.site.parameters.items():
            value = values.get(name)
            if value is not None and value.ndim > len(parameter.shape):
                return value.shape[0]
        return None

    def _expand(self, values: Values, x: Tensor, call: Call) -> Values:
        """Values with one row per row of the features, as ``call.rows`` maps them."""
        count = self._rows(x)
        local = call.parameters is None  # a local generator already has one row per feature row
        if call.rows is None or count is None or local or self._batch(values) is None:
            return values
        expand = call.rows.expand
        return {name: expand(value, self.site, x, count) for name, value in values.items()}

    def _expand_pair(
        self, pair: Pair, batch: int, x: Tensor, how: RowMap
    ) -> tuple[Pair | None, int]:
        count = self._rows(x)
        if count is None:
            return None, batch
        scale, shift = pair
        scale = None if scale is None else how.expand(scale, self.site, x, count)
        shift = None if shift is None else how.expand(shift, self.site, x, count)
        made = scale if scale is not None else shift
        return (scale, shift), batch if made is None else made.shape[0]

    def _check_rows(self, x: Tensor, call: Call) -> None:
        """Check that the rows of the features are samples, if there is a condition per sample.

        Raises:
            LayoutError: if they are known not to be.
        """
        count, flat = self._rows(x), None if call.parameters is None else call.parameters.flat
        repeat = None if call.rows is None else call.rows.repeat
        if count is None or flat is None or flat.ndim < 2 or flat.shape[0] < 2:
            return
        if (call.rows is not None and repeat is None) or count % flat.shape[0]:
            return  # an index needs no check; other sizes raise elsewhere
        if repeat is None and count != flat.shape[0]:
            return
        if call.tracker is not None and repeat not in self._misfits:
            samples = torch.arange(flat.shape[0])
            if repeat is not None:
                samples = repeated(samples, repeat, count, self.site.name)
            axis = (self.batch_axis or 0) % x.ndim
            why = call.tracker.trouble(x, axis, samples, ordered=repeat is not None)
            if why is not None:
                self._misfits[repeat] = why
        if repeat in self._misfits:
            raise LayoutError(
                f"site '{self.site.name}' has {count} rows for {flat.shape[0]} conditions, but "
                f"{self._misfits[repeat]}; pass rows=<index of the condition for each row>"
            )

    def _prepared(
        self, x: Tensor, call: Call, pair: Pair | None, batch: int | None
    ) -> Tensor | None:
        """``scale * x + shift`` with the pair of the call, or None if it does not fit.

        This is the hot path. It makes the checks of ``Site.modulate`` for the simplest form of
        parameters, (C,) and (B, C).
        """
        if pair is None or x.device != call.device:
            return None
        exact = x.dtype is call.dtype
        if not exact and compute_dtype(x) is not call.dtype:
            return None
        shape = x.shape
        rank = len(shape)
        form = self._forms[rank] if rank in self._forms else self._form(rank)
        if form is None or shape[form.axis] != self.width:
            return None
        size: tuple[int, ...] | None
        if batch is None:
            size = form.shared
        elif form.samples is None or shape[form.samples] != batch:
            return None
        else:
            size = form.view(batch)
        scale, shift = pair
        if not exact:
            return modulate(x, scale, shift, form.axis, form.samples)
        if not _torch.in_jit_trace():
            if scale is not None and shift is not None:
                y = fast(x, scale, shift, form.axis, form.samples)
                if y is not None:
                    return y
            if x.numel() < SMALL:  # these take the formula whatever their layout
                self._usual = tuple(shape), batch, size
        if scale is not None:
            x = x * (scale if size is None else scale.view(size))
        if shift is not None:
            x = x + (shift if size is None else shift.view(size))
        return x

    def _form(self, rank: int) -> _Form | None:
        self._check_rank(rank)
        made = self._forms[rank] = _form(self.site, rank)
        return made

    def _check_rank(self, rank: int) -> None:
        if self._rank is not None and rank == self._rank - 1:
            raise ShapeError(
                f"site '{self.site.name}': features with {rank} axes are one sample without a "
                "batch axis, so axis 1 holds no features; run a batch of one, x[None]"
            )

    def _values(self, x: Tensor, call: Call, again: bool) -> Values:
        own = call.values(self.site.name)
        if own is not None:
            return own
        if call.local is None:
            raise LayoutError(f"site '{self.site.name}': the call has no parameters")
        memory = self._recalled(call) if again else call.memory
        condition, count = call.condition, self._rows(x)
        if call.rows is not None and count is not None:
            condition = call.rows.expand_condition(condition, self.site, x, count)
        values, after = call.local(self.site, x, condition, memory)
        if not again:
            self._remember(call, memory)
            call.memory = after
        made: Values = values
        return made

    def _recalled(self, call: Call) -> Any:
        name = self.site.name
        if name not in call.entries:
            raise CallError(
                f"site '{name}' is in a compiled block inside an eager checkpoint, which cannot "
                "be recomputed with a local generator; pass "
                "context_fn=featurewise.retrofit.checkpoint_context to checkpoint()"
            )
        memory = call.entries[name]
        if memory is _REPEATED:
            raise CallError(
                f"site '{name}' ran several times in one call of a generator with memory, so its "
                "checkpointed region cannot be recomputed; move it out of the region"
            )
        return memory

    def _remember(self, call: Call, memory: Any) -> None:
        if is_compiling() or not is_grad_enabled():
            return
        name = self.site.name
        if name in call.entries:
            repeated = memory is not None or call.entries[name] is not None
            call.entries[name] = _REPEATED if repeated else None
            return
        leaves, structure = _torch.tree_flatten(memory)
        detached = [leaf.detach() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        call.entries[name] = _torch.tree_unflatten(detached, structure)

    def _note(self, call: Call, values: Values | None, y: Tensor) -> None:
        call.visited.add(self.site.name)
        if call.record is not None:
            call.record[self.site.name] = dict(values or call.values(self.site.name) or {})
        if is_grad_enabled():
            calls.keep(call, y)
        elif call.grad:
            self._keep_without_graph(call, y)

    def _keep_without_graph(self, call: Call, y: Tensor) -> None:
        """Keep a call that began with gradients, at a site under ``no_grad`` or the like."""
        if call.parameters is not None and not call.parameters.flat.requires_grad:
            calls.keep(call, y)
        elif _torch.in_function_forward():
            raise CallError(
                f"site '{self.site.name}' is in a region checkpointed with use_reentrant=True, "
                "where gradients of its parameters would be lost; checkpoint with "
                "use_reentrant=False"
            )


@dataclass(frozen=True)
class _Form:
    """How parameters of a site broadcast over features with a given number of axes."""

    axis: int
    samples: int | None
    shared: tuple[int, ...] | None  # view of (C,); None if it broadcasts unchanged
    around: tuple[
        tuple[int, ...], tuple[int, ...], tuple[int, ...]
    ]  # sizes of 1 before B, between B and C, after C
    width: int

    def view(self, batch: int) -> tuple[int, ...] | None:
        """View of (B, C); None if it broadcasts unchanged."""
        before, between, after = self.around
        if not (before or between or after):
            return None
        return (*before, batch, *between, self.width, *after)


def _form(site: Site, rank: int) -> _Form | None:
    """The form for features with ``rank`` axes; None if it needs the general path."""
    axis, samples = site.axis, site.batch_axis
    if not -rank <= axis < rank or (samples is not None and not -rank <= samples < rank):
        return None
    axis, samples = axis % rank, None if samples is None else samples % rank
    if samples is not None and samples >= axis:
        return None
    ones = [(1,) * n for n in (samples or 0, axis - (samples or 0) - 1, rank - 1 - axis)]
    shared = (site.width, *ones[2]) if ones[2] else None
    return _Form(axis, samples, shared, (ones[0], ones[1], ones[2]), site.width)


def _beside(values: Values, x: Tensor) -> Values:
    """``values`` on the device of ``x``."""
    device = x.device
    for value in values.values():
        if value.device != device:
            return {name: value.to(device) for name, value in values.items()}
    return values


_REPEATED: Final = "featurewise: ran several times"
