"""Style transfer against forward pass and losses written by hand; styles of any image."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from featurewise.core import TaskRepresentation
from featurewise.models.perceptual import (
    Untrained,
    content_losses,
    gram,
    gram_matrices,
    perception,
    style_losses,
)
from featurewise.models.transfer import ConvNorm
from featurewise.study.results import Measurement
from featurewise.systems.style.style_transfer import SYSTEM, Config, StyleTransfer
from featurewise.systems.style.style_transfer.application import TransferStylist
from featurewise.systems.style.style_transfer.experiment import (
    CONTENT,
    MATCHED,
    OF_STYLE,
    STYLE,
    draw,
    evaluate,
)
from featurewise.systems.style.style_transfer.method import (
    TransferBatch,
    objective,
    stepper,
)
from featurewise.systems.style.style_transfer.sources import data
from featurewise.systems.style.style_transfer.tables import (
    MIDDLE,
    MONOTONE,
    NEW_STYLE,
    NEW_STYLE_BEFORE,
    learn_style,
    mixture,
)
from featurewise.systems.style_classifier import StyleClassifier
from featurewise.training.errors import ExperimentError
from featurewise.worlds.pictures import PictureError, patterns, with_shorter_side

TINY = SYSTEM.preset("tiny")


def images(count: int = 2, size: int = 16) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), generator=rng, dtype=torch.uint8)


def network(config: Config = TINY) -> StyleTransfer:
    """With a table that is not that of a new network."""
    torch.manual_seed(0)
    found = StyleTransfer(config)
    with torch.no_grad():
        for name, weight in found.named_parameters():
            if name.endswith("table"):
                weight.normal_(std=0.5)
    return found.eval()


def by_hand(net: StyleTransfer, batch: TransferBatch, condition: str) -> Tensor:
    """Table 1 and eq. 5, one operation after the other."""
    painter = net.painter.backbone  # type: ignore[union-attr]
    values = net.painter.represent(batch.styles).named  # type: ignore[union-attr, operator]

    def layer(x: Tensor, module: ConvNorm, name: str) -> Tensor:
        if module.upsample > 1:
            x = x.repeat_interleave(module.upsample, 2).repeat_interleave(module.upsample, 3)
        margin = module.convolve.kernel_size[0] // 2
        x = F.pad(x, [margin] * 4, mode="reflect")
        x = F.conv2d(x, module.convolve.weight, stride=module.convolve.stride)
        mean = x.mean((2, 3), keepdim=True)
        x = (x - mean) / (x.var((2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
        site = values[f"{name}.norm"]
        if condition in ("affine", "scale"):
            x = (1 + site["gamma"])[:, :, None, None] * x
        if condition in ("affine", "shift"):
            x = x + site["beta"][:, :, None, None]
        return x

    x = 2 * (batch.content / 255) - 1
    for index, module in enumerate(painter.contract):
        x = F.relu(layer(x, module, f"contract.{index}"))
    for index, block in enumerate(painter.blocks):
        y = F.relu(layer(x, block.first, f"blocks.{index}.first"))
        x = x + layer(y, block.second, f"blocks.{index}.second")
    for index, module in enumerate(painter.expand):
        x = F.relu(layer(x, module, f"expand.{index}"))
    return torch.sigmoid(layer(x, painter.paint, "paint"))


@pytest.mark.parametrize("condition", ["affine", "scale", "shift"])
def test_a_style_scales_and_shifts_every_norm(condition: str) -> None:
    net = network(replace(TINY, condition=condition))  # type: ignore[arg-type]
    batch = TransferBatch(images(3), torch.tensor([2, 0, 1]), torch.tensor([2, 0, 1]))
    with torch.no_grad():
        torch.testing.assert_close(net(batch), by_hand(net, batch, condition))


def test_the_paper_s_network_has_the_paper_s_number_of_parameters_a_style() -> None:
    """Dumoulin et al. 2017, section 2.2: 1,603 maps are modulated, by two numbers each."""
    net = StyleTransfer(SYSTEM.preset("paper"))
    assert net.painter.layout.size == 2 * 1603  # type: ignore[union-attr]


def test_styles_begin_alike_and_an_unconditional_network_has_none() -> None:
    ids = torch.tensor([0, 2])
    for config in (TINY, replace(TINY, condition="none")):
        net = StyleTransfer(config).eval()
        with torch.no_grad():
            one, other = (net(TransferBatch(images(), each, each)) for each in (ids, ids.flip(0)))
        assert torch.equal(one, other)


def test_a_gram_matrix_holds_mean_products_of_maps() -> None:
    features = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros(2, 3, 3)
    for n in range(2):
        for i in range(3):
            for j in range(3):
                expected[n, i, j] = (features[n, i] * features[n, j]).mean()
    torch.testing.assert_close(gram(features), expected)


def test_gram_matrices_stay_in_float32_where_the_rest_is_bfloat16() -> None:
    features = torch.rand(1, 4, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(gram(features), gram(features.clone()))
        found = gram(features)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, gram(features), atol=1e-6, rtol=1e-6)


def test_losses_are_relative_to_what_they_compare_with() -> None:
    seen = {"a": torch.rand(2, 3, 4, 4) + 0.1}
    target = {"a": gram(seen["a"])}
    ids = torch.tensor([0, 1])
    assert style_losses(seen, target, ids).abs().max() < 1e-10
    doubled = {"a": 2**0.5 * seen["a"]}  # a Gram matrix twice as large
    torch.testing.assert_close(style_losses(doubled, target, ids), torch.ones(2))
    swapped = style_losses(seen, target, ids.flip(0))
    assert swapped.min() > 1e-4
    photographs = torch.rand(2, 3, 4, 4) + 0.1
    assert content_losses(photographs, photographs).abs().max() == 0
    torch.testing.assert_close(content_losses(2 * photographs, photographs), torch.ones(2))


def test_features_after_the_last_wanted_layer_are_not_computed() -> None:
    see = Untrained()
    whole = see(images() / 255)
    see.kernels[2] = None  # type: ignore[call-overload]
    part = see(images() / 255, last="1")
    assert list(part) == ["0", "1"]
    assert all(torch.equal(part[name], whole[name]) for name in part)


def test_the_loss_is_content_plus_weighted_style() -> None:
    config = replace(TINY, style_weight=3.0)
    loss = objective(config, config.paintings(*config.trained))
    net, batch = network(), TransferBatch(images(), torch.tensor([1, 0]), torch.tensor([1, 2]))
    total, parts = loss(net, batch)
    painted = net(batch)
    see = perception("random")
    content = content_losses(see(painted)["1"], see(batch.content / 255)["1"]).mean()
    # Paintings are reduced to `painting_size` before their Gram matrices are taken.
    works = [with_shorter_side(p.image, 64) / 255 for p in config.paintings("rings", "waves")]
    style = style_losses(see(painted), gram_matrices(see, works), torch.tensor([0, 1])).mean()
    torch.testing.assert_close(parts["style"], style)
    torch.testing.assert_close(parts["content"], content)
    torch.testing.assert_close(total, parts["content"] + 3 * parts["style"])


def test_training_begins_with_reconstruction() -> None:
    config = replace(TINY, reconstruction_steps=2)
    source = data(config, 0)
    assert [source.batch(index).reconstruct for index in range(4)] == [True, True, False, False]
    net, batch = network(), source.batch(0)
    loss, parts = objective(config, config.paintings("rings"))(net, batch)
    torch.testing.assert_close(loss, (net(batch) - batch.content / 255).square().mean())
    assert not parts


def test_only_the_control_is_given_other_styles_than_its_loss_is_of() -> None:
    for arm in SYSTEM.arms:
        config = SYSTEM.config(replace(TINY, batch_size=16), arm.name)
        batch = data(config, 0).batch(0)
        same = torch.equal(batch.styles, batch.targets)
        assert same == (arm.name != "shuffled"), arm.name
        assert batch.styles.max() < len(config.trained)


def test_the_ids_of_the_control_say_nothing_of_the_style() -> None:
    styles = ("squares", "rings", "waves", "discs")
    config = replace(SYSTEM.config(TINY, "shuffled"), styles=styles, new_styles=())
    batches = [data(config, 0).batch(index) for index in range(400)]
    ids = torch.cat([batch.styles for batch in batches])
    targets = torch.cat([batch.targets for batch in batches])
    together = torch.zeros(4, 4).index_put_(
        (ids, targets), torch.tensor(1 / len(ids)), accumulate=True
    )
    independent = together.sum(1, keepdim=True) * together.sum(0)
    assert (together - independent).abs().max() < 0.02


def test_a_new_style_changes_nothing_but_its_own_parameters() -> None:
    net = network()
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    loss = objective(TINY, TINY.paintings("discs"))
    batches = [data(TINY, 5).batch(index) for index in range(12)]
    table = net.painter.represent(torch.arange(3)).flat.detach()  # type: ignore[union-attr, operator]
    start = learn_style(net, loss, [], 0.05)
    assert torch.equal(start.flat, table.mean(0))
    with torch.no_grad():
        learned = learn_style(net, loss, batches, 0.05)  # also where gradients are off

    def measured(task: object) -> float:
        with torch.no_grad():
            painted = net.painter(batches[0].content / 255, task=task)
        ids = torch.zeros(len(painted), dtype=torch.long)
        content, style = loss.losses(painted, batches[0].content / 255, ids)
        return float((content + loss.weight * style).mean())

    assert measured(learned) < 0.95 * measured(start)
    for name, weight in net.state_dict().items():
        assert torch.equal(weight, before[name]), name
        assert net.get_parameter(name).grad is None


def test_the_classifier_recognises_paintings_by_their_other_half() -> None:
    made = TINY.paintings("squares", "rings", "horizontal_stripes")
    classify = StyleClassifier(perception("random"), made, size=32, painting_size=128, count=16)
    assert classify.real_accuracy > 0.9
    assert classify.logits(torch.rand(5, 3, 32, 32)).shape == (5, 3)


def test_measurements_name_the_styles_that_were_trained() -> None:
    found: dict[str, Measurement] = {}
    for arm in ("affine", "own_2", "none"):
        config = SYSTEM.config(replace(TINY, new_style_steps=1), arm)
        torch.manual_seed(0)
        found[arm] = evaluate(stepper(StyleTransfer(config), config), config)
    values = {arm: {*each.values, *each.by_type} for arm, each in found.items()}
    own = {CONTENT.name, STYLE.name}
    assert own <= values["affine"] & values["own_2"] & values["none"]
    assert values["affine"] >= {m.name for m in (*OF_STYLE, MIDDLE, MONOTONE, NEW_STYLE)}
    assert OF_STYLE[1].name in values["own_2"]
    assert OF_STYLE[0].name not in values["own_2"]
    assert NEW_STYLE_BEFORE.name not in values["none"]
    # Two photographs in each of three styles; a network of one style paints two images.
    assert found["affine"].accuracy is not None
    assert found["own_2"].accuracy is not None
    assert (found["affine"].accuracy.total, found["own_2"].accuracy.total) == (6, 2)
    # Images that are the same in all styles: only one of three can be the best.
    assert found["none"].number(MATCHED) == pytest.approx(1 / 3)
    assert MATCHED.name not in values["own_2"]


def test_a_mixture_lies_between_two_styles() -> None:
    net = network()
    rows = net.painter.represent(torch.arange(3)).flat  # type: ignore[union-attr, operator]
    torch.testing.assert_close(mixture(net, 0, 2, 0.25).flat, 0.75 * rows[0] + 0.25 * rows[2])
    assert torch.equal(mixture(net, 0, 2, 0.0).flat, rows[0])


def test_the_figure_has_a_column_for_each_style() -> None:
    config = replace(TINY, test_images=2)
    sheet = draw(stepper(network(), config), config)
    assert sheet.size == (4 * config.size, 3 * config.size)


def test_unknown_paintings_are_named_with_those_there_are() -> None:
    with pytest.raises(PictureError, match="'mona'; there is .*rings"):
        TINY.paintings("mona")


@pytest.mark.parametrize("size", [(16, 16), (17, 22), (31, 19)])
def test_images_of_any_size_are_painted(size: tuple[int, int]) -> None:
    net, stylist = network(), TransferStylist()
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    painted = stylist.paint(net, TINY, image, {"rings": 1.0}, {})
    assert painted.shape == image.shape
    assert painted.dtype == torch.uint8
    if size == (16, 16):
        with torch.no_grad():
            plain = net(TransferBatch(image[None], torch.tensor([1]), torch.tensor([1])))
        assert torch.equal(painted, (255 * plain[0]).round().byte())


def test_weights_mix_the_rows_of_the_table() -> None:
    net, stylist = network(), TransferStylist()
    image = images(1)[0]
    mixed = stylist.paint(net, TINY, image, {"rings": 0.3, "squares": 0.7}, {})
    with torch.no_grad():
        task = mixture(net, 0, 1, 0.3)
        plain = net.painter(image[None] / 255, task=task)
    assert (mixed.int() - (255 * plain[0]).round().int()).abs().max() <= 1


def test_a_style_of_an_own_image_is_learned_by_its_parameters_alone() -> None:
    net, stylist = network(), TransferStylist()
    image = images(1)[0]
    before = {key: value.clone() for key, value in net.state_dict().items()}
    calls: list[tuple[int, int]] = []
    painting = torch.randint(0, 256, (3, 40, 50), generator=torch.Generator().manual_seed(3))
    settings = replace(TINY, new_style_steps=20, new_style_learning_rate=0.05)
    found = stylist.learn(
        net, settings, painting.byte(), image, lambda *numbers: calls.append(numbers)
    )
    assert calls == [(step, 20) for step in range(21)]
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert found.after < found.before
    mixed = stylist.paint(net, TINY, image, {"mine": 0.3, "rings": 0.7}, {"mine": found.task})
    rings = net.painter.represent(torch.tensor([TINY.styles.index("rings")])).flat[0]
    task = TaskRepresentation(net.painter.layout, 0.3 * found.task.flat + 0.7 * rings)
    with torch.no_grad():
        plain = net.painter(image[None] / 255, task=task)
    assert (mixed.int() - (255 * plain[0]).round().int()).abs().max() <= 1


def test_images_and_styles_that_cannot_be_painted_are_refused() -> None:
    net, stylist = network(), TransferStylist()
    with pytest.raises(ExperimentError, match="7 x 16 pixels; the network needs at least 8 x 8"):
        stylist.paint(net, TINY, images(1)[0, :, :, :7], {"rings": 1.0}, {})
    with pytest.raises(ExperimentError, match="no style is called 'mona'; there is squares"):
        stylist.paint(net, TINY, images(1)[0], {"mona": 1.0}, {})
    assert stylist.styles(replace(TINY, condition="none")) == ()
    assert stylist.styles(replace(TINY, only=1)) == ("rings",)


def test_patterns_are_what_they_are_called() -> None:
    made = {each.name: each.image.float() for each in patterns()}
    assert len(made) == 8
    rows, columns = made["horizontal_stripes"], made["vertical_stripes"]
    assert torch.equal(rows, rows[:, :, :1].expand_as(rows))
    assert torch.equal(columns, columns[:, :1].expand_as(columns))
    assert len({each.image.numpy().tobytes() for each in patterns()}) == 8
