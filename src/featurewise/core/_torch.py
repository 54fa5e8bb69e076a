"""Every call into a private or unstable part of torch, in one place.

Checked on torch 2.13; what moves in another release is mended here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.function import FunctionCtx
from torch.autograd.graph import Node
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

# --- pytrees -------------------------------------------------------------------------------------


def register_pytree(
    cls: type[Any],
    flatten: Callable[[Any], tuple[list[Any], Any]],
    unflatten: Callable[[list[Any], Any], Any],
    keys: list[str],
    name: str,
    to_json: Callable[[Any], Any],
    from_json: Callable[[Any], Any],
) -> None:
    """Make ``cls`` a pytree, so that export, vmap and tree_map see its tensors.

    Args:
        cls: the class.
        flatten: instance -> (children, context).
        unflatten: (children, context) -> instance.
        keys: attribute names of the children; export fails without them.
        name: the name under which a serialised tree finds the class again.
        to_json: context -> JSON values, for exported programs that are saved.
        from_json: its inverse.
    """

    def with_keys(value: Any) -> tuple[list[tuple[Any, Any]], Any]:
        children, context = flatten(value)
        named = zip(keys, children, strict=True)
        return [(_pytree.GetAttrKey(key), child) for key, child in named], context

    _pytree.register_pytree_node(
        cls,
        flatten,
        lambda children, context: unflatten(list(children), context),
        serialized_type_name=name,
        to_dumpable_context=to_json,
        from_dumpable_context=from_json,
        flatten_with_keys_fn=with_keys,
    )


def register_record(cls: type[Any], names: list[str], name: str) -> None:
    """Make a frozen dataclass whose fields are all children a pytree.

    Args:
        cls: the class.
        names: its fields, in order.
        name: as in ``register_pytree``.
    """

    def unflatten(children: list[Any], context: Any) -> Any:
        # Transforms put placeholders in the place of tensors: no checks here.
        made = object.__new__(cls)
        for field, child in zip(names, children, strict=True):
            object.__setattr__(made, field, child)
        return made

    register_pytree(
        cls,
        lambda value: ([getattr(value, field) for field in names], None),
        unflatten,
        names,
        name,
        lambda context: None,
        lambda context: None,
    )


def tree_flatten(tree: Any) -> tuple[list[Any], Any]:
    """Leaves of a nest of containers, and the structure that puts them back together."""
    return _pytree.tree_flatten(tree)


def tree_unflatten(leaves: list[Any], structure: Any) -> Any:
    """The inverse of ``tree_flatten``."""
    return _pytree.tree_unflatten(leaves, structure)


# --- autograd ------------------------------------------------------------------------------------

#: Number of the backward pass that this thread works for; -1 outside of one.
graph_task: Callable[[], int] = torch._C._current_graph_task_id

#: The number that the next autograd node made by this thread will bear.
next_node_number: Callable[[], int] = torch.autograd._get_sequence_nr  # type: ignore[attr-defined]


def current_node() -> Node | None:
    """The autograd node whose backward this thread is working on."""
    node: Node | None = torch._C._current_autograd_node()
    return node


def node_number(node: Node) -> int:
    """The number of a node: nodes are counted in order of creation, per thread."""
    return node._sequence_nr()


def node_metadata(node: Node) -> dict[str, Any]:
    """What has been left at a node; lives as long as its graph."""
    left: Any = node.metadata  # a property, which the stub calls a method
    found: dict[str, Any] = left
    return found


def in_transform() -> bool:
    """Whether a functorch transform (grad, vmap, ...) is under way; it has no autograd nodes."""
    return torch._C._functorch.peek_interpreter_stack() is not None


#: Whether ``torch.jit.trace`` records what runs now.
in_jit_trace: Callable[[], bool] = torch._C._is_tracing


def in_function_forward() -> bool:
    """Whether some caller of this function is the forward of a custom autograd function.

    Reentrant checkpointing (of torch, fairscale or DeepSpeed) is recognised by this. It walks the
    Python stack, so ask only where the answer matters.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        names = frame.f_code.co_varnames
        if frame.f_code.co_argcount and isinstance(frame.f_locals.get(names[0]), FunctionCtx):
            return True
        frame = frame.f_back
    return False


def _backward_now() -> bool:
    return graph_task() != -1


# Asked once, when code is traced, and then a constant of it. The public decorator imports all of
# the compiler for setting this attribute.
_backward_now._dynamo_marked_constant = True  # type: ignore[attr-defined]


def traced_in_backward() -> bool:
    """Whether the code under way was traced by the compiler in the middle of a backward pass."""
    return _backward_now()


# --- shapes without arithmetic -------------------------------------------------------------------


def fake_mode() -> FakeTensorMode:
    """A mode in which tensors have shapes and no values; real ones met on the way are faked."""
    return FakeTensorMode(allow_non_fake_inputs=True)


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, note: Callable[[Any, Any, Any], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.note = note

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.note(func, (args, kwargs or {}), result)
        return result


def watching(note: Callable[[Any, Any, Any], None]) -> AbstractContextManager[Any]:
    """A block in which ``note(operator, inputs, result)`` is told of every operator that runs."""
    return _Watch(note)
