"""Style prediction against equations written by hand; what arms are trained on and measured by."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from featurewise.models.pretrained import WeightsError, efficientnet_lite0
from featurewise.models.style_features import STYLE_WIDTHS, style_features
from featurewise.study.results import Proportion
from featurewise.systems.style.style_prediction import SYSTEM, Config, StylePrediction
from featurewise.systems.style.style_prediction.application import PredictingStylist
from featurewise.systems.style.style_prediction.experiment import (
    CONTENT,
    MONOTONE,
    OWN,
    QUARTERS,
    STRIPES,
    STYLE,
    evaluate,
    nearest,
)
from featurewise.systems.style.style_prediction.experiment import tested as test_set
from featurewise.systems.style.style_prediction.method import (
    Objective,
    PredictionBatch,
    loss_network,
    stepper,
)
from featurewise.systems.style.style_prediction.sources import chosen, data, same, seen, works
from featurewise.systems.style_works import TRAINED, UNSEEN
from featurewise.training import ExperimentError
from featurewise.worlds.pictures import with_shorter_side

TINY: Config = SYSTEM.preset("tiny")
test_set.__test__ = False  # type: ignore[attr-defined]


def network(config: Config = TINY) -> StylePrediction:
    torch.manual_seed(0)
    found = StylePrediction(config).eval()
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return found


def some(batch: int = 9) -> PredictionBatch:
    found: PredictionBatch = data(TINY, 0).batch(batch)
    return found


def normalised(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Each map of each image, one after the other."""
    out = torch.empty_like(x)
    for n in range(len(x)):
        for c in range(x.shape[1]):
            of = x[n, c]
            scaled = (of - of.mean()) / (of.var(unbiased=False) + 1e-5).sqrt()
            out[n, c] = gamma[n, c] * scaled + beta[n, c]
    return out


def test_every_norm_after_the_contraction_is_predicted() -> None:
    net, batch = network(), some()
    task = net.predict(batch.style)
    embedded = batch.style @ net.embed.weight.T + net.embed.bias
    torch.testing.assert_close(embedded, net.embed(batch.style))
    norms = [
        name
        for name, module in net.painter.backbone.named_modules()
        if type(module).__name__.startswith("InstanceNorm")
    ]
    after = [name for name in norms if not name.startswith("contract.")]
    assert [site.name for site in net.painter.layout.sites] == after
    assert len(norms) == len(after) + 3
    seen_at: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str) -> object:
        return lambda module, inputs, output: seen_at.__setitem__(name, (inputs[0], output))

    handles = [
        net.painter.backbone.get_submodule(name).register_forward_hook(keep(name)) for name in after
    ]
    with torch.no_grad():
        net(batch)
    for handle in handles:
        handle.remove()
    for name in after:
        x, y = seen_at[name]
        values = task[name]
        torch.testing.assert_close(
            y, normalised(x, 1 + values["gamma"], values["beta"]), rtol=1e-3, atol=1e-3
        )


def test_mixtures_of_features_are_mixtures_of_gamma_and_beta() -> None:
    net, features = network(), some().style[:2]
    one, two = (net.predict(each[None]).flat for each in features)
    for w in QUARTERS:
        mixed = net.predict(torch.lerp(*features, w)[None]).flat
        torch.testing.assert_close(mixed, (1 - w) * one + w * two)


def test_the_loss_is_that_of_gram_matrices_and_features() -> None:
    batch, seeing = some(), loss_network(TINY)
    painted = torch.rand(len(batch.content), 3, TINY.size, TINY.size)
    content, style = Objective(seeing, 4.0).losses(painted, batch.content / 255, batch.targets)
    found, wanted = seeing(painted), seeing(batch.content / 255)
    for n in range(len(painted)):
        x, y = found[seeing.content][n], wanted[seeing.content][n]
        torch.testing.assert_close(content[n], (x - y).square().sum() / y.square().sum())
        parts = []
        for layer, target in zip(seeing.style, batch.targets, strict=True):
            maps = found[layer][n].flatten(1)
            gram = maps @ maps.T / maps.shape[1]
            parts.append((gram - target[n]).square().sum() / target[n].square().sum())
        torch.testing.assert_close(style[n], torch.stack(parts).mean(), rtol=1e-3, atol=1e-5)


def test_training_begins_with_reconstruction() -> None:
    config = replace(TINY, reconstruction_steps=2)
    flags = [data(config, 0).batch(i).reconstruct for i in range(4)]
    assert flags == [True, True, False, False]
    batch = data(config, 0).batch(0)
    net = network(config)
    loss, parts = Objective(loss_network(config), 4.0)(net, batch)
    torch.testing.assert_close(loss, F.mse_loss(net(batch), batch.content / 255))
    assert not parts


def test_only_the_control_sees_another_style() -> None:
    control = data(SYSTEM.config("tiny", "shuffled"), 0).batch(9)
    plain = some()
    assert torch.equal(control.style, plain.style.roll(1, 0))
    assert torch.equal(control.content, plain.content)
    assert all(map(torch.equal, control.targets, plain.targets))


def test_what_arms_are_trained_on() -> None:
    small = SYSTEM.preset("small")
    assert small.styles == TRAINED and small.unseen == UNSEEN
    assert not set(TRAINED) & set(UNSEEN)
    sizes = {arm.name: len(chosen(SYSTEM.config("small", arm.name), 0)) for arm in SYSTEM.arms}
    assert (sizes["predicted"], sizes["third"], sizes["ninth"], sizes["seen"]) == (17, 6, 2, 21)
    third = SYSTEM.config("small", "third")
    assert chosen(third, 0) == chosen(third, 0) != chosen(third, 1)
    made = {arm: SYSTEM.config("small", arm).made for arm in ("striped", "spotted")}
    assert all("stripes" in name for name in made["striped"])
    assert not any("stripes" in name for name in made["spotted"])
    assert not {*made["striped"], *made["spotted"]} & set(small.stripes)


