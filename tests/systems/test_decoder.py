"""Noise and class into an image: equal parameters, separate networks, conditions that count."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from featurewise.models.dcgan import generator
from featurewise.study.model import load_network
from featurewise.study.run import describe_run, train
from featurewise.systems.mechanisms.decoder import SYSTEM, Config
from featurewise.systems.mechanisms.decoder.experiment import (
    ACCURACY,
    BOTH,
    CONTRAST,
    ERROR,
    PARAMETERS,
    REAL,
    data,
    draw,
    evaluate,
    generated,
)
from featurewise.systems.mechanisms.decoder.method import (
    Decoder,
    network_sizes,
    objective,
    stepper,
)
from featurewise.training.steppers import Supervised
from featurewise.worlds.glyphs.contrast import CONTRASTS, Contrasted, ContrastSource
from featurewise.worlds.glyphs.sheets import sheet

TINY = SYSTEM.preset("tiny")
SIZE = TINY.image_size
ARMS = [arm.name for arm in SYSTEM.arms]
UNCONDITIONED = {"nothing"}


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder: Path = tmp_path_factory.mktemp("decoder")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATUREWISE_CACHE", str(folder))
        yield


def config_of(arm: str, base: Config = TINY) -> Config:
    return SYSTEM.config(base, arm)


def decoder(arm: str) -> Decoder:
    """An arm with random weights, those of a condition too, which start at the identity."""
    torch.manual_seed(0)
    network = Decoder(config_of(arm), 5, 6, 9)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "generator" in name:
                weight.normal_()
    return network.eval()


def batch(count: int = 8) -> Contrasted:
    index = torch.arange(count)
    return Contrasted(
        index % 5, index % 4, index % len(CONTRASTS), torch.zeros(count, 1, SIZE, SIZE)
    )


def trainer(arm: str) -> Supervised:
    torch.manual_seed(0)
    return stepper(SYSTEM.build(config_of(arm)), config_of(arm))


@pytest.mark.parametrize("arm", ARMS)
def test_letter_and_contrast_matter_where_they_are_the_condition(arm: str) -> None:
    network, request = decoder(arm), batch()
    before = network(request)
    letter = network(replace(request, letters=(request.letters + 1) % 4))
    contrast = network(replace(request, contrasts=(request.contrasts + 1) % len(CONTRASTS)))
    typeface = network(replace(request, typefaces=(request.typefaces + 1) % 5))
    ignored = arm in UNCONDITIONED
    assert torch.equal(before, letter) is torch.equal(before, contrast) is ignored
    assert not torch.equal(before, typeface)


@pytest.mark.parametrize("preset", ["tiny", "small"])
@pytest.mark.parametrize("arm", ARMS)
def test_arms_have_the_same_number_of_parameters(arm: str, preset: str) -> None:
    config = SYSTEM.config(preset, arm)
    channels, hidden = network_sizes(config)
    counts = [
        sum(p.numel() for p in Decoder(config, 1, channels, units).net.parameters())
        for units in (hidden, hidden + 1)
    ]
    assert counts[0] <= config.parameters < counts[1]
    assert counts[0] >= 0.95 * config.parameters


def test_separate_networks_are_separate() -> None:
    """An image of a letter has gradients in the network of that letter alone."""
    network = decoder("separate")
    request = replace(batch(), letters=torch.full((8,), 2))
    network(request).sum().backward()
    for name, weight in network.net.named_parameters():
        assert weight.grad is not None
        reached = [bool(part.any()) for part in weight.grad.chunk(4)]
        assert reached == [False, False, True, False], name


@torch.no_grad()
def test_the_network_of_each_letter_is_given_the_code_and_the_contrast() -> None:
    network, request = decoder("separate"), batch(16)
    alone = generator(TINY.code_size + len(CONTRASTS), 9, 6, SIZE, extra=TINY.extra_layers).eval()
    codes, contrast = network.codes(request.typefaces), torch.eye(len(CONTRASTS))[request.contrasts]
    inputs = torch.cat((codes, contrast), 1)
    for letter in range(4):
        state = {
            key: (value.chunk(4)[letter] if value.ndim else value).view_as(alone.state_dict()[key])
            for key, value in network.net.state_dict().items()
        }
        alone.load_state_dict(state)
        chosen = request.letters == letter
        torch.testing.assert_close(network(request)[chosen], alone(inputs[chosen]))


def test_parallel_copies_equal_single_generators() -> None:
    torch.manual_seed(0)
    together = generator(3, 5, 2, 8, copies=3).eval()
    alone = generator(3, 5, 2, 8).eval()
    noise = torch.randn(4, 9)
    for copy in range(3):
        state = {
            key: (value.chunk(3)[copy] if value.ndim else value)
            for key, value in together.state_dict().items()
        }
        alone.load_state_dict(
            {key: value.view_as(alone.state_dict()[key]) for key, value in state.items()}
        )
        expected = alone(noise[:, 3 * copy : 3 * copy + 3])
        torch.testing.assert_close(together(noise)[:, copy : copy + 1], expected)


def test_only_the_shuffled_arm_has_the_condition_of_another_image() -> None:
    plain = data(config_of("affine"), 3).batch(2)
    for arm in ARMS:
        found = data(config_of(arm), 3).batch(2)
        shift = int(arm == "shuffled")
        assert torch.equal(found.images, plain.images)
        assert torch.equal(found.typefaces, plain.typefaces)
        assert torch.equal(found.letters, plain.letters.roll(shift))
        assert torch.equal(found.contrasts, plain.contrasts.roll(shift))


def test_the_loss_is_the_mean_square_of_the_ink() -> None:
    network, request = decoder("affine"), batch()
    request = replace(request, images=torch.rand_like(request.images))
    with torch.no_grad():
        gaps = (network(request) - request.images).flatten().tolist()
        loss = objective(network, request)[0].item()
    assert loss == pytest.approx(sum(gap**2 for gap in gaps) / len(gaps), rel=1e-5)


def test_the_learning_rate_rises_for_a_twentieth_and_falls_to_zero() -> None:
    schedule = trainer("affine").learner.schedule
    assert TINY.steps == 40
    assert [schedule(step) for step in (0, 1, 2, 40)] == pytest.approx([1 / 3, 2 / 3, 1, 0])


def test_measurements_are_counted_image_by_image() -> None:
    trained, splits = trainer("affine"), TINY.splits
    for index in range(200):
        trained.step(data(TINY, 0).batch(index))
    source, classifier = ContrastSource(splits.train, 1), splits.classifier(TINY.classifier_steps)
    request = source.whole()
    images = generated(trained, request)
    measured = evaluate(trained, TINY)
    right = {ACCURACY: 0, CONTRAST: 0, BOTH: 0, REAL: 0}
    for row, letter in enumerate(request.letters.tolist()):
        one = Contrasted(*(part[row : row + 1] for part in vars(request).values()))
        contrast = CONTRASTS[int(one.contrasts)]
        full = [((each - 0.5) / contrast + 0.5).clamp(0, 1) for each in (images[[row]], one.images)]
        classified = int(classifier.letters(full[0]).argmax()) == letter
        nearest = int(source.nearest_contrast(images[row : row + 1], one)) == int(one.contrasts)
        right[ACCURACY] += classified
        right[CONTRAST] += nearest
        right[BOTH] += classified and nearest
        right[REAL] += int(classifier.letters(full[1]).argmax()) == letter
    assert len({*right.values()}) > 2
    for metric, count in right.items():
        assert measured.number(metric) == pytest.approx(count / len(images))
    gaps = (images - request.images).flatten().tolist()
    error = math.sqrt(sum(gap**2 for gap in gaps) / len(gaps))
    assert measured.number(ERROR) == pytest.approx(error, rel=1e-5)
    codes = len(splits.train.typefaces) * TINY.code_size
    count = sum(weight.numel() for weight in trained.network.parameters()) - codes
    assert measured.number(PARAMETERS) == count


def test_the_sheet_has_each_generated_letter_before_the_true_one() -> None:
    trained = trainer("affine")
    request = ContrastSource(TINY.splits.train, 1).whole()
    images = generated(trained, request)
    rows: list[list[torch.Tensor]] = [[] for _ in TINY.letters]
    for letter, made, true in zip(request.letters, images, request.images, strict=True):
        if len(rows[letter]) < 12:
            rows[letter] += [made, true]
    blank = [torch.zeros(1, SIZE, SIZE)]
    most = max(map(len, rows))
    padded = torch.stack([torch.stack(row + blank * (most - len(row))) for row in rows])
    expected, page = sheet(padded, TINY.letters), draw(trained, TINY)
    assert page.size == expected.size
    assert page.tobytes() == expected.tobytes()


def test_a_model_is_built_within_the_size_of_its_own_file(tmp_path: Path) -> None:
    """Networks that are only counted, to find the sizes, are not limited by it."""
    train(tmp_path, SYSTEM, describe_run(SYSTEM, preset="tiny"), seconds=1e-9)
    network_sizes.cache_clear()
    load_network(tmp_path, SYSTEM)
