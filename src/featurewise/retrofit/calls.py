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
    """Identity that a conditioned network shares with its hooks; copied and pickled with both."""

    def __init__(self) -> None:
        self.serial = next(_serials)

    def __deepcopy__(self, memo: dict[int, Any]) -> Owner:
        return Owner()  # hooks of the copy are traced on their own

    def __reduce__(self) -> tuple[type[Owner], tuple[()]]:
        return Owner, ()


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
        rows: which condition each row of the features has, where that is not one to one.
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
        self.dtype: torch.dtype | None = None  # these three: of the pairs
        self.device: torch.device | None = None
        self.batch: int | None = None  # samples of (B, C); None for (C,), which all share
        self.set_pairs(pairs)
        self.local = local
        self.condition = condition
        self.record = record
        self.rows = rows
        self.tracker: SampleTracker | None = None  # follows samples to the sites in this run
        self.watched: Any = None  # of a scope: notes of its runs; see ``reach``
        self.followed = False  # whether any run of this call was followed so
        self.memory: Any = None  # of a local generator, from site to site; gone when the call ends
        self.entries: dict[str, Any] = {}  # memory before each site, detached, for recomputation
        self.visited: set[str] = set()
        self.backward = -1  # the backward pass that this call runs inside of
        self.grad = False  # whether gradients were wanted when the call began
        self.registered = False
        self.unmarked = False  # a site left nothing in the graph that keeps this call alive
        self.thread: _Thread | None = None
        self.stack: list[Call] = _active.calls  # of the thread in which it began
        self.task: Callable[[], object] | None = None  # the coroutine's, of a scope begun in one
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
# Marks of the sites that a compiler traced. Their visits are not seen.
_traced_sites: Final[set[str]] = set()
# Threads that ran a site outside of any call while gradients were wanted: the first of them, and
# any thread at all (`_several`) once there were two.
_plain: _Thread | None = None
_several: Final = _Thread()


def prepare(call: Call) -> list[Call]:
    """Ready ``call`` to run here, and return the stack of this thread, to append it to.

    Whoever runs a call appends it in a ``try`` and removes it *first thing* in the ``finally``, by
    the list's own methods: an interrupt comes after a method in C has returned or before it is
    called, never within, so that no call is left on the stack for good.
    """
    if torch.compiler.is_compiling():
        return _active.calls
    call.stack = _active.calls
    call.backward = _torch.graph_task()
    call.grad = torch.is_grad_enabled()
    call.thread = _active.thread
    call.start = _torch.next_node_number()
    return call.stack


def finish(call: Call) -> None:
    """Close ``call``, which is no longer on the stack."""
    # These may lie downstream of sites, whose nodes hold the call.
    call.memory = None
    call.record = None
    if call.tracker is not None:  # hooks that would leave it do not run after an interrupt
        call.tracker.__exit__(None, None, None)
        call.tracker = None
    call.watched = None
    if not torch.compiler.is_compiling():
        call.stop = _torch.next_node_number()


@contextmanager
def scope(call: Call) -> Iterator[None]:
    """A block in which ``call`` is the topmost of this thread.

    It may be left in another thread. Scopes that interleave, as those of two generators that are
    run in turns, cannot be told apart inside; the one that is left too early raises.

    Raises:
        CallError: if a scope that began later is still open, unless another error is under way.
    """
    call.task = _current_task()
    last: list[Call] = []
    stack = prepare(call)
    try:
        stack.append(call)
        yield
    except BaseException:
        last = [call]  # the error under way says more than the order of scopes
        raise
    finally:
        last = last or call.stack[-1:]
        try:  # noqa: SIM105 (an interrupt may come between a method in Python and this one in C)
            call.stack.remove(call)
        except ValueError:  # a recomputation has put another stack in place
            pass
        finish(call)
    if last and last[0] is not call and last[0].owner is call.owner:
        raise CallError(
            "a scope of using() was left while one that began later is open: generators or "
            "coroutines whose scopes interleave get each other's condition; give it to the call, "
            "net(x, condition=...), or close the scope before the other runs"
        )


def _current_task() -> Callable[[], object] | None:
    """A reference to the task of asyncio that runs here; None where there is none."""
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
            "a scope of using() that another coroutine opened is open in this thread; give the "
            "condition to the call, net(x, condition=...), and hold no scope across an await"
        )


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
            "a compiled block lies in an eager checkpoint and cannot ask which call it is "
            "recomputed for; checkpoint with context_fn=featurewise.retrofit.checkpoint_context"
        )
    return call


def note_traced(mark: str) -> bool:
    """Note, while code is traced, that a site is part of it; in the code this is a constant."""
    _traced_sites.add(mark)
    return True


_torch.constant_when_traced(note_traced)


def traced_mark(owner: Owner, place: int) -> str:
    """By what ``note_traced`` knows a site. Words are constants to a compiler, numbers may vary."""
    return f"{owner.serial}:{place}"


def was_traced(owner: Owner, place: int) -> bool:
    """Whether a site is part of compiled code, in which its visits are not seen."""
    return traced_mark(owner, place) in _traced_sites


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
