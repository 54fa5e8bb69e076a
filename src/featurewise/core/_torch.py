"""Every call into a private or unstable part of torch, in one place.

Checked on torch 2.13; where another release of torch differs, this module adapts.
"""

from __future__ import annotations

import logging
import sys
import warnings
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any, Final, TypeVar

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.autograd.function import FunctionCtx
from torch.autograd.graph import Node
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _disable_current_modes,
    _get_current_dispatch_mode,
)

_ResultT = TypeVar("_ResultT")

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
        name: of the class in serialised trees.
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
    """Make a frozen dataclass a pytree whose children are all of its fields.

    Args:
        cls: the class.
        names: its fields, in order.
        name: as in ``register_pytree``.
    """

    def unflatten(children: list[Any], context: Any) -> Any:
        # No checks: transforms put placeholders in place of tensors.
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
    """Leaves of nested containers, and the structure from which they are rebuilt."""
    return _pytree.tree_flatten(tree)


def tree_unflatten(leaves: list[Any], structure: Any) -> Any:
    """The inverse of ``tree_flatten``."""
    return _pytree.tree_unflatten(leaves, structure)


# --- autograd ------------------------------------------------------------------------------------

#: Id of the backward pass that runs in this thread; -1 if there is none.
graph_task: Callable[[], int] = torch._C._current_graph_task_id

#: Sequence number of the next autograd node that this thread creates.
next_node_number: Callable[[], int] = torch.autograd._get_sequence_nr  # type: ignore[attr-defined]


def current_node() -> Node | None:
    """The autograd node whose backward runs in this thread; None if there is none."""
    node: Node | None = torch._C._current_autograd_node()
    return node


def node_number(node: Node) -> int:
    """Sequence number of a node: the order of creation, counted per thread."""
    return node._sequence_nr()


def node_metadata(node: Node) -> dict[str, Any]:
    """Metadata stored at a node; it lives as long as the graph."""
    metadata: Any = node.metadata  # a property, which the stub declares as a method
    found: dict[str, Any] = metadata
    return found


#: The functorch transform (grad, vmap, ...) that is active; None if there is none.
innermost_transform: Callable[[], object | None] = torch._C._functorch.peek_interpreter_stack


def in_transform() -> bool:
    """Whether a functorch transform is active; it has no autograd nodes."""
    return innermost_transform() is not None


def in_mode() -> bool:
    """Whether something sees or replaces operators: a transform, a mode or forward-mode AD.

    An observer of this library is none: `observed` tells it what it does not see.
    """
    modes = torch._C._len_torch_dispatch_stack()
    return (
        modes > 1
        or (modes == 1 and not is_observed())
        or in_transform()
        or torch._C._len_torch_function_stack() > 0
        or torch.autograd.forward_ad._current_level >= 0
    )


def is_batched(x: Tensor) -> bool:
    """Whether a tensor is a batch of the older vmap, that of ``is_grads_batched``."""
    found: bool = torch._C._functorch.is_legacy_batchedtensor(x)
    return found


def is_observed() -> bool:
    """Whether an observer of this library sees operators."""
    return torch._C._len_torch_dispatch_stack() > 0 and isinstance(
        _get_current_dispatch_mode(), _OperatorObserver
    )


def observed(run: Callable[[], _ResultT], operator: Any, inputs: tuple[Any, ...]) -> _ResultT:
    """Run operators that the observer sees as another one.

    Args:
        run: without arguments; called once.
        operator: in its place, such as ``torch.ops.aten.addcmul.default``.
        inputs: of the operator.
    """
    observer: Any = _get_current_dispatch_mode()
    with _disable_current_modes():
        result = run()
    observer.note(operator, (inputs, {}), result)
    return result


def remove_hook(module: torch.nn.Module, key: int) -> None:
    """Remove the forward hook or pre-hook that a module stores under ``key``."""
    for hooks in (
        module._forward_hooks,
        module._forward_hooks_with_kwargs,
        module._forward_hooks_always_called,
        module._forward_pre_hooks,
        module._forward_pre_hooks_with_kwargs,
    ):
        hooks.pop(key, None)


def has_own_call(module: torch.nn.Module) -> bool:
    """Whether a call of a module is more than the ``forward`` of its class."""
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return (
        any(getattr(module, name) for name in names)
        or bool(torch.nn.modules.module._has_any_global_hook())  # type: ignore[no-untyped-call]
        or "forward" in vars(module)
        or getattr(module, "_compiled_call_impl", None) is not None
    )


