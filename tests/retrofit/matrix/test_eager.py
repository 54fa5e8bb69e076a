"""What the conditioned network computes, run as it is."""

from __future__ import annotations

import copy
import sys
import threading

import pytest
import torch
from torch import Tensor, nn

from featurewise.generators import Learned, Linear
from featurewise.retrofit import condition

from .cells import (
    BATCH,
    CONDITION,
    Pair,
    capability,
    close,
    close_grads,
    conditioned,
    hooked,
    near_grads,
)
from .networks import Network, Place, skip_lstm_in_bfloat16

QUICK = ("CNN", "LSTM", "GRU cell", "MultiheadAttention")  # 6,400 calls in seconds


@capability("rows of a batch equal rows run alone; gradients")
def test_rows(network: Network, pair: Pair) -> None:
    inputs, z = pair.draw()
    y, expected = pair(inputs, z), pair.hand(inputs, z)
    close(y, expected)
    for i in range(BATCH):
        alone = network.row(inputs, i)
        close(pair(alone, z[i : i + 1]), y.narrow(network.batch_axis, i, 1))
    y.square().sum().backward()
    expected.square().sum().backward()
    close_grads(pair.grads(), pair.hand_grads())


@capability("rows of a batch equal rows run alone; gradients")
def test_every_site_changes_the_output(network: Network, pair: Pair) -> None:
    """Else a test below could pass with a site left out."""
    assert pair.net.layout.names == tuple(place.name for place in network.places)
    inputs, z = pair.draw()
    flat = pair.net.represent(z).flat.detach()
    y, start = network.tensor(pair.net(**inputs, task=flat)), 0
    for place in network.places:
        for _ in ("gamma", "beta"):
            other = flat.clone()
            other[:, start : start + place.width] += torch.randn(place.width)
            start += place.width
            changed = network.tensor(pair.net(**inputs, task=other))
            assert (changed - y).abs().max() > 1e-4, place.name
            close(changed, pair.by_hand(inputs, other))


@capability("identity at first; removal exact")
def test_identity_and_removal(network: Network) -> None:
    backbone = network.ready()
    keys, inputs = list(backbone.state_dict()), network.inputs(BATCH)
    before = network.tensor(backbone(**inputs))
    own = hooks(backbone)  # some networks hook themselves in their first run
    net = condition(
        backbone, at=network.at, generator=Linear(CONDITION), example=inputs, **network.options
    )
    z = torch.randn(BATCH, CONDITION)
    assert torch.equal(network.tensor(net(**inputs, condition=z)), before)
    assert list(net.backbone.state_dict()) == keys
    with torch.no_grad():
        net.generator.head.weight.normal_()
    assert not torch.equal(network.tensor(net(**inputs, condition=z)), before)
    assert torch.equal(network.tensor(net.backbone(**inputs)), before)
    assert net.remove() is backbone
    assert torch.equal(network.tensor(backbone(**inputs)), before)
    assert hooks(backbone) == own


def hooks(network: nn.Module) -> list[object]:
    modules = list(network.modules())
    return [
        h for m in modules for d in (m._forward_hooks, m._forward_pre_hooks) for h in d.values()
    ]


@capability("AMP, bfloat16")
def test_amp(network: Network, pair: Pair) -> None:
    """Dtypes are the plain network's at every site, values those of the truth under autocast."""
    skip_lstm_in_bfloat16(network)
    inputs, z = pair.draw()
    with torch.autocast("cpu", torch.bfloat16):
        with Dtypes(pair.plain, network.places) as plain:
            dtype = network.tensor(pair.plain(**inputs)).dtype
        with Dtypes(pair.net.backbone, network.places) as seen:
            y = pair(inputs, z)
        expected = pair.hand(inputs, z)
    assert y.dtype == dtype
    assert seen == plain
    close(y.float(), expected.float(), 5e-2)
    y.float().square().sum().backward()
    expected.float().square().sum().backward()
    assert all(p.grad is None or p.grad.dtype == p.dtype for p in pair.net.parameters())
    near_grads(pair.grads(), pair.hand_grads(), 0.05)


class Dtypes:
    """Dtypes that leave the places, in order."""

    def __init__(self, network: nn.Module, places: tuple[Place, ...]) -> None:
        self.network, self.places = network, places
        self.seen: list[torch.dtype] = []

    def __enter__(self) -> list[torch.dtype]:
        def note(place: Place, output: object) -> None:
            x = output if place.pick is None else output[place.pick]
            self.seen.append(x.dtype)

        self.handles = [
            self.network.get_submodule(place.name).register_forward_hook(
                lambda module, args, output, place=place: note(place, output)
            )
            for place in self.places
        ]
        return self.seen

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()


