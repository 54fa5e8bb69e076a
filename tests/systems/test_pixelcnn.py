"""Conditional PixelCNN: its two kinds of bias by hand, causality with both, controls."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import featurewise as fw
from featurewise.models.autoregressive import GatedUnit
from featurewise.study.results import Measurement, Results, Trial
from featurewise.systems.generation.pixelcnn import SYSTEM, experiment
from featurewise.systems.generation.pixelcnn.experiment import WHAT, WHERE
from featurewise.systems.generation.pixelcnn.method import PixelCNN, WindowMap, nats, objective
from featurewise.worlds.glyphs.placed import Pixels

TINY = SYSTEM.preset("tiny")


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path_factory.getbasetemp() / "generation"))


def network(arm: str) -> PixelCNN:
    """An arm whose conditioning is not at its start any more."""
    torch.manual_seed(0)
    made = SYSTEM.build(SYSTEM.config("tiny", arm)).double().eval()
    assert isinstance(made, PixelCNN)
    nn.init.normal_(made.net.generator.head.weight)
    return made


def batch() -> Pixels:
    """An image of class 7, and one in a window."""
    rng = torch.Generator().manual_seed(1)
    images = (torch.rand(2, 1, 16, 16, generator=rng) > 0.5).double()
    layout = TINY.conditions
    window = layout.of_window(torch.tensor([2]), torch.tensor([5]))
    condition = torch.cat((layout.of_class(torch.tensor([7])), window)).double()
    return Pixels(images, condition, torch.tensor([True, False]))


def gates(made: PixelCNN) -> dict[str, tuple[Tensor, Tensor]]:
    """What went into the tanh and the σ of every gate, and what it gave."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    for name, module in made.net.backbone.named_modules():
        if isinstance(module, GatedUnit):
            module.register_forward_hook(
                lambda _, given, made, name=name: seen.__setitem__(name, (given[0], made))
            )
    return seen


@pytest.mark.parametrize("arm", ["feature", "location"])
def test_a_gate_is_equation_4_or_5(arm: str) -> None:
    made, given = network(arm), batch()
    seen = gates(made)
    made(given)
    head = made.net.generator.head
    start = 0
    for name in made.net.layout.names:
        x, y = seen[name.removesuffix(".shift")]
        width = x.shape[1]
        rows = slice(start, start + width)
        start += width
        if arm == "feature":  # V h, with the bias of the head as a row of its own
            bias = (given.condition @ head.weight[rows].T + head.bias[rows])[:, :, None, None]
        else:  # V * m(h)
            placed = made.net.generator.encoder(given.condition)
            assert placed.shape[2:] == (16, 16)
            bias = torch.einsum("of,nfhw->nohw", head.weight[rows], placed)
            bias = bias + head.bias[rows][:, None, None]
        half = width // 2
        expected = torch.tanh(x + bias)[:, :half] / (1 + torch.exp(-(x + bias)[:, half:]))
        torch.testing.assert_close(y, expected)
    assert start == made.net.layout.size


@pytest.mark.parametrize("arm", ["feature", "location"])
def test_no_pixel_sees_itself_or_a_later_one(arm: str) -> None:
    made, given = network(arm), batch()
    before = made(given)[1].flatten()
    for pixel in range(256):
        images = given.images.clone()
        images[1].view(-1)[pixel] = 1 - images[1].view(-1)[pixel]
        changed = (made(replace(given, images=images))[1].flatten() != before).nonzero().flatten()
        assert (changed > pixel).all(), pixel
        if pixel < 255:
            assert pixel + 1 in changed or (pixel + 1) % 16 == 0, pixel


def test_only_the_location_dependent_bias_varies_over_places() -> None:
    biases = {
        arm: network(arm).net.represent(batch().condition).flat for arm in ("feature", "location")
    }
    assert biases["feature"].ndim == 2
    assert biases["location"].shape[2:] == (16, 16)
    by_class, by_window = biases["location"].std((2, 3))
    assert by_class.max() < 1e-6 < by_window.min()


def test_objective_is_nats_per_pixel() -> None:
    made, given = network("feature"), batch()
    probability = torch.sigmoid(made(given))
    costs = []
    for n in range(2):
        cost = 0.0
        for pixel, ink in zip(
            probability[n].flatten().tolist(), given.images[n].flatten().tolist(), strict=True
        ):
            cost -= math.log(pixel if ink else 1 - pixel)
        costs.append(cost)
    torch.testing.assert_close(nats(made, given), torch.tensor(costs, dtype=torch.float64))
    assert objective(made, given)[0].item() == pytest.approx(sum(costs) / 2 / 256)


