"""Glyphs that are kept: drawn once, never served damaged; and scripts."""

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
from featurewise.worlds.glyphs.drawing import draw
from featurewise.worlds.glyphs.fontfiles import covered

FACES = find_typefaces()[:3]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    return tmp_path / "glyphs"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were drawn."""
    calls: list[str] = []

    def counted(path: Path, *args: Any) -> Any:
        calls.append(path.name)
        return draw(path, *args)

    monkeypatch.setattr(render, "draw", counted)
    return calls


def same(one: Glyphs, other: Glyphs) -> bool:
    return torch.equal(one.images, other.images) and all(
        torch.equal(one.attributes[name], other.attributes[name]) for name in ATTRIBUTES
    )


def test_pictures_and_attributes_of_each_face(kept: Path) -> None:
    made = glyphs(FACES, "aZ4", 20)
    assert made.images.shape == (3, 3, 20, 20) and made.size == 20
    assert (made.faces, made.letters) == (FACES, "aZ4")
    for i, face in enumerate(FACES):
        assert (made.images[i].numpy() == draw(face.path, face.index, "aZ4", 20)).all()
        for name, value in attributes(face.path, face.index).items():
            assert made.attributes[name][i].item() == pytest.approx(value)


def test_drawn_once(kept: Path, drawn: list[str]) -> None:
    first = glyphs(FACES, DIGITS, 16)
    assert len(drawn) == 3
    assert same(glyphs(FACES, DIGITS, 16), first)
    assert len(drawn) == 3


@pytest.mark.parametrize(
    ("faces", "letters", "size"),
    [(FACES[:2], "ab", 16), (FACES[::-1], "ab", 16), (FACES, "ba", 16), (FACES, "ab", 17)],
)
def test_what_differs_is_kept_apart(
    kept: Path, drawn: list[str], faces: tuple[Typeface, ...], letters: str, size: int
) -> None:
    glyphs(FACES, "ab", 16)
    drawn.clear()
    made = glyphs(faces, letters, size)
    assert drawn == [face.path.name for face in faces]
    assert made.images.shape == (len(faces), len(letters), size, size)


def damage_tensors(place: Path) -> None:
    tensors = load_file(place)
    tensors["images"][0, 0, 8, 8] ^= 255
    save_file(tensors, place)


def damage_manifest(place: Path) -> None:
    path = place.with_suffix(".json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "letters": "ax"}))


def cut(place: Path) -> None:
    place.write_bytes(place.read_bytes()[:100])


@pytest.mark.parametrize(
    "harm",
    [
        damage_tensors,
        damage_manifest,
        cut,
        Path.unlink,
        lambda place: place.with_suffix(".json").unlink(),
        lambda place: place.with_suffix(".json").write_text("{"),
    ],
)
def test_what_is_damaged_is_drawn_anew(kept: Path, drawn: list[str], harm: Any) -> None:
    first = glyphs(FACES, "ab", 16)
    (place,) = kept.glob("*.safetensors")
    harm(place)
    drawn.clear()
    assert same(glyphs(FACES, "ab", 16), first)
    assert len(drawn) == 3
    assert same(glyphs(FACES, "ab", 16), first)
    assert len(drawn) == 3


def test_wrong_wishes(kept: Path) -> None:
    with pytest.raises(GlyphError, match="at least one"):
        glyphs((), "ab", 16)
    with pytest.raises(GlyphError, match=r"\['a'\] more than once"):
        glyphs(FACES, "aa", 16)
    with pytest.raises(GlyphError, match="8 pixels or more"):
        glyphs(FACES, "ab", 4)
    with pytest.raises(TypefaceError, match=r"DejaVu Sans Bold lacks 'ก'; find_typefaces"):
        glyphs(FACES, "aก", 16)
    assert not list(kept.glob("*.json"))


def test_a_file_that_changed_since_it_was_found(kept: Path, tmp_path: Path) -> None:
    """Its digest names what is kept, so what another file draws must not be kept by that name."""
    place = tmp_path / "font.ttf"
    shutil.copy(FACES[0].path, place)
    (face,) = find_typefaces(tmp_path, "ab")
    shutil.copy(FACES[2].path, place)
    with pytest.raises(TypefaceError, match=r"font\.ttf changed since it was found"):
        glyphs([face], "ab", 16)


SCRIPTS = scripts("bundled")


def test_scripts_of_the_bundled_faces() -> None:
    assert {"ARMENIAN", "CYRILLIC", "GEORGIAN", "GREEK", "HEBREW", "LATIN"} <= set(SCRIPTS)
    assert list(SCRIPTS) == sorted(SCRIPTS)
    assert set("абвгдежзийклмнопрстуфхцчшщъыьэюя") - set("й") <= set(SCRIPTS["CYRILLIC"].letters)
    assert "é" not in SCRIPTS["LATIN"].letters and "A" not in SCRIPTS["LATIN"].letters


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_every_face_draws_every_letter_of_its_script(script: Script) -> None:
    assert len(script.letters) >= 15 and script.typefaces
    assert {unicodedata.name(letter).split()[0] for letter in script.letters} == {
        script.name.split()[0]
    }
    for face in script.typefaces:
        assert set(map(ord, script.letters)) <= covered(face.path, face.index)
        drawn = draw(face.path, face.index, script.letters, 48)
        assert len({picture.tobytes() for picture in drawn}) == len(script.letters)
        assert drawn.any(axis=(1, 2)).all()


def test_letters_times_faces_are_most() -> None:
    """Made coverages: 20 letters of four faces beat 30 of two and 60 of one."""
    faces = find_typefaces()[:5]
    has = dict(zip(faces, (range(60), range(30), range(20), range(20), range(10)), strict=True))
    points = sorted(map(ord, SCRIPTS["CYRILLIC"].letters))

    def made(path: Path, index: int) -> frozenset[int]:
        face = next(face for face in faces if (face.path, face.index) == (path, index))
        return frozenset(points[i] for i in has[face] if i < len(points))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render, "covered", made)
        patch.setattr(render, "_faults", lambda *_: set())
        script = render._script("MADE", frozenset(points), faces)
    assert script is not None
    assert script.typefaces == faces[:4]
    assert script.letters == "".join(map(chr, points[:20]))


def test_faces_that_draw_badly_are_left_out_and_single_letters_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    letters = SCRIPTS["GREEK"].letters
    faces = SCRIPTS["GREEK"].typefaces[:3]
    bad = dict(zip(faces, (set(), {letters[0]}, set(letters[:9])), strict=True))
    monkeypatch.setattr(render, "_faults", lambda face, _: bad[face])
    script = render._script("GREEK", frozenset(map(ord, letters)), faces)
    assert script is not None
    assert script.typefaces == faces[:2]
    assert script.letters == letters[1:]


def test_scripts_are_found_once_for_all_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    render._scripts.cache_clear()
    found = scripts("bundled")
    monkeypatch.setattr(render, "find_all", None)  # would be called to find them anew
    render._scripts.cache_clear()
    assert scripts("bundled") == found
    assert len(found) > 5
