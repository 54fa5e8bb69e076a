"""FiLM in a diffusion model: equation 3 at every block, guidance by its formula, controls."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import featurewise as fw
from featurewise.models.unet import DiffusionBlock
from featurewise.systems.generation.diffusion import SYSTEM, UNTOLD, drawn
from featurewise.training.diffusion import Denoiser, DiffusionBatch, cosine_alpha_bars

TINY = SYSTEM.preset("tiny")


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path_factory.getbasetemp() / "generation"))


def network(arm: str) -> Denoiser:
    """An arm of which nothing is zero any more."""
    torch.manual_seed(0)
    made = SYSTEM.build(TINY, SYSTEM.arm(arm)).double().eval()
    assert isinstance(made, Denoiser)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.2)
    return made


def batch(rows: int = 3) -> DiffusionBatch:
    chance = torch.Generator().manual_seed(1)
    images, noise = torch.randn(2, rows, 1, 16, 16, generator=chance).double()
    times = torch.tensor([3, 700, 250])[:rows]
    return DiffusionBatch(images, times, torch.tensor([4, UNTOLD, 0])[:rows], noise)


@pytest.mark.parametrize("arm", ["scale_shift", "add"])
def test_every_block_is_the_equation_of_its_arm(arm: str) -> None:
    made, told = network(arm), batch()
    seen = {}
    blocks = {
        name: module
        for name, module in made.net.backbone.named_modules()
        if isinstance(module, DiffusionBlock)
    }
    for name, module in blocks.items():
        module.register_forward_hook(
            lambda _, given, made, name=name: seen.__setitem__(name, (given[0], made))
        )
    made(told)
    generator = made.net.generator
    embedded = generator.encoder((told.times, told.classes))
    start = 0
    for site in made.net.layout:
        name = site.name.rpartition(".")[0]
        block, (x, y) = blocks[name], seen[name]
        size = site.width * (2 if arm == "scale_shift" else 1)
        flat = F.linear(embedded, generator.head.weight[start : start + size])
        flat = (flat + generator.head.bias[start : start + size])[:, :, None, None]
        start += size
        h = block.first(F.silu(block.first_norm(x)))
        if arm == "scale_shift":
            s, b = flat.chunk(2, dim=1)
            h = block.second_norm(h) * (1 + s) + b
        else:
            h = block.second_norm(h + flat)
        torch.testing.assert_close(y, block.skip(x) + block.second(F.silu(h)))
    assert len(made.net.layout) == len(blocks)
    assert start == made.net.layout.size


def test_guidance_is_its_formula_at_every_step() -> None:
    made, told = network("scale_shift"), batch()
    w = 2.5
    schedule = cosine_alpha_bars(TINY.times)
    noise = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(2)).double()
    untold = torch.full_like(told.classes, UNTOLD)
    with torch.no_grad():
        x, visited = noise, [999, 749, 499, 249]
        for step, time in enumerate(visited):
            times = torch.full((3,), time)
            with_it = made.net(x, condition=(times, told.classes))
            without = made.net(x, condition=(times, untold))
            seen = without + w * (with_it - without)
            left = schedule[time]
            clean = ((x - (1 - left).sqrt() * seen) / left.sqrt()).clamp(-1, 1)
            seen = (x - left.sqrt() * clean) / (1 - left).sqrt()
            after = schedule[visited[step + 1]] if step < 3 else torch.tensor(1.0)
            x = after.sqrt() * clean + (1 - after).sqrt() * seen

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "randn", lambda *a, **k: noise)
            found = made.draw(told, torch.Generator(), 4, w)
    torch.testing.assert_close(found, x)


def test_a_weight_of_1_is_no_guidance_and_of_0_knows_no_digit() -> None:
    made, told = network("scale_shift"), batch()
    other = DiffusionBatch(told.images, told.times, torch.tensor([9, 8, 7]), told.noise)

    def made_of(asked: DiffusionBatch, weight: float) -> torch.Tensor:
        with torch.no_grad():
            return made.draw(asked, torch.Generator().manual_seed(0), 3, weight)

    assert torch.equal(made_of(told, 0.0), made_of(other, 0.0))
    assert not torch.equal(made_of(told, 1.0), made_of(other, 1.0))
    none = DiffusionBatch(told.images, told.times, torch.full((3,), UNTOLD), told.noise)
    torch.testing.assert_close(made_of(told, 0.0), made_of(none, 1.0))


def test_who_learned_no_digit_is_asked_for_none() -> None:
    """Its table of digits is as it was drawn at the start: what it draws must not depend on it."""
    arm = SYSTEM.arm("unconditional")
    made = network("unconditional").float()
    trained = SYSTEM.stepper(made, TINY, arm)
    before = [drawn(trained, TINY, arm, weight, 1) for weight in (0.0, 1.0, 4.0)]
    assert all(torch.equal(each, before[0]) for each in before)
    told = drawn(trained, TINY, SYSTEM.arm("scale_shift"), 1.0, 1)
    assert not torch.equal(told, before[0])


def test_controls_are_told_what_they_should_be() -> None:
    data = {arm.name: SYSTEM.data(TINY, arm, 0).batch(2) for arm in SYSTEM.arms}
    truth = data["scale_shift"]
    for each in data.values():
        assert torch.equal(each.images, truth.images)
        assert torch.equal(each.times, truth.times)
    assert torch.equal(data["add"].classes, truth.classes)
    assert (data["unconditional"].classes == UNTOLD).all()
    dropped = truth.classes == UNTOLD
    assert torch.equal(data["shuffled"].classes == UNTOLD, dropped)
    told = ~dropped
    assert (data["shuffled"].classes[told] == truth.classes[told]).float().mean() < 0.5


def test_so_many_digits_are_not_told() -> None:
    source = SYSTEM.data(TINY, SYSTEM.arm("scale_shift"), 1)
    classes = torch.cat([source.batch(i).classes for i in range(60)])
    assert (classes == UNTOLD).float().mean().item() == pytest.approx(TINY.drop, abs=0.03)


def test_every_arm_is_told_the_time() -> None:
    for arm in SYSTEM.arms:
        made, told = network(arm.name), batch()
        later = DiffusionBatch(told.images, told.times + 90, told.classes, told.noise)
        assert not torch.allclose(made(told), made(later)), arm.name


def test_it_is_the_hosts_own_condition() -> None:
    layouts = {arm: network(arm).net.layout for arm in ("scale_shift", "add")}
    assert {str(site.operation) for site in layouts["scale_shift"]} == {str(fw.Affine())}
    assert {str(site.operation) for site in layouts["add"]} == {str(fw.Shift())}
