"""Nothing of a call is on a module: threads share one network and never each other's conditions."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable

import pytest
import torch
from torch import nn

from featurewise.generators import Linear
from featurewise.retrofit import Conditioned, condition

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
