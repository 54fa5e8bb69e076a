"""Episodes: what is in them, that they repeat, that scripts are parted, against plain twins."""

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
)
from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.formats import omniglot

WAY, SHOT, QUERIES, EPISODES = 3, 2, 4, 5


def coded(groups: int = 4, classes: int = 5, pictures: int = 6, channels: int = 1) -> InMemoryPool:
    """Every picture tells in its first two pixels which it is."""
    names, of, drawn = [], [], []
    for group in range(groups):
        for _ in range(classes):
            label = len(names)
            stack = torch.zeros(pictures, channels, 8, 8, dtype=torch.uint8)
            stack[:, :, 0, 0] = label + 1
            stack[:, :, 0, 1] = torch.arange(pictures, dtype=torch.uint8)[:, None]
            names.append(f"c{label}")
            of.append(f"g{group}")
            drawn.append(stack)
    return InMemoryPool(tuple(names), tuple(of), tuple(drawn))


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


def one_hot(images: Tensor) -> list[tuple[int, int]]:
    """(class, picture) that the pixels tell."""
    first = (images[:, 0, 0, :2] * 255).round().long().tolist()
    return [(label - 1, row) for label, row in first]


def test_an_episode_is_what_it_says() -> None:
    pool = coded()
    for index in range(20):
        batch = source(pool).batch(index)
        assert batch.support.shape == (EPISODES, WAY * SHOT, 1, 8, 8)
        assert batch.query.shape == (EPISODES, WAY * QUERIES, 1, 8, 8)
        assert batch.auxiliary_images is None and batch.auxiliary_labels is None
        for e in range(EPISODES):
            support, query = told(batch.support[e]), told(batch.query[e])
            # No picture is both learned from and asked, none comes twice.
            assert len(set(support) | set(query)) == WAY * (SHOT + QUERIES)
            # One label, one class, for support and query alike; classes of one group.
            meant: dict[int, set[int]] = {}
            labels = batch.support_labels[e].tolist() + batch.query_labels[e].tolist()
            for label, (which, _) in zip(labels, support + query, strict=True):
                meant.setdefault(label, set()).add(which)
            assert sorted(meant) == list(range(WAY))
            assert all(len(classes) == 1 for classes in meant.values())
            assert len({which for classes in meant.values() for which in classes}) == WAY
            assert len({pool.groups[which] for c in meant.values() for which in c}) == 1
            counts = batch.query_labels[e].bincount(minlength=WAY).tolist()
            assert counts == [QUERIES] * WAY


def test_batches_depend_on_index_and_seed_alone() -> None:
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


def test_every_class_and_group_comes_and_only_those_given() -> None:
    pool, classes = coded(), (1, 2, 3, 4, 10, 11, 12, 13, 14)
    batches = [source(pool, classes=classes).batch(i) for i in range(40)]
    seen = {which for b in batches for e in range(EPISODES) for which, _ in told(b.support[e])}
    assert seen == set(classes)


def test_a_group_is_as_likely_however_many_classes_it_has() -> None:
    pool = coded(groups=2, classes=20)
    classes = (*range(4), *range(20, 40))
    picked = source(pool, classes=classes, episodes=400).batch(0)
    small = sum(told(picked.support[e])[0][0] < 20 for e in range(400))
    assert 160 < small < 240


def test_apart_classes_come_from_all_groups() -> None:
    pool = coded(groups=6, classes=1)
    with pytest.raises(GlyphError, match="no group of the 6 classes has 3"):
        source(pool)
    batch = source(pool, same_group=False).batch(0)
    assert len({which for which, _ in told(batch.support[0])}) == WAY


def test_the_auxiliary_task_tells_all_classes() -> None:
    classes = (2, 3, 4, 7, 8, 9)
    seen = set()
    for index in range(10):
        batch = source(coded(), classes=classes, auxiliary=6).batch(index)
        images, labels = batch.auxiliary_images, batch.auxiliary_labels
        assert images is not None and labels is not None
        assert images.shape == (EPISODES, 6, 1, 8, 8) and labels.shape == (EPISODES, 6)
        for e in range(EPISODES):
            assert [which for which, _ in told(images[e])] == [classes[i] for i in labels[e]]
        seen |= set(labels.flatten().tolist())
    assert seen == set(range(6))


def test_asking_for_auxiliary_pictures_leaves_the_episodes_as_they_are() -> None:
    plain, more = source(coded()).batch(4), source(coded(), auxiliary=3).batch(4)
    assert torch.equal(plain.support, more.support) and torch.equal(plain.query, more.query)


def test_rows_are_episodes() -> None:
    batch = source(coded(), auxiliary=2).batch(0)
    assert [len(tensor) for tensor in vars(batch).values()] == [EPISODES] * 6


