"""Calls of conditioned networks: which parameters hold at a site, now. The only stateful file.

Each thread has a stack of active calls. ``Conditioned.forward`` pushes a call and pops it; a hook
looks for the topmost call of its owner. Nothing of a call is ever stored on a module.

Activation checkpointing runs sites again during backward, when the call has returned, maybe in
another thread, maybe with several calls alive. Autograd numbers its nodes in order of creation,
per thread: a call remembers its span of numbers, and the number of the node that asked for the
recomputation tells which call it belongs to. Numbers of different threads overlap; there the
marks that sites leave on their nodes decide, and what they leave open is an error.

A mark also keeps its call alive for as long as the graph may ask for it. A call may therefore
hold only tensors that lie *upstream* of its sites, or detached ones: a node that holds a tensor
downstream of itself is a cycle through C++ which is never collected.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, overload
from weakref import WeakSet

import torch
from torch import Tensor
from torch.autograd.graph import Node

from featurewise.core import TaskRepresentation, _torch
from featurewise.core.plan import Pair
from featurewise.generators import LocalGenerator
from featurewise.retrofit.errors import CallError

Values = Mapping[str, Tensor]
Pairs = tuple[Pair | None, ...]

_MARK: Final = "featurewise.calls"


class Owner:
    """Identity that a conditioned network shares with its hooks; copied and pickled with both."""


class Call:
    """One run of a conditioned network.

    Args:
        owner: whose hooks it is for.
        task: the parameters of all sites; None where a local generator makes them.
        pairs: the same as the scale and shift of each site, prepared for all of them at once;
            None where sites are prepared one by one.
        local: that generator.
        condition: what it is given.
        record: filled with the raw parameters of every site that is passed.
    """

    def __init__(
        self,
        owner: Owner,
        task: TaskRepresentation | None,
        pairs: Pairs | None = None,
        local: LocalGenerator | None = None,
        condition: Any = None,
        record: dict[str, dict[str, Tensor]] | None = None,
    ) -> None:
        self.owner = owner
        self.parameters = task
        self.dtype: torch.dtype | None = None  # these three: of the pairs
        self.device: torch.device | None = None
        self.batch: int | None = None  # samples of (B, C); None for (C,), which all share
        self.set_pairs(pairs)
        self.local = local
        self.condition = condition
        self.record = record
        self.memory: Any = None  # of a local generator, from site to site; gone when the call ends
        self.entries: dict[str, Any] = {}  # memory before each site, detached, for recomputation
        self.visited: set[str] = set()
        self.backward = -1  # the backward pass that this call runs inside of
        self.grad = False  # whether gradients were wanted when the call began
        self.registered = False
        self.unmarked = False  # a site left nothing in the graph that keeps this call alive
        self.thread: _Thread | None = None
        self.start = 0  # span of autograd nodes; stop is None while the call is active
        self.stop: int | None = None

    def set_pairs(self, pairs: Pairs | None) -> None:
        """Let ``pairs`` be what sites find prepared, and note for which features they are."""
        self.pairs = pairs
        if torch.compiler.is_compiling():
            return  # the rest serves the eager path
        some = next((t for pair in pairs or () if pair for t in pair if t is not None), None)
        self.dtype = None if some is None else some.dtype
        self.device = None if some is None else some.device
        self.batch = None if some is None or some.ndim == 1 else some.shape[0]

    def values(self, site: str) -> Values | None:
        """Raw parameters of one site; None where a local generator makes them."""
        return None if self.parameters is None else self.parameters[site]

    def spans(self, number: int) -> bool:
        """Whether an autograd node of that number may belong to this call."""
        return self.start <= number and (self.stop is None or number < self.stop)


class _Thread:
    """Identity of a thread; unlike its number it is never given to another thread later."""


class _Stack(threading.local):
    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.thread = _Thread()


_active: Final = _Stack()
_lock: Final = threading.Lock()
_recomputable: Final[WeakSet[Call]] = WeakSet()
# A call whose sites left no trace in the graph is kept by these instead: the latest of them.
_pinned: Final[deque[Call]] = deque(maxlen=64)
# Threads that ran a site outside of any call while gradients were wanted: the first of them, and
# any thread at all (`_several`) once there were two.
_plain: _Thread | None = None
_several: Final = _Thread()


def begin(call: Call) -> None:
    """Make ``call`` the topmost of this thread."""
    if not torch.compiler.is_compiling():
        call.backward = _torch.graph_task()
        call.grad = torch.is_grad_enabled()
        call.thread = _active.thread
        call.start = _torch.next_node_number()
    _active.calls.append(call)


def end(call: Call) -> None:
    """Take ``call`` from the stack, wherever it is: suspended scopes may end out of order."""
    calls = _active.calls
    if calls and calls[-1] is call:
        calls.pop()
    else:
        calls[:] = [other for other in calls if other is not call]
    # These may lie downstream of sites, whose nodes hold the call.
    call.memory = None
    call.record = None
    if not torch.compiler.is_compiling():
        call.stop = _torch.next_node_number()


def active(owner: Owner) -> Call | None:
    """The topmost active call of ``owner`` in this thread, recomputation left aside."""
    for call in reversed(_active.calls):
        if call.owner is owner:
            return call
    return None


def under_way() -> bool:
    """Whether some call is active in this thread, or a backward pass, which may repeat one."""
    return bool(_active.calls) or _torch.graph_task() != -1


def find(owner: Owner) -> tuple[Call | None, bool]:
    """The call that a site of ``owner`` serves now, and whether it is being recomputed.

    Raises:
        CallError: if a recomputation cannot be told to belong to one call.
    """
    if torch.compiler.is_compiling():
        return _traced(owner), False
    backward = _torch.graph_task()
    for call in reversed(_active.calls):
        if call.owner is owner and call.backward == backward:
            return call, False
    if backward == -1:
        _note_plain()
        return None, False
    return _recomputed(owner), True


def _traced(owner: Owner) -> Call | None:
    call = active(owner)
    if call is None and _torch.traced_in_backward():
        raise CallError(
            "a compiled block lies in an eager checkpoint and cannot ask which call it is "
            "recomputed for; checkpoint with context_fn=featurewise.retrofit.checkpoint_context"
        )
    return call


def _note_plain() -> None:
    global _plain
    if _plain is not _several and _plain is not _active.thread and torch.is_grad_enabled():
        _plain = _active.thread if _plain is None else _several


# --- recomputation -------------------------------------------------------------------------------


def keep(call: Call, output: Tensor) -> None:
    """Let the graph of a site's ``output`` keep ``call`` alive and tell which call it is."""
    if _torch.in_transform():
        return  # nodes of transforms are not autograd's, and transforms refuse checkpoints
    _register(call)
    if output.grad_fn is not None:
        mark(call, output.grad_fn)
    elif not call.unmarked:
        call.unmarked = True
        _pinned.append(call)


