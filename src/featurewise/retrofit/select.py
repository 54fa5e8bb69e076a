"""Select modules of a network: by patterns, types and predicates, which can be combined."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, overload

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils.parametrize import ParametrizationList

from featurewise.core import Affine, ArgumentTypeError, LayoutError, Operation, operation_of
from featurewise.core.patterns import expression
from featurewise.core.site import table
from featurewise.layers.film import FiLM
from featurewise.retrofit.module_features import features_of
from featurewise.retrofit.snapshot import Snapshot
from featurewise.retrofit.trace import Trace

#: Selects modules: a pattern of names, a type, a predicate of (name, module), or a selection.
Selector: TypeAlias = "str | type[nn.Module] | Callable[[str, nn.Module], bool] | Selection"

#: Type of ``at``: selectors, or selectors with the operation of each.
Where: TypeAlias = "Selector | Sequence[Selector] | Mapping[Selector, Operation | str]"


def select(network: nn.Module) -> Selection:
    """All modules of a network, to be narrowed down by the methods of ``Selection``.

    Args:
        network: any network; nothing in it is changed.

    Raises:
        ArgumentTypeError: if it is not a module.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        >>> list(select(network).norms())
        ['1']
        >>> list(select(network).named("*").but(nn.ReLU))
        ['0', '1']
    """
    if not isinstance(network, nn.Module):
        raise ArgumentTypeError(f"network must be a module, got {type(network).__name__}")
    return Selection(network, tuple((name, None) for name, _ in network.named_modules()))


@dataclass(frozen=True)
class Selection:
    """Some modules of one network, optionally with operations. Made by ``select``.

    A selection is immutable; each method returns a narrower one, or raises ``LayoutError`` if it
    would be empty. It iterates over names, in the order of the network. A module with several
    names appears once, under its first name. ``a | b``, ``a & b`` and ``a - b`` are the set
    operations; a slice is a selection again.

    Attributes:
        network: the network.
        sites: names, each with its operation; None: the default of ``condition``.

    Example:
        >>> from featurewise.core import Gate
        >>> network = nn.TransformerEncoderLayer(16, 2, 32)
        >>> both = select(network).norms() | select(network).named("linear2").using(Gate())
        >>> print(both)
        site     module     operation  axis  width
        linear2  Linear     Gate()       -1     16
        norm1    LayerNorm               -1     16
        norm2    LayerNorm               -1     16
        3 sites
    """

    network: nn.Module = field(repr=False)
    sites: tuple[tuple[str, Operation | None], ...]

    # --- narrowing -------------------------------------------------------------------------------

    def named(self, pattern: str) -> Selection:
        """Modules whose name matches: ``*`` within one component, ``**`` any number of components.

        Raises:
            LayoutError: if none does; the message names close matches.
            ArgumentTypeError: if the pattern is not a string.
        """
        if not isinstance(pattern, str):
            raise ArgumentTypeError(f"pattern must be a string, got {type(pattern).__name__}")
        return self._matching(pattern)

    def of(self, *types: type[nn.Module]) -> Selection:
        """Modules of one of these types.

        Raises:
            LayoutError: if there is none; the message names the existing types.
            ArgumentTypeError: if an argument is not a module type.
        """
        kinds = tuple(_kind(kind) for kind in types)
        names = " or ".join(kind.__name__ for kind in kinds) or "of no type"
        return self._kept(lambda name, module: isinstance(module, kinds), f"is {names}")

    def where(self, predicate: Callable[[str, nn.Module], bool]) -> Selection:
        """Modules for which ``predicate(name, module)`` is true.

        Raises:
            LayoutError: if there is none.
            ArgumentTypeError: if it is not a function.
        """
        if not callable(predicate) or isinstance(predicate, type):
            raise ArgumentTypeError(
                f"predicate must be a function (name, module) -> bool: {predicate!r}"
            )
        return self._matching(predicate)

    def inside(self, selector: Selector) -> Selection:
        """Modules at any depth inside a module that the selector matches, without that module.

        Raises:
            LayoutError: if the selector matches nothing in the network, or nothing is inside.
            ArgumentTypeError: if it is not a selector.
        """
        outer = set(_selected(self.network, selector))
        every = _every_name(self.network)
        inner = {
            name for name in self if any(o in outer for full in every[name] for o in _above(full))
        }
        return self._only(inner, f"is inside {_text(selector)}")

    def but(self, selector: Selector) -> Selection:
        """All modules except those that the selector matches.

        Raises:
            LayoutError: if it matches none of these, or all.
            ArgumentTypeError: if it is not a selector.
        """
        excluded = set(self._matching(selector))
        return self._only(set(self) - excluded, f"is left without {_text(selector)}")

    def first(self, count: int = 1) -> Selection:
        """The first ``count`` modules, in the order of the network."""
        return self[: _positive(count)]

    def last(self, count: int = 1) -> Selection:
        """The last ``count`` modules, in the order of the network."""
        return self[-_positive(count) :]

    # --- presets ---------------------------------------------------------------------------------

    def norms(self) -> Selection:
        """Every normalisation.

        Norms of torch, and modules without children whose class name contains ``Norm``
        (``LlamaRMSNorm``, ``T5LayerNorm``, ...) and whose parameters, if any, are vectors.

        Raises:
            LayoutError: if there is none.
        """
        return self._kept(_is_norm, "is a normalisation")

    def residual_branches(self, example: Any) -> Selection:
        """The last module of every residual branch: the one whose output is added to the skip.

        Found in a dry run, independent of class names: a sum of two tensors of equal shape where
        one depends on the other (``x + f(x)``), or where both depend on one tensor and one takes
        fewer steps (a block with a projection in its skip). The innermost module is returned;
        dropout, gates and activations between it and the sum are ignored, and a sum of parallel
        branches gives the end of each.

        Args:
            example: inputs of the network, as for ``condition``; the run is on fake tensors.

        Raises:
            LayoutError: if there is none, or the network does not run on the example.
        """
        found = set(Trace(self.network, example).residual_ends())
        return self._only(found, "ends a residual branch when run on the example")

    def attention_outputs(self, example: Any) -> Selection:
        """The modules that return the output of every attention, self or cross.

        Found in a dry run: the first module that computes with a sum weighted by a softmax. That
        is the output projection, or, if one module does both, that module.

        Args:
            example: inputs of the network, as for ``condition``; the run is on fake tensors.

        Raises:
            LayoutError: if there is none, or the network does not run on the example.
        """
        found = set(Trace(self.network, example).attention_outputs())
        return self._only(found, "returns the output of an attention when run on the example")

    def last_stage(self) -> Selection:
        """The last stage of the network, and all modules in it.

        Stages are numbered blocks: siblings such as ``layer1`` ... ``layer4``, the members of a
        ``ModuleList``, or members of a ``Sequential`` that share their class, if they contain
        modules. Of several such groups the one with the most parameters is used; of equal ones
        the outermost, then the last. For a U-Net this is the last block of the decoder, for a
        transformer its last layer.

        Raises:
            LayoutError: if there are no numbered blocks.
        """
        stage = _last_stage(self.network)
        inner = {name for name in self if stage in (name, *_above(name))}
        return self._only(inner if stage else set(), "is in the last of several numbered blocks")

    # --- composing -------------------------------------------------------------------------------

    def using(self, operation: Operation | str) -> Selection:
        """The same modules, all with this operation or the one of this name.

        Raises:
            ArgumentTypeError: if it is neither an operation nor a string.
            OperationError: an unknown name.
        """
        made = operation_of(operation)
        return Selection(self.network, tuple((name, made) for name in self))

    def __or__(self, other: Selection) -> Selection:
        """Modules of either.

        Raises:
            LayoutError: for selections of different networks, or a module with two operations.
            ArgumentTypeError: if ``other`` is not a selection.
        """
        mine, theirs = dict(self.sites), dict(self._peer(other).sites)
        return self._of(
            {n: _agreed(n, mine.get(n), theirs.get(n)) for n in (*mine, *theirs)},
        )

    def __and__(self, other: Selection) -> Selection:
        """Modules of both.

        Raises:
            LayoutError: if there is none; and as ``|``.
            ArgumentTypeError: if ``other`` is not a selection.
        """
        theirs = dict(self._peer(other).sites)
        both = {n: _agreed(n, own, theirs[n]) for n, own in self.sites if n in theirs}
        if not both:
            raise LayoutError(f"no module is in both selections, of {len(self)} and {len(other)}")
        return self._of(both)

    def __sub__(self, other: Selection) -> Selection:
        """Modules of this selection that are not in the other.

        Raises:
            LayoutError: if there is none; and for selections of different networks.
            ArgumentTypeError: if ``other`` is not a selection.
        """
        theirs = set(self._peer(other))
        remaining = {name: own for name, own in self.sites if name not in theirs}
        if not remaining:
            raise LayoutError(f"all {len(self)} modules are in the other selection, too")
        return self._of(remaining)

    # --- looking ---------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the modules, in the order of the network."""
        return tuple(name for name, _ in self.sites)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.sites)

    def __contains__(self, name: object) -> bool:
        """Whether the module of that (first) name is among them."""
        return name in self.names

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Selection: ...

    def __getitem__(self, index: int | slice) -> str | Selection:
        """The name at an index, or the selection of a slice.

        Raises:
            LayoutError: if the index is out of range or the slice is empty.
            ArgumentTypeError: for an index of another type.
        """
        if isinstance(index, slice):
            part = self.sites[index]
            if not part:
                raise LayoutError(f"the slice of {len(self)} modules is empty")
            return Selection(self.network, part)
        if not isinstance(index, int):
            raise ArgumentTypeError(
                f"index must be a number or a slice, got {type(index).__name__}"
            )
        if not -len(self) <= index < len(self):
            raise LayoutError(f"no module {index}, there are {len(self)}")
        return self.sites[index][0]

    def __str__(self) -> str:
        """A table; axis and width are empty if only a dry run can find them."""
        rows = [("site", "module", "operation", "axis", "width")]
        with Snapshot(self.network):
            for name, operation in self.sites:
                module = self.network.get_submodule(name)
                features = features_of(module, "output")
                axis, width = (
                    ("", "") if features is None else (str(features.axis), str(features.width))
                )
                given = "" if operation is None else str(operation)
                rows.append((name, type(module).__name__, given, axis, width))
        return table([*rows, (f"{len(self)} sites", "", "", "", "")], left=3)

    # --- internal --------------------------------------------------------------------------------

    def _of(self, sites: Mapping[str, Operation | None]) -> Selection:
        order = (name for name, _ in self.network.named_modules())
        return Selection(self.network, tuple((n, sites[n]) for n in order if n in sites))

    def _only(self, names: set[str], clause: str, pattern: str | None = None) -> Selection:
        kept = tuple((name, own) for name, own in self.sites if name in names)
        if not kept:
            raise LayoutError(_nothing(self, clause, pattern))
        return Selection(self.network, kept)

    def _kept(
        self, test: Callable[[str, nn.Module], bool], clause: str, pattern: str | None = None
    ) -> Selection:
        every = _every_name(self.network)
        names = {
            name
            for name in self
            if any(test(full, self.network.get_submodule(name)) for full in every[name])
        }
        return self._only(names, clause, pattern)

    def _matching(self, selector: Selector) -> Selection:
        if isinstance(selector, Selection):
            return self._only(set(self._peer(selector)), f"is in {_text(selector)}")
        return self._kept(_test(selector), _clause(selector), _pattern(selector))

    def _peer(self, other: object) -> Selection:
        if not isinstance(other, Selection):
            raise ArgumentTypeError(
                f"expected a Selection of this network, got {type(other).__name__}"
            )
        _check_network(self.network, other)
        return other


