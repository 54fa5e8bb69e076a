"""Residual adapters against their equations; what is trained when; nothing is forgotten."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from featurewise.study.results import Proportion
from featurewise.systems.recognition.residual_adapters import SYSTEM
from featurewise.systems.recognition.residual_adapters.adapters import (
    AdaptedBlock,
    AdaptedConvolution,
    Parts,
)
from featurewise.systems.recognition.residual_adapters.experiment import own_share, used
from featurewise.systems.recognition.residual_adapters.method import (
    AdapterNetwork,
    BaseThenNew,
    DomainBatch,
)
from featurewise.training.randomness import seed_everything
from featurewise.worlds.glyphs.image_domains import image_domain

TINY = SYSTEM.preset("tiny")
ARMS = [arm.name for arm in SYSTEM.arms]
FROZEN = ["parallel", "series", "series_added", "norms", "fixed", "fine_tune", "scratch"]


def begun(arm: str, steps: int, seed: int = 0) -> BaseThenNew:
    seed_everything(seed)
    config = SYSTEM.config("tiny", arm)
    stepper = cast(BaseThenNew, SYSTEM.stepper(SYSTEM.build(config), config))
    source = SYSTEM.data(config, 0)
    for index in range(steps):
        stepper.step(source.batch(index))
    return stepper


@cache
@torch.enable_grad()
def before_and_after(arm: str) -> tuple[AdapterNetwork, BaseThenNew]:
    """The network at the end of the base domain, and the stepper after a few more steps."""
    stepper = begun(arm, TINY.base_steps)
    base = cast(AdapterNetwork, copy.deepcopy(stepper.network))
    source = SYSTEM.data(SYSTEM.config("tiny", arm), 0)
    for index in range(TINY.base_steps, TINY.base_steps + 9):
        stepper.step(source.batch(index))
    return base, stepper


def base_batch() -> DomainBatch:
    test = image_domain(TINY.domains[0], TINY.image_size).test
    return DomainBatch(test.ink, test.labels, 0, 0)


def mixed(weight: Tensor, x: Tensor) -> Tensor:
    """A 1×1 convolution, position by position."""
    return torch.einsum("dc,nchw->ndhw", weight[:, :, 0, 0], x)


def trained_parts(adapters: Any, base: bool = False, before: int = 3) -> AdaptedConvolution:
    """In eval mode, with other statistics in each norm."""
    torch.manual_seed(0)
    found = AdaptedConvolution(before, 4, 1, Parts(3, adapters, base, True)).double()
    for module in found.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -1, 1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return found.eval()


@pytest.mark.parametrize("domain", [0, 1, 2])
def test_a_parallel_adapter_is_added_to_its_convolution(domain: int) -> None:
    layer, x = trained_parts("parallel"), torch.randn(2, 3, 5, 5, dtype=torch.float64)
    y = F.conv2d(x, layer.convolve.weight, padding=1)
    if domain:
        y = y + mixed(layer.parallel[str(domain)].weight, x)
    norm = layer.norms[domain]
    lift = (1, -1, 1, 1)
    expected = (y - norm.running_mean.view(lift)) / (norm.running_var.view(lift) + 1e-5).sqrt()
    torch.testing.assert_close(layer(x, domain), expected)


@pytest.mark.parametrize("base", [False, True])
def test_an_adapter_in_series_is_a_residual_after_its_convolution(base: bool) -> None:
    layer, x = trained_parts("series", base), torch.randn(2, 3, 5, 5, dtype=torch.float64)
    for domain in range(3):
        y = F.conv2d(x, layer.convolve.weight, padding=1)
        assert (str(domain) in layer.series) is (base or domain > 0)
        if str(domain) in layer.series:
            norm, one = layer.series[str(domain)]
            y = y + mixed(one.weight, norm(y))
        torch.testing.assert_close(layer(x, domain), layer.norms[domain](y))


@pytest.mark.parametrize(("before", "after"), [(4, 4), (4, 6)])
def test_a_block_adds_its_shortcut(before: int, after: int) -> None:
    block = AdaptedBlock(before, after, Parts(2, "parallel", False, True)).double().eval()
    x = torch.randn(2, before, 6, 6, dtype=torch.float64)
    y = block.second(block.first(x, 1).relu(), 1)
    shortcut = x
    if before != after:
        shortcut = torch.zeros_like(y)
        for row in range(3):
            for column in range(3):
                square = x[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                shortcut[:, :before, row, column] = square.mean((2, 3))
    torch.testing.assert_close(block(x, 1), (y + shortcut).relu())


@torch.no_grad()
@pytest.mark.parametrize("arm", ARMS)
def test_the_base_domain_forgets_nothing_unless_it_is_trained_further(arm: str) -> None:
    """Bit by bit, on images of the base domain itself."""
    base, stepper = before_and_after(arm)
    config = SYSTEM.config("tiny", arm)
    with stepper.evaluating() as network:
        same = torch.equal(base.eval()(base_batch()), network(base_batch()))
    measured = SYSTEM.evaluate(stepper, config).by_type["base kept"]
    assert same is (arm != "shared")
    if arm == "shared":
        assert measured.correct < measured.total == 64
    else:
        assert measured == Proportion(64, 64)


@pytest.mark.parametrize(
    ("arm", "moving"),
    [
        ("parallel", {"parallel", "norms"}),
        ("series", {"series", "norms"}),
        ("norms", {"norms"}),
        ("fixed", set()),
        ("shared", {"convolve", "norms"}),
        ("fine_tune", {"convolve", "norms"}),
        ("scratch", {"convolve", "norms"}),
    ],
)
def test_what_training_on_new_domains_moves(arm: str, moving: set[str]) -> None:
    base, stepper = before_and_after(arm)
    began = copy.deepcopy(base)
    began.start_new_domains()
    changed = set()
    for (name, now), then in zip(
        stepper.network.named_parameters(), began.parameters(), strict=True
    ):
        if not torch.equal(now, then):
            changed.add(name)
    kinds = {part for name in changed for part in name.split(".") if part in moving}
    assert kinds == moving
    heads = {name for name in changed if name.startswith("classifiers")}
    assert heads == {f"classifiers.{d}.{each}" for d in (1, 2, 3) for each in ("weight", "bias")}
    others = changed - heads
    assert all(any(part in moving for part in name.split(".")) for name in others)
    assert not any(".norms.0." in name for name in others if "trunks.0." in name)


def test_what_new_domains_start_from() -> None:
    base, _ = before_and_after("series")
    began = copy.deepcopy(base)
    began.start_new_domains()
    for each in began.trunks[0].convolutions:
        states = [each.series[key].state_dict() for key in "0123"]
        states_of_norms = [norm.state_dict() for norm in each.norms]
        for several in (states, states_of_norms):
            for other in several[1:]:
                assert all(torch.equal(other[key], several[0][key]) for key in other)
    copied = copy.deepcopy(before_and_after("fine_tune")[0])
    scratch = copy.deepcopy(before_and_after("scratch")[0])
    for network, same in ((copied, True), (scratch, False)):
        network.start_new_domains()
        first, other = (network.trunks[k].stem.convolve.weight for k in (0, 2))
        assert torch.equal(first, other) is same
        assert first is not other


def test_new_domains_start_before_their_first_step() -> None:
    network = cast(AdapterNetwork, begun("parallel", TINY.base_steps + 1).network)
    assert network.probed.abs().min() > 0
    for each in network.trunks[0].convolutions:
        base, trained, waiting = (each.norms[k].state_dict() for k in (0, 1, 2))
        assert all(torch.equal(waiting[key], base[key]) for key in base)
        assert not torch.equal(trained["running_mean"], base["running_mean"])


@pytest.mark.parametrize("arm", ["parallel", "shared", "fine_tune"])
@pytest.mark.parametrize("after", [-2, 2])
def test_training_goes_on_bit_for_bit_around_the_change_of_domains(arm: str, after: int) -> None:
    one = begun(arm, TINY.base_steps + after)
    other = begun(arm, 0, seed=5)
    other.load_state(copy.deepcopy(one.state()))
    source = SYSTEM.data(SYSTEM.config("tiny", arm), 0)
    for stepper in (one, other):
        for index in range(TINY.base_steps + after, TINY.base_steps + 5):
            stepper.step(source.batch(index))
    pairs = zip(one.network.state_dict().values(), other.network.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_learning_rates_begin_again_with_the_new_domains() -> None:
    stepper = begun("parallel", 0)
    rates = [stepper.learner.schedule(step) for step in range(TINY.steps)]
    assert rates[0] == rates[TINY.base_steps] == 1
    assert rates[TINY.base_steps - 1] < 0.1 and rates[-1] < 0.01
    assert sorted(rates[TINY.base_steps :], reverse=True) == rates[TINY.base_steps :]


def test_batches_are_of_the_base_domain_and_then_of_the_new_ones_in_turn() -> None:
    for arm in SYSTEM.arms:
        source = SYSTEM.data(SYSTEM.config("tiny", arm.name), 3)
        found = [source.batch(index) for index in range(TINY.base_steps + 30)]
        expected = [0] * TINY.base_steps + [1, 2, 3] * 10
        assert [each.domain for each in found] == expected
        if not arm.is_control:
            assert [each.adapted_to for each in found] == expected
            continue
        pairs = {(each.domain, each.adapted_to) for each in found[TINY.base_steps :]}
        assert pairs == {(a, b) for a in (1, 2, 3) for b in (1, 2, 3) if a != b}
        assert all(each.adapted_to == 0 for each in found[: TINY.base_steps])


def test_own_weights_are_counted_by_hand() -> None:
    config = SYSTEM.config("tiny", "parallel")
    network = cast(AdapterNetwork, SYSTEM.build(config))
    pairs = [(1, 8), (8, 8), (8, 8), (8, 16), (16, 16)]
    base = sum(9 * one * other + 2 * other for one, other in pairs)
    own = sum(one * other + 2 * other for one, other in pairs)
    assert own_share(network, config) == pytest.approx(own / base)
    assert sum(used(network, config, 0).values()) == base
    assert all(parameter.requires_grad for parameter in network.parameters())
    shares = {
        arm: own_share(cast(AdapterNetwork, SYSTEM.build(SYSTEM.config("tiny", arm))), c)
        for arm in ("fixed", "norms", "fine_tune", "shared")
        for c in (SYSTEM.config("tiny", arm),)
    }
    norms = sum(2 * other for _, other in pairs) / base
    assert shares == pytest.approx({"fixed": 0, "norms": norms, "fine_tune": 1, "shared": norms})


@torch.no_grad()
@pytest.mark.parametrize("arm", ["parallel", "shuffled"])
def test_what_is_measured(arm: str) -> None:
    _, stepper = before_and_after(arm)
    measured = SYSTEM.evaluate(stepper, SYSTEM.config("tiny", arm))
    network = stepper.network.eval()
    shares = []
    for domain, name in enumerate(TINY.domains):
        test = image_domain(name, TINY.image_size).test
        other = {0: 0, 1: 2, 2: 3, 3: 1}[domain] if arm == "shuffled" else domain
        logits = network(DomainBatch(test.ink, test.labels, domain, other))
        right = Proportion.of(logits.argmax(1) == test.labels)
        key = f"accuracy, new domain {domain}" if domain else "accuracy, base domain"
        assert measured.by_type[key] == right
        shares.append(right.value)
    assert measured.values["accuracy, new domains"] == pytest.approx(sum(shares[1:]) / 3)
    assert len(set(shares)) > 2


def test_there_is_a_figure() -> None:
    assert SYSTEM.draw is not None
    stepper = before_and_after("fine_tune")[1]
    assert SYSTEM.draw(stepper, SYSTEM.config("tiny", "fine_tune")).size == (700, 360)
