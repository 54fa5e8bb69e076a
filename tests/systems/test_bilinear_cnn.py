"""The bilinear CNN against loops, what each arm reads, and each metric."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from featurewise.study.results import Proportion
from featurewise.systems.recognition.bilinear_cnn import SYSTEM, Config
from featurewise.systems.recognition.bilinear_cnn.experiment import (
    FAMILY,
    LINES,
    SEEN,
    WITHIN,
    Batch,
    data,
    evaluate,
    families,
    lines_of_test,
    within_family,
)
from featurewise.systems.recognition.bilinear_cnn.method import (
    BilinearCNN,
    bilinear,
    build,
    normalised,
    stepper,
)
from featurewise.training import ExperimentError
from featurewise.worlds.glyphs import GlyphError
from featurewise.worlds.glyphs.lines import LineSource, letter_folds

TINY: Config = SYSTEM.preset("tiny")
ARMS = [arm.name for arm in SYSTEM.arms]
BILINEAR = ["bilinear_cnn", "two_streams", "unnormalised", "shuffled"]


def built(arm: str) -> BilinearCNN:
    torch.manual_seed(0)
    return build(SYSTEM.config("tiny", arm)).eval()


def some() -> Batch:
    """Lines whose streams read different images."""
    batch = data(TINY, 0).batch(0)
    return replace(batch, second=batch.images.roll(1, 0))


def products(x: Tensor, y: Tensor) -> Tensor:
    """Every product of two features, place by place."""
    rows = []
    for first, second in zip(x.flatten(2), y.flatten(2), strict=True):
        row = []
        for c in range(len(first)):
            for d in range(len(second)):
                row.append(
                    sum(first[c, place] * second[d, place] for place in range(x[0, 0].numel()))
                )
        rows.append(torch.stack(row))
    return torch.stack(rows) / x[0, 0].numel()


def test_products_are_summed_over_places() -> None:
    x, y = torch.randn(2, 3, 5), torch.randn(2, 4, 5)
    torch.testing.assert_close(bilinear(x, y), products(x, y))


def test_the_order_of_places_does_not_matter() -> None:
    x, order = torch.randn(2, 3, 7), torch.randperm(7)
    torch.testing.assert_close(bilinear(x[..., order], x[..., order]), bilinear(x, x))


def test_root_and_norm() -> None:
    x = torch.tensor([[4.0, -9.0, 0.0, 16.0]])
    expected = torch.tensor([[2.0, -3.0, 0.0, 4.0]]) / math.sqrt(29) * 2
    torch.testing.assert_close(normalised(x), expected, atol=1e-3, rtol=1e-3)
    for gradient in (torch.zeros(1, 4), torch.randn(1, 4)):
        gradient.requires_grad_()
        normalised(gradient).sum().backward()
        assert gradient.grad is not None and gradient.grad.isfinite().all()


@pytest.mark.parametrize("arm", ARMS)
def test_each_arm_pools_as_it_says(arm: str) -> None:
    network, batch, config = built(arm), some(), SYSTEM.config("tiny", arm)
    x = network.first(batch.images)
    if arm in BILINEAR:
        other = {
            "two_streams": lambda: network.second(batch.second),
            "shuffled": lambda: network.first(batch.second),
        }.get(arm, lambda: x)()
        expected = products(x[:4], other[:4])
        if config.normalised:
            expected = normalised(expected)
    elif arm == "fully_connected":
        expected = x[:4].reshape(4, -1)
    else:
        expected = torch.stack([each.reshape(len(each), -1).mean(1) for each in x[:4]])
    found = network.pooled(batch)
    torch.testing.assert_close(found[:4], expected)
    torch.testing.assert_close(network(batch), network.classify(found))


def test_two_streams_need_a_pooling_of_two() -> None:
    with pytest.raises(ExperimentError, match="'average' reads one stream, not two"):
        build(replace(TINY, pooling="average", streams=2))


def test_both_cases_of_a_letter_are_in_one_part() -> None:
    train, test = letter_folds("ABCDEFabcdef", 1)
    assert ["ABCDEFabcdef"[i] for i in test] == ["B", "E", "b", "e"]
    assert sorted((*train, *test)) == list(range(12))
    for fold in (-1, 3):
        with pytest.raises(GlyphError, match=f"0 to 2, got {fold}"):
            letter_folds("ABC", fold)
    with pytest.raises(GlyphError, match="'Aa' leave none"):
        letter_folds("Aa", 0)


def test_training_never_sees_a_letter_of_the_test() -> None:
    glyphs, (train, test) = TINY.glyphs, letter_folds(TINY.letters, TINY.fold)
    batch, size = data(TINY, 3).batch(5), TINY.image_size
    for image, typeface in zip(batch.images, batch.typefaces, strict=True):
        for letter in image[0].split(size, 1):
            known = glyphs.images[typeface].float() / 255
            same = [i for i, each in enumerate(known) if torch.equal(each, letter)]
            assert same and set(same) <= set(train) and not set(same) & set(test)


def test_every_typeface_is_tested_on_its_own_lines() -> None:
    batch, glyphs = lines_of_test(TINY), TINY.glyphs
    assert batch.typefaces.tolist() == [
        i for i in range(len(glyphs.typefaces)) for _ in range(LINES)
    ]
    again = lines_of_test(TINY)
    assert torch.equal(batch.images, again.images)
    assert not torch.equal(batch.images, lines_of_test(TINY, seen=True).images)
    letters = letter_folds(TINY.letters, TINY.fold)[1]
    first = LineSource(glyphs, letters, TINY.line, 1).each(LINES)
    assert torch.equal(first.images, batch.images)


def test_the_control_reads_another_typeface() -> None:
    config = SYSTEM.config("tiny", "shuffled")
    batch = lines_of_test(config)
    assert torch.equal(batch.second, batch.images.roll(LINES, 0))
    trained = data(config, 0).batch(0)
    assert torch.equal(trained.second, trained.images.roll(1, 0))


def test_within_the_family() -> None:
    family = torch.tensor([0, 0, 1, 2, 2])
    logits = torch.tensor(
        [[1.0, 2, 9, 0, 0], [5, 1, 0, 0, 0], [0, 9, 1, 0, 0], [9, 9, 9, 2, 1]],
    )
    right, counted = within_family(logits, torch.tensor([1, 1, 2, 3]), family)
    assert counted.tolist() == [True, True, False, True]
    assert right.tolist() == [True, False, True]


@pytest.mark.parametrize("arm", ["bilinear_cnn", "shuffled"])
def test_each_metric(arm: str) -> None:
    config = SYSTEM.config("tiny", arm)
    found = evaluate(stepper(network := built(arm), config), config)
    batch, family = lines_of_test(config), families(config)
    with torch.no_grad():
        logits = network(batch)
        seen = lines_of_test(config, seen=True)
        of_seen = network(seen).argmax(1)
    best, right = logits.argmax(1), batch.typefaces
    own = [
        max((i for i in range(len(family)) if family[i] == family[r]), key=lambda i: float(row[i]))
        == r
        for row, r in zip(logits, right.tolist(), strict=True)
        if (family == family[r]).sum() > 1
    ]
    assert found.accuracy == Proportion.of(best == right, right)
    assert found.by_type[FAMILY.name].value == (family[best] == family[right]).double().mean()
    assert found.by_type[WITHIN.name].value == pytest.approx(sum(own) / len(own))
    assert found.by_type[SEEN.name].correct == int((of_seen == seen.typefaces).sum())