# --- for condition -------------------------------------------------------------------------------


def resolve(
    network: nn.Module, at: Where, operation: Operation | str | None = None
) -> dict[str, Operation]:
    """Names of the modules that ``at`` selects, in the order of the network, with operations.

    Args:
        network: the network; its ``named_modules`` are searched.
        at: a selector, a sequence of selectors, or a mapping selector -> operation.
        operation: operation, or its name, for modules whose selector has none. Default: at a
            ``FiLM`` layer without a generator the operation of that layer, elsewhere
            ``Affine()``.

    Raises:
        LayoutError: a selector that matches nothing, one of another network, or two with different
            operations for one module.
        OperationError: an unknown name.
        ArgumentTypeError: a selector or an operation of the wrong type.
    """
    default = None if operation is None else operation_of(operation)
    chosen: dict[str, Operation | None] = {}
    for selector, given in _pairs(at):
        for name, own in _selected(network, selector).sites:
            by = f", by {_text(selector)},"
            chosen[name] = _agreed(name, chosen.get(name), _agreed(name, own, given, by), by)
    if not chosen:
        raise LayoutError("at selects no module")
    resolved = {}
    for name, module in network.named_modules():
        if name in chosen:
            given = default if chosen[name] is None else chosen[name]
            resolved[name] = _default(module) if given is None else given
    return resolved