@capability("16 threads, 400 calls each", slow=lambda n: n.name not in QUICK)
def test_threads(network: Network, pair: Pair) -> None:
    inputs, _ = pair.draw(2)
    conditions = torch.randn(16, 2, CONDITION)
    with torch.no_grad():
        expected = [pair(inputs, z) for z in conditions]
        for y, z in zip(expected, conditions, strict=True):
            close(y, pair.hand(inputs, z))
    assert len({tuple(y.flatten().tolist()) for y in expected}) == len(expected)
    wrong: list[int] = []

    def work(index: int) -> None:
        with torch.no_grad():
            for call in range(400):
                k = (7 * index + call) % len(conditions)
                if not torch.equal(pair(inputs, conditions[k]), expected[k]):
                    wrong.append(k)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []


# --- networks around the network -----------------------------------------------------------------


class Twice(nn.Module):
    """Runs a network on the samples and on the samples in reverse."""

    def __init__(self, inner: nn.Module, network: Network) -> None:
        super().__init__()
        self.inner, self.network = inner, network

    def forward(self, **inputs: Tensor) -> Tensor:
        axis, tensor = self.network.batch_axis, self.network.tensor
        turned = {name: value.flip(axis) for name, value in inputs.items()}
        return tensor(self.inner(**inputs)) + 2 * tensor(self.inner(**turned))


@capability("modules used twice in one forward")
def test_twice(network: Network, pair: Pair) -> None:
    inputs, z = pair.draw()
    outer = Twice(pair.net.remove(), network)
    net = conditioned(
        outer,
        at=[f"inner.{place.name}" for place in network.places],
        example=inputs,
        **network.options,
    )
    weight = net.generator.head.weight
    flat = net.represent(z).flat
    with hooked(pair.plain, network.places, flat):
        expected = Twice(pair.plain, network)(**inputs)
    y = net(**inputs, condition=z)
    close(y, expected)
    found, truth = (
        torch.autograd.grad(out.square().sum(), weight, retain_graph=True)[0]
        for out in (y, expected)
    )
    close_grads({"head": found}, {"head": truth})


class Box(nn.Module):
    """Gives the tensor of a network in a nest of containers, not at its front."""

    def __init__(self, module: nn.Module, network: Network, kind: type) -> None:
        super().__init__()
        self.module, self.network, self.kind = module, network, kind

    def forward(self, **inputs: Tensor) -> object:
        y = self.network.tensor(self.module(**inputs))
        total = y.detach().abs().sum()
        return (7, y, [total]) if self.kind is tuple else {"n": 7, "y": y, "more": (None, total)}


@capability("tuple and dict outputs")
@pytest.mark.parametrize("kind", [tuple, dict])
def test_containers(network: Network, pair: Pair, kind: type) -> None:
    """A site that returns a nest: the features are modulated and all else is left alone."""
    inputs, z = pair.draw()
    net = conditioned(
        nn.ModuleDict({"box": Box(pair.net.remove(), network, kind)})["box"],
        at="",
        example=inputs,
        axis=network.axis,
        batch_axis=network.batch_axis,
    )
    output = net(**inputs, condition=z)
    assert type(output) is kind
    count, y, more = output if kind is tuple else output.values()
    raw = network.tensor(pair.plain(**inputs))
    gamma, beta = net.represent(z).flat.chunk(2, 1)
    rows = []
    for i in range(BATCH):
        row = raw.select(network.batch_axis, i)
        axis = network.axis if network.axis < 0 else network.axis - 1
        row = row.movedim(axis, -1)
        rows.append(((1 + gamma[i]) * row + beta[i]).movedim(-1, axis))
    close(y, torch.stack(rows, network.batch_axis))
    assert count == 7
    close(more[-1], raw.abs().sum())


@capability("nested conditioning")
def test_nested(network: Network, pair: Pair) -> None:
    """A conditioned network conditioned once more, at the same sites; each has its condition."""
    inputs, z = pair.draw()
    twin = copy.deepcopy(pair.net)
    inner = condition(
        pair.net.remove(), at=network.at, generator=Learned(), example=inputs, **network.options
    )
    with torch.no_grad():
        inner.generator.vector.normal_(std=0.3)
    vector = inner.generator.vector.detach().expand(BATCH, -1)
    net = conditioned(
        inner,
        at=[f"backbone.{place.name}" for place in network.places],
        example=inputs,
        **network.options,
    )
    flat = net.represent(z).flat
    with hooked(pair.plain, network.places, vector), hooked(pair.plain, network.places, flat):
        expected = network.tensor(pair.plain(**inputs))
    close(network.tensor(net(**inputs, condition=z)), expected)
    close(network.tensor(inner(**inputs)), pair.by_hand(inputs, vector))
    assert net.remove().remove() is pair.net.backbone
    assert torch.equal(
        network.tensor(pair.net.backbone(**inputs)), network.tensor(twin.remove()(**inputs))
    )
