"""Calls of conditioned networks: the parameters that apply at each site during one run.

This is the only module with global state. Each thread has a stack of active calls.
``Conditioned.forward`` pushes a call and pops it; a hook looks for the topmost call of its owner.
Nothing of a call is ever stored on a module.

Activation checkpointing runs sites again during backward: after the call has returned, possibly
in another thread, possibly with several calls alive. Autograd numbers its nodes in order of
creation, per thread. A call stores its range of numbers, and the number of the node that triggers
the recomputation identifies the call. Numbers of different threads overlap; then the marks that
sites leave on their nodes decide, and where these are ambiguous an error is raised.

A mark also keeps its call alive for as long as the graph may need it. A call may therefore hold
only tensors that are *upstream* of its sites, or detached ones: a node that holds a tensor
downstream of itself is a reference cycle through C++, which is never collected.
"""

from __future__ import annotations

import itertools
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, overload
from weakref import WeakSet

import torch
from torch import Tensor
from torch.autograd.graph import Node

from featurewise.core import TaskRepresentation, _torch
from featurewise.core.kernels.choice import chosen
from featurewise.core.plan import Pair
from featurewise.generators import LocalGenerator
from featurewise.retrofit.errors import CallError
from featurewise.retrofit.rows import RowMap
from featurewise.retrofit.samples import SampleTracker

Values = Mapping[str, Tensor]
Pairs = tuple[Pair | None, ...]

_MARK: Final = "featurewise.calls"
_serials: Final = itertools.count()


class Owner:
    """Identity that a conditioned network shares with its hooks; copied and pickled with them."""

    def __init__(self) -> None:
        self.serial = next(_serials)

    def __deepcopy__(self, memo: dict[int, Any]) -> Owner:
        return Owner()  # a compiler traces the hooks of the copy separately

    def __reduce__(self) -> tuple[type[Owner], tuple[()]]:
        return Owner, ()


class Call:
    """One run of a conditioned network.

    Args:
        owner: identity of the conditioned network, which its hooks share.
        task: the parameters of all sites; None if a local generator computes them.
        pairs: the same parameters as scale and shift of each site, computed for all sites at
            once; None if each site computes its own.
        local: the local generator.
        condition: its input.
        record: filled with the raw parameters of every site that is reached.
        rows: maps rows of the features to conditions; None if they are one to one.
    """

    def __init__(
        self,
        owner: Owner,
        task: TaskRepresentation | None,
        pairs: Pairs | None = None,
        local: LocalGenerator | None = None,
        condition: Any = None,
        record: dict[str, dict[str, Tensor]] | None = None,
        rows: RowMap | None = None,
    ) -> None:
        self.owner = owner
        self.parameters = task
        self.dtype: torch.dtype | None = None  # dtype, device and batch size of the pairs
        self.device: torch.device | None = None
        self.batch: int | None = None  # B of (B, C); None for (C,), which all samples share
        self.quick: Pairs | None = None  # the pairs, if sites need no other information
        self.set_pairs(pairs)
        self.local = local
        self.condition = condition
        self.record = record
        self.rows = rows
        self.tracker: SampleTracker | None = None  # follows samples to the sites in this run
        self.watched: Any = None  # of a scope: sites reached in its runs; see ``site_checks``
        self.followed = False  # whether the samples of any run of this call were tracked
        self.memory: Any = None  # state of a local generator from site to site, until the call ends
        self.entries: dict[str, Any] = {}  # memory before each site, detached, for recomputation
        self.visited: set[str] = set()
        self.backward = -1  # id of the backward pass in which this call runs; -1 outside of any
        self.grad = False  # whether gradients were wanted when the call began
        self.registered = False
        self.unmarked = False  # some site has no node in the graph that keeps this call alive
        self.thread: _Thread | None = None
        self.stack: list[Call] = _active.calls  # that of the thread in which the call began
        self.task: Callable[[], object] | None = None  # asyncio task in which a scope began
        self.start = 0  # range of autograd node numbers; stop is None while the call is active
        self.stop: int | None = None

    def set_pairs(self, pairs: Pairs | None) -> None:
        """Set the precomputed pairs of all sites, and the dtype, device and batch size they fit."""
        self.pairs = pairs
        if torch.compiler.is_compiling():
            return  # dtype, device and batch are used by the eager path only
        some: Tensor | None = None
        for pair in pairs or ():
            if pair is not None:
                some = pair[0] if pair[0] is not None else pair[1]
                if some is not None:
                    break
        self.dtype = None if some is None else some.dtype
        self.device = None if some is None else some.device
        self.batch = None if some is None or some.ndim == 1 else some.shape[0]

    def values(self, site: str) -> Values | None:
        """Raw parameters of one site; None if a local generator computes them."""
        return None if self.parameters is None else self.parameters[site]

    def spans(self, number: int) -> bool:
        """Whether an autograd node of that number may belong to this call."""
        return self.start <= number and (self.stop is None or number < self.stop)