def _pairs(at: Where) -> list[tuple[Selector, Operation | None]]:
    if isinstance(at, Mapping):
        return [(key, operation_of(own, f"operation of {_text(key)}")) for key, own in at.items()]
    if isinstance(at, Sequence) and not isinstance(at, str):
        return [(selector, None) for selector in at]
    return [(at, None)]


def _selected(network: nn.Module, selector: Selector) -> Selection:
    if not isinstance(selector, Selection):
        return select(network)._matching(selector)
    _check_network(network, selector)
    return selector


def _check_network(network: nn.Module, selection: Selection) -> None:
    if selection.network is not network:
        raise LayoutError(
            f"a selection of another network, a {type(selection.network).__name__}; select from "
            "this very network (a copy is a different one)"
        )
    there = {name for name, _ in network.named_modules()}
    gone = [name for name in selection if name not in there]
    if gone:
        raise LayoutError(
            f"the network has changed since the selection, it has no {', '.join(gone)}; select "
            "after all changes of the network"
        )


def _agreed(
    name: str, one: Operation | None, other: Operation | None, by: str = ""
) -> Operation | None:
    if one is not None and other is not None and one != other:
        raise LayoutError(
            f"two selectors match '{name}' with different operations: {one} and{by} {other}"
        )
    return other if one is None else one


