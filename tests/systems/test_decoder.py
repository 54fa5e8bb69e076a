"""Noise and class into a picture: equal parameters, separate networks, who is told what."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from featurewise.models.dcgan import generator
from featurewise.systems.mechanisms.decoder import (
    SIZE,
    SYSTEM,
    Decoder,
    draw,
    drawn,
    evaluate,
    objective,
    sizes,
    stepper,
)
from featurewise.training.steppers import Supervised
from featurewise.worlds.glyphs.letter_data import letter_splits
from featurewise.worlds.glyphs.sheets import sheet
from featurewise.worlds.glyphs.textures import TEXTURES, Textured, TexturedSource

TINY = SYSTEM.preset("tiny")
ARMS = [arm.name for arm in SYSTEM.arms]
UNTOLD = {"nothing"}


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder: Path = tmp_path_factory.mktemp("decoder")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATUREWISE_CACHE", str(folder))
        yield


def decoder(arm: str) -> Decoder:
    """An arm with weights by lot, those of a condition too, which start at the identity."""
    torch.manual_seed(0)
    network = Decoder(TINY, arm, 5, 2, 9)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "generator" in name:
                weight.normal_()
    return network.eval()


def batch(rows: int = 8) -> Textured:
    count = torch.arange(rows)
    return Textured(count % 5, count % 4, count % TEXTURES, torch.zeros(rows, 1, SIZE, SIZE))


@pytest.mark.parametrize("arm", ARMS)
def test_letter_and_texture_count_where_they_are_told(arm: str) -> None:
    network, asked = decoder(arm), batch()
    before = network(asked)
    letter = network(replace(asked, letters=(asked.letters + 1) % 4))
    texture = network(replace(asked, textures=(asked.textures + 1) % TEXTURES))
    face = network(replace(asked, typefaces=(asked.typefaces + 1) % 5))
    assert torch.equal(before, letter) is torch.equal(before, texture) is (arm in UNTOLD)
    assert not torch.equal(before, face)


@pytest.mark.parametrize("preset", ["tiny", "small"])
@pytest.mark.parametrize("arm", ARMS)
def test_arms_have_the_same_number_of_parameters(arm: str, preset: str) -> None:
    settings = SYSTEM.preset(preset)
    channels, hidden = sizes(settings, arm)
    spent = [
        sum(p.numel() for p in Decoder(settings, arm, 1, channels, h).net.parameters())
        for h in (hidden, hidden + 1)
    ]
    assert spent[0] <= settings.budget < spent[1]
    assert spent[0] >= 0.95 * settings.budget


def test_separate_networks_are_separate() -> None:
    """A picture of a letter has gradients in the share of that letter alone."""
    network = decoder("separate")
    asked = replace(batch(), letters=torch.full((8,), 2))
    network(asked).sum().backward()
    for name, weight in network.net.named_parameters():
        assert weight.grad is not None
        touched = [bool(part.any()) for part in weight.grad.chunk(4)]
        assert touched == [False, False, True, False], name


@torch.no_grad()
def test_the_network_of_each_letter_is_told_the_code_and_the_texture() -> None:
    network, asked = decoder("separate"), batch(16)
    alone = generator(TINY.code + TEXTURES, 9, 2, SIZE).eval()
    told = torch.cat((network.codes(asked.typefaces), torch.eye(TEXTURES)[asked.textures]), 1)
    for letter in range(4):
        state = {
            key: (value.chunk(4)[letter] if value.ndim else value).view_as(alone.state_dict()[key])
            for key, value in network.net.state_dict().items()
        }
        alone.load_state_dict(state)
        rows = asked.letters == letter
        torch.testing.assert_close(network(asked)[rows], alone(told[rows]))


def test_a_copy_draws_what_it_draws_alone() -> None:
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


def test_only_the_shuffled_arm_is_told_of_another_row() -> None:
    for arm in SYSTEM.arms:
        assert SYSTEM.data(TINY, arm, 0).shuffled is (arm.name == "shuffled")  # type: ignore[attr-defined]


def untrained(arm: str) -> Supervised:
    torch.manual_seed(0)
    return stepper(SYSTEM.build(TINY, SYSTEM.arm(arm)), TINY, SYSTEM.arm(arm))


def test_the_loss_is_the_mean_square_of_the_ink() -> None:
    network, asked = decoder("affine"), batch()
    asked = replace(asked, images=torch.rand_like(asked.images))
    with torch.no_grad():
        gaps = (network(asked) - asked.images).flatten().tolist()
        loss = objective(network, asked)[0].item()
    assert loss == pytest.approx(sum(gap**2 for gap in gaps) / len(gaps), rel=1e-5)


def test_the_rate_rises_for_a_twentieth_and_falls_to_nothing() -> None:
    schedule = untrained("affine").learner.schedule
    assert TINY.steps == 40
    assert [schedule(step) for step in (0, 1, 2, 40)] == pytest.approx([1 / 3, 2 / 3, 1, 0])


def test_what_is_measured_is_counted_picture_by_picture() -> None:
    trained, known = untrained("affine"), letter_splits(TINY.where, TINY.letters, SIZE)
    source, judge = TexturedSource(known.train, 1), known.classifier(TINY.judging)
    asked = source.test()
    images = drawn(trained, asked)
    measured = evaluate(trained, TINY, SYSTEM.arm("affine"))
    right = {"letter": 0, "texture": 0, "both": 0, "real": 0}
    for row, letter in enumerate(asked.letters.tolist()):
        one = Textured(*(part[row : row + 1] for part in vars(asked).values()))
        read = int(judge.letters(images[row : row + 1]).argmax()) == letter
        seen = int(source.nearest_texture(images[row : row + 1], one)) == int(one.textures)
        right["letter"] += read
        right["texture"] += seen
        right["both"] += read and seen
        right["real"] += int(judge.letters(one.images).argmax()) == letter
    assert right["letter"] != right["texture"] and right["letter"] != right["real"]
    real = right.pop("real") / len(images)
    assert {name: each.correct for name, each in measured.by_type.items()} == right
    assert measured.accuracy == measured.by_type["letter"]
    assert measured.values["judge_on_real"] == pytest.approx(real)
    gaps = (images - asked.images).flatten().tolist()
    error = math.sqrt(sum(gap**2 for gap in gaps) / len(gaps))
    assert measured.values["error"] == pytest.approx(error, rel=1e-5)
    codes = len(known.train.typefaces) * TINY.code
    spent = sum(weight.numel() for weight in trained.network.parameters()) - codes
    assert measured.values["parameters"] == spent


def test_the_picture_has_each_drawn_letter_before_the_true_one() -> None:
    trained = untrained("affine")
    asked = TexturedSource(letter_splits(TINY.where, TINY.letters, SIZE).train, 1).test()
    images = drawn(trained, asked)
    rows: list[list[torch.Tensor]] = [[] for _ in TINY.letters]
    for letter, made, true in zip(asked.letters, images, asked.images, strict=True):
        if len(rows[letter]) < 12:
            rows[letter] += [made, true]
    blank = [torch.zeros(1, SIZE, SIZE)]
    most = max(map(len, rows))
    padded = torch.stack([torch.stack(row + blank * (most - len(row))) for row in rows])
    expected, page = sheet(padded, TINY.letters), draw(trained, TINY, SYSTEM.arm("affine"))
    assert page.size == expected.size
    assert page.tobytes() == expected.tobytes()