class _Thread:
    """Identity of a thread; unlike its number it is never reused for a later thread."""


class _Stack(threading.local):
    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.thread = _Thread()


_active: Final = _Stack()
#: The same for the hooks, which read it at every site, where a function would cost time.
here: Final = _active
_lock: Final = threading.Lock()
_recomputable: Final[WeakSet[Call]] = WeakSet()
# The latest calls whose sites have no node in the graph; these references keep them alive.
_pinned: Final[deque[Call]] = deque(maxlen=64)
# Marks of the sites that a compiler traced. Compiled code does not report their visits.
_traced_sites: Final[set[str]] = set()
# The thread that ran a site outside of any call with gradients enabled; `_several` once there
# were two such threads.
_plain: _Thread | None = None
_several: Final = _Thread()


def prepare(call: Call) -> list[Call]:
    """Prepare ``call`` to run in this thread, and return the stack to which it is appended.

    The caller appends the call in a ``try`` block and removes it as the *first* statement of
    ``finally``, by methods of the list: Python delivers an interrupt before or after a method
    written in C, never within, so that no call stays on the stack.
    """
    if torch.compiler.is_compiling():
        return _active.calls
    call.stack = _active.calls
    call.backward = _torch.graph_task()
    call.grad = torch.is_grad_enabled()
    call.thread = _active.thread
    call.start = _torch.next_node_number()
    usual = call.rows is None and call.record is None and call.task is None
    if usual and chosen() is None and not _torch.in_jit_trace():
        call.quick = call.pairs
    return call.stack


def finish(call: Call) -> None:
    """Close ``call``, which is no longer on the stack."""
    # These may be downstream of sites, whose nodes hold the call.
    call.memory = None
    call.record = None
    call.quick = None
    if call.tracker is not None:  # hooks that would close it do not run after an interrupt
        call.tracker.__exit__(None, None, None)
        call.tracker = None
    call.watched = None
    if not torch.compiler.is_compiling():
        call.stop = _torch.next_node_number()


@contextmanager
def scope(call: Call) -> Iterator[None]:
    """A block in which ``call`` is the topmost of this thread.

    The block may end in another thread. Scopes that interleave, as those of two generators that
    run alternately, cannot be distinguished inside; the scope that ends too early raises.

    Raises:
        CallError: if a scope that began later is still open, unless another error is propagating.
    """
    call.task = _current_task()
    last: list[Call] = []
    stack = prepare(call)
    try:
        stack.append(call)
        yield
    except BaseException:
        last = [call]  # the propagating error matters more than the order of scopes
        raise
    finally:
        last = last or call.stack[-1:]
        try:  # noqa: SIM105 (an interrupt may come between a method in Python and this one in C)
            call.stack.remove(call)
        except ValueError:  # a recomputation has replaced the stack
            pass
        finish(call)
    if last and last[0] is not call and last[0].owner is call.owner:
        raise CallError(
            "a scope of using() ended while one that began later is open: generators or "
            "coroutines whose scopes interleave get each other's condition; pass the condition to "
            "the call, net(x, condition=...), or close the scope before the other one runs"
        )


def _current_task() -> Callable[[], object] | None:
    """A weak reference to the running asyncio task; None without one."""
    if torch.compiler.is_compiling():
        return None
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop runs in this thread
        return None
    return None if task is None else weakref.ref(task)


def _check_task(call: Call) -> None:
    here = _current_task()
    if call.task is not None and (here is None or here() is not call.task()):
        raise CallError(
            "a scope of using() that another coroutine opened is open in this thread; pass the "
            "condition to the call, net(x, condition=...), and keep no scope open across an await"
        )


def active(owner: Owner) -> Call | None:
    """The topmost active call of ``owner`` in this thread, ignoring recomputation."""
    for call in reversed(_active.calls):
        if call.owner is owner:
            return call
    return None


def any_active() -> bool:
    """Whether a call is active in this thread, or a backward pass, which may recompute one."""
    return bool(_active.calls) or _torch.graph_task() != -1


def find(owner: Owner) -> tuple[Call | None, bool]:
    """The call whose parameters a site of ``owner`` uses now, and whether it is recomputed.

    Raises:
        CallError: if the call of a recomputation is ambiguous.
    """
    if torch.compiler.is_compiling():
        return _traced(owner), False
    backward = _torch.graph_task()
    for call in reversed(_active.calls):
        if call.owner is owner and call.backward == backward:
            if call.task is not None:
                _check_task(call)
            return call, False
    if backward == -1:
        _note_plain()
        return None, False
    return _recomputed(owner), True


def _traced(owner: Owner) -> Call | None:
    call = active(owner)
    if call is None and _torch.traced_in_backward():
        raise CallError(
            "a compiled block inside an eager checkpoint cannot find the call that it is "
            "recomputed for; checkpoint with context_fn=featurewise.retrofit.checkpoint_context"
        )
    return call


