"""AdaIN against equations written by hand; what its measures see; what its control is given."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from featurewise.core import ArgumentTypeError
from featurewise.models.mirrored import Decoder, encoder, moments, plan_of
from featurewise.models.perceptual import Untrained, perception
from featurewise.systems.style.adain import SYSTEM, ArbitraryTransfer, Config
from featurewise.systems.style.adain.experiment import draw, evaluate, measures
from featurewise.systems.style.adain.measures import (
    AT_LAYER,
    COLOURS_STYLE,
    CONTENT,
    MONOTONE,
    STYLE,
    error_at_layer,
)
from featurewise.systems.style.adain.method import objective, stepper
from featurewise.systems.style.adain.recognition import Recogniser, colours_of
from featurewise.systems.style.adain.sources import (
    TRAINED,
    UNSEEN,
    TransferSource,
    data,
    pool,
    seen,
)
from featurewise.worlds.pictures import PictureError, crops, paintings_called, with_shorter_side

TINY = SYSTEM.preset("tiny")


def network(config: Config = TINY) -> ArbitraryTransfer:
    torch.manual_seed(0)
    return ArbitraryTransfer(config).eval()


def features(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) + 0.5


def by_map(x: Tensor, eps: float = 0.0) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each map, one after the other; maps of ReLUs may be zero."""
    mean, std = torch.empty(*x.shape[:2]), torch.empty(*x.shape[:2])
    for n in range(len(x)):
        for c in range(x.shape[1]):
            values = x[n, c].flatten().double()
            mean[n, c] = values.sum() / len(values)
            std[n, c] = ((values - mean[n, c]).square().sum() / len(values) + eps).sqrt()
    return mean, std


