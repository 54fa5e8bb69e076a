"""The rows of the matrix, and what every cell needs: a conditioned network and its truth.

The truth uses nothing of the library: a copy of the network with plain hooks that compute
``(1 + Δγ) * x + β``, and a copy of the generator's linear map.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from featurewise.generators import Linear
from featurewise.retrofit import Conditioned, condition

from .networks import NETWORKS, Inputs, Network, Place
from .packages import MORE

CAPABILITIES: tuple[str, ...] = (
    "rows of a batch equal rows run alone; gradients",
    "identity at first; removal exact",
    "torch.compile, fullgraph, no recompilation",
    "torch.compile, Inductor",
    "torch.export",
    "ONNX Runtime",
    "AMP, bfloat16",
    "checkpointing",
    "checkpointing, two calls alive",
    "checkpointing, backward in another thread",
    "checkpointing, second order",
    "checkpointing, reentrant",
    "DDP",
    "DDP, mixed precision",
    "FSDP2",
    "FSDP2, mixed precision",
    "FSDP2, checkpointing",
    "functional_call",
    "torch.func: vmap",
    "torch.func: grad",
    "torch.func: jvp",
    "16 threads, 400 calls each",
    "deepcopy",
    "another process",
    "meta device",
    "modules used twice in one forward",
    "tuple and dict outputs",
    "nested conditioning",
    "saved and loaded",
    "baked",
    "`example=` leaves no trace",
    "Hugging Face Trainer",
    "generate with beams",
)

#: Those that the networks of packages are tried with, too.
OF_PACKAGES: tuple[str, ...] = (
    "rows of a batch equal rows run alone; gradients",
    "identity at first; removal exact",
    "torch.compile, fullgraph, no recompilation",
    "checkpointing",
    "deepcopy",
    "saved and loaded",
    "baked",
    "`example=` leaves no trace",
    "Hugging Face Trainer",
    "generate with beams",
)

CONDITION = 5  # features of every condition
BATCH = 4  # as many as steps of a sequence: samples and steps must not be mixed up


PACKAGES_ALONE = (
    pytest.mark.skipif("FEATUREWISE_MATRIX" not in os.environ, reason="run by make matrix alone"),
    # Torch says it of cached biases, whose gradients it looks for when it fakes them.
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
)


def capability(
    name: str, traced: bool = False, slow: Callable[[Network], bool] | None = None
) -> Any:
    """A row: the test is run for every network, and its result is a cell."""
    if name not in CAPABILITIES:
        raise ValueError(f"not in the list of capabilities: {name}")
    cases = [
        pytest.param(n, id=n.name, marks=[pytest.mark.slow] if slow is not None and slow(n) else [])
        for n in NETWORKS
    ]
    if name in OF_PACKAGES:
        cases += [pytest.param(n, id=n.name, marks=PACKAGES_ALONE) for n in MORE]

    def mark(test: Callable[..., None]) -> Callable[..., None]:
        test = pytest.mark.parametrize("network", cases)(test)
        test = pytest.mark.cell(name)(test)
        return pytest.mark.traced(test) if traced else test

    return mark


class Pair:
    """A conditioned network away from the identity, and its truth."""

    def __init__(self, network: Network) -> None:
        backbone = network.ready()
        self.network = network
        self.plain = copy.deepcopy(backbone)
        example = network.inputs(BATCH)
        generator = Linear(CONDITION)
        self.net = condition(
            backbone, at=network.at, generator=generator, example=example, **network.options
        ).eval()
        move(generator)
        self.head = copy.deepcopy(generator.head)

    def __call__(self, inputs: Inputs, z: Tensor) -> Tensor:
        """The conditioned network's answer."""
        return self.network.tensor(self.net(**inputs, condition=z))

    def hand(self, inputs: Inputs, z: Tensor) -> Tensor:
        """The truth."""
        return self.by_hand(inputs, nn.functional.linear(z, self.head.weight, self.head.bias))

    def by_hand(self, inputs: Inputs, flat: Tensor) -> Tensor:
        """The truth for parameters (B, N)."""
        with hooked(self.plain, self.network.places, flat):
            return self.network.tensor(self.plain(**inputs))

    def draw(self, batch: int = BATCH) -> tuple[Inputs, Tensor]:
        """Inputs and conditions."""
        return self.network.inputs(batch), torch.randn(batch, CONDITION)

    def train(self) -> None:
        self.net.train()
        self.plain.train()

    def grads(self) -> dict[str, Tensor | None]:
        """Gradients of the conditioned network, by the truth's names; forgotten afterwards."""
        found = {name: p.grad for name, p in self.net.backbone.named_parameters()}
        found |= {f"head.{name}": p.grad for name, p in self.net.generator.head.named_parameters()}
        self.net.zero_grad()
        return found

    def hand_grads(self) -> dict[str, Tensor | None]:
        """Gradients of the truth."""
        found = {name: p.grad for name, p in self.plain.named_parameters()}
        found |= {f"head.{name}": p.grad for name, p in self.head.named_parameters()}
        self.plain.zero_grad()
        self.head.zero_grad()
        return found