@pytest.mark.parametrize(("pictures", "shot"), [(2, 1), (2, 3), (3, 1), (3, 5), (6, 4)])
def test_no_query_is_a_picture_of_the_support(pictures: int, shot: int) -> None:
    """Also where a class has so few pictures that, jittered, they come again."""
    some = source(coded(pictures=pictures), shot=shot, jitter=1.0)
    some.jitter = 0.0  # so that the pixels tell
    for index in range(10):
        batch = some.batch(index)
        for e in range(EPISODES):
            support, query = told(batch.support[e]), told(batch.query[e])
            assert not set(support) & set(query)
            # As many different ones as there can be.
            shown = min(shot, pictures - 1)
            assert len(set(support)) == WAY * shown
            assert len(set(query)) == WAY * min(QUERIES, pictures - shown)


def test_a_class_of_one_picture_cannot_be_shown_and_asked_about() -> None:
    with pytest.raises(GlyphError, match="c0: 1 pictures; an episode takes 2 of a class"):
        source(coded(pictures=1), jitter=1.0)


def test_jitter_moves_each_picture_by_itself() -> None:
    """Few pictures of a class: with jitter they serve again, each time otherwise."""
    stack = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    stack[:, :, 8:20, 12:16] = 255
    pool = InMemoryPool(("a", "b", "c"), ("g",) * 3, (stack,) * 3)
    batch = source(pool, jitter=1.0).batch(0)
    pictures = torch.cat((batch.support, batch.query), dim=1).flatten(0, 1)
    assert len({tuple(p.flatten().tolist()) for p in pictures}) == len(pictures)
    assert pictures.amin() >= 0 and pictures.amax() <= 1
    # The ink stays ink: about as much as before, near where it was.
    ink = pictures.sum((1, 2, 3)) / 48
    assert ink.min() > 0.6 and ink.max() < 1.5


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"way": 1}, "2 classes"),
        ({"shot": 0}, "a shot"),
        ({"queries": 0}, "a query"),
        ({"episodes": 0}, "an episode"),
        ({"auxiliary": -1}, "auxiliary -1"),
        ({"jitter": -0.1}, "jitter"),
        ({"way": 6}, "has 6 of them"),
        ({"queries": 5}, "c0: 6 pictures; an episode takes 7 of a class"),
    ],
)
def test_what_cannot_be(changes: dict[str, object], word: str) -> None:
    with pytest.raises(GlyphError, match=word):
        source(coded(), **changes)


def test_coloured_pictures_are_not_jittered() -> None:
    assert source(coded(channels=3)).batch(0).support.shape[2] == 3
    with pytest.raises(GlyphError, match="3 channels"):
        source(coded(channels=3), jitter=0.5).batch(0)


def test_parts_share_no_group_and_no_kin() -> None:
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


def test_three_groups_make_three_parts_and_two_do_not() -> None:
    assert [len(part) for part in split_classes(coded(groups=3))] == [5, 5, 5]
    with pytest.raises(GlyphError, match="three unrelated groups"):
        split_classes(coded(groups=2))


def test_the_scripts_of_bundled_typefaces() -> None:
    pool = script_pool("bundled", 12, typefaces=2, letters=8)
    assert len(set(pool.groups)) >= 8
    for label, name in enumerate(pool.names):
        assert name.startswith(pool.groups[label]) and pool.count(label) == 2
        assert pool.picture(label, 0).shape == (1, 12, 12) and pool.picture(label, 0).any()
    assert max(pool.groups.count(group) for group in pool.groups) == 8
    assert script_pool("bundled", 12, typefaces=2, letters=8) is pool
    assert source(pool, jitter=1.0).batch(0).support.shape == (EPISODES, WAY * SHOT, 1, 12, 12)
    with pytest.raises(GlyphError, match="1 typeface and 1 letter"):
        script_pool(typefaces=0)
    with pytest.raises(GlyphError, match="from 1 to 6 typefaces at least, got min_typefaces=7"):
        script_pool(min_typefaces=7)
    many = script_pool("bundled", 12, min_typefaces=6)
    assert 0 < len(many.names) < len(script_pool("bundled", 12).names)
    assert all(many.count(label) == 6 for label in range(len(many.names)))


def test_from_omniglot_s_own_files(tmp_path: Path) -> None:
    for character in range(1, 4):
        for who in range(1, 4):
            folder = tmp_path / "images_background/Greek" / f"character{character:02}"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = np.full((105, 105), 255, dtype=np.uint8)
            pixels[10 * character : 10 * character + 5] = 0
            Image.fromarray(pixels).convert("1").save(folder / f"{character:04}_{who:02}.png")
    batch = source(omniglot(tmp_path, size=21), shot=1, queries=2, jitter=0.0).batch(0)
    assert batch.support.shape == (EPISODES, 3, 1, 21, 21)
    # Each query equals the support picture of its class: all who drew drew alike.
    assert torch.equal(batch.query[0, ::2], batch.support[0])