def _default(module: nn.Module) -> Operation:
    """The operation of a ``FiLM`` layer without a generator, else FiLM."""
    return next(iter(module.layout)).operation if isinstance(module, FiLM) else Affine()


def count_parameters(network: nn.Module) -> int | None:
    """Number of parameters of a network; None where some are not yet initialised."""
    parameters = list(network.parameters())
    if any(isinstance(parameter, UninitializedParameter) for parameter in parameters):
        return None
    return sum(parameter.numel() for parameter in parameters)


# --- selectors -----------------------------------------------------------------------------------


def _test(selector: Selector) -> Callable[[str, nn.Module], bool]:
    if isinstance(selector, str):
        compiled = re.compile(expression(selector))
        return lambda name, module: compiled.fullmatch(name) is not None
    if isinstance(selector, type):
        kind = _kind(selector)
        return lambda name, module: isinstance(module, kind)
    if callable(selector):
        return selector
    raise ArgumentTypeError(
        "at takes a pattern, a module type, a function (name, module) -> bool, a selection, a "
        f"sequence of these or a mapping of these to operations; got {type(selector).__name__}"
    )


def _kind(kind: object) -> type[nn.Module]:
    if not isinstance(kind, type) or not issubclass(kind, nn.Module):
        raise ArgumentTypeError(
            f"expected a module type, got {getattr(kind, '__name__', repr(kind))}"
        )
    return kind


def _every_name(network: nn.Module) -> dict[str, list[str]]:
    """First name of each module -> all its names."""
    first = {id(module): name for name, module in network.named_modules()}
    every: dict[str, list[str]] = {name: [] for name in first.values()}
    for name, module in network.named_modules(remove_duplicate=False):
        every[first[id(module)]].append(name)
    return every


def _above(name: str) -> list[str]:
    """Names of the modules around a module, including the network itself."""
    parts = name.split(".") if name else []
    return [".".join(parts[:i]) for i in range(len(parts))]


def _positive(count: object) -> int:
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ArgumentTypeError(f"count must be a positive number, got {count!r}")
    return count


# --- rules of the presets ------------------------------------------------------------------------

_NORM = re.compile(r"Norm(?![a-z])")


def _is_norm(name: str, module: nn.Module) -> bool:
    if isinstance(module, (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)):
        return True
    kind = type(module).__name__
    return (
        _NORM.search(kind) is not None
        and not kind.startswith(("No", "_"))  # NoNorm; torch's reparametrisation _WeightNorm
        and next(module.children(), None) is None
        and all(max(p.shape, default=1) == p.numel() for p in module.parameters(recurse=False))
    )


