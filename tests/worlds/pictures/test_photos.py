"""Photographs: those of the packages, and small packages made here."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from PIL import ExifTags, Image
from tests.worlds.pictures.rcc import resource_file

from featurewise.common.images import ImageFileError
from featurewise.worlds.pictures import (
    MissingPicturesError,
    Photograph,
    PictureError,
    load_picture,
    packages,
    photographs,
    photos,
)
from featurewise.worlds.pictures.albums import ALBUMS, MOTIFS, Album


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, lossless=True)
    return file.getvalue()


@pytest.fixture
def small_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two packages with three photographs, of which 3 are needed, in a folder."""
    webp = {
        f"gcompris/x/{name}.webp": encoded(noise(*size), "WEBP")
        for name, size in {"tajMahal": (600, 512), "statueofLiberty": (300, 400)}.items()
    }
    (tmp_path / "monuments.rcc").write_bytes(resource_file({**webp, "x/README": b""}))
    (tmp_path / "Kite.png").write_bytes(encoded(noise(320, 256), "PNG"))
    albums = (
        Album("gcompris-qt-data", "monuments", ("tajMahal", "statueofLiberty")),
        Album("wallpapers", f"{tmp_path}/{{}}.png", ("Kite", "Wood")),
    )
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(packages, "RESOURCES", tmp_path)
    monkeypatch.setattr(photos, "ALBUMS", albums)
    monkeypatch.setattr(photos, "LEAST", 3)
    photos._all.cache_clear()
    yield tmp_path
    photos._all.cache_clear()


def both() -> dict[str, Photograph]:
    return {each.name: each for part in ("train", "test") for each in photographs(part)}


def test_what_is_there_is_read_and_reduced(small_packages: Path) -> None:
    found = both()
    assert {name: tuple(each.image.shape) for name, each in found.items()} == {
        "monuments/taj_mahal": (3, 256, 300),
        "monuments/statue_of_liberty": (3, 341, 256),
        "wallpapers/kite": (3, 256, 320),
    }
    kite = found["wallpapers/kite"].image  # its size was right already
    assert kite.dtype == torch.uint8
    assert Image.fromarray(kite.permute(1, 2, 0).numpy()) == noise(320, 256)
    # Reduced to half the size, noise without antialiasing would keep its standard deviation of 74.
    assert 20 < found["monuments/taj_mahal"].image.float().std() < 55


