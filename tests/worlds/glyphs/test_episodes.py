"""Episodes: content, reproducibility, splits of classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from featurewise.worlds.glyphs.episodes import (
    EpisodeSource,
    InMemoryPool,
    Pool,
    script_pool,
    split_classes,
)
from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.formats import omniglot

WAY, SHOT, QUERIES, EPISODES = 3, 2, 4, 5


def coded(groups: int = 4, classes: int = 5, count: int = 6, channels: int = 1) -> InMemoryPool:
    """A pool of ``count`` images of each class; the first two pixels are class and index."""
    names, of, images = [], [], []
    for group in range(groups):
        for _ in range(classes):
            label = len(names)
            stack = torch.zeros(count, channels, 8, 8, dtype=torch.uint8)
            stack[:, :, 0, 0] = label + 1
            stack[:, :, 0, 1] = torch.arange(count, dtype=torch.uint8)[:, None]
            names.append(f"c{label}")
            of.append(f"g{group}")
            images.append(stack)
    return InMemoryPool(tuple(names), tuple(of), tuple(images))


def source(pool: Pool, **changes: object) -> EpisodeSource:
    options = {
        "way": WAY,
        "shot": SHOT,
        "queries": QUERIES,
        "episodes": EPISODES,
        "jitter": 0.0,
        **changes,
    }
    return EpisodeSource(pool, **options)  # type: ignore[arg-type]


def decoded(images: Tensor) -> list[tuple[int, int]]:
    """(class, index) of each image, from its pixels."""
    first = (images[:, 0, 0, :2] * 255).round().long().tolist()
    return [(label - 1, row) for label, row in first]


def test_content_of_an_episode() -> None:
    pool = coded()
    for index in range(20):
        batch = source(pool).batch(index)
        assert batch.support.shape == (EPISODES, WAY * SHOT, 1, 8, 8)
        assert batch.query.shape == (EPISODES, WAY * QUERIES, 1, 8, 8)
        assert batch.auxiliary_images is None and batch.auxiliary_labels is None
        for e in range(EPISODES):
            support, query = decoded(batch.support[e]), decoded(batch.query[e])
            # No image is in support and queries, and none is repeated.
            assert len(set(support) | set(query)) == WAY * (SHOT + QUERIES)
            # A label is one class, the same in support and queries; classes are of one group.
            classes_of: dict[int, set[int]] = {}
            labels = batch.support_labels[e].tolist() + batch.query_labels[e].tolist()
            for label, (which, _) in zip(labels, support + query, strict=True):
                classes_of.setdefault(label, set()).add(which)
            assert sorted(classes_of) == list(range(WAY))
            assert all(len(classes) == 1 for classes in classes_of.values())
            assert len({which for classes in classes_of.values() for which in classes}) == WAY
            assert len({pool.groups[which] for c in classes_of.values() for which in c}) == 1
            counts = batch.query_labels[e].bincount(minlength=WAY).tolist()
            assert counts == [QUERIES] * WAY


def test_batches_depend_on_index_and_seed_only() -> None:
    pool = coded()
    one, other = source(pool, jitter=1.0, auxiliary=2), source(pool, jitter=1.0, auxiliary=2)
    backwards = [other.batch(i) for i in (3, 2, 1)][::-1]
    for index, batch in zip((1, 2, 3), backwards, strict=True):
        torch.rand(7)
        for name, value in vars(one.batch(index)).items():
            assert torch.equal(value, getattr(batch, name)), name
    assert not torch.equal(one.batch(1).support, one.batch(2).support)
    assert not torch.equal(
        one.batch(1).support, source(pool, jitter=1.0, auxiliary=2, seed=1).batch(1).support
    )


def test_all_given_classes_are_sampled_and_no_others() -> None:
    pool, classes = coded(), (1, 2, 3, 4, 10, 11, 12, 13, 14)
    batches = [source(pool, classes=classes).batch(i) for i in range(40)]
    seen = {which for b in batches for e in range(EPISODES) for which, _ in decoded(b.support[e])}
    assert seen == set(classes)


def test_groups_are_sampled_uniformly_whatever_their_number_of_classes() -> None:
    pool = coded(groups=2, classes=20)
    classes = (*range(4), *range(20, 40))
    batch = source(pool, classes=classes, episodes=400).batch(0)
    small = sum(decoded(batch.support[e])[0][0] < 20 for e in range(400))
    assert 160 < small < 240


def test_without_same_group_classes_are_of_all_groups() -> None:
    pool = coded(groups=6, classes=1)
    with pytest.raises(GlyphError, match="no group has 3 of the 6 classes"):
        source(pool)
    batch = source(pool, same_group=False).batch(0)
    assert len({which for which, _ in decoded(batch.support[0])}) == WAY


def test_the_auxiliary_task_has_all_classes() -> None:
    classes = (2, 3, 4, 7, 8, 9)
    seen = set()
    for index in range(10):
        batch = source(coded(), classes=classes, auxiliary=6).batch(index)
        images, labels = batch.auxiliary_images, batch.auxiliary_labels
        assert images is not None and labels is not None
        assert images.shape == (EPISODES, 6, 1, 8, 8) and labels.shape == (EPISODES, 6)
        for e in range(EPISODES):
            assert [which for which, _ in decoded(images[e])] == [classes[i] for i in labels[e]]
        seen |= set(labels.flatten().tolist())
    assert seen == set(range(6))


def test_auxiliary_images_do_not_change_the_episodes() -> None:
    plain, more = source(coded()).batch(4), source(coded(), auxiliary=3).batch(4)
    assert torch.equal(plain.support, more.support) and torch.equal(plain.query, more.query)


def test_the_first_axis_is_the_episode() -> None:
    batch = source(coded(), auxiliary=2).batch(0)
    assert [len(tensor) for tensor in vars(batch).values()] == [EPISODES] * 6


@pytest.mark.parametrize(("count", "shot"), [(2, 1), (2, 3), (3, 1), (3, 5), (6, 4)])
def test_no_query_is_a_support_image(count: int, shot: int) -> None:
    """Also if a class has so few images that they are repeated with another jitter."""
    some = source(coded(count=count), shot=shot, jitter=1.0)
    some.jitter = 0.0  # so that the pixels can be decoded
    for index in range(10):
        batch = some.batch(index)
        for e in range(EPISODES):
            support, query = decoded(batch.support[e]), decoded(batch.query[e])
            assert not set(support) & set(query)
            # As many different images as possible.
            shown = min(shot, count - 1)
            assert len(set(support)) == WAY * shown
            assert len(set(query)) == WAY * min(QUERIES, count - shown)


def test_a_class_of_one_image_is_refused() -> None:
    with pytest.raises(GlyphError, match="c0: 1 images; an episode needs 2 of each class"):
        source(coded(count=1), jitter=1.0)


def test_each_image_has_its_own_jitter() -> None:
    """A class with few images: they are repeated, each time with another jitter."""
    stack = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    stack[:, :, 8:20, 12:16] = 255
    pool = InMemoryPool(("a", "b", "c"), ("g",) * 3, (stack,) * 3)
    batch = source(pool, jitter=1.0).batch(0)
    images = torch.cat((batch.support, batch.query), dim=1).flatten(0, 1)
    assert len({tuple(image.flatten().tolist()) for image in images}) == len(images)
    assert images.amin() >= 0 and images.amax() <= 1
    # The amount of ink changes little.
    ink = images.sum((1, 2, 3)) / 48
    assert ink.min() > 0.6 and ink.max() < 1.5


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"way": 1}, "way must be 2 or more"),
        ({"shot": 0}, "shot, queries and episodes"),
        ({"queries": 0}, "1 or more"),
        ({"episodes": 0}, "1 or more"),
        ({"auxiliary": -1}, "auxiliary -1"),
        ({"jitter": -0.1}, "jitter"),
        ({"way": 6}, "no group has 6 of the 20 classes"),
        ({"queries": 5}, "c0: 6 images; an episode needs 7 of each class"),
    ],
)
def test_impossible_numbers_are_refused(changes: dict[str, object], word: str) -> None:
    with pytest.raises(GlyphError, match=word):
        source(coded(), **changes)


def test_colour_images_are_not_jittered() -> None:
    assert source(coded(channels=3)).batch(0).support.shape[2] == 3
    with pytest.raises(GlyphError, match="3 channels"):
        source(coded(channels=3), jitter=0.5).batch(0)


def test_splits_share_no_group_and_no_related_groups() -> None:
    groups = [f"script{i}" for i in range(30)] + ["LATIN", "GREEK", "CYRILLIC", "COPTIC"]
    stack = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    names = tuple(f"{g} {i}" for g in groups for i in range(3))
    pool = InMemoryPool(names, tuple(g for g in groups for _ in range(3)), (stack,) * len(names))
    found = split_classes(pool)
    of = [{pool.groups[label] for label in part} for part in found]
    assert sorted(label for part in found for label in part) == list(range(len(names)))
    assert not (of[0] & of[1] or of[1] & of[2] or of[0] & of[2])
    assert any({"LATIN", "GREEK", "CYRILLIC", "COPTIC"} <= part for part in of)
    assert [
        len({"LATIN" if g in ("GREEK", "CYRILLIC", "COPTIC") else g for g in p}) for p in of
    ] == [
        *(19, 5, 7),
    ]
    assert split_classes(pool) == found and split_classes(pool, seed=1) != found


def test_a_split_needs_three_groups() -> None:
    assert [len(part) for part in split_classes(coded(groups=3))] == [5, 5, 5]
    with pytest.raises(GlyphError, match="three unrelated groups"):
        split_classes(coded(groups=2))


def test_the_scripts_of_bundled_typefaces() -> None:
    pool = script_pool("bundled", 12, typefaces=2, letters=8)
    assert len(set(pool.groups)) >= 8
    for label, name in enumerate(pool.names):
        assert name.startswith(pool.groups[label]) and pool.count(label) == 2
        assert pool.image(label, 0).shape == (1, 12, 12) and pool.image(label, 0).any()
    assert max(pool.groups.count(group) for group in pool.groups) == 8
    assert script_pool("bundled", 12, typefaces=2, letters=8) is pool
    assert source(pool, jitter=1.0).batch(0).support.shape == (EPISODES, WAY * SHOT, 1, 12, 12)
    with pytest.raises(GlyphError, match="typefaces and letters must be 1 or more"):
        script_pool(typefaces=0)
    with pytest.raises(GlyphError, match="min_typefaces must be from 1 to typefaces=6, got 7"):
        script_pool(min_typefaces=7)
    many = script_pool("bundled", 12, min_typefaces=6)
    assert 0 < len(many.names) < len(script_pool("bundled", 12).names)
    assert all(many.count(label) == 6 for label in range(len(many.names)))


def test_episodes_of_omniglot_files(tmp_path: Path) -> None:
    for character in range(1, 4):
        for who in range(1, 4):
            folder = tmp_path / "images_background/Greek" / f"character{character:02}"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = np.full((105, 105), 255, dtype=np.uint8)
            pixels[10 * character : 10 * character + 5] = 0
            Image.fromarray(pixels).convert("1").save(folder / f"{character:04}_{who:02}.png")
    batch = source(omniglot(tmp_path, size=21), shot=1, queries=2, jitter=0.0).batch(0)
    assert batch.support.shape == (EPISODES, 3, 1, 21, 21)
    # Each query equals the support image of its class: all writers made the same image.
    assert torch.equal(batch.query[0, ::2], batch.support[0])