def test_the_decoder_is_given_the_statistics_of_the_style_exactly() -> None:
    content, style = features(3, 16, 8, 8), 3 * features(3, 16, 4, 12, seed=1) - 1
    t = network().statistics(content, style)
    for found, wanted in zip(by_map(t), by_map(style), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    # Where the photograph is stronger, t is: nothing but a scale and a shift of each map.
    for n in range(3):
        for c in range(16):
            order = content[n, c].flatten().argsort()
            assert t[n, c].flatten()[order].diff().min() >= 0


def test_an_arm_of_one_statistic_keeps_the_photographs_other_one() -> None:
    content, style = features(2, 16, 8, 8), 2 * features(2, 16, 8, 8, seed=1) + 1
    (mean, std), (style_mean, style_std) = by_map(content), by_map(style)
    for given, wanted in {
        "mean": (style_mean, std),
        "deviation": (mean, style_std),
        "mean and deviation": (style_mean, style_std),
        "nothing": (mean, std),
    }.items():
        net = network(replace(TINY, given=given))  # type: ignore[arg-type]
        found = by_map(net.statistics(content, style))
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_map_that_is_constant_gets_the_mean_alone() -> None:
    """The limit that the card states."""
    content, style = features(1, 16, 8, 8), features(1, 16, 8, 8, seed=1)
    content[:, 3] = 2.0
    t = network().statistics(content, style)
    assert t[0, 3].std() < 1e-3
    torch.testing.assert_close(t[0, 3].mean(), style[0, 3].mean(), rtol=1e-3, atol=1e-3)


def test_alpha_mixes_features_before_the_decoder() -> None:
    net = network()
    content, style = features(2, 16, 8, 8), features(1, 16, 8, 8, seed=1)
    t = net.statistics(content, style)
    for alpha in (0.0, 0.25, 1.0):
        expected = net.decoder((1 - alpha) * content + alpha * t)
        torch.testing.assert_close(net.paint(content, style, alpha), expected)
    other = net.paint(content, 5 * style, 0.0)
    torch.testing.assert_close(net.paint(content, style, 0.0), other)


def test_moments_are_those_of_each_map_and_have_a_gradient_where_it_is_constant() -> None:
    x = features(2, 3, 4, 5)
    mean, std = by_map(x)
    torch.testing.assert_close(moments(x), torch.stack([mean, std], 1), rtol=1e-4, atol=1e-4)
    flat = torch.ones(1, 2, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(moments(flat).sum(), [flat])
    assert gradient.isfinite().all()


def test_a_decoder_mirrors_its_encoder() -> None:
    """VGG16 up to conv3_1: 64, 64 | 128, 128 | 256 channels, pooled before 128 and 256."""
    made = Decoder(plan_of("hed_vgg16", 3))
    widths = [(m.in_channels, m.out_channels) for m in made if isinstance(m, torch.nn.Conv2d)]
    assert widths == [(256, 128), (128, 128), (128, 64), (64, 64), (64, 3)]
    kinds = [type(m).__name__ for m in made]
    assert [index for index, kind in enumerate(kinds) if kind == "Upsample"] == [2, 7]
    assert kinds[-1] == "Sigmoid"
    narrow = Decoder(plan_of("hed_vgg16", 3), narrow=2)
    widths = [(m.in_channels, m.out_channels) for m in narrow if isinstance(m, torch.nn.Conv2d)]
    assert widths == [(256, 64), (64, 64), (64, 32), (32, 32), (32, 3)]
    assert narrow(torch.rand(1, 256, 5, 7)).shape == (1, 3, 20, 28)
    with pytest.raises(ArgumentTypeError, match="1 to 4 blocks, not 5"):
        plan_of("hed_vgg16", 5)


def test_an_encoder_gives_the_layers_of_its_network() -> None:
    images = torch.rand(2, 3, 16, 16)
    see, whole = encoder("random", 2), Untrained()(images)
    found = see(images)
    assert [each.shape[1] for each in found] == [8, 16]
    for each, layer in zip(found, ("0", "1"), strict=True):
        torch.testing.assert_close(each, whole[layer])


def test_the_loss_is_that_of_eq_11_to_13() -> None:
    config = replace(TINY, style_weight=3.0)
    net, loss = network(), objective(config)
    batch = data(replace(config, shuffled_styles=True), 0).batch(0)
    total, parts = loss(net, batch)
    painted = encoder("random", 2)(net(batch))
    (mean, std), (goal_mean, goal_std) = by_map(batch.content, 1e-5), by_map(batch.target, 1e-5)
    shape = (*mean.shape, 1, 1)
    t = (batch.content - mean.view(shape)) / std.view(shape) * goal_std.view(shape)
    content = F.mse_loss(painted[-1], t + goal_mean.view(shape))
    style = torch.tensor(0.0)
    for layer, wanted in zip(painted, batch.wanted, strict=True):
        for found, goal in zip(by_map(layer, 1e-5), wanted.unbind(1), strict=True):
            style = style + F.mse_loss(found, goal)
    torch.testing.assert_close(parts["content"], content, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(parts["style"], style, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(total, parts["content"] + 3 * parts["style"])


class Fixed(torch.nn.Module):
    """A network that gives the same images for every batch."""

    def __init__(self, images: torch.Tensor) -> None:
        super().__init__()
        self.images = images

    def forward(self, batch: object) -> torch.Tensor:
        return self.images


def test_the_loss_is_of_the_target_not_of_what_the_network_is_given() -> None:
    net, loss = network(), objective(TINY)
    batch = data(TINY, 0).batch(0)
    still = replace(batch, target=batch.target.flip(0))
    given = replace(batch, style=batch.style.flip(0))
    fixed = net(batch).detach()
    for other, changes in ((still, True), (given, False)):
        with torch.no_grad():
            first = loss(Fixed(fixed), batch)[0]
            second = loss(Fixed(fixed), other)[0]
        assert (first != second) == changes


def test_training_begins_with_reconstruction() -> None:
    config = replace(TINY, reconstruction_steps=2)
    source = data(config, 0)
    assert [source.batch(index).reconstruct for index in range(4)] == [True, True, False, False]
    net, batch = network(), source.batch(0)
    torch.testing.assert_close(
        batch.content, encoder("random", 2)(batch.photographs / 255)[-1], rtol=1e-4, atol=1e-5
    )
    loss, parts = objective(config)(net, batch)
    torch.testing.assert_close(
        loss, (net.decoder(batch.content) - batch.photographs / 255).square().mean()
    )
    assert not parts


def test_only_the_control_is_given_another_painting_and_never_its_own() -> None:
    for arm in SYSTEM.arms:
        source = data(SYSTEM.config(TINY, arm.name), 0)
        for index in range(20):
            batch = source.batch(index)
            same = (batch.style == batch.target).flatten(1).all(1)
            assert same.all() if arm.name != "shuffled" else not same.any(), arm.name


def test_no_painting_is_twice_in_a_batch() -> None:
    crops_of = pool(TINY)
    for index in range(20):
        batch = TransferSource(crops_of, 4, 0, 0).batch(index)
        matches = (batch.style[:, None, None] == crops_of.style[None]).flatten(3).all(3).any(2)
        assert matches.any(0).all()  # four of four paintings
    with pytest.raises(PictureError, match="a batch of 5 needs as many paintings, there are 4"):
        TransferSource(crops_of, 5, 0, 0)


def test_a_pool_holds_what_the_encoder_sees_of_each_painting() -> None:
    found, see = pool(TINY), encoder("random", 2)
    for number, work in enumerate(paintings_called("patterns", *TINY.styles)):
        image = with_shorter_side(work.image, TINY.painting_size)
        layers = see(crops(image, TINY.size, TINY.painting_crops, seed=number) / 255)
        torch.testing.assert_close(found.style[number], layers[-1])
        for wanted, layer in zip(found.wanted, layers, strict=True):
            torch.testing.assert_close(wanted[number], moments(layer))


def test_unseen_paintings_are_trained_on_in_one_arm_alone() -> None:
    assert not {*TRAINED} & {*UNSEEN}
    painters = {name.split("_")[0] for name in TRAINED}
    assert not painters & {name.split("_")[0] for name in UNSEEN}
    for arm in SYSTEM.arms:
        config = SYSTEM.config("small", arm.name)
        assert (arm.name == "seen") == bool({*config.trained} & {*config.unseen})
        assert config.unseen == UNSEEN


def test_a_photograph_is_recognised_whatever_its_contrast_and_brightness() -> None:
    rng = torch.Generator().manual_seed(0)
    small = torch.rand(6, 3, 4, 4, generator=rng)
    photographs = F.interpolate(small, size=32, mode="bilinear")
    find = Recogniser(perception("random"), photographs)
    order = torch.tensor([3, 0, 5])
    assert find.nearest(0.2 + 0.5 * photographs[order]).tolist() == order.tolist()
    assert find.nearest(photographs[order].flip(3)).tolist() != order.tolist()


def test_colours_are_the_paintings_and_nothing_else_changes() -> None:
    rng = torch.Generator().manual_seed(0)
    painting = 0.4 + 0.1 * torch.rand(3, 8, 8, generator=rng)
    photographs = torch.rand(2, 3, 8, 8, generator=rng)
    made = colours_of(painting, photographs)
    assert made.shape == photographs.shape
    for image, photograph in zip(made, photographs, strict=True):
        for channel in range(3):
            one, goal = image[channel], painting[channel]
            torch.testing.assert_close(one.mean(), goal.mean(), rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(one.std(), goal.std(), rtol=1e-3, atol=1e-3)
            assert torch.equal(one.flatten().argsort(), photograph[channel].flatten().argsort())


def test_measurements_are_those_of_the_images() -> None:
    net = network()
    found = evaluate(stepper(net, TINY), TINY)
    measure = measures(TINY)
    with torch.no_grad():
        made = [net.paint(measure.content, each) for each in measure.style[-1].split(1)]
    style, content = [], []
    for number, images in enumerate(made):
        layers = encoder("random", 2)(images)
        t = net.statistics(measure.content, measure.style[-1][number : number + 1])
        content.append(F.mse_loss(layers[-1], t))
        parts = []
        for layer, wanted in zip(layers, measure.style, strict=True):
            goals = by_map(wanted[number : number + 1], 1e-5)
            for one, goal in zip(by_map(layer, 1e-5), goals, strict=True):
                parts.append(F.mse_loss(one, goal.expand_as(one)))
        style.append(sum(parts, torch.tensor(0.0)))
    assert found.number(STYLE) == pytest.approx(float(torch.stack(style).mean()), rel=1e-2)
    assert found.number(CONTENT) == pytest.approx(float(torch.stack(content).mean()), rel=1e-3)
    assert found.number(AT_LAYER) < 0.01
    assert found.number(COLOURS_STYLE) > 0
    # Two photographs in two styles, and four steps of each.
    assert found.accuracy is not None
    assert found.accuracy.total == 4
    assert found.by_type[MONOTONE.name].total == 16


def test_an_error_at_the_layer_is_seen() -> None:
    content, style = features(3, 16, 8, 8), 2 * features(1, 16, 8, 8, seed=1)
    assert error_at_layer(network(), content, style) < 1e-3
    for given in ("mean", "deviation"):
        net = network(replace(TINY, given=given))  # type: ignore[arg-type]
        assert error_at_layer(net, content, style) > 0.1


def test_the_figure_has_a_column_for_each_style() -> None:
    sheet = draw(stepper(network(), TINY), TINY)
    assert sheet.size == (3 * TINY.size, 3 * TINY.size)


def test_features_are_seen_in_parts_as_at_once() -> None:
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (19, 3, 16, 16), generator=rng, dtype=torch.uint8)
    for one, other in zip(seen(TINY, images), encoder("random", 2)(images / 255), strict=True):
        torch.testing.assert_close(one, other)
