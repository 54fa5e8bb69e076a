"""Domains: what each does to an image; one for all images of an episode; sampled evenly."""

from __future__ import annotations

import pytest
import torch

from featurewise.worlds.glyphs.domains import DOMAINS, EpisodesInDomains
from featurewise.worlds.glyphs.episodes import EpisodeSource, script_pool
from featurewise.worlds.glyphs.errors import GlyphError


def source(seed: int = 0, episodes: int = 6, auxiliary: int = 3) -> EpisodeSource:
    pool = script_pool("bundled", 16, typefaces=2, letters=8)
    return EpisodeSource(pool, episodes=episodes, seed=seed, auxiliary=auxiliary)


@pytest.mark.parametrize("name", DOMAINS)
def test_values_stay_between_0_and_1(name: str) -> None:
    images = torch.rand(3, 1, 12, 12)
    images[0], images[1] = 0, 1
    before = images.clone()
    found = DOMAINS[name](images)
    assert found.shape == images.shape
    assert found.min() >= 0 and found.max() <= 1 + 1e-6
    assert torch.equal(images, before)


def test_what_domains_do_to_a_dot() -> None:
    dot = torch.zeros(1, 1, 8, 8)
    dot[0, 0, 2, 5] = 1
    assert DOMAINS["inverted"](dot)[0, 0, 2, 5] == 0 and DOMAINS["inverted"](dot).sum() == 63
    assert DOMAINS["rotated"](dot).nonzero()[0, 2:].tolist() == [2, 2]
    rows = DOMAINS["striped_rows"](dot)[0, 0]
    assert rows[0].tolist() == rows[1].tolist() == [1.0] * 8
    assert torch.equal(rows[2], dot[0, 0, 2])
    assert torch.equal(DOMAINS["striped_columns"](dot.mT), DOMAINS["striped_rows"](dot).mT)
    blurred = DOMAINS["blurred"](dot)
    assert blurred.sum() == 1 and blurred[0, 0, 2, 5] == pytest.approx((6 / 16) ** 2)
    assert torch.equal(DOMAINS["inverted_rotated"](dot), 1 - DOMAINS["rotated"](dot))


def test_all_images_of_an_episode_are_in_its_domain() -> None:
    plain, changed = source(), EpisodesInDomains(source(), list(DOMAINS))
    for index in range(4):
        before, after = plain.batch(index), changed.batch(index)
        names = changed.sampled(index)
        assert torch.equal(before.query_labels, after.query_labels)
        assert torch.equal(before.auxiliary_labels, after.auxiliary_labels)  # type: ignore[arg-type]
        for field in ("support", "query", "auxiliary_images"):
            for episode, name in enumerate(names):
                expected = DOMAINS[name](getattr(before, field)[episode])
                assert torch.equal(getattr(after, field)[episode], expected), name


def test_domains_are_equally_likely_and_depend_on_seed_and_index() -> None:
    names = [f"{name}" for name in DOMAINS]
    first = EpisodesInDomains(source(episodes=800), names)
    counts = [first.sampled(0).count(name) for name in names]
    assert min(counts) > 60 and max(counts) < 150
    assert first.sampled(0) == EpisodesInDomains(source(episodes=800), names).sampled(0)
    assert first.sampled(0) != first.sampled(1)
    assert first.sampled(0) != EpisodesInDomains(source(1, episodes=800), names).sampled(0)


@pytest.mark.parametrize("names", [(), ("inverted", "mirrored")])
def test_unknown_domains_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(GlyphError, match="domains are of unchanged, inverted"):
        EpisodesInDomains(source(), names)
