"""The fast path of a hook equals the checked path, which raises all errors."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from featurewise.core import Affine, FeaturewiseError, Gate, Layout, Operation, Scale, Shift, Site
from featurewise.generators import Learned
from featurewise.retrofit import Conditioned, condition


class Same(nn.Module):
    """Passes features on."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def conditioned(site: Site) -> Conditioned:
    network = nn.Sequential()
    network.add_module(site.name, Same())
    generator = Learned()
    layout = Layout((site,))
    generator.bind(layout)
    return Conditioned(network, generator, layout)


def features(rank: int, axis: int, batch_axis: int | None, sizes: tuple[int, int]) -> Tensor:
    shape = [2 + i for i in range(rank)]
    shape[axis] = sizes[1]
    if batch_axis is not None:
        shape[batch_axis] = sizes[0]
    return torch.randn(shape)


AXES = [
    (rank, axis, batch_axis)
    for rank in (1, 2, 3, 4)
    for axis, batch_axis in itertools.product(range(-rank, rank), (None, 0, 1, -1))
    if batch_axis is None or (batch_axis < rank and axis % rank != batch_axis % rank)
    if axis != batch_axis
]


@pytest.mark.parametrize("operation", [Affine(), Shift(), Scale(), Gate()], ids=str)
def test_every_order_of_axes(operation: Operation) -> None:
    planned = 0
    for rank, axis, batch_axis in AXES:
        site = Site("at", 6, operation, axis, batch_axis)
        net = conditioned(site)
        x = features(rank, axis, batch_axis, (5, 6))
        for shape in [()] if batch_axis is None else [(), (5,)]:
            flat = torch.randn(*shape, site.size)
            expected = site.modulate(x, net.layout.split(flat)["at"])
            assert torch.equal(net(x, task=flat), expected), (rank, axis, batch_axis, shape)
            hook = next(iter(net.backbone[0]._forward_hooks.values())).__self__
            call = net._call(None, flat, None)
            planned += hook._prepared(x, call, call.pairs[0], call.batch) is not None
    assert planned > len(AXES) / 2  # the path under test is the one taken, not its fallback


@pytest.mark.parametrize("x_dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_dtypes(x_dtype: torch.dtype, dtype: torch.dtype) -> None:
    site = Site("at", 4, Affine())
    net, x, flat = conditioned(site), torch.randn(3, 4, 2).to(x_dtype), torch.randn(3, 8).to(dtype)
    y = net(x, task=flat)
    assert y.dtype == x_dtype
    assert torch.equal(y, site.modulate(x, net.layout.split(flat)["at"]))


@pytest.mark.parametrize(
    ("x", "flat"),
    [
        (torch.randn(3, 5), torch.randn(3, 8)),  # another width
        (torch.randn(2, 4), torch.randn(3, 8)),  # another batch
        (torch.randn(3, 4), torch.randn(1, 8)),  # one row is not shared by all
        (torch.randn(4), torch.randn(3, 8)),  # no such axes
        (torch.ones(3, 4, dtype=torch.int64), torch.randn(3, 8)),
    ],
    ids=["width", "batch", "one row", "axes", "integers"],
)
def test_errors_are_those_of_the_site(x: Tensor, flat: Tensor) -> None:
    site = Site("at", 4, Affine())
    net = conditioned(site)
    with pytest.raises(FeaturewiseError) as checked:
        site.modulate(x, net.layout.split(flat)["at"])
    with pytest.raises(type(checked.value)) as prepared:
        net(x, task=flat)
    said, _, remedy = str(prepared.value).partition("; ")
    assert said == str(checked.value)
    few = x.shape[1:] == (4,) and x.is_floating_point() and len(x) != len(flat)
    assert ("rows=<index" in remedy) == few  # where only rows do not fit, what to do is said
    assert "site 'at'" in str(prepared.value)


def test_each_site_gets_its_own_of_many() -> None:
    chain = nn.Sequential(*[nn.Linear(4, 4) for _ in range(5)])
    net = condition(chain, at=nn.Linear, operation=Affine(), generator=Learned())
    x, flat = torch.randn(3, 4), torch.randn(3, net.layout.size)
    expected = x
    for i, layer in enumerate(chain):
        gamma, beta = flat[:, 8 * i : 8 * i + 4], flat[:, 8 * i + 4 : 8 * i + 8]
        expected = nn.functional.linear(expected, layer.weight, layer.bias) * (1 + gamma) + beta
    assert torch.equal(net(x, task=flat), expected)


def test_another_generator_serves_the_same_sites() -> None:
    chain = nn.Sequential(nn.Linear(4, 4))
    net = condition(chain, at="0", generator=Learned())
    old, new = net.generator, Learned()
    assert net.replace_generator(new) is old
    with torch.no_grad():
        new.vector.normal_()
    x = torch.randn(2, 4)
    assert torch.equal(net(x), net(x, task=new.vector.detach()))
    elsewhere = Learned()
    elsewhere.bind(Layout((Site("1", 4, Affine()),)))
    with pytest.raises(FeaturewiseError, match="cannot serve"):
        net.replace_generator(elsewhere)
    assert net.generator is new
