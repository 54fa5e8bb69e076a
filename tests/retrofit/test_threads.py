"""Threads share one network and never receive each other's conditions."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from featurewise.generators import Linear
from featurewise.retrofit import CallError, Conditioned, calls, condition

Move = Callable[[Conditioned], Conditioned]


@pytest.fixture
def net(perceptron: nn.Module, moved: Move) -> Conditioned:
    del perceptron.blocks[1:]
    return moved(condition(perceptron, at="blocks.*.0", generator=Linear(5))).double()


def test_sixteen_threads_of_four_hundred_calls(net: Conditioned) -> None:
    x = torch.randn(2, 6).double()
    conditions = torch.randn(64, 2, 5).double()
    with torch.no_grad():
        expected = [net(x, condition=z) for z in conditions]
        plain = net.backbone(x)
    wrong: list[int] = []

    def work(index: int) -> None:
        with torch.no_grad():
            for call in range(400):
                k = (17 * index + call) % len(conditions)
                if not torch.equal(net(x, condition=conditions[k]), expected[k]):
                    wrong.append(k)
                if call % 50 == 0 and not torch.equal(net.backbone(x), plain):
                    wrong.append(-1)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []


def test_a_scope_holds_in_its_own_thread_only(net: Conditioned) -> None:
    x, z = torch.randn(2, 6).double(), torch.randn(2, 5).double()
    plain, seen = net.backbone(x), []
    with net.using(condition=z):
        thread = threading.Thread(target=lambda: seen.append(net.backbone(x)))
        thread.start()
        thread.join()
        assert not torch.equal(net.backbone(x), plain)
    assert torch.equal(seen[0], plain)


def test_coroutines_that_call_do_not_mix(net: Conditioned) -> None:
    x = torch.randn(2, 6).double()
    conditions = torch.randn(8, 2, 5).double()
    expected = [net(x, condition=z) for z in conditions]

    async def work(k: int) -> bool:
        same = True
        for _ in range(20):
            same &= torch.equal(net(x, condition=conditions[k]), expected[k])
            await asyncio.sleep(0)
        return same

    async def main() -> list[bool]:
        return await asyncio.gather(*(work(k) for k in range(8)))

    assert all(asyncio.run(main()))


# --- scopes that do not nest ---------------------------------------------------------------------


def test_a_scope_left_in_another_thread_ends_in_its_own(net: Conditioned) -> None:
    x, z = torch.randn(2, 6).double(), torch.randn(2, 5).double()
    plain = net.backbone(x)
    scope = net.using(condition=z)
    scope.__enter__()
    assert not torch.equal(net.backbone(x), plain)
    thread = threading.Thread(target=lambda: scope.__exit__(None, None, None))
    thread.start()
    thread.join()
    assert torch.equal(net.backbone(x), plain)
    assert calls._active.calls == []


def test_generators_whose_scopes_interleave_raise(net: Conditioned) -> None:
    x, z = torch.randn(2, 6).double(), torch.randn(2, 5).double()
    plain = net.backbone(x)

    def run(condition: Tensor) -> Iterator[Tensor]:
        with net.using(condition=condition):
            yield net.backbone(x)

    first, second = run(z), run(-z)
    next(first), next(second)
    with pytest.raises(CallError, match="ended while one that began later is open"):
        next(first)
    with pytest.raises(StopIteration):
        next(second)
    assert torch.equal(net.backbone(x), plain)
    with pytest.raises(ValueError, match="the error under way"):  # noqa: SIM117
        with net.using(condition=z):
            raise ValueError("the error under way")


def test_a_scope_that_ends_where_another_stack_was_put_in_place(net: Conditioned) -> None:
    """A recomputation restores the calls of its forward, and removes them at the end."""
    x, z = torch.randn(2, 6).double(), torch.randn(2, 5).double()
    scope = net.using(condition=z)
    with calls._restored(()):
        scope.__enter__()
        net.backbone(x)
    assert calls._active.calls == []
    scope.__exit__(None, None, None)


def test_coroutines_whose_scopes_interleave_raise(net: Conditioned) -> None:
    x, z = torch.randn(2, 6).double(), torch.randn(2, 5).double()
    plain = net.backbone(x)

    async def hold() -> None:
        with net.using(condition=z):
            await asyncio.sleep(0)
            net.backbone(x)

    async def run_plain() -> None:
        with pytest.raises(CallError, match="another coroutine opened"):
            net.backbone(x)
        net(x, condition=z)  # a call of its own is its own

    async def main() -> None:
        await asyncio.gather(hold(), run_plain())

    asyncio.run(main())
    assert torch.equal(net.backbone(x), plain)


def test_a_scope_around_an_event_loop_holds_in_it(net: Conditioned) -> None:
    x, z = torch.randn(2, 6).double(), torch.randn(2, 5).double()

    async def main() -> Tensor:
        return net.backbone(x)

    with net.using(condition=z):
        y = asyncio.run(main())
    assert torch.equal(y, net(x, condition=z))


# --- interrupts ----------------------------------------------------------------------------------


class _Interrupts:
    """Raises KeyboardInterrupt at the n-th event of a frame of the library, as Ctrl-C may."""

    def __init__(self, after: int) -> None:
        self.left = after
        self.raised = False

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        name = frame.f_code.co_filename
        if "featurewise/" not in name and not name.endswith("contextlib.py"):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and self._checks(frame):
            self.left -= 1
            if self.left < 0 and not self.raised:
                self.raised = True
                raise KeyboardInterrupt
        return self

    def _checks(self, frame: FrameType) -> bool:
        """Whether the interpreter looks for signals here: when a function begins or a call ends."""
        before = frame.f_lasti - 2
        code = frame.f_code.co_code
        while before > 0 and _NAMES[code[before]] == "CACHE":
            before -= 2
        return _NAMES[code[frame.f_lasti]] == "RESUME" or (
            before >= 0 and _NAMES[code[before]] in ("CALL", "CALL_FUNCTION_EX", "JUMP_BACKWARD")
        )


_NAMES = {number: name for name, number in __import__("opcode").opmap.items()}


def _interrupted(run: Callable[[], None], after: int) -> bool:
    interrupts = _Interrupts(after)
    sys.settrace(interrupts)
    try:
        run()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(None)
    return interrupts.raised


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="reads the byte code of Python 3.11")
@pytest.mark.parametrize("scoped", [False, True])
def test_an_interrupt_anywhere_leaves_no_call_behind(net: Conditioned, scoped: bool) -> None:
    x, z = torch.randn(2, 6).double(), torch.randn(2, 5).double()
    with torch.no_grad():
        plain = net.backbone(x)

    def run() -> None:
        if scoped:
            with net.using(condition=z):
                net.backbone(x)
        else:
            net(x, condition=z)

    run()  # once, so that no run is followed any more
    after = tried = 0
    while _interrupted(run, after):
        tried += 1
        after += 1
        assert calls._active.calls == [], after
    with torch.no_grad():
        assert torch.equal(net.backbone(x), plain)
    assert tried > 50