def test_it_is_decoded_once(small_packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = both()

    def fail(path: Path) -> dict[str, bytes]:
        raise AssertionError(f"{path} is read again")

    photos._all.cache_clear()  # as in another process
    with monkeypatch.context() as patch:
        patch.setattr(photos, "read_resources", fail)
        after = both()
    assert all(torch.equal(after[name].image, before[name].image) for name in before)
    (cached,) = (small_packages / "cache" / "photographs").glob("*.safetensors")
    damaged = bytearray(cached.read_bytes())
    damaged[-1] ^= 1
    cached.write_bytes(damaged)
    photos._all.cache_clear()
    again = both()
    assert all(torch.equal(again[name].image, before[name].image) for name in before)


def test_other_files_are_not_taken_from_the_cache(small_packages: Path) -> None:
    before = both()["wallpapers/kite"].image
    (small_packages / "Kite.png").write_bytes(encoded(noise(320, 256, seed=1), "PNG"))
    photos._all.cache_clear()
    assert not torch.equal(both()["wallpapers/kite"].image, before)


def test_too_few_are_an_error(small_packages: Path) -> None:
    (small_packages / "monuments.rcc").unlink()
    line = "apt-get install gcompris-qt-data mate-backgrounds plasma-workspace-wallpapers"
    with pytest.raises(MissingPicturesError, match=f"1 photographs are installed, 3 are.*{line}"):
        photographs("train")


def test_a_package_of_another_version_is_an_error(small_packages: Path) -> None:
    webp = encoded(noise(300, 300), "WEBP")
    (small_packages / "monuments.rcc").write_bytes(resource_file({"x/tajMahal.webp": webp}))
    with pytest.raises(PictureError, match=r"monuments\.rcc lacks .*statueofLiberty"):
        photographs("train")
    entries = {"x/tajMahal.webp": webp, "x/statueofLiberty.webp": webp[:99]}
    (small_packages / "monuments.rcc").write_bytes(resource_file(entries))
    with pytest.raises(ImageFileError, match=r"monuments\.rcc: /x/statueofLiberty\.webp: not a"):
        photographs("train")


def test_there_are_two_parts() -> None:
    with pytest.raises((PictureError, TypeCheckError), match="'validation'"):
        photographs("validation")  # type: ignore[arg-type]


def test_the_lists_are_consistent() -> None:
    names = [name for album in ALBUMS for name in album.names]
    shown = [photos._name(album, name) for album in ALBUMS for name in album.names]
    assert len(names) == len(set(shown)) == 158
    grouped = Counter(name for motif in MOTIFS for name in motif.split())
    assert max(grouped.values()) == 1 and set(grouped) <= set(names)


def test_the_part_of_a_motif_is_fixed() -> None:
    """Results that were published with one split cannot be repeated with another."""
    motifs = ("taj_mahal", "horse", "chameleon", "pyramids")
    assert [photos.part_of(motif) for motif in motifs] == ["train", "test", "test", "train"]


def test_the_photographs_of_the_packages(parts: dict[str, tuple[Photograph, ...]]) -> None:
    for found in parts.values():
        assert [each.name for each in found] == sorted({each.name for each in found})
        for each in found:
            assert each.image.dtype == torch.uint8 and min(each.image.shape[1:]) == 256
    sizes = {part: len(found) for part, found in parts.items()}
    if sum(sizes.values()) < 158:
        pytest.skip("some packages are not installed")
    assert sizes == {"train": 132, "test": 26}


def test_no_motif_is_in_both_parts(parts: dict[str, tuple[Photograph, ...]]) -> None:
    part_of = {each.name: part for part, found in parts.items() for each in found}
    motif_of = {name: motif for names, motif in MOTIFS.items() for name in names.split()}
    seen: dict[str, set[str]] = {}
    for album in ALBUMS:
        for name in album.names:
            if part := part_of.get(photos._name(album, name)):
                seen.setdefault(motif_of.get(name, name), set()).add(part)
    assert all(len(found) == 1 for found in seen.values())
    assert part_of["erase/giraffe"] == part_of["explore_world_animals/giraffe"]  # one name
    assert part_of["erase/chamaeleon"] == part_of["explore_world_animals/chameleon"]  # two


def held_out_photographs_show_something(parts: dict[str, tuple[Photograph, ...]]) -> None:
    """None is a plain colour, none has a transparent background."""
    for each in (*parts["train"], *parts["test"]):
        image = each.image.float()
        assert image.std() > 8, each.name
        white = (image > 250).all(0).float().mean()
        assert white < 0.4, each.name


def test_an_image_of_the_user(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    left = Image.new("RGB", (40, 20), "red")
    left.paste("blue", (20, 0, 40, 20))
    left.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    turned = load_picture(tmp_path / "turned.jpg")
    assert turned.shape == (3, 40, 20) and turned.dtype == torch.uint8
    assert turned[0, 2, 10] > 200 > turned[2, 2, 10] and turned[2, -2, 10] > 200
    for mode in ("1", "L", "LA", "P", "RGBA", "I;16"):
        Image.new(mode, (5, 4)).save(tmp_path / "mode.png")
        expected = 255 if mode in ("LA", "RGBA") else 0  # transparent parts are white
        assert (load_picture(tmp_path / "mode.png") == expected).all(), mode
    with pytest.raises(ImageFileError, match=r"none\.png: cannot be read"):
        load_picture(tmp_path / "none.png")
