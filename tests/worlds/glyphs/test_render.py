"""Cached glyphs: rendered once, and again when damaged; scripts."""

from __future__ import annotations

import json
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from featurewise.worlds.glyphs import (
    ATTRIBUTES,
    DIGITS,
    GlyphError,
    Glyphs,
    Script,
    Typeface,
    TypefaceError,
    find_typefaces,
    glyphs,
    render,
    scripts,
)
from featurewise.worlds.glyphs.attributes import attributes
from featurewise.worlds.glyphs.fontfiles import code_points
from featurewise.worlds.glyphs.rasterize import rasterize

TYPEFACES = find_typefaces()[:3]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    return tmp_path / "glyphs"


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the font files that letters were rendered from."""
    calls: list[str] = []

    def counted(path: Path, *args: Any) -> Any:
        calls.append(path.name)
        return rasterize(path, *args)

    monkeypatch.setattr(render, "rasterize", counted)
    return calls


def same(one: Glyphs, other: Glyphs) -> bool:
    return torch.equal(one.images, other.images) and all(
        torch.equal(one.attributes[name], other.attributes[name]) for name in ATTRIBUTES
    )


def test_images_and_attributes_of_each_typeface(cache: Path) -> None:
    made = glyphs(TYPEFACES, "aZ4", 20)
    assert made.images.shape == (3, 3, 20, 20) and made.size == 20
    assert (made.typefaces, made.letters) == (TYPEFACES, "aZ4")
    for i, typeface in enumerate(TYPEFACES):
        assert (made.images[i].numpy() == rasterize(typeface.path, typeface.index, "aZ4", 20)).all()
        for name, value in attributes(typeface.path, typeface.index).items():
            assert made.attributes[name][i].item() == pytest.approx(value)


def test_letters_are_rendered_once(cache: Path, rendered: list[str]) -> None:
    first = glyphs(TYPEFACES, DIGITS, 16)
    assert len(rendered) == 3
    assert same(glyphs(TYPEFACES, DIGITS, 16), first)
    assert len(rendered) == 3


@pytest.mark.parametrize(
    ("typefaces", "letters", "size"),
    [
        (TYPEFACES[:2], "ab", 16),
        (TYPEFACES[::-1], "ab", 16),
        (TYPEFACES, "ba", 16),
        (TYPEFACES, "ab", 17),
    ],
)
def test_other_arguments_have_another_cache_entry(
    cache: Path, rendered: list[str], typefaces: tuple[Typeface, ...], letters: str, size: int
) -> None:
    glyphs(TYPEFACES, "ab", 16)
    rendered.clear()
    made = glyphs(typefaces, letters, size)
    assert rendered == [typeface.path.name for typeface in typefaces]
    assert made.images.shape == (len(typefaces), len(letters), size, size)


def damage_tensors(place: Path) -> None:
    tensors = load_file(place)
    tensors["images"][0, 0, 8, 8] ^= 255
    save_file(tensors, place)


def damage_manifest(place: Path) -> None:
    path = place.with_suffix(".json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "letters": "ax"}))


def truncate(place: Path) -> None:
    place.write_bytes(place.read_bytes()[:100])


@pytest.mark.parametrize(
    "harm",
    [
        damage_tensors,
        damage_manifest,
        truncate,
        Path.unlink,
        lambda place: place.with_suffix(".json").unlink(),
        lambda place: place.with_suffix(".json").write_text("{"),
    ],
)
def test_a_damaged_cache_entry_is_rendered_again(
    cache: Path, rendered: list[str], harm: Any
) -> None:
    first = glyphs(TYPEFACES, "ab", 16)
    (place,) = cache.glob("*.safetensors")
    harm(place)
    rendered.clear()
    assert same(glyphs(TYPEFACES, "ab", 16), first)
    assert len(rendered) == 3
    assert same(glyphs(TYPEFACES, "ab", 16), first)
    assert len(rendered) == 3


def test_wrong_arguments_are_refused(cache: Path) -> None:
    with pytest.raises(GlyphError, match="at least one"):
        glyphs((), "ab", 16)
    with pytest.raises(GlyphError, match=r"\['a'\] more than once"):
        glyphs(TYPEFACES, "aa", 16)
    with pytest.raises(GlyphError, match="8 pixels or more"):
        glyphs(TYPEFACES, "ab", 4)
    with pytest.raises(TypefaceError, match=r"DejaVu Sans Bold lacks 'ก'; find_typefaces"):
        glyphs(TYPEFACES, "aก", 16)
    assert not list(cache.glob("*.json"))


def test_a_file_that_changed_since_it_was_found(cache: Path, tmp_path: Path) -> None:
    """The digest is part of the cache key: another file must not be cached under it."""
    place = tmp_path / "font.ttf"
    shutil.copy(TYPEFACES[0].path, place)
    (typeface,) = find_typefaces(tmp_path, "ab")
    shutil.copy(TYPEFACES[2].path, place)
    with pytest.raises(TypefaceError, match=r"font\.ttf changed since it was found"):
        glyphs([typeface], "ab", 16)


SCRIPTS = scripts("bundled")


def test_scripts_of_the_bundled_typefaces() -> None:
    assert {"ARMENIAN", "CYRILLIC", "GEORGIAN", "GREEK", "HEBREW", "LATIN"} <= set(SCRIPTS)
    assert list(SCRIPTS) == sorted(SCRIPTS)
    assert set("абвгдежзийклмнопрстуфхцчшщъыьэюя") - set("й") <= set(SCRIPTS["CYRILLIC"].letters)
    assert "é" not in SCRIPTS["LATIN"].letters and "A" not in SCRIPTS["LATIN"].letters


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_every_typeface_has_every_letter_of_its_script(script: Script) -> None:
    assert len(script.letters) >= 15 and script.typefaces
    assert {unicodedata.name(letter).split()[0] for letter in script.letters} == {
        script.name.split()[0]
    }
    for typeface in script.typefaces:
        assert set(map(ord, script.letters)) <= code_points(typeface.path, typeface.index)
        images = rasterize(typeface.path, typeface.index, script.letters, 48)
        assert len({image.tobytes() for image in images}) == len(script.letters)
        assert images.any(axis=(1, 2)).all()


def test_the_set_with_most_letters_times_typefaces_is_taken() -> None:
    """20 letters in four typefaces are more than 30 in two and 60 in one."""
    typefaces = find_typefaces()[:5]
    has = dict(zip(typefaces, (range(60), range(30), range(20), range(20), range(10)), strict=True))
    points = sorted(map(ord, SCRIPTS["CYRILLIC"].letters))

    def made(path: Path, index: int) -> frozenset[int]:
        typeface = next(each for each in typefaces if (each.path, each.index) == (path, index))
        return frozenset(points[i] for i in has[typeface] if i < len(points))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render, "code_points", made)
        patch.setattr(render, "_faults", lambda *_: set())
        script = render._script("MADE", frozenset(points), typefaces)
    assert script is not None
    assert script.typefaces == typefaces[:4]
    assert script.letters == "".join(map(chr, points[:20]))


def test_typefaces_with_many_faults_are_left_out_and_single_faulty_letters_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    letters = SCRIPTS["GREEK"].letters
    typefaces = SCRIPTS["GREEK"].typefaces[:3]
    bad = dict(zip(typefaces, (set(), {letters[0]}, set(letters[:9])), strict=True))
    monkeypatch.setattr(render, "_faults", lambda typeface, _: bad[typeface])
    script = render._script("GREEK", frozenset(map(ord, letters)), typefaces)
    assert script is not None
    assert script.typefaces == typefaces[:2]
    assert script.letters == letters[1:]


def test_scripts_are_cached_for_all_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    render._scripts.cache_clear()
    found = scripts("bundled")
    monkeypatch.setattr(render, "find_all", None)  # would be called to find them again
    render._scripts.cache_clear()
    assert scripts("bundled") == found
    assert len(found) > 5
