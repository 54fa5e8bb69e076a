"""Small networks, and generators with random parameters."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featurewise.generators import Linear
from featurewise.retrofit import Conditioned, calls

os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")


class Residual(nn.Module):
    """A residual block with batch norm and in-place neighbours, as in most ResNets."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        y += x
        return self.act(y)


class ConvNet(nn.Module):
    def __init__(self, width: int = 8, blocks: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(Residual(width) for _ in range(blocks))
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


class Perceptron(nn.Module):
    """Blocks of two linear maps; ``run`` decides how a block is run (plainly, checkpointed)."""

    def __init__(self, width: int = 6, blocks: int = 3) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())
            for _ in range(blocks)
        )
        self.run: Callable[[nn.Module, Tensor], Tensor] = lambda block, x: block(x)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = self.run(block, x)
        return x


class Sentence(nn.Module):
    """Embedding, LSTM over (T, B, C), linear map."""

    def __init__(self, batch_first: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.lstm = nn.LSTM(6, 7, batch_first=batch_first)
        self.head = nn.Linear(7, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        y, _ = self.lstm(self.embed(tokens))
        return self.head(F.relu(y))


@pytest.fixture(autouse=True, scope="package")
def _quick_collections() -> Iterator[None]:
    """Several tests collect garbage; exclude imported objects, so that it takes less time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _threads_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget unconditioned runs of other threads, in other tests."""
    monkeypatch.setattr(calls, "_plain", None)


@pytest.fixture
def convnet() -> ConvNet:
    return ConvNet()


@pytest.fixture
def perceptron() -> Perceptron:
    return Perceptron().double()


@pytest.fixture
def make_perceptron() -> Callable[[], Perceptron]:
    return lambda: Perceptron().double()


@pytest.fixture
def sentence() -> Sentence:
    return Sentence()


@pytest.fixture
def moved() -> Callable[[Conditioned], Conditioned]:
    """Give the linear generator of a conditioned network random weights."""

    def move(net: Conditioned) -> Conditioned:
        generator = net.generator
        assert isinstance(generator, Linear)
        with torch.no_grad():
            generator.head.weight.normal_(std=0.5)
            generator.head.bias.normal_(std=0.5)
        return net

    return move
