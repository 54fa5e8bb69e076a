"""FiLM over features that are trained beforehand: augmentation, cache, and the fused trunk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from featurewise.systems.reasoning.film import SYSTEM, Config, FilmNetwork, fused_steps
from featurewise.systems.reasoning.film import pretraining as features
from featurewise.systems.reasoning.film.experiment import evaluate
from featurewise.systems.reasoning.film.fused import fused_logits, rectangular
from featurewise.systems.reasoning.film.perception import (
    ATTRIBUTE_CLASSES,
    FrozenStem,
    Namer,
    Perception,
    attribute_loss,
    named_right,
)
from featurewise.systems.reasoning.film.pretraining import (
    Augmented,
    feature_maps,
    mirrored,
    moved,
    pretrained,
    recolored,
)
from featurewise.systems.reasoning.film.training import data, stepper
from featurewise.worlds.clevr import Batch
from featurewise.worlds.clevr.batch import cell_labels
from featurewise.worlds.clevr.cache import cached_pool
from featurewise.worlds.clevr.data import PoolSource
from featurewise.worlds.clevr.errors import WorldError
from featurewise.worlds.clevr.generate import Recipe
from featurewise.worlds.clevr.splits import CurriculumStage

RECIPE = Recipe(seed=77, width=48, height=32, samples=1, questions_per_image=6)
PERCEPTION = Perception(recipe=RECIPE, images=24, steps=6, images_per_batch=8, widths=(4, 8, 8))


def config(**changes: object) -> Config:
    stage = CurriculumStage(recipe=RECIPE, images=24, steps=4, questions_per_image=2)
    base = replace(
        SYSTEM.presets["tiny"],
        steps=4,
        perception=PERCEPTION,
        curriculum=(stage,),
        images_per_batch=4,
        channels=8,
        blocks=3,
        dilations=(1, 2),
        context=True,
        classifier=12,
        head_std=0.5,
        schedule="linear",
        test_images=4,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """One cache folder for all tests here, and few images to test names on."""
    folder = tmp_path_factory.getbasetemp() / "features"
    monkeypatch.setenv("FEATUREWISE_CACHE", str(folder))
    monkeypatch.setattr(features, "EVAL_IMAGES", 4)
    yield folder


@pytest.fixture
def namer() -> Namer:
    return pretrained(PERCEPTION)


def objects_at(*places: tuple[int, int]) -> Tensor:
    table = torch.full((1, 10, 6), -1)
    for row, (column, line) in enumerate(places):
        table[0, row] = torch.tensor([0, row, 0, 0, column, line])
    return table


def marked(objects: Tensor) -> Tensor:
    """A grey image, 120 x 80, with a block of another brightness around each object."""
    image = torch.full((1, 3, 80, 120), 100, dtype=torch.uint8)
    for row in objects[0]:
        if row[0] >= 0:
            x, y = int(row[4]) // 4, int(row[5]) // 4
            image[0, :, y - 1 : y + 2, x - 1 : x + 2] = 150 + 20 * int(row[1])
    return image


def read_back(image: Tensor, objects: Tensor) -> list[int]:
    """The brightness at the place of every object."""
    found = [row for row in objects[0] if row[0] >= 0]
    return [int(image[0, 0, min(int(r[5]) // 4, 79), int(r[4]) // 4]) for r in found]


@pytest.mark.parametrize("seed", range(6))
def test_objects_go_with_their_images(seed: int) -> None:
    objects = objects_at((100, 60), (300, 200), (240, 160))
    image, rng = marked(objects), torch.Generator().manual_seed(seed)
    flipped = mirrored(image, objects, rng)
    assert read_back(*flipped) == [150, 170, 190]
    shifted = moved(*flipped, 6, rng)
    assert read_back(*shifted) == [150, 170, 190]
    assert (shifted[1][0, 3:] == -1).all()


def test_every_change_occurs() -> None:
    image, objects = marked(objects_at((100, 60))), objects_at((100, 60))
    places = set()
    for seed in range(200):
        rng = torch.Generator().manual_seed(seed)
        _, after = moved(*mirrored(image, objects, rng), 6, rng)
        places.add((int(after[0, 0, 4]), int(after[0, 0, 5])))
    columns = {column for column, _ in places}
    assert {76, 100, 124} <= columns and {355, 379, 403} <= columns
    assert {line for _, line in places} == set(range(36, 85, 4))


def test_an_object_that_leaves_the_image_is_dropped() -> None:
    objects = objects_at((2, 160), (240, 160))
    for seed in range(50):
        rng = torch.Generator().manual_seed(seed)
        _, after = moved(marked(objects_at((240, 160))), objects, 6, rng)
        labels = cell_labels(after, 10, 15, (120, 80))
        if int(after[0, 0, 0]) < 0:
            assert int((labels[0, 0] > 0).sum()) == 1
            return
        assert int(after[0, 0, 4]) >= 0
    pytest.fail("no shift to the left in 50")


def test_colors_change_little_and_never_wrap() -> None:
    image = torch.tensor([0, 3, 128, 250, 255], dtype=torch.uint8).view(1, 1, 1, 5)
    image = image.expand(1, 3, 2, 5).contiguous()
    for seed in range(20):
        after = recolored(image, torch.Generator().manual_seed(seed))
        assert after.dtype == torch.uint8
        assert (after.int() - image.int()).abs().max() <= 40
        assert (after[0, 0, 0].int().diff() >= 0).all()


def test_augmented_batches_depend_on_their_index_alone() -> None:
    source = PoolSource(cached_pool(RECIPE, 24), images_per_batch=8, questions_per_image=1)
    one, again = (Augmented(source, 3).batch(5) for _ in range(2))
    torch.testing.assert_close(one.images, again.images)
    assert not torch.equal(one.images, Augmented(source, 4).batch(5).images)
    assert not torch.equal(one.images, source.batch(5).images)


def test_the_pretrained_features_are_found_again_and_do_not_depend_on_the_moment(
    cache: Path, namer: Namer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrained.cache_clear()
    torch.rand(3)
    monkeypatch.setattr(features, "_train", None)  # it is read, not trained
    again = pretrained(PERCEPTION)
    for name, value in namer.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)
    monkeypatch.undo()
    monkeypatch.setenv("FEATUREWISE_CACHE", str(cache / "other"))
    monkeypatch.setattr(features, "EVAL_IMAGES", 4)
    pretrained.cache_clear()
    torch.rand(5)
    second = pretrained(PERCEPTION)
    for name, value in namer.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value, rtol=0, atol=0)
    pretrained.cache_clear()


def test_stored_features_are_those_of_the_stem(namer: Namer) -> None:
    pool = cached_pool(RECIPE, 24)
    stored, again = feature_maps(pool, namer), feature_maps(pool, namer)
    assert stored.dtype == torch.bfloat16 and stored.shape == (24, 8, 4, 6)
    assert torch.equal(stored, again)
    images = torch.from_numpy(PoolSource(pool, images_per_batch=1).pool.images.copy())
    with torch.no_grad():
        exact = namer.stem(images / 255)
    assert (stored - exact).norm() / exact.norm() < 0.004


def test_a_batch_has_features_in_place_of_images(namer: Namer) -> None:
    pool = cached_pool(RECIPE, 24)
    maps = feature_maps(pool, namer)
    plain, other = (
        PoolSource(pool, images_per_batch=4, features=each).batch(1) for each in (None, maps)
    )
    assert torch.equal(plain.questions, other.questions)
    with torch.no_grad():
        exact = namer.stem(plain.images / 255)
    assert (other.images - exact).norm() / exact.norm() < 0.004
    with pytest.raises(WorldError, match="3 maps of features for 24 images"):
        PoolSource(pool, features=maps[:3])


def test_named_right_counts_whole_names() -> None:
    objects = objects_at((100, 60), (300, 200))
    labels = cell_labels(objects, 10, 15, (120, 80))
    parts = [
        F.one_hot(label, classes).permute(0, 3, 1, 2).float()
        for label, classes in zip(labels.unbind(1), ATTRIBUTE_CLASSES, strict=True)
    ]
    logits = torch.cat(parts, 1) * 20
    assert named_right(logits, objects, (120, 80)).tolist() == [1, 1]
    assert float(attribute_loss(logits, objects, (120, 80))) < 1e-3
    logits[:, :3, 7, 12] = torch.tensor([0.0, 0, 20])[:3].flip(0)  # another size in one cell
    logits[:, :3, 25 * 10 // 40, 9] = torch.tensor([0.0, 0, 20])
    assert sorted(named_right(logits, objects, (120, 80)).tolist())[0] == 0


def test_a_frozen_stem_stays_as_it_is() -> None:
    stem = FrozenStem((4, 8, 8)).train()
    before = deepcopy(stem.state_dict())
    x = torch.rand(2, 3, 32, 48)
    assert not stem(x).requires_grad
    assert not any(module.training for module in stem.modules())
    for name, value in stem.state_dict().items():
        assert torch.equal(value, before[name])


ARMS = [
    pytest.param(arm.name, marks=[pytest.mark.traced] if arm.name == "film" else [])
    for arm in SYSTEM.arms
    if arm.name != "shuffled"
]
"""FiLM is trained by the fused trunk; that of shuffled questions is the same."""


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_trains_on_features_and_is_tested_on_images(arm: str) -> None:
    chosen = replace(config(), **dict(SYSTEM.arm(arm).changes), bfloat16=False)
    torch.manual_seed(0)
    network = SYSTEM.build(chosen)
    trained, source = stepper(network, chosen), data(chosen, 0)
    metrics = trained.step(source.batch(0))
    for index in range(1, 3):
        metrics = trained.step(source.batch(index))
    assert torch.isfinite(torch.as_tensor(metrics["loss"]))
    if arm != "question":
        for name, value in pretrained(PERCEPTION).state_dict().items():
            assert torch.equal(network.state_dict()[name], value), name
        with trained.evaluating() as averaged:
            for name, value in pretrained(PERCEPTION).state_dict().items():
                assert torch.equal(averaged.state_dict()[name], value), name
    assert evaluate(trained, chosen).accuracy is not None


def test_a_network_that_is_loaded_needs_no_features_in_the_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(perception: Perception) -> Namer:
        raise AssertionError("the stem would be trained")

    chosen = config(network="concatenation", bfloat16=False)
    first = stepper(SYSTEM.build(chosen), chosen)
    first.step(data(chosen, 0).batch(0))
    monkeypatch.setattr("featurewise.systems.reasoning.film.pretraining.pretrained", refuse)
    second = stepper(SYSTEM.build(chosen), chosen)
    second.load_state(first.state())
    assert evaluate(second, chosen) == evaluate(first, chosen)


# --- the fused trunk beside its plain twin ------------------------------------------------


def batch(questions: tuple[int, ...]) -> Batch:
    rng = torch.Generator().manual_seed(1)
    index = torch.arange(len(questions)).repeat_interleave(torch.tensor(questions))
    lengths = torch.randint(3, 9, (len(index),), generator=rng)
    lengths[0] = 8
    maps = torch.randn(len(questions), 4, 6, 8, generator=rng)
    return Batch(
        images=maps.bfloat16().permute(0, 3, 1, 2),
        image_index=index,
        questions=torch.randint(1, 80, (len(index), 8), generator=rng),
        lengths=lengths,
        answers=torch.randint(0, 28, (len(index),), generator=rng),
        types=torch.zeros_like(index),
    )


def network() -> FilmNetwork:
    torch.manual_seed(0)
    return FilmNetwork(config()).train()


@pytest.mark.traced
@pytest.mark.parametrize("questions", [(2, 2, 2, 2), (3, 1, 0, 2)])
def test_the_fused_steps_equals_the_network(
    questions: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused_steps, "DTYPE", torch.float32)
    plain, fast = network(), network()
    given = batch(questions)
    filled, rows = rectangular(given)
    expected = plain(filled).logits if rows is None else plain(filled).logits[rows]
    found = fused_logits(fast, replace(given, images=given.images.float()))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    (expected * weight).sum().backward()
    (found * weight).sum().backward()
    for (name, one), other in zip(plain.named_parameters(), fast.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None and other.grad is not None:
            # The last norm takes out a shift of all features: that gradient is rounding alone.
            torch.testing.assert_close(other.grad, one.grad, rtol=1e-3, atol=1e-3, msg=name)
    for (name, one), other in zip(plain.named_buffers(), fast.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, msg=name)


def test_a_rectangular_batch_has_every_question_where_it_says() -> None:
    given = batch((3, 1, 0, 2))
    filled, rows = rectangular(given)
    assert rows is not None
    assert filled.image_index.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert torch.equal(filled.questions[rows], given.questions)
    assert torch.equal(filled.lengths[rows], given.lengths)
    assert torch.equal(filled.answers[rows], given.answers)
    assert torch.equal(filled.image_index[rows], given.image_index)
    assert torch.equal(filled.questions[3:6], given.questions[3].expand(3, -1))
    same, none = rectangular(batch((2, 2)))
    assert none is None and len(same.lengths) == 4


@pytest.mark.traced
def test_in_bfloat16_it_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_steps, "DTYPE", torch.bfloat16)
    plain, fast = network(), network()
    given = batch((2,) * 16)
    expected, found = plain(given).logits, fused_logits(fast, given)
    assert (expected - found).norm() / expected.norm() < 0.1


def test_a_process_that_waits_for_another_finds_what_that_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    trained: list[Path] = []

    def train(network: Namer, config: Perception, folder: Path) -> None:
        time.sleep(0.5)
        trained.append(folder)

    monkeypatch.setattr(features, "_train", train)
    make = pretrained.__wrapped__
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(make, [PERCEPTION, PERCEPTION]))
    assert len(trained) == 1
    for name, value in both[0].state_dict().items():
        assert torch.equal(both[1].state_dict()[name], value)
