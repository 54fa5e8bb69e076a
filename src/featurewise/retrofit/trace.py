"""``Trace``: the graph of one run, to find the ends of residual branches and attention outputs.

A dry run on fake tensors records every operator and every call of a module. The answers are read
from this graph and do not depend on the names of classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from featurewise.core import _torch
from featurewise.retrofit.probe import arguments, run_on_fakes
from featurewise.retrofit.snapshot import Snapshot

#: Operators that move, cast or drop features and are tagged neither as views nor as pointwise.
_CARRIERS: Final = (
    *("_to_copy", "native_dropout", "_unsafe_view", "_reshape_copy", "copy_"),
    *("roll", "flip", "constant_pad_nd"),
)


@dataclass
class _Call:
    """One call of a module.

    Attributes:
        name: of the module.
        parent: number of the enclosing call; -1 for the outermost.
        first: number of the first value created in it.
        solid: whether the module has parameters, or computes more than element-wise functions.
    """

    name: str
    parent: int
    first: int
    solid: bool


@dataclass(frozen=True)
class _Value:
    """One tensor that depends on the inputs.

    Attributes:
        operator: name of the operator that created it; empty for an input.
        index: index among the results of the operator.
        parents: inputs of the operator.
        like: those of the parents of which it is an element-wise function.
        computed: whether it is more than an element-wise function.
        call: number of the call in which it was created; -1 outside of any.
        ancestors: bit set of all floating-point values it depends on, and itself; integers
            (tokens, labels) are left out.
    """

    operator: str
    index: int
    parents: tuple[int, ...]
    like: tuple[int, ...]
    computed: bool
    call: int
    ancestors: int


@dataclass(frozen=True)
class _Walk:
    """A backward search for the ends of a branch: sums at which it stops, visited nodes."""

    stop: set[int]
    seen: set[tuple[int, int]]


class Trace:
    """The run of a network on an example, as a graph of values and calls.

    Args:
        network: any network; it is not changed.
        example: its inputs, as ``condition`` takes them.

    Raises:
        LayoutError: if the network does not run on the example.
    """

    def __init__(self, network: nn.Module, example: Any) -> None:
        self._values: list[_Value] = []
        self._calls: list[_Call] = []
        self._returned: dict[int, list[int]] = {}  # value -> calls that return it, inner first
        self._open: list[int] = []
        self._numbers: dict[int, int] = {}  # id of a tensor -> value
        self._alive: list[Tensor] = []  # keeps ids unique
        self._network = network
        try:
            run_on_fakes(network, self._run, *arguments(example), Snapshot(network))
        finally:
            self._forget()

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for name, module in self._network.named_modules():
            self._hook(name, module)
        self._enter((args, kwargs))
        try:
            with _torch.watching(self._note):
                self._network(*args, **kwargs)
        finally:
            self._forget()

    def _forget(self) -> None:
        self._alive.clear()
        self._numbers.clear()

    # --- queries ---------------------------------------------------------------------------------

    def residual_ends(self) -> list[str]:
        """Names of the modules at which residual branches end.

        A sum is residual if one term depends on the other, the skip: ``x + f(x)``; or if both
        depend on one value and one is computed in fewer steps: a block with a projection in its
        skip. A branch ends at the module that computes its term, ignoring element-wise operators
        (dropout, gates, activations without a module); a sum of parallel branches has several
        ends. Of nested modules the innermost is taken.
        """
        sums = [n for n, value in enumerate(self._values) if len(value.like) == 2 and _adds(value)]
        residual: dict[int, tuple[int, int]] = {}  # sum -> its skip and its branch
        for number in sums:
            parts = self._direct(number) or self._further(number, residual)
            if parts is not None:
                residual[number] = parts
        found = [
            name
            for skip, branch in residual.values()
            for name in self._branch(skip, branch, set(residual))
        ]
        for number in (n for n in sums if n not in residual):
            parts = self._projected(number)
            if parts is not None:
                found += self._branch(*parts, set(sums))
        return list(dict.fromkeys(found))

    def attention_outputs(self) -> list[str]:
        """Names of the modules that return the output of an attention.

        An attention is a sum weighted by a softmax. Its output is that of the first module that
        computes with this sum: the output projection, or, if one module does both, that one.
        """
        attended = [n for n in range(len(self._values)) if self._attends(n)]
        calls = [self._following(n) for n in attended]
        return list(dict.fromkeys(self._calls[c].name for c in calls if c >= 0))

    # --- residual branches -----------------------------------------------------------------------

    def _direct(self, number: int) -> tuple[int, int] | None:
        """Skip and branch of a sum if one term depends on the other."""
        for skip, branch in self._orders(number):
            if self._values[branch].ancestors >> skip & 1:
                return skip, branch
        return None

    def _further(self, number: int, residual: dict[int, tuple[int, int]]) -> tuple[int, int] | None:
        """Skip and branch of a sum that adds a branch to a residual sum: ``(x + f(x)) + g(x)``."""
        for before, branch in self._orders(number):
            if before in residual:
                skip, _ = residual[before]
                if self._values[branch].ancestors >> skip & 1:
                    return skip, branch
        return None

    def _projected(self, number: int) -> tuple[int, int] | None:
        """Skip and branch of a sum if one term takes fewer steps from the common ancestor."""
        for skip, branch in self._orders(number):
            less, more = self._values[skip].ancestors, self._values[branch].ancestors
            if less & more and self._steps(less & ~more) < self._steps(more & ~less):
                return skip, branch
        return None

    def _orders(self, number: int) -> tuple[tuple[int, int], tuple[int, int]]:
        first, second = self._values[number].like
        return (first, second), (second, first)

    def _steps(self, ancestors: int) -> int:
        return sum(self._values[n].computed for n in _bits(ancestors))

    def _branch(self, skip: int, branch: int, stop: set[int]) -> list[str]:
        """Modules that compute the term ``branch`` and do not contribute to ``skip``."""
        ends = self._ends(branch, -1, _Walk(stop, set()))
        before = self._values[skip].ancestors
        return [self._calls[call].name for value, call in ends if not before >> value & 1]

    def _ends(self, number: int, outer: int, walk: _Walk) -> list[tuple[int, int]]:
        """Values upstream of a value, with the innermost calls in ``outer`` that return them."""
        while (number, outer) not in walk.seen:
            walk.seen.add((number, outer))
            calls = [c for c in self._returned.get(number, ()) if self._within(c, outer)]
            if calls:
                return self._ends(number, calls[-1], walk) or [(number, calls[-1])]
            if number in walk.stop:
                return []
            value = self._values[number]
            if len(value.like) != 1:
                return self._beyond(number, value, outer, walk)
            (number,) = value.like
        return []

    def _beyond(self, number: int, value: _Value, outer: int, walk: _Walk) -> list[tuple[int, int]]:
        """Both terms of a sum; for other operators the latest input that a module returned."""
        if len(value.like) == 2 and _adds(value):
            return [end for n in value.like for end in self._ends(n, outer, walk)]
        back = (self._ends(n, outer, walk) for n in sorted(value.like, reverse=True))
        return next((ends for ends in back if ends), [])

    def _within(self, call: int, outer: int) -> bool:
        while call >= 0:
            call = self._calls[call].parent
            if call == outer:
                return True
        return False

    # --- attention -------------------------------------------------------------------------------

    def _attends(self, number: int) -> bool:
        value = self._values[number]
        if "scaled_dot_product" in value.operator or _whole(value):
            return value.index == 0
        multiplies = value.operator in ("bmm", "mm", "baddbmm", "matmul")
        return multiplies and any(self._softmaxed(n) for n in value.parents)

    def _softmaxed(self, number: int) -> bool:
        """Whether a value is an element-wise function of the result of a softmax."""
        todo, seen = [number], {number}
        while todo:
            value = self._values[todo.pop()]
            if "softmax" in value.operator:
                return True
            todo += [n for n in value.like if n not in seen]
            seen.update(value.like)
        return False

    def _following(self, attended: int) -> int:
        """The call that first computes with a value; -1 if that is in no module."""
        own = self._values[attended].call
        if _whole(self._values[attended]):
            return own
        reached = {attended}
        for number in range(attended + 1, len(self._values)):
            value = self._values[number]
            if not reached.intersection(value.parents):
                continue
            if value.computed:
                return value.call
            if not (len(value.like) == 2 and _adds(value)):
                reached.add(number)
        return own

    # --- recording -------------------------------------------------------------------------------

    def _hook(self, name: str, module: nn.Module) -> None:
        weighted = next(module.parameters(), None) is not None

        def begin(module: nn.Module, args: Any) -> None:
            parent = self._open[-1] if self._open else -1
            self._open.append(len(self._calls))
            self._calls.append(_Call(name, parent, len(self._values), weighted))

        def end(module: nn.Module, args: Any, output: Any) -> None:
            call = self._open.pop()
            for leaf in _torch.tree_flatten(output)[0]:
                number = self._numbers.get(id(leaf))
                if number is not None and number >= self._calls[call].first:
                    self._return(number, call)

        module.register_forward_pre_hook(begin, prepend=True)
        module.register_forward_hook(end)

    def _return(self, number: int, call: int) -> None:
        if self._calls[call].solid:
            self._returned.setdefault(number, []).append(call)

    def _enter(self, inputs: Any) -> None:
        """Note the inputs of the network."""
        for leaf in _torch.tree_flatten(inputs)[0]:
            if isinstance(leaf, Tensor):
                self._add(leaf, "", 0, (), (), True)

    def _note(self, operator: Any, inputs: Any, result: Any) -> None:
        """Note one operator."""
        before = [t for t in _torch.tree_flatten(inputs)[0] if isinstance(t, Tensor)]
        parents = [(t, self._numbers[id(t)]) for t in before if id(t) in self._numbers]
        if not parents:
            return
        name = operator.name().partition("::")[2].partition(".")[0]
        if name.endswith("_like") or name.startswith("new_"):
            return  # uses the shape of a tensor, but not its values
        carries = name in _CARRIERS or operator.is_view
        single = carries or torch.Tag.pointwise in operator.tags
        numbers = tuple(dict.fromkeys(n for _, n in parents))
        for index, leaf in enumerate(_torch.tree_flatten(result)[0]):
            if isinstance(leaf, Tensor):
                like = [n for t, n in parents if single and (carries or t.shape == leaf.shape)]
                self._add(leaf, name, index, numbers, tuple(dict.fromkeys(like)), not single)

    def _add(
        self,
        tensor: Tensor,
        operator: str,
        index: int,
        parents: tuple[int, ...],
        like: tuple[int, ...],
        computed: bool,
    ) -> None:
        number = len(self._values)
        ancestors = 0
        if tensor.is_floating_point():
            ancestors = 1 << number
            for parent in parents:
                ancestors |= self._values[parent].ancestors
        call = self._open[-1] if self._open else -1
        self._values.append(_Value(operator, index, parents, like, computed, call, ancestors))
        self._numbers[id(tensor)] = number
        self._alive.append(tensor)
        while computed and call >= 0:
            self._calls[call].solid = True
            call = self._calls[call].parent


def _adds(value: _Value) -> bool:
    return value.operator in ("add", "add_")


def _whole(value: _Value) -> bool:
    """Whether the operator is a fused attention of torch, including its projections."""
    return "multi_head_attention" in value.operator


def _bits(number: int) -> Iterator[int]:
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest
