"""Batches of contents and styles, and crops."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from featurewise.worlds.pictures import (
    Photograph,
    PictureError,
    StyleSource,
    crops,
    picture_versions,
)
from featurewise.worlds.pictures.facts import PAINTINGS
from featurewise.worlds.pictures.packages import DEBIAN_PACKAGES, INSTALL


def ramp(height: int, width: int) -> Tensor:
    """An image whose channels are the row, the column and a constant."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns, torch.full_like(rows, 9)]).to(torch.uint8)


PHOTOGRAPHS = tuple(Photograph(f"p{i}", ramp(64, 90 + i)) for i in range(3))


def source(**changes: int) -> StyleSource:
    settings = {"styles": 5, "size": 16, "batch_size": 64, "seed": 0, **changes}
    return StyleSource(PHOTOGRAPHS, **settings)


def test_a_batch_depends_on_seed_and_index_alone() -> None:
    first, again, other = source().batch(3), source().batch(3), source(seed=1).batch(3)
    assert first.content.dtype == torch.uint8 and first.content.shape == (64, 3, 16, 16)
    assert first.styles.dtype == torch.int64 and first.styles.shape == (64,)
    assert torch.equal(first.content, again.content) and torch.equal(first.styles, again.styles)
    for different in (other, source().batch(4)):
        assert not torch.equal(first.content, different.content)
        assert not torch.equal(first.styles, different.styles)


def test_styles_are_uniform() -> None:
    styles = torch.cat([source().batch(i).styles for i in range(40)])
    counts = torch.bincount(styles, minlength=5)
    assert len(counts) == 5 and (counts - 512).abs().max() < 90  # 4.4 standard deviations


def sides(content: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Side of each crop of a ramp, its top, and whether it is mirrored."""
    x = content.double()
    size = x.shape[-1]
    rows, columns = x[:, 0, :, size // 2], x[:, 1, size // 2]
    step = (rows[:, -2] - rows[:, 1]) / (size - 3)
    return step * size, rows[:, 1] - step, columns[:, 0] > columns[:, -1]


def test_crops_have_all_scales_and_places_and_half_are_mirrored() -> None:
    content = torch.cat([source().batch(i).content for i in range(16)])
    assert (content[:, 2] == 9).all()
    side, top, mirrored = sides(content)
    assert 31 < side.min() < 34 and 62 < side.max() < 66  # of 64 pixels
    assert 45 < side.mean() < 51
    assert top.min() < 2 and 28 < top.max() < 34
    assert 0.45 < mirrored.double().mean() < 0.55
    assert content[:, 1].max() > 88  # near the right end, 91, of the widest photograph


def test_no_crop_is_enlarged() -> None:
    content = torch.cat([source(size=50).batch(i).content for i in range(4)])
    assert sides(content)[0].min() > 49
    whole = source(size=64).batch(0).content
    assert (whole[:, 0] == ramp(64, 64)[0]).all()  # the whole height, not resized


def test_crops_of_one_image() -> None:
    image = ramp(64, 90)
    found = crops(image, 16, 200, seed=0)
    assert found.shape == (200, 3, 16, 16) and found.dtype == torch.uint8
    side, _, mirrored = sides(found)
    assert not mirrored.any() and side.min() < 36 and side.max() > 60
    assert torch.equal(found, crops(image, 16, 200, seed=0))
    assert not torch.equal(found, crops(image, 16, 200, seed=1))
    assert torch.equal(image, ramp(64, 90))


def test_wrong_arguments_are_errors() -> None:
    numbers = ({"styles": 0}, {"size": 0}, {"batch_size": 0}, {"seed": -1})
    for changes in numbers:
        with pytest.raises(PictureError, match="must be 1 or more and seed 0 or more"):
            source(**changes)
    with pytest.raises(PictureError, match="65 pixels does not fit into p0 of 90 x 64 pixels"):
        source(size=65)
    with pytest.raises(PictureError, match="no photographs"):
        StyleSource((), 5, 16, 4, 0)
    for size, count, seed in ((0, 1, 0), (8, 0, 0), (8, 1, -1)):
        with pytest.raises(PictureError, match=f"got {size}, {count} and {seed}"):
            crops(ramp(64, 64), size, count, seed)
    with pytest.raises(PictureError, match="65 pixels does not fit into the image of 90 x 64"):
        crops(ramp(64, 90), 65, 1, 0)


def test_versions_and_needs() -> None:
    found = picture_versions()
    assert next(iter(found)) == "Pillow"
    assert set(found) <= {"Pillow", "scikit-learn", *DEBIAN_PACKAGES}
    assert all(re.match(r"[\d:]+", version) for version in found.values())
    assert INSTALL in PAINTINGS.needs and all(name in INSTALL for name in DEBIAN_PACKAGES)