def _last_stage(network: nn.Module) -> str:
    """Name of the last block of the numbered group with the most parameters; empty if none."""
    best, most = "", 0
    groups = (group for name, module in network.named_modules() for group in _groups(name, module))
    for group in sorted(groups, key=lambda group: group[0].count(".")):
        size = sum(count_parameters(network.get_submodule(name)) or 0 for name in group)
        deeper = best and group[0].count(".") > best.count(".")
        if size > most or (size == most and size and not deeper):
            best, most = group[-1], size
    return best


def _groups(name: str, module: nn.Module) -> Iterator[list[str]]:
    """Numbered blocks among the children of a module, in the order of their numbers."""
    if isinstance(module, (ParametrizationList, nn.ModuleDict)):
        return
    numbered: dict[str, list[tuple[int, str]]] = {}
    for child, inner in module.named_children():
        stem = child.rstrip("0123456789")
        number = child[len(stem) :]
        if number and next(inner.children(), None) is not None:
            numbered.setdefault(stem, []).append((int(number), child))
    for stem, members in numbered.items():
        names = [child for _, child in sorted(members)]
        if not stem and not isinstance(module, nn.ModuleList):
            kinds = Counter(type(module.get_submodule(child)) for child in names)
            names = [n for n in names if kinds[type(module.get_submodule(n))] > 1]
        if len(names) > 1:
            yield [f"{name}.{child}" if name else child for child in names]


# --- messages ------------------------------------------------------------------------------------


def _text(selector: Selector) -> str:
    if isinstance(selector, str):
        return repr(selector)
    if isinstance(selector, Selection):
        return f"a selection of {len(selector)}"
    return str(getattr(selector, "__name__", repr(selector)))


def _clause(selector: Selector) -> str:
    return f"is {_text(selector)}" if isinstance(selector, type) else f"matches {_text(selector)}"


def _pattern(selector: Selector) -> str | None:
    return selector if isinstance(selector, str) else None


def _nothing(selection: Selection, clause: str, pattern: str | None) -> str:
    """Message: no module of a selection satisfies a clause, and what would have matched."""
    whole = len(selection) == len(list(selection.network.modules()))
    subject = "no module" if whole else f"none of the {len(selection)} selected modules"
    hints = [] if pattern is None else _near(pattern, selection)
    hints.append(f"{'the network has' if whole else 'they are'} {_kinds(selection)}")
    return "; ".join((f"{subject} {clause}", *hints, *_presets(selection)))


def _near(pattern: str, selection: Selection) -> list[str]:
    """Names close to a pattern, and the children of the longest prefix that matches."""
    names = [name for name in selection if name]
    near = difflib.get_close_matches(pattern, names, n=5, cutoff=0.4) or names[:5]
    hints = [f"near names: {', '.join(near) or 'none'}"]
    parts = pattern.split(".")
    for length in range(len(parts) - 1, 0, -1):
        start = ".".join(parts[:length])
        matches = _test(start)
        held = [name for name in names if any(matches(n, selection.network) for n in _above(name))]
        below = dict.fromkeys(name.split(".")[length] for name in held) if "**" not in start else {}
        if below:
            return [*hints, f"in {start!r} there are {_some(below)}"]
    return hints


def _kinds(selection: Selection) -> str:
    modules = (selection.network.get_submodule(name) for name in selection if name)
    kinds = Counter(type(module).__name__ for module in modules)
    return _some([f"{kind} ({count})" for kind, count in sorted(kinds.items())]) or "no modules"


def _some(words: Iterable[str], most: int = 12) -> str:
    listed = list(words)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def _presets(selection: Selection) -> list[str]:
    """The presets that match without an example, with the number of modules."""
    norms = sum(_is_norm(n, selection.network.get_submodule(n)) for n in selection)
    stage = _last_stage(selection.network)
    last = sum(stage in (name, *_above(name)) for name in selection) if stage else 0
    counts = {"norms()": norms, "last_stage()": last}
    found = [f"{preset} matches {count}" for preset, count in counts.items() if count]
    return [*found, "residual_branches(example) and attention_outputs(example) need a run"]
