"""Tracked samples: rows that are not samples raise an error even if sizes match; samples do not.

Every network here runs as many rows at its site as there are conditions.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featurewise.core import FeaturewiseError, LayoutError
from featurewise.generators import Linear
from featurewise.retrofit import Conditioned, SiteWarning, condition

MODES: list[Callable[[], AbstractContextManager[None]]] = [
    torch.enable_grad,
    torch.no_grad,
    torch.inference_mode,
]


class Run(nn.Module):
    """One map, with operations before and after it."""

    def __init__(self, before: Callable[[Tensor], Tensor], width: int = 4) -> None:
        super().__init__()
        self.before = before
        self.at = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.at(self.before(x))


def conditioned(network: nn.Module, at: str = "at", **options: int) -> Conditioned:
    net = condition(network, at=at, generator=Linear(5), **options)
    for parameter in net.generator.parameters():
        nn.init.normal_(parameter, std=0.5)
    return net


def sort_by_first(x: Tensor) -> Tensor:
    return x[x[:, 0].argsort()]


def gram(x: Tensor) -> Tensor:
    return x.T @ x


NOT_SAMPLES: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "selected by a mask": (lambda x: x[x[:, 0] > -9.0], (4, 4)),
    "selected by content": (sort_by_first, (4, 4)),
    "selected by index_select": (lambda x: x.index_select(0, x[:, 0].argsort()), (4, 4)),
    "gathered": (lambda x: x.gather(0, x.argsort(0)), (4, 4)),
    "steps first": (lambda x: x.transpose(0, 1), (4, 4, 4)),
    "steps first, copied": (lambda x: x.permute(1, 0, 2).contiguous(), (4, 4, 4)),
    "steps first by einsum": (lambda x: torch.einsum("btc->tbc", x), (4, 4, 4)),
    "features of a batch": (gram, (4, 4)),
    "normalised, then selected": (lambda x: F.layer_norm(x, [4])[x[:, 1].argsort()], (4, 4)),
    "sorted, then mapped": (lambda x: torch.relu(x[x[:, 0].argsort()] @ torch.eye(4)), (4, 4)),
    "a convolution later": (
        lambda x: F.conv1d(x.transpose(0, 1), torch.ones(4, 4, 1)).transpose(1, 2),
        (4, 4, 4),
    ),
    "selected by a mask of two axes": (lambda x: x[x[:, :, 0].argsort(0) < 1], (4, 4, 4)),
    "sorted": (lambda x: x.sort(0).values, (4, 4)),
    "the greatest of all": (lambda x: x.topk(4, dim=0).values, (4, 4)),
    "without duplicates": (lambda x: x.unique(dim=0), (4, 4)),
}

SAMPLES: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "themselves": (lambda x: x, (4, 4)),
    "in reverse": (lambda x: x.flip(0), (4, 4)),
    "shifted": (lambda x: x.roll(1, 0), (4, 4)),
    "of steps": (lambda x: x.transpose(0, 1).transpose(0, 1), (4, 4, 4)),
    "tokens and back": (lambda x: F.relu(x.reshape(-1, 4) @ torch.eye(4)).view(x.shape), (4, 3, 4)),
    "chosen in order": (lambda x: x[torch.arange(4)], (4, 4)),
    "the last of each": (lambda x: x[torch.arange(4), x[:, :, 0].argmax(1)], (4, 3, 4)),
    "pooled": (lambda x: x.mean((2, 3)), (4, 4, 3, 3)),
    "the greatest": (lambda x: x.amax(1), (4, 3, 4)),
    "less the mean of the batch": (lambda x: x - x.mean(0, keepdim=True), (4, 4)),
    "whitened": (lambda x: F.batch_norm(x, None, None, training=True), (4, 4)),
    "attention among samples": (lambda x: (x @ x.T).softmax(-1) @ x + x, (4, 4)),
    "sorted and put back": (lambda x: x[x[:, 0].argsort()][x[:, 0].argsort().argsort()], (4, 4)),
    "with a token of its own": (
        lambda x: F.layer_norm(torch.cat([torch.zeros(1, 1, 4).expand(4, 1, 4), x], 1), [4])[:, 0],
        (4, 3, 4),
    ),
    "windows of one": (lambda x: x.unfold(1, 4, 4).squeeze(1), (4, 4)),
    "heads": (
        lambda x: (
            F.scaled_dot_product_attention(*[x.view(4, 3, 2, 2).transpose(1, 2)] * 3)
            .transpose(1, 2)
            .reshape(4, 3, 4)
        ),
        (4, 3, 4),
    ),
    "convolved": (lambda x: F.conv2d(x, torch.ones(4, 4, 3, 3)).flatten(1), (4, 4, 3, 3)),
    "padded and cut": (lambda x: F.pad(x, (0, 0, 1, 2))[:, 1:4], (4, 3, 4)),
    "shifted in space": (lambda x: x.roll(1, 1), (4, 3, 4)),
    "sorted in space": (lambda x: x.sort(1).values, (4, 3, 4)),
    "one by one": (lambda x: torch.stack([row * 2 for row in x.unbind(0)]), (4, 4)),
    "split and joined": (lambda x: torch.cat([torch.tanh(p) for p in x.split(1)]), (4, 4)),
    "recurrent": (lambda x: GRU(x)[0][:, -1], (4, 3, 4)),
    "masked": (lambda x: x.masked_fill(x > 1, 0.0) + torch.where(x > 0, x, -x), (4, 4)),
    "of complex numbers": (lambda x: torch.fft.ifft(torch.fft.fft(x)).real, (4, 4)),
    "by einsum": (lambda x: torch.einsum("btc,bsc->bts", x, x), (4, 4, 4)),
    "scattered into": (
        lambda x: torch.zeros_like(x).index_add(0, x[:, 0].argsort(), x) + x,
        (4, 4),
    ),
}
GRU = nn.GRU(4, 4, batch_first=True)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.__name__)
@pytest.mark.parametrize("name", NOT_SAMPLES)
def test_rows_that_are_not_samples_are_refused(name: str, mode: Callable[[], object]) -> None:
    before, shape = NOT_SAMPLES[name]
    net, z = conditioned(Run(before)), torch.randn(4, 5)
    with mode():
        for _ in range(2):  # and again, when no run is followed any more
            with pytest.raises(LayoutError, match=r"site 'at' has 4 rows for 4 conditions, but"):
                net(torch.randn(shape), condition=z)
        net(torch.randn(shape), condition=z[0])  # one for all is no question
        net(torch.randn(shape), condition=z, rows=torch.arange(4))  # nor is what is said


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.__name__)
@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_accepted(name: str, mode: Callable[[], object]) -> None:
    before, shape = SAMPLES[name]
    x = torch.randn(shape)
    net = conditioned(Run(before, before(x).shape[-1]))
    with mode():
        net(x, condition=torch.randn(4, 5))
        assert net._followed[None] == set(net.layout.names)


def test_the_error_names_the_axis_of_the_samples() -> None:
    network = Run(lambda x: x.transpose(0, 1))
    with pytest.raises(LayoutError, match="is 1: pass batch_axis=1"):
        conditioned(network)(torch.randn(3, 3, 4), condition=torch.randn(3, 5))
    network = Run(lambda x: x.transpose(0, 1))
    net, x, z = conditioned(network, batch_axis=1), torch.randn(3, 3, 4), torch.randn(3, 5)
    alone = [net(x[i : i + 1], condition=z[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(net(x, condition=z), torch.cat(alone, 1))


class Experts(nn.Module):
    """Each token is processed by one of several maps."""

    def __init__(self, how: str, experts: int = 3) -> None:
        super().__init__()
        self.gate = nn.Linear(4, experts)
        self.parts = nn.ModuleList(nn.Linear(4, 4) for _ in range(experts))
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.reshape(-1, 4)
        best = self.gate(tokens).argmax(-1)
        if self.how == "grouped":
            return self.grouped(tokens, best).reshape(x.shape)
        out = torch.zeros_like(tokens)
        for number, part in enumerate(self.parts):
            mask = best == number
            if not mask.any():
                continue
            if self.how == "mask":
                out[mask] = part(tokens[mask])
            else:
                at = mask.nonzero()[:, 0]
                out = out.index_add(0, at, part(tokens.index_select(0, at)))
        return x + out.reshape(x.shape)

    def grouped(self, tokens: Tensor, best: Tensor) -> Tensor:
        order = best.argsort()
        parts = tokens[order].split(best.bincount(minlength=len(self.parts)).tolist())
        out = torch.cat([part(rows) for part, rows in zip(self.parts, parts, strict=True)])
        return out[order.argsort()]


@pytest.mark.parametrize("how", ["mask", "index", "grouped"])
def test_tokens_of_experts_are_not_samples(how: str) -> None:
    """3 x 2 tokens for 3 conditions: an expert may receive 3 of them that happen to be in order."""
    torch.manual_seed(0)
    net = conditioned(Experts(how).double(), "parts.*").double()
    equal = 0
    for _ in range(40):
        x, z = torch.randn(3, 2, 4).double(), torch.randn(3, 5).double()
        counts = net.backbone.gate(x.reshape(-1, 4)).argmax(-1).bincount(minlength=3)
        equal += 3 in counts
        with warnings.catch_warnings(), pytest.raises(FeaturewiseError, match="rows=<index"):
            warnings.simplefilter("ignore", SiteWarning)
            net(x, condition=z)
    assert equal > 5  # in which sizes alone say nothing


def test_what_follows_experts_is_samples_again() -> None:
    for how in ("mask", "index", "grouped"):
        net = conditioned(nn.Sequential(Experts(how), nn.Linear(4, 4)), "1")
        net(torch.randn(3, 2, 4), condition=torch.randn(3, 5))
        assert net._followed[None] == set(net.layout.names)


def test_a_site_is_tracked_until_a_run_reached_it() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor, second: bool) -> Tensor:
            return self.b(x[x[:, 0].argsort()]) if second else self.a(x)

    net, x, z = conditioned(Branches(), "*"), torch.randn(3, 4), torch.randn(3, 5)
    with pytest.warns(SiteWarning, match="b"):
        net(x, False, condition=z)
    with pytest.raises(LayoutError, match="site 'b'"):
        net(x, True, condition=z)


def test_a_run_with_one_shared_condition_is_not_tracked() -> None:
    net, x, z = conditioned(Run(sort_by_first)), torch.randn(3, 4), torch.randn(3, 5)
    net(x, condition=z[0])
    with net.using(condition=z[0]):
        net.backbone(x)
    with pytest.raises(LayoutError, match="selected by an index"):
        net(x, condition=z)


def test_repeat_is_checked_against_what_the_network_does() -> None:
    net = conditioned(Run(lambda x: x.repeat_interleave(2, 0)))
    x, z = torch.randn(3, 4), torch.randn(3, 5)
    with pytest.raises(LayoutError, match="not the samples in order"):
        net(x, condition=z, repeat="tile")
    net(x, condition=z, repeat="interleave")
    net = conditioned(Run(lambda x: torch.cat([x, x])))
    with pytest.raises(LayoutError, match="not the samples in order"):
        net(x, condition=z, repeat="interleave")
    net(x, condition=z, repeat="tile")


def test_within_using_outputs_equal_those_of_an_untracked_run() -> None:
    net = conditioned(Run(lambda x: F.layer_norm(x, [4])))
    x, z = torch.randn(3, 4), torch.randn(3, 5)
    with net.using(condition=z):
        first = net.backbone(x)
    assert net._followed[None] == set(net.layout.names)
    assert torch.equal(net(x, condition=z), first)
    net = conditioned(Run(sort_by_first))
    with net.using(condition=z), pytest.raises(LayoutError, match="not the samples"):
        net.backbone(x)
    assert torch.utils._python_dispatch._len_torch_dispatch_stack() == 0  # the mode was left


def test_an_interrupted_run_is_not_followed_any_more() -> None:
    def interrupt(x: Tensor) -> Tensor:
        raise KeyboardInterrupt

    net = conditioned(Run(interrupt))
    for scoped in (False, True):
        with pytest.raises(KeyboardInterrupt):
            if scoped:
                with net.using(condition=torch.randn(3, 5)):
                    net.backbone(torch.randn(3, 4))
            else:
                net(torch.randn(3, 4), condition=torch.randn(3, 5))
        assert torch.utils._python_dispatch._len_torch_dispatch_stack() == 0


class Around(nn.Module):
    """Runs its map inside of something that has tensors of its own kind."""

    def __init__(self, how: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.at = nn.Linear(4, 4)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        return self.how(self.at, x)


@pytest.mark.parametrize(
    "how",
    [
        lambda at, x: torch.func.grad(lambda u: at(u).square().sum())(x),
        lambda at, x: torch.func.jvp(at, (x,), (x,))[1],
        lambda at, x: torch.eye(3).to_sparse() @ at(x),
        lambda at, x: torch.eye(3).to_sparse_csr() @ at(x),
    ],
    ids=["grad", "jvp", "sparse", "csr"],
)
@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_tensors_without_memory_of_their_own(how: Callable[[nn.Module, Tensor], Tensor]) -> None:
    net, x, z = conditioned(Around(how)), torch.randn(3, 4), torch.randn(3, 5)
    y = net(x, condition=z)
    torch.testing.assert_close(y, net(x, condition=z, rows=torch.arange(3)))


class Table(nn.Module):
    """Runs its map on a tensor that depends on no input."""

    def __init__(self, made: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(4, 4))
        self.at = nn.Linear(4, 4)
        self.made = made

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.at(self.made(self.table, x)).mT


def written(table: Tensor, x: Tensor) -> Tensor:
    out = torch.zeros(4, 4)
    out[:, 0] = x[:, 0]
    return out


@pytest.mark.parametrize(
    ("made", "refused"),
    [
        (lambda table, x: table, True),
        (lambda table, x: torch.linspace(0, 1, 16).view(4, 4), True),
        (lambda table, x: table[:1].expand(4, 4), False),
        (lambda table, x: torch.randn(4, 4), False),
        (written, False),
    ],
    ids=["table", "positions", "one for all", "at random", "written into"],
)
def test_rows_that_depend_on_no_input(
    made: Callable[[Tensor, Tensor], Tensor], refused: bool
) -> None:
    net, x, z = conditioned(Table(made)), torch.randn(4, 4), torch.randn(4, 5)
    if refused:
        with pytest.raises(LayoutError, match="depend on no input"):
            net(x, condition=z)
    else:
        net(x, condition=z)


def test_each_value_of_repeat_is_tracked_separately() -> None:
    net = conditioned(Run(lambda x: torch.cat([x, x])))
    x, z = torch.randn(3, 4), torch.randn(3, 5)
    net(x, condition=z, repeat="tile")
    with pytest.raises(LayoutError, match="not the samples in order"):
        net(x, condition=z, repeat="interleave")