def is_compiled(module: torch.nn.Module) -> bool:
    """Whether a module was compiled: wrapped by ``torch.compile``, in place, or its forward."""
    whole = type(module).__name__ == "OptimizedModule"
    in_place = getattr(module, "_compiled_call_impl", None) is not None
    return whole or in_place or hasattr(module.forward, "_torchdynamo_orig_callable")


def has_compiled_code(module: torch.nn.Module) -> bool:
    """Whether the compiler has cached code for the forward of this module's class."""
    if "torch._dynamo" not in sys.modules:
        return False
    code = getattr(type(module).forward, "__code__", None)
    entries = torch._C._dynamo.eval_frame._debug_get_cache_entry_list
    return code is not None and bool(entries(code))


#: Whether ``torch.jit.trace`` is recording.
in_jit_trace: Callable[[], bool] = torch._C._is_tracing


def is_traced() -> bool:
    """Whether code is being compiled, exported or traced."""
    return torch.compiler.is_compiling() or in_jit_trace()


def has_values(x: Tensor) -> bool:
    """Whether a tensor is plain and its values can be read: not meta, fake or batched."""
    plain = type(x) in (Tensor, torch.nn.Parameter) and has_storage(x)
    return plain and x.device.type != "meta"


def has_storage(x: Tensor) -> bool:
    """Whether a tensor has strided storage: it is not sparse or nested, and no transform runs."""
    return x.layout is torch.strided and not x.is_nested and not in_transform()


def storage_number(x: Tensor) -> int:
    """Id of the storage of a tensor; unique while the storage or a weak reference to it is held."""
    number: int = x.untyped_storage()._cdata
    return number


def weak_storage(x: Tensor) -> StorageWeakRef:
    """A weak reference to the storage of a tensor, which keeps its id from being reused."""
    return StorageWeakRef(x.untyped_storage())  # type: ignore[no-untyped-call]


def in_function_forward() -> bool:
    """Whether some caller of this function is the forward of a custom autograd function.

    This detects reentrant checkpointing (of torch, fairscale or DeepSpeed). It walks the Python
    stack, which is slow: call it only where the result is used.
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


def constant_when_traced(function: Callable[..., Any]) -> None:
    """Let a compiler call ``function`` once, when it traces, and keep the result as a constant.

    Its arguments must be constants, too. The public decorator sets the same attribute, but imports
    the whole compiler.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]


constant_when_traced(_backward_now)


def traced_in_backward() -> bool:
    """Whether the running code was traced by the compiler during a backward pass."""
    return _backward_now()


# --- products ------------------------------------------------------------------------------------


def prepacked(weight: Tensor, rows: int) -> Callable[[Tensor], Tensor] | None:
    """The product ``x @ weight.T`` with a weight that oneDNN lays out once for many products.

    On processors of AMD it takes a half to a third of the time of the usual product, after as much
    time as four of them; see ``benchmarks/recurrent.py``.

    Args:
        weight: ``(G, H)``, float32; later changes of it have no effect.
        rows: the usual number of rows of x.

    Returns:
        None where there is no such product: gradients are enabled, or oneDNN is not.
    """
    plain = type(weight) in (Tensor, torch.nn.Parameter) and weight.dtype is torch.float32
    if not plain or weight.device.type != "cpu" or is_traced() or in_mode():
        return None
    if torch.is_grad_enabled() or not torch._C._get_mkldnn_enabled():
        return None
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows)
    multiply = torch.ops.mkldnn._linear_pointwise

    def product(x: Tensor) -> Tensor:
        found: Tensor = multiply(x, packed, None, "none", [], "")
        return found

    return product


# --- shapes without arithmetic -------------------------------------------------------------------


#: Logs every operator that fails, with its frames, which keep their tensors alive.
_FAKE_LOG: Final = logging.getLogger("torch._subclasses.fake_tensor")


