"""Sites that cannot be reached, or were not, are reported."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from featurewise.core import FeaturewiseError
from featurewise.deploy import bake
from featurewise.generators import Learned, Linear
from featurewise.retrofit import CallError, SiteWarning, condition


def chain() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))


class Own(nn.Sequential):
    """A subclass with its own forward."""

    def forward(self, x: Tensor) -> Tensor:
        return self[2](self[1](self[0](x)))


def whole(network: nn.Module) -> nn.Module:
    return torch.compile(network, backend="eager")


def in_place(network: nn.Module) -> nn.Module:
    network.compile(backend="eager")
    return network


def one_part(network: nn.Module) -> nn.Module:
    network[2].compile(backend="eager")
    return network


def forward_alone(network: nn.Module) -> nn.Module:
    network.forward = torch.compile(network.forward, backend="eager")
    return network


@pytest.mark.traced
@pytest.mark.parametrize("compiled", [whole, in_place, one_part, forward_alone])
@pytest.mark.parametrize("ran", [False, True])
def test_a_network_compiled_before_is_refused(
    compiled: Callable[[nn.Module], nn.Module], ran: bool
) -> None:
    network = compiled(chain())
    if ran:
        network(torch.randn(2, 4))
    at = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    with pytest.raises(CallError, match=r"compiled before it was conditioned.*then compile"):
        condition(network, at=at, generator=Learned())
    assert not any(m._forward_hooks for m in network.modules())


@pytest.mark.traced
def test_compiled_parts_without_a_site_are_accepted() -> None:
    network = one_part(chain())
    net = condition(network, at="0", generator=Linear(3))
    x = torch.randn(2, 4)
    assert torch.equal(net(x, condition=torch.randn(2, 3)), network(x))


@pytest.mark.traced
def test_sites_of_compiled_blocks_are_traced_without_warning() -> None:
    """A network compiled after it was conditioned is modulated, without a warning."""
    net = condition(
        nn.Sequential(nn.Linear(4, 4), Own(*chain())), at=["0", "1.2"], generator=Linear(3)
    )
    nn.init.normal_(net.generator.head.weight)
    x, z = torch.randn(2, 4), torch.randn(2, 3)
    expected = net(x, condition=z)
    net.backbone[1].compile(fullgraph=True, backend="eager")
    for _ in range(2):
        with torch.no_grad():
            torch.testing.assert_close(net(x, condition=z), expected)
            with net.using(condition=z):
                torch.testing.assert_close(net.backbone(x), expected)


@pytest.mark.traced
def test_code_compiled_before_and_run_within_using_is_reported() -> None:
    network = Own(*chain())
    compiled = torch.compile(network, backend="eager")
    x, task = torch.randn(2, 4), torch.randn(16)
    plain = compiled(x)
    net = condition(network, at=["0", "2"], generator=Learned())
    with pytest.warns(SiteWarning, match="never reached in this block: 0, 2"):  # noqa: SIM117
        with net.using(task=task):
            assert torch.equal(compiled(x), plain)


# --- modules that were replaced ------------------------------------------------------------------


@pytest.mark.parametrize("gone", [False, True])
def test_a_module_replaced_after_condition(gone: bool, tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4)))
    net = condition(network, at=["0", "1.0"], generator=Learned())
    if gone:
        network[1] = nn.Identity()
    else:
        network[1][0] = nn.Linear(4, 4)
    said = "'1.0' was replaced or removed after"
    x = torch.randn(2, 4)
    with pytest.raises(CallError, match=said):
        net(x)
    with pytest.raises(CallError, match=said), net.using():
        net.backbone(x)
    with pytest.raises(CallError, match=said):
        bake(net)
    with pytest.raises(FeaturewiseError, match=said):
        net.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_hooks_of_another_conditioner_do_not_count() -> None:
    network = chain()
    net = condition(network, at="0", generator=Learned())
    other = condition(chain(), at="0", generator=Learned())
    network[0] = other.backbone[0]
    with pytest.raises(CallError, match="'0' was replaced"):
        net(torch.randn(2, 4))


def test_copies_are_attached_to_their_own() -> None:
    net = copy.deepcopy(condition(chain(), at="0", generator=Learned()))
    net(torch.randn(2, 4))
    bake(net)


# --- sites that a run bypasses --------------------------------------------------------------------


class Steps(nn.Module):
    """Reads the weights of its map directly when it continues from a state."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.out = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor, cached: bool) -> Tensor:
        x = nn.functional.linear(x, self.map.weight) if cached else self.map(x)
        return self.out(x)