def keep_hidden(call: Call) -> None:
    """Keep a call whose sites ran in compiled code, which leaves nothing in the graph.

    It may come to nothing, so no more is held than recomputation needs: the values, and which of
    them want gradients.
    """
    if _torch.in_transform():
        return
    _register(call)
    if call.parameters is not None:
        flat = _alone(call.parameters.flat)
        call.parameters = TaskRepresentation(call.parameters.layout, flat)
    if call.pairs is not None:
        call.set_pairs(tuple(pair and (_alone(pair[0]), _alone(pair[1])) for pair in call.pairs))
    _pinned.append(call)


@overload
def _alone(value: Tensor) -> Tensor: ...
@overload
def _alone(value: None) -> None: ...
def _alone(value: Tensor | None) -> Tensor | None:
    """Without its history, and still one that wants a gradient if it did."""
    return None if value is None else value.detach().requires_grad_(value.requires_grad)


def _register(call: Call) -> None:
    if not call.registered:
        call.registered = True
        with _lock:
            _recomputable.add(call)


def mark(call: Call, node: Node) -> None:
    """Leave ``call`` at an autograd node."""
    left = _torch.node_metadata(node)
    calls = left.get(_MARK, ())
    if call not in calls:
        left[_MARK] = (*calls, call)


def _recomputed(owner: Owner) -> Call | None:
    """The call of ``owner`` that made the current autograd node; None for a plain run."""
    node = _torch.current_node()
    if node is None:
        return None
    number = _torch.node_number(node)
    with _lock:
        calls = [c for c in _recomputable if c.owner is owner and c.spans(number)]
    # Calls of one thread nest, and the innermost is the one that made the node.
    innermost: dict[_Thread | None, Call] = {}
    for call in sorted(calls, key=lambda call: call.start):
        innermost[call.thread] = call
    if not innermost:
        return None
    if len(innermost) == 1 and (_plain is None or _plain in innermost):
        return next(iter(innermost.values()))
    return _by_lineage(node, list(innermost.values()))


def _by_lineage(node: Node, candidates: list[Call]) -> Call:
    """The one of ``candidates`` (of different threads) whose sites lie upstream of ``node``."""
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
        "does not tell whose run this was; run backward before another thread runs the network, "
        "or pass context_fn=featurewise.retrofit.checkpoint_context to checkpoint()"
    )


def checkpoint_context() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """``context_fn`` for ``torch.utils.checkpoint.checkpoint``: calls follow the recomputation.

    Needed only where a *compiled* block lies in an eager checkpoint, since compiled code cannot
    ask autograd which call it belongs to.

    Returns:
        Contexts of the first run (does nothing) and of the recomputation.
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