def note_traced(mark: str) -> bool:
    """Record, while code is traced, that a site is part of it; in the traced code a constant."""
    _traced_sites.add(mark)
    return True


_torch.constant_when_traced(note_traced)


def traced_mark(owner: Owner, index: int) -> str:
    """Key of a site for ``note_traced``: text, since a compiler may treat numbers as variable."""
    return f"{owner.serial}:{index}"


def was_traced(owner: Owner, index: int) -> bool:
    """Whether a site is part of compiled code, which does not report visits."""
    return traced_mark(owner, index) in _traced_sites


def _note_plain() -> None:
    global _plain
    if _plain is not _several and _plain is not _active.thread and torch.is_grad_enabled():
        _plain = _active.thread if _plain is None else _several


# --- recomputation -------------------------------------------------------------------------------


def keep(call: Call, output: Tensor) -> None:
    """Let the graph of a site's ``output`` keep ``call`` alive and identify it."""
    if _torch.innermost_transform() is not None:
        return  # transforms have no autograd nodes and do not allow checkpoints
    if not call.registered:
        _register(call)
    node = output.grad_fn
    if node is None:
        if not call.unmarked:
            call.unmarked = True
            _pinned.append(call)
        return
    # The metadata of a node lives as long as the graph.
    metadata: dict[str, Any] = node.metadata  # type: ignore[assignment]
    marks = metadata.get(_MARK)
    if marks is None:  # nearly always, as a site makes a node of its own
        metadata[_MARK] = (call,)
    elif call not in marks:
        metadata[_MARK] = (*marks, call)


def keep_hidden(call: Call) -> None:
    """Keep a call whose sites ran in compiled code, which adds no mark to the graph.

    The call may never be recomputed, so only what a recomputation needs is kept: the values, and
    which of them require gradients.
    """
    if _torch.in_transform():
        return
    if not call.registered:
        _register(call)
    if call.parameters is not None:
        flat = _detached(call.parameters.flat)
        call.parameters = TaskRepresentation(call.parameters.layout, flat)
    if call.pairs is not None:
        call.set_pairs(
            tuple(pair and (_detached(pair[0]), _detached(pair[1])) for pair in call.pairs)
        )
    _pinned.append(call)


@overload
def _detached(value: Tensor) -> Tensor: ...
@overload
def _detached(value: None) -> None: ...
def _detached(value: Tensor | None) -> Tensor | None:
    """Detached from the graph, with the same ``requires_grad``."""
    return None if value is None else value.detach().requires_grad_(value.requires_grad)


def _register(call: Call) -> None:
    call.registered = True
    with _lock:
        _recomputable.add(call)


def _recomputed(owner: Owner) -> Call | None:
    """The call of ``owner`` that created the current autograd node; None if no call did."""
    node = _torch.current_node()
    if node is None:
        return None
    number = _torch.node_number(node)
    with _lock:
        calls = [c for c in _recomputable if c.owner is owner and c.spans(number)]
    # Calls of one thread nest, and the innermost created the node.
    innermost: dict[_Thread | None, Call] = {}
    for call in sorted(calls, key=lambda call: call.start):
        innermost[call.thread] = call
    if not innermost:
        return None
    if len(innermost) == 1 and (_plain is None or _plain in innermost):
        return next(iter(innermost.values()))
    return _by_lineage(node, list(innermost.values()))


def _by_lineage(node: Node, candidates: list[Call]) -> Call:
    """The one of ``candidates`` (of different threads) whose sites are upstream of ``node``."""
    first = min(call.start for call in candidates)
    seen: set[Node] = set()
    todo: list[Node] = [node]
    found: list[Call] = []
    while todo:
        at = todo.pop()
        if at in seen or _torch.node_number(at) < first:
            continue
        seen.add(at)
        marks = _torch.node_metadata(at).get(_MARK, ())
        found += [call for call in candidates if call in marks and call not in found]
        todo += [upstream for upstream, _ in at.next_functions if upstream is not None]
    if len(found) == 1:
        return found[0]
    raise CallError(
        "a checkpointed region is recomputed, several threads have run the network, and the graph "
        "does not identify the run; run backward before another thread runs the network, "
        "or pass context_fn=featurewise.retrofit.checkpoint_context to checkpoint()"
    )


def checkpoint_context() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """``context_fn`` for ``torch.utils.checkpoint.checkpoint``: restores calls in recomputation.

    Needed only for a *compiled* block inside an eager checkpoint, since compiled code cannot
    read from autograd which call it belongs to.

    Returns:
        Context managers of the first run (does nothing) and of the recomputation.
    """
    return nullcontext(), _restored(tuple(_active.calls))


@contextmanager
def _restored(calls: tuple[Call, ...]) -> Iterator[None]:
    before = list(_active.calls)
    _active.calls[:] = calls
    try:
        yield
    finally:
        _active.calls[:] = before
