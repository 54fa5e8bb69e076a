"""Every call into a private or unstable part of torch, in one place.

Checked on torch 2.13; what moves in another release is mended here.
"""

from __future__ import annotations

import logging
import sys
import warnings
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any, Final

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.autograd.function import FunctionCtx
from torch.autograd.graph import Node
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

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


def remove_hook(module: torch.nn.Module, key: int) -> None:
    """Take the forward hook or pre-hook that torch keeps under ``key`` from a module."""
    for hooks in (
        module._forward_hooks,
        module._forward_hooks_with_kwargs,
        module._forward_hooks_always_called,
        module._forward_pre_hooks,
        module._forward_pre_hooks_with_kwargs,
    ):
        hooks.pop(key, None)


def is_compiled(module: torch.nn.Module) -> bool:
    """Whether a module was given to ``torch.compile``, as a whole, in place, or its forward."""
    whole = type(module).__name__ == "OptimizedModule"
    in_place = getattr(module, "_compiled_call_impl", None) is not None
    return whole or in_place or hasattr(module.forward, "_torchdynamo_orig_callable")


def has_compiled_code(module: torch.nn.Module) -> bool:
    """Whether the compiler keeps code made from the forward of a module of this class."""
    if "torch._dynamo" not in sys.modules:
        return False
    code = getattr(type(module).forward, "__code__", None)
    entries = torch._C._dynamo.eval_frame._debug_get_cache_entry_list
    return code is not None and bool(entries(code))


#: Whether ``torch.jit.trace`` records what runs now.
in_jit_trace: Callable[[], bool] = torch._C._is_tracing


def is_traced() -> bool:
    """Whether code is being compiled, exported or traced."""
    return in_jit_trace() or torch.compiler.is_compiling()


def has_values(x: Tensor) -> bool:
    """Whether a tensor is a plain one whose numbers can be read now: not meta, fake or batched."""
    plain = type(x) in (Tensor, torch.nn.Parameter) and has_storage(x)
    return plain and x.device.type != "meta"


def has_storage(x: Tensor) -> bool:
    """Whether a tensor lies in memory of its own: not sparse, nested, or inside of a transform."""
    return x.layout is torch.strided and not x.is_nested and not in_transform()


def storage_number(x: Tensor) -> int:
    """The number of the memory that a tensor lies in; unique while it, or a weak one, is held."""
    number: int = x.untyped_storage()._cdata
    return number


def weak_storage(x: Tensor) -> StorageWeakRef:
    """A reference that keeps the number of a tensor's memory from being given again."""
    return StorageWeakRef(x.untyped_storage())  # type: ignore[no-untyped-call]


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


def constant_when_traced(function: Callable[..., Any]) -> None:
    """Let a compiler call ``function`` once, when it traces, and keep the result as a constant.

    Its arguments must be constants, too. The public decorator imports all of the compiler for
    setting this attribute.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]


constant_when_traced(_backward_now)


def traced_in_backward() -> bool:
    """Whether the code under way was traced by the compiler in the middle of a backward pass."""
    return _backward_now()


# --- shapes without arithmetic -------------------------------------------------------------------


#: Logs each operator that fails, with its frames, which keep the tensors in them alive.
_FAKE_LOG: Final = logging.getLogger("torch._subclasses.fake_tensor")


class FakeRun(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A block in which tensors have shapes and no values, and no real tensor is computed with.

    Every real tensor that an operator meets, wherever the network keeps it, is replaced by its
    fake before the operator runs: nothing is computed and no real tensor is written to. Questions
    for the values of real tensors alone (``item`` of a constant) are answered. Of fakes, ``any`` is
    true, other conditions are false; as many places are selected as there are, the first at 0.

    Attributes:
        mode: the mode that the fakes belong to.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._made: list[weakref.ref[Tensor]] = []
        self._answers: dict[int, tuple[int | bool, Tensor]] = {}

    def __enter__(self) -> FakeRun:
        self._quiet, _FAKE_LOG.disabled = _FAKE_LOG.disabled, True
        self.mode.__enter__()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self.mode.__exit__(*error)
        _FAKE_LOG.disabled = self._quiet
        self._answers.clear()

    def fake(self, tensor: Tensor) -> Tensor:
        """The fake of a tensor: the same one each time."""
        if isinstance(tensor, FakeTensor):
            return tensor
        with warnings.catch_warnings():  # it looks at the gradient of tensors that keep none
            warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor")
            made = self.mode.from_tensor(tensor)
        self._made.append(weakref.ref(made))
        return made

    def left(self) -> list[Tensor]:
        """The fakes of this run that are still alive: something holds them."""
        return [made for made in (ref() for ref in self._made) if made is not None]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        leaves, structure = tree_flatten((args, kwargs or {}))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        asks = torch.Tag.data_dependent_output in func.tags
        if asks and tensors and not any(isinstance(t, FakeTensor) for t in tensors):
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
        """What an operator gives: for those that ask for values, what they may give at most."""
        name = func.name().partition("::")[2].partition(".")[0]
        if name == "_local_scalar_dense" and id(args[0]) in self._answers:
            return self._answers[id(args[0])][0]
        if name == "_local_scalar_dense" and args[0].dtype is torch.bool:
            return False
        if name == "nonzero":
            places = args[0].new_empty((args[0].numel(), args[0].ndim), dtype=torch.long)
            return self._answer(places, 0)
        if name == "_grouped_mm":  # torch knows only the shapes of bfloat16
            return args[0].new_empty(_grouped_shape(*args[:2]), dtype=kwargs.get("out_dtype"))
        if name in ("index", "index_put", "index_put_", "_unsafe_index"):
            args = (args[0], _whole_numbers(args[1]), *args[2:])
        result = func(*args, **kwargs)
        if name == "any":
            return self._answer(result, True)
        if func.is_view and id(args[0]) in self._answers:
            for part in tree_flatten(result)[0]:
                self._answer(part, self._answers[id(args[0])][0])
        return result

    def _answer(self, tensor: Tensor, value: int | bool) -> Tensor:
        """Note what to answer where the value of a tensor is asked for."""
        self._answers[id(tensor)] = value, tensor  # held, so that no id is given twice
        return tensor


def _grouped_shape(a: Tensor, b: Tensor) -> tuple[int, ...]:
    """Of a product of groups: rows of ``a``, columns of ``b``, and groups unless one is split."""
    groups = () if a.ndim != b.ndim else (len(b) if b.ndim == 3 else 1,)
    return *groups, a.shape[-2], b.shape[-1]


def _whole_numbers(indices: list[Tensor | None]) -> list[Tensor | None]:
    """Indices without masks: as many places as a mask has, at most."""
    made: list[Tensor | None] = []
    for index in indices:
        if index is not None and index.dtype in (torch.bool, torch.uint8):
            size = index.numel()
            made += [index.new_empty((size,), dtype=torch.long) for _ in range(index.ndim)]
        else:
            made.append(index)
    return made


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, note: Callable[[Any, Any, Any], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.note = note

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if (
            torch.is_inference_mode_enabled()
        ):  # where operators arrive whole that autograd takes apart
            with self:
                result = func.decompose(*args, **(kwargs or {}))
            if result is not NotImplemented:
                return result
        result = func(*args, **(kwargs or {}))
        self.note(func, (args, kwargs or {}), result)
        return result


def watching(note: Callable[[Any, Any, Any], None]) -> AbstractContextManager[Any]:
    """A block in which ``note(operator, inputs, result)`` is told of every operator that runs."""
    return _Watch(note)