class FakeRun(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A context in which operators run on shapes only, without values.

    Every real tensor among the inputs of an operator is replaced by its fake tensor before the
    operator runs: nothing is computed and no real tensor is modified. Operators that read values
    (``item``) return the true value if all inputs are real tensors. For fake tensors, ``any`` is
    true and other conditions are false; ``nonzero`` and masks select all positions, and an index
    that is read from them is 0.

    Attributes:
        mode: the mode that the fake tensors belong to.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._made: list[weakref.ref[Tensor]] = []
        self._assumed: dict[int, tuple[int | bool, Tensor]] = {}

    def __enter__(self) -> FakeRun:
        self._quiet, _FAKE_LOG.disabled = _FAKE_LOG.disabled, True
        self.mode.__enter__()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self.mode.__exit__(*error)
        _FAKE_LOG.disabled = self._quiet
        self._assumed.clear()

    def fake(self, tensor: Tensor) -> Tensor:
        """The fake tensor of a tensor, the same one each time."""
        if isinstance(tensor, FakeTensor):
            return tensor
        with warnings.catch_warnings():  # torch reads the gradient of non-leaf tensors
            warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor")
            made = self.mode.from_tensor(tensor)
        self._made.append(weakref.ref(made))
        return made

    def alive(self) -> list[Tensor]:
        """The fake tensors of this run to which something still holds a reference."""
        return [made for made in (ref() for ref in self._made) if made is not None]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        leaves, structure = tree_flatten((args, kwargs or {}))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        reads_values = torch.Tag.data_dependent_output in func.tags
        if reads_values and tensors and not any(isinstance(t, FakeTensor) for t in tensors):
            with _disable_current_modes():
                return func(*args, **(kwargs or {}))
        faked = [self.fake(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        args, kwargs = tree_unflatten(faked, structure)
        result = self._result(func, args, kwargs or {})
        for leaf in tree_flatten(result)[0]:
            if isinstance(leaf, FakeTensor):
                self._made.append(weakref.ref(leaf))
        return result

    def _result(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Result of an operator; for operators that depend on values, the largest possible one."""
        name = func.name().partition("::")[2].partition(".")[0]
        if name == "_local_scalar_dense" and id(args[0]) in self._assumed:
            return self._assumed[id(args[0])][0]
        if name == "_local_scalar_dense" and args[0].dtype is torch.bool:
            return False
        if name == "nonzero":
            places = args[0].new_empty((args[0].numel(), args[0].ndim), dtype=torch.long)
            return self._assume(places, 0)
        if name == "_grouped_mm":  # torch implements its shapes for bfloat16 only
            return args[0].new_empty(_grouped_shape(*args[:2]), dtype=kwargs.get("out_dtype"))
        if name in ("index", "index_put", "index_put_", "_unsafe_index"):
            args = (args[0], _integer_indices(args[1]), *args[2:])
        result = func(*args, **kwargs)
        if name == "any":
            return self._assume(result, True)
        if func.is_view and id(args[0]) in self._assumed:
            for part in tree_flatten(result)[0]:
                self._assume(part, self._assumed[id(args[0])][0])
        return result

    def _assume(self, tensor: Tensor, value: int | bool) -> Tensor:
        """Set the value that ``item`` returns for a fake tensor."""
        self._assumed[id(tensor)] = value, tensor  # held, so that its id is not reused
        return tensor


def _grouped_shape(a: Tensor, b: Tensor) -> tuple[int, ...]:
    """Shape of a grouped product: groups (unless ``a`` or ``b`` is split), rows and columns."""
    groups = () if a.ndim != b.ndim else (len(b) if b.ndim == 3 else 1,)
    return *groups, a.shape[-2], b.shape[-1]


def _integer_indices(indices: list[Tensor | None]) -> list[Tensor | None]:
    """Indices in which each mask is replaced by integers for all of its positions."""
    made: list[Tensor | None] = []
    for index in indices:
        if index is not None and index.dtype in (torch.bool, torch.uint8):
            size = index.numel()
            made += [index.new_empty((size,), dtype=torch.long) for _ in range(index.ndim)]
        else:
            made.append(index)
    return made


class _OperatorObserver(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, note: Callable[[Any, Any, Any], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.note = note

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if torch.is_inference_mode_enabled():
            # Without autograd, composite operators arrive here undecomposed.
            with self:
                result = func.decompose(*args, **(kwargs or {}))
            if result is not NotImplemented:
                return result
        result = func(*args, **(kwargs or {}))
        self.note(func, (args, kwargs or {}), result)
        return result


def watching(note: Callable[[Any, Any, Any], None]) -> AbstractContextManager[Any]:
    """A context in which ``note(operator, inputs, result)`` is called after every operator."""
    return _OperatorObserver(note)
