"""Which modules of a network are meant: patterns, types, predicates."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from torch import nn

from featurewise.core import KindError, LayoutError, Operation

#: One way to name modules: a pattern of names, a type, or a test of (name, module).
Selector: TypeAlias = "str | type[nn.Module] | Callable[[str, nn.Module], bool]"

#: What ``at`` takes: selectors, or selectors with the operation of each.
Where: TypeAlias = "Selector | Sequence[Selector] | Mapping[Selector, Operation]"


def select(network: nn.Module, at: Where, operation: Operation) -> dict[str, Operation]:
    """Names of the modules that ``at`` means, in the order of the network, with their operations.

    In a pattern ``*`` stands for anything within one component of a name, ``**`` for any number
    of components. A module with several names is taken once, under its first.

    Args:
        network: whose ``named_modules`` are searched.
        at: a selector, a sequence of selectors, or a mapping selector -> operation.
        operation: for the modules whose selector brings none.

    Raises:
        LayoutError: a selector that matches nothing, or two of a mapping that match one module.
        KindError: a selector or an operation of the wrong kind.
    """
    first = {id(module): name for name, module in network.named_modules()}
    chosen: dict[str, Operation] = {}
    for selector, its_operation in _pairs(at, operation):
        if not isinstance(its_operation, Operation):
            raise KindError(f"{selector!r}: expected an Operation, got {its_operation!r}")
        names = {first[key]: None for key in _matches(network, selector)}
        for name in names:
            if chosen.get(name, its_operation) != its_operation:
                raise LayoutError(
                    f"two selectors match '{name}' with different operations: {chosen[name]} "
                    f"and, by {selector!r}, {its_operation}"
                )
            chosen[name] = its_operation
    if not chosen:
        raise LayoutError("at names no module")
    return {name: chosen[name] for name in first.values() if name in chosen}


def _pairs(at: Where, operation: Operation) -> list[tuple[Selector, Operation]]:
    if isinstance(at, Mapping):
        return list(at.items())
    if isinstance(at, Sequence) and not isinstance(at, str):
        return [(selector, operation) for selector in at]
    return [(at, operation)]


def _matches(network: nn.Module, selector: Selector) -> list[int]:
    named = list(network.named_modules(remove_duplicate=False))
    test = _test(selector)
    found = [id(module) for name, module in named if test(name, module)]
    if not found:
        raise LayoutError(_nothing(selector, named))
    return found


def _test(selector: Selector) -> Callable[[str, nn.Module], bool]:
    if isinstance(selector, str):
        expression = re.compile(_expression(selector))
        return lambda name, module: expression.fullmatch(name) is not None
    if isinstance(selector, type):
        if not issubclass(selector, nn.Module):
            raise KindError(f"expected a type of modules, got {selector.__name__}")
        kind = selector
        return lambda name, module: isinstance(module, kind)
    if callable(selector):
        return selector
    raise KindError(
        "at takes a pattern, a module type, a function (name, module) -> bool, a sequence of "
        f"these or a mapping of these to operations; got {type(selector).__name__}"
    )


def _expression(pattern: str) -> str:
    """Regular expression of a pattern, for whole names."""
    parts = pattern.split(".")
    text = ""
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        if part == "**":
            text += r"(?:[^.]+(?:\.[^.]+)*)?" if last else r"(?:[^.]+\.)*"
        else:
            text += re.escape(part).replace(r"\*", "[^.]*") + ("" if last else r"\.")
    # "a.**" also means "a" itself.
    return text.replace(r"\.(?:[^.]+(?:\.[^.]+)*)?", r"(?:\.[^.]+)*")


def _nothing(selector: Selector, named: list[tuple[str, nn.Module]]) -> str:
    names = [name for name, _ in named if name]
    if isinstance(selector, str):
        near = difflib.get_close_matches(selector, names, n=5, cutoff=0.4) or names[:5]
        return f"no module matches {selector!r}; near names: {', '.join(near) or 'none'}"
    kinds = sorted({type(module).__name__ for _, module in named})
    what = selector.__name__ if hasattr(selector, "__name__") else repr(selector)
    return f"no module matches {what}; the network has {', '.join(kinds)}"