class Decoder(nn.Module):
    """Runs its encoder once, then only the decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.steps = nn.Sequential(nn.Linear(4, 4), nn.Tanh()), Steps()

    def forward(self, x: Tensor, cached: bool = False) -> Tensor:
        return self.steps(x if cached else self.encoder(x), cached)


def test_weights_that_other_code_reads_are_reported_also_in_later_runs() -> None:
    net = condition(Decoder(), at=["steps.map", "steps.out"], generator=Learned())
    x = torch.randn(2, 4)
    with pytest.warns(SiteWarning, match=r"bypassed steps\.map"), net.using():
        net.backbone(x)
        net.backbone(x, cached=True)
        net.backbone(x, cached=True)  # said once in a block
    for _ in range(2):  # and in every call
        with pytest.warns(SiteWarning, match=r"never reached in this call: steps\.map;"):
            net(x, cached=True)


def test_parts_that_do_not_run_are_not_reported() -> None:
    net = condition(Decoder(), at=["encoder.0", "steps.map"], generator=Learned())
    x = torch.randn(2, 4)
    with net.using():
        net.backbone(x)
        net.backbone.steps(x, True)  # no run of the network
    net = condition(Decoder(), at="encoder.0", generator=Learned())
    with net.using():
        net.backbone(x)
        net.backbone(x, cached=True)  # its encoder does not run at all


def test_unused_experts_are_not_reported() -> None:
    class Either(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])

        def forward(self, x: Tensor, which: int) -> Tensor:
            return self.parts[which](x)

    net = condition(Either(), at="parts.*", generator=Learned())
    with net.using():
        net.backbone(torch.randn(2, 4), 0)
        net.backbone(torch.randn(2, 4), 1)
    with pytest.warns(SiteWarning, match=r"never reached in this block: parts\.1"), net.using():
        net.backbone(torch.randn(2, 4), 0)


def test_using_reports_what_was_never_reached() -> None:
    net = condition(Decoder(), at=["encoder.0", "steps.map"], generator=Learned())
    with pytest.warns(SiteWarning, match=r"never reached in this block: encoder\.0"), net.using():
        net.backbone.steps(torch.randn(2, 4), False)
    with net.using(partial=True):
        net.backbone.steps(torch.randn(2, 4), False)
    with net.using():
        pass  # nothing ran, so nothing was missed


def test_a_state_space_model_of_transformers_that_takes_single_steps() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.MambaConfig(
        hidden_size=8, num_hidden_layers=1, state_size=4, vocab_size=20
    )
    network = transformers.MambaForCausalLM(config).eval()
    net = condition(network, at="**.conv1d", generator=Linear(3))
    tokens = torch.ones(2, 3, dtype=torch.long)
    with pytest.warns(SiteWarning, match="conv1d") as caught, net.using(condition=torch.randn(3)):
        network.generate(tokens, max_new_tokens=3, do_sample=False)
    assert any("bypassed" in str(w.message) for w in caught)


def test_hooks_that_watch_runs_are_added_once_and_removed() -> None:
    network = nn.Sequential(chain(), nn.Linear(4, 4))
    net = condition(network, at=["0.0", "0.2", "1"], generator=Linear(3))
    x, z = torch.randn(2, 4), torch.randn(3)

    def hooks(network: nn.Module) -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())

    for _ in range(3):
        with net.using(condition=z):
            y = net.backbone(x)
    assert hooks(net) == 3 + 2 + 1  # sites, the network, the module around two sites
    with pytest.raises(RuntimeError), net.using(condition=z):
        net.backbone(torch.randn(2, 5))
    assert torch.equal(net(x, condition=z), y)
    assert hooks(bake(net, condition=z).module) == 0
    copied = copy.deepcopy(net)
    with copied.using(condition=z):
        assert torch.equal(copied.backbone(x), y)
    assert hooks(copied) == 6
    assert hooks(net.remove()) == 0
    assert hooks(copied) == 6


def test_no_warning_where_all_sites_are_reached() -> None:
    net = condition(chain(), at=["0", "2"], generator=Linear(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            net(torch.randn(2, 4), condition=torch.randn(2, 3))