def test_a_style_is_a_crop_that_both_networks_see() -> None:
    batch = some()
    names = [*chosen(TINY, 0)]
    known = [data(TINY, 0).styles[i] for i in range(len(names))]  # type: ignore[attr-defined]
    for features, grams in zip(batch.style, zip(*batch.targets, strict=True), strict=True):
        matches = [
            (s, i)
            for s, style in enumerate(known)
            for i, each in enumerate(style.features)
            if torch.equal(each, features)
        ]
        assert matches
        assert any(
            all(torch.equal(known[s].grams[layer][i], g) for layer, g in enumerate(grams))
            for s, i in matches
        )


def test_nearest_by_cosine() -> None:
    known = torch.tensor([[1.0, 0], [0, 1]])
    queries = torch.tensor([[9.0, 1], [1, 3], [2, 1]])
    assert nearest(queries[:2], known, torch.tensor([0, 1])) == 1.0
    assert nearest(queries[[0, 2]], known, torch.tensor([0, 1])) == 0.5


def test_measurements_are_those_of_the_images() -> None:
    net = network()
    found = evaluate(stepper(net, TINY), TINY)
    test = test_set(same(TINY))
    photographs = test.photographs / 255
    style, content, own, falls = [], [], [], []
    with torch.no_grad():
        for number, features in enumerate(test.unseen.features):
            painted = net.paint(photographs, features[None])
            losses = test.losses(painted, test.unseen, number)
            content.append(losses[0])
            style.append(losses[1])
            own.append(test.losses(photographs, test.unseen, number)[1])
            path = [
                test.losses(
                    net.paint(photographs, test.own * (1 - w) + features * w), test.unseen, number
                )[1]
                for w in QUARTERS
            ]
            falls += [after < before for before, after in itertools.pairwise(path)]
        striped = [
            test.losses(net.paint(photographs, features[None]), test.stripes, number)[1]
            for number, features in enumerate(test.stripes.features)
        ]
    assert found.number(STYLE) == pytest.approx(float(torch.stack(style).mean()), rel=1e-2)
    assert found.number(CONTENT) == pytest.approx(float(torch.stack(content).mean()), rel=1e-2)
    assert found.number(OWN) == pytest.approx(float(torch.stack(own).mean()), rel=1e-2)
    assert found.number(STRIPES) == pytest.approx(float(torch.stack(striped).mean()), rel=1e-2)
    assert found.number(MONOTONE) == pytest.approx(
        float(torch.stack(falls).float().mean()), abs=0.1
    )
    assert isinstance(found.accuracy, Proportion)


def test_the_encoders_features_are_standardised_over_images() -> None:
    try:
        pretrained = efficientnet_lite0.load()
    except WeightsError as error:
        pytest.skip(str(error))
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    found = style_features("efficientnet_lite0", images)
    assert found.shape == (2, STYLE_WIDTHS["efficientnet_lite0"])
    norm = pretrained._blocks[11]._bn0
    caught: list[Tensor] = []
    handle = norm.register_forward_hook(lambda module, inputs, output: caught.append(output))
    with torch.no_grad():
        pretrained.eval()(efficientnet_lite0.prepare(images, None))
        plain = (caught[0] - norm.bias[:, None, None]) / norm.weight[:, None, None]
    handle.remove()
    torch.testing.assert_close(found, plain.mean((2, 3)), rtol=1e-3, atol=1e-3)


def test_an_own_image_is_a_style_at_one_look() -> None:
    net, stylist = network(), PredictingStylist()
    before = [parameter.clone() for parameter in net.parameters()]
    painting = torch.randint(256, (3, 50, 70), dtype=torch.uint8)
    photograph = torch.randint(256, (3, 37, 41), dtype=torch.uint8)
    steps: list[tuple[int, int]] = []
    style = stylist.learn(net, TINY, painting, photograph, lambda *at: steps.append(at))
    assert steps[-1] == (1, 1)
    assert all(map(torch.equal, before, net.parameters()))
    middle = with_shorter_side(painting[:, :, 10:60], TINY.size)  # the largest square
    features = seen(TINY, middle[None]).features
    torch.testing.assert_close(style.task.flat, net.predict(features)[0].flat)
    painted = stylist.paint(net, TINY, photograph, {"mine": 1.0}, {"mine": style.task})
    assert painted.shape == photograph.shape and painted.dtype == torch.uint8
    known = stylist.paint(net, TINY, photograph, {"rings": 0.5, "mine": 0.5}, {"mine": style.task})
    assert not torch.equal(known, painted)
    with pytest.raises(ExperimentError, match="'nobody'; there is rings, gradient"):
        stylist.paint(net, TINY, photograph, {"nobody": 1.0}, {})
    with pytest.raises(ExperimentError, match=r"it has 500 x 20 pixels"):
        wide = torch.zeros(3, 20, 500, dtype=torch.uint8)
        stylist.learn(net, TINY, wide, photograph, lambda *_: None)


def test_patterns_by_name() -> None:
    assert [each.name for each in works(TINY, TINY.stripes, made=True)] == [*TINY.stripes]
