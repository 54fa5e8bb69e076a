"""FiLM in a diffusion model: equation 3 at every block, guidance by its formula, controls."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import featurewise as fw
from featurewise.models.unet import DiffusionBlock
from featurewise.systems.generation.diffusion import SYSTEM, experiment
from featurewise.systems.generation.diffusion.experiment import samples
from featurewise.systems.generation.diffusion.method import NULL_CLASS
from featurewise.training.diffusion import Denoiser, DiffusionBatch, cosine_alpha_bars

TINY = SYSTEM.preset("tiny")


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path_factory.getbasetemp() / "generation"))


def network(arm: str) -> Denoiser:
    """An arm of which nothing is zero any more."""
    torch.manual_seed(0)
    made = SYSTEM.build(SYSTEM.config("tiny", arm)).double().eval()
    assert isinstance(made, Denoiser)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.2)
    return made


def batch(count: int = 3) -> DiffusionBatch:
    rng = torch.Generator().manual_seed(1)
    images, noise = torch.randn(2, count, 1, 16, 16, generator=rng).double()
    times = torch.tensor([3, 700, 250])[:count]
    return DiffusionBatch(images, times, torch.tensor([4, NULL_CLASS, 0])[:count], noise)


@pytest.mark.parametrize("arm", ["scale_shift", "add"])
def test_every_block_is_the_equation_of_its_arm(arm: str) -> None:
    made, given = network(arm), batch()
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
    made(given)
    generator = made.net.generator
    embedded = generator.encoder((given.times, given.classes))
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
    made, given = network("scale_shift"), batch()
    w = 2.5
    schedule = cosine_alpha_bars(TINY.timesteps)
    noise = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(2)).double()
    null = torch.full_like(given.classes, NULL_CLASS)
    with torch.no_grad():
        x, visited = noise, [999, 749, 499, 249]
        for step, time in enumerate(visited):
            times = torch.full((3,), time)
            with_it = made.net(x, condition=(times, given.classes))
            without = made.net(x, condition=(times, null))
            seen = without + w * (with_it - without)
            left = schedule[time]
            clean = ((x - (1 - left).sqrt() * seen) / left.sqrt()).clamp(-1, 1)
            seen = (x - left.sqrt() * clean) / (1 - left).sqrt()
            after = schedule[visited[step + 1]] if step < 3 else torch.tensor(1.0)
            x = after.sqrt() * clean + (1 - after).sqrt() * seen

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "randn", lambda *a, **k: noise)
            found = made.draw(given, torch.Generator(), 4, w)
    torch.testing.assert_close(found, x)


def test_a_weight_of_1_is_no_guidance_and_of_0_knows_no_digit() -> None:
    made, given = network("scale_shift"), batch()
    other = DiffusionBatch(given.images, given.times, torch.tensor([9, 8, 7]), given.noise)

    def made_of(wanted: DiffusionBatch, weight: float) -> torch.Tensor:
        with torch.no_grad():
            return made.draw(wanted, torch.Generator().manual_seed(0), 3, weight)

    assert torch.equal(made_of(given, 0.0), made_of(other, 0.0))
    assert not torch.equal(made_of(given, 1.0), made_of(other, 1.0))
    none = DiffusionBatch(given.images, given.times, torch.full((3,), NULL_CLASS), given.noise)
    torch.testing.assert_close(made_of(given, 0.0), made_of(none, 1.0))


def test_samples_of_the_unconditional_arm_do_not_depend_on_its_untrained_digits() -> None:
    config = SYSTEM.config("tiny", "unconditional")
    trained = SYSTEM.stepper(network("unconditional").float(), config)
    found = [samples(trained, config, weight, 1) for weight in (0.0, 1.0, 4.0)]
    assert all(torch.equal(each, found[0]) for each in found)
    assert not torch.equal(samples(trained, TINY, 1.0, 1), found[0])


def test_controls_have_the_condition_that_they_should_have() -> None:
    arms = [arm.name for arm in SYSTEM.arms]
    data = {arm: SYSTEM.data(SYSTEM.config("tiny", arm), 0).batch(2) for arm in arms}
    truth = data["scale_shift"]
    for each in data.values():
        assert torch.equal(each.images, truth.images)
        assert torch.equal(each.times, truth.times)
    assert torch.equal(data["add"].classes, truth.classes)
    assert (data["unconditional"].classes == NULL_CLASS).all()
    dropped = truth.classes == NULL_CLASS
    assert torch.equal(data["shuffled"].classes == NULL_CLASS, dropped)
    kept = ~dropped
    assert (data["shuffled"].classes[kept] == truth.classes[kept]).float().mean() < 0.5


def test_digits_are_dropped_at_the_given_probability() -> None:
    source = SYSTEM.data(TINY, 1)
    classes = torch.cat([source.batch(i).classes for i in range(60)])
    assert (classes == NULL_CLASS).float().mean().item() == pytest.approx(
        TINY.condition_dropout, abs=0.03
    )


def test_arms_have_as_many_parameters_within_a_hundredth() -> None:
    built = [SYSTEM.build(SYSTEM.config("small", arm.name)) for arm in SYSTEM.arms]
    sizes = [sum(p.numel() for p in network.parameters()) for network in built]
    assert max(sizes) < 1.01 * min(sizes), sizes


def test_guided_samples_are_evaluated_at_every_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples are replaced by test images, the more of them right the larger the weight."""
    test = TINY.splits.test.first(2)
    right = {1.0: 5, 2.0: 10, 4.0: 20}

    def real(_: object, __: object, weight: float, per_class: int) -> torch.Tensor:
        assert per_class == 2
        order = torch.arange(10).repeat_interleave(2)
        order[right[weight] :] = (order[right[weight] :] + 1) % 10
        rows = [(test.labels == label).nonzero()[i % 2, 0] for i, label in enumerate(order)]
        return test.ink[torch.stack(rows)]

    classifier = TINY.splits.classifier(TINY.classifier_steps)

    def perfect(images: torch.Tensor) -> torch.Tensor:
        same = (images[:, None] == test.ink[None]).flatten(2).all(2)
        return F.one_hot(test.labels[same.int().argmax(1)], 10).float()

    monkeypatch.setattr(experiment, "samples", real)
    monkeypatch.setattr(type(classifier), "letters", lambda _, images: perfect(images))
    measured = SYSTEM.evaluate(SYSTEM.stepper(SYSTEM.build(TINY), TINY), TINY)
    for weight, count in right.items():
        found = measured.by_type[f"accuracy at guidance {weight:g}"]
        assert (found.correct, found.total) == (count, 20)
        assert measured.values[f"Fréchet distance at guidance {weight:g}"] >= 0
    assert measured.accuracy == measured.by_type["accuracy at guidance 1"]
    # At 4 the samples are test images of all classes: near to all of them, and as diverse.
    assert measured.values["Fréchet distance at guidance 4"] < 5
    assert measured.values["diversity at guidance 4"] == pytest.approx(1, abs=0.3)


def test_every_arm_is_conditioned_on_the_timestep() -> None:
    for arm in SYSTEM.arms:
        made, given = network(arm.name), batch()
        later = DiffusionBatch(given.images, given.times + 90, given.classes, given.noise)
        assert not torch.allclose(made(given), made(later)), arm.name


def test_it_is_the_hosts_own_condition() -> None:
    layouts = {arm: network(arm).net.layout for arm in ("scale_shift", "add")}
    assert {str(site.operation) for site in layouts["scale_shift"]} == {str(fw.Affine())}
    assert {str(site.operation) for site in layouts["add"]} == {str(fw.Shift())}