@pytest.mark.parametrize("arm", ["feature", "location", "unconditional"])
def test_samples_are_those_of_the_plain_loop(arm: str) -> None:
    torch.manual_seed(0)
    made = SYSTEM.build(SYSTEM.config("tiny", arm))
    for parameter in made.parameters():  # so that probabilities are far from one half
        nn.init.normal_(parameter)
    stepper = SYSTEM.stepper(made, SYSTEM.config("tiny", arm))
    condition = TINY.conditions.of_class(torch.arange(3))
    requested = Pixels(torch.zeros(3, 1, 16, 16), condition, torch.ones(3).bool())
    found = stepper.sample(requested, seed=5)  # type: ignore[attr-defined]
    uniform = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(5))
    images = torch.zeros(3, 1, 16, 16)
    with torch.no_grad():
        for row in range(16):
            for column in range(16):
                logit = made(replace(requested, images=images))[..., row, column]
                images[..., row, column] = (uniform[..., row, column] < logit.sigmoid()).float()
    assert (
        found != images
    ).float().mean() < 0.01  # a number next to a probability may fall either way


def test_conditions_of_controls_say_nothing_of_the_image() -> None:
    arms = [arm.name for arm in SYSTEM.arms]
    data = {arm: SYSTEM.data(SYSTEM.config("tiny", arm), 0).batch(3) for arm in arms}
    truth = data["feature"]
    for arm in data:
        assert torch.equal(data[arm].images, truth.images), arm
    assert torch.equal(data["location"].condition, truth.condition)
    layout = TINY.conditions
    assert torch.equal(data["unconditional"].condition, layout.uninformative(truth.condition))
    shuffled = data["shuffled"].condition
    half = len(shuffled) // 2
    for part in (slice(half), slice(half, None)):  # a class for a class, a window for a window
        assert torch.equal(shuffled[part].sum(0), truth.condition[part].sum(0))
        assert (shuffled[part] == truth.condition[part]).all(1).float().mean() < 0.5


def test_a_map_says_whether_a_position_is_within_the_window() -> None:
    """Away from the edges of the window it has two values, and one where a class is given."""
    torch.manual_seed(0)
    layout = replace(TINY, image_size=64).conditions
    window_map = WindowMap(layout, 4)
    with torch.no_grad():
        s = window_map(layout.of_window(torch.tensor([9]), torch.tensor([20])))
        classes = window_map(layout.of_class(torch.tensor([3])))
    inside, outside = s[0, :, 14:36, 25:47], s[0, :, 46:, :]
    torch.testing.assert_close(inside, inside[:, :1, :1].expand_as(inside))
    torch.testing.assert_close(outside, outside[:, :1, :1].expand_as(outside))
    assert not torch.allclose(inside[:, 0, 0], outside[:, 0, 0])
    torch.testing.assert_close(classes, classes[..., :1, :1].expand_as(classes))
    assert isinstance(network("location").net.generator.encoder, WindowMap)


def test_arms_have_as_many_parameters_within_a_tenth() -> None:
    built = [SYSTEM.build(SYSTEM.config("small", arm.name)) for arm in SYSTEM.arms]
    sizes = [sum(p.numel() for p in network.parameters()) for network in built]
    assert max(sizes) < 1.1 * min(sizes), sizes


def test_it_is_the_hosts_own_condition() -> None:
    made = network("feature")
    assert isinstance(made.net, fw.Conditioned)
    assert {str(site.operation) for site in made.net.layout} == {"Shift()"}
    assert len(made.net.layout) == 2 * TINY.layers - 1


@pytest.mark.parametrize(("index", "bound"), [(-2, math.log(10)), (-1, math.log(81))])
def test_a_gain_is_measured_against_what_the_condition_can_carry(index: int, bound: float) -> None:
    """Ten classes, and 9 by 9 positions of the window; which of the two it is, all arms know."""
    claim = SYSTEM.claims[index]
    names = [WHAT.name, WHERE.name]

    def outcome(gain: float) -> str:
        trials = [
            Trial(arm, seed, 1, 1.0, 1, Measurement(values=dict.fromkeys(names, nats)))
            for arm, nats in (
                ("unconditional", 30.0 + gain),
                ("feature", 30.0),
                ("location", 30.0),
            )
            for seed in range(3)
        ]
        verdict = claim.check(Results("pixelcnn", "small", tuple(trials)))
        assert verdict is not None
        return verdict.outcome

    assert outcome(bound - 0.01) == "supported"
    assert outcome(bound + 0.01) == "refuted"
    assert f"at most {round(bound, 2):g} nats below" in claim.criterion.sentence


def test_nats_and_samples_are_evaluated_by_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples are replaced by windows full of ink, and by test images."""
    config = replace(TINY, samples_per_class=3)
    layout, test = config.conditions, config.splits.test

    def real(_: object, __: object, condition: Tensor) -> Tensor:
        if layout.mask(condition).any():
            ink = layout.mask(condition)
            ink[:15] = 1 - ink[:15]  # half of the samples have all their ink outside
            return ink
        labels = condition[:, :10].argmax(1)
        return torch.stack([test.ink[(test.labels == label).nonzero()[0, 0]] for label in labels])

    monkeypatch.setattr(experiment, "samples", real)
    measured = SYSTEM.evaluate(SYSTEM.stepper(SYSTEM.build(config), config), config)
    assert measured.values["ink inside the window"] == pytest.approx(64 / 256)
    assert measured.accuracy is not None and measured.accuracy.total == 30
    mean = (measured.values[WHAT.name] + measured.values[WHERE.name]) / 2
    assert measured.values["nats per image"] == pytest.approx(mean)