@torch.no_grad()
def move(generator: nn.Module) -> None:
    """Take a linear generator away from the identity."""
    generator.head.weight.normal_(std=0.4)
    generator.head.bias.normal_(std=0.4)


@contextmanager
def hooked(network: nn.Module, places: tuple[Place, ...], flat: Tensor) -> Iterator[None]:
    """FiLM written by hand: γ and β of each place lie one after the other in ``flat`` (B, N)."""
    handles, start = [], 0
    for place in places:
        gamma = flat[:, start : start + place.width]
        beta = flat[:, start + place.width : start + 2 * place.width]
        start += 2 * place.width
        module = network.get_submodule(place.name)
        handles.append(module.register_forward_hook(film_by_hand(place, gamma, beta)))
    if start != flat.shape[1]:
        raise ValueError(f"{start} parameters expected, got {flat.shape[1]}")
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def film_by_hand(place: Place, gamma: Tensor, beta: Tensor) -> Callable[..., Any]:
    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        x = output if place.pick is None else output[place.pick]
        shape = [1] * x.ndim
        shape[place.axis], shape[place.batch_axis] = gamma.shape[1], gamma.shape[0]
        order = place.axis % x.ndim < place.batch_axis
        g, b = ((v.T if order else v).float().reshape(shape) for v in (gamma, beta))
        y = ((1 + g) * x + b).to(x.dtype)
        if place.pick is None:
            return y
        return (*output[: place.pick], y, *output[place.pick + 1 :])

    return hook


def close(found: Any, expected: Any, tolerance: float = 1e-4) -> None:
    """Equal but for the order of sums."""
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def close_grads(
    found: dict[str, Tensor | None], expected: dict[str, Tensor | None], tolerance: float = 1e-4
) -> None:
    """Gradients agree, relative to the largest of each parameter, and some are not zero.

    One that should be zero (the bias of an attention's keys) is rounding alone: it is held to the
    largest of the network.
    """
    assert found.keys() == expected.keys()
    largest = max(float(v.abs().max()) for v in expected.values() if v is not None and v.numel())
    moved = 0
    for name, value in expected.items():
        other = found[name]
        assert (value is None) == (other is None), name
        if value is None or other is None:
            continue
        scale = max(float(value.abs().max()), 1e-2, 1e-2 * largest)
        assert float((value - other).abs().max()) <= tolerance * scale, name
        moved += int(bool(value.any()))
    assert moved


def near_grads(
    found: dict[str, Tensor | None], expected: dict[str, Tensor | None], tolerance: float
) -> None:
    """Gradients agree as one vector each, for computations of low precision."""
    a, b = (
        {name: value.float() for name, value in grads.items() if value is not None}
        for grads in (found, expected)
    )
    assert a.keys() == b.keys()
    one, other = (torch.cat([v.flatten() for v in grads.values()]) for grads in (a, b))
    assert other.norm() > 0
    assert float((one - other).norm() / other.norm()) < tolerance


def same_grads(a: dict[str, Tensor | None], b: dict[str, Tensor | None]) -> None:
    """Equal, bit for bit."""
    assert a.keys() == b.keys()
    for name, value in a.items():
        other = b[name]
        assert (value is None) == (other is None), name
        assert value is None or other is None or torch.equal(value, other), name


def checkpointed(backbone: nn.Module, network: Network, reentrant: bool = False) -> None:
    """Let the blocks be checkpointed: by the library's own switch where it has one."""

    def run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return checkpoint(function, *args, use_reentrant=reentrant, **kwargs)

    if network.package == "transformers":
        backbone.activation_checkpointing_enable({"use_reentrant": reentrant})
    elif network.package == "diffusers":
        backbone.enable_gradient_checkpointing(run)
    else:
        for name in network.blocks:
            block = backbone.get_submodule(name)
            block.forward = rerun(block.forward, run)


def rerun(forward: Callable[..., Any], run: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: run(forward, *args, **kwargs)


class Cell:
    """What a test says of its own result."""

    def __init__(self, network: Network, name: str, properties: list[tuple[str, object]]) -> None:
        self.network = network
        self.name = name
        self.properties = properties

    def says(self, result: str) -> None:
        """Publish ``result`` in place of "pass"."""
        self.properties.append(("matrix", result))

    def attempt(self, run: Callable[[], Any], plain: Callable[[], Any]) -> Any:
        """Run; where the network is said to be unable itself, see that it is, and skip."""
        reason = self.network.cannot.get(self.name)
        if reason is None:
            return run()
        for unable in (plain, run):
            with pytest.raises(RuntimeError):
                unable()
        pytest.skip(reason)


def conditioned(backbone: nn.Module, **options: Any) -> Conditioned:
    """A conditioned network away from the identity."""
    generator = Linear(CONDITION)
    net = condition(backbone, generator=generator, **options)
    move(generator)
    return net
