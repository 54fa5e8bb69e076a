"""Typefaces: which are accepted and why others are refused; splits share no family."""

from __future__ import annotations

import os
import random
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from featurewise.worlds.glyphs import (
    DIGITS,
    LETTERS,
    GlyphError,
    Split,
    Typeface,
    TypefaceError,
    find_typefaces,
    fontfiles,
    glyphs,
    split_typefaces,
    survey,
)
from featurewise.worlds.glyphs import typefaces as module
from featurewise.worlds.glyphs.fontfiles import code_points, font_files, typeface_count
from featurewise.worlds.glyphs.rasterize import rasterize

SANS = next(path for path in font_files("bundled") if path.name == "DejaVuSans.ttf")
SERIF = SANS.with_name("DejaVuSerif.ttf")


@pytest.fixture
def edited(tmp_path: Path) -> Callable[..., Path]:
    """DejaVu Sans with some letters mapped to the glyphs of other letters."""
    tools = pytest.importorskip("fontTools.ttLib")

    def edit(**glyphs: str) -> Path:
        with tools.TTFont(SANS) as font:
            for table in font["cmap"].tables:
                table.cmap.update({ord(letter): glyph for letter, glyph in glyphs.items()})
            font.save(tmp_path / "edited.ttf")
        return tmp_path

    return edit


def reason(folder: Path, letters: str = LETTERS) -> str:
    found = survey(folder, letters)
    assert not found.typefaces
    (why,) = found.refused.values()
    return why


def test_bundled_typefaces_are_those_with_letters() -> None:
    typefaces = find_typefaces()
    names = {typeface.path.stem for typeface in typefaces}
    assert len(typefaces) >= 20
    assert {"DejaVuSans", "DejaVuSerif-Bold", "STIXGeneralItalic", "cmr10", "cmtt10"} <= names
    assert not {name for name in names if "Siz" in name or "NonUni" in name}
    assert not names & {"cmsy10", "cmex10", "LastResortHE-Regular", "DejaVuSansDisplay"}
    assert list(typefaces) == sorted(typefaces, key=lambda f: (f.family, f.style, f.path.name))
    (sans,) = (typeface for typeface in typefaces if typeface.path.stem == "DejaVuSans")
    assert sans.family == "DejaVu Sans"


@pytest.mark.parametrize("path", font_files("bundled"), ids=lambda path: path.stem)
def test_code_points_are_those_that_fonttools_reads(path: Path) -> None:
    tools = pytest.importorskip("fontTools.ttLib")
    if path.stem.startswith("LastResort"):
        with pytest.raises(TypefaceError, match=r"LastResort.*format 13, not 4 or 12"):
            code_points(path)
        return
    with tools.TTFont(path, lazy=True) as font:
        best = font.getBestCmap()
        assert code_points(path) == {point for point in best if font.getGlyphID(best[point])}


def test_a_copy_is_the_same_typeface(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    shutil.copy(SANS, tmp_path / "a.ttf")
    shutil.copy(SANS, tmp_path / "below/b.ttf")
    shutil.copy(SERIF, tmp_path / "c.TTF")
    (tmp_path / "readme.txt").write_text("no font")
    found = survey(tmp_path)
    assert [typeface.path.name for typeface in found.typefaces] == ["a.ttf", "c.TTF"]
    assert found.refused == {
        f"{tmp_path}/below/b.ttf#0": f"renders all letters as {tmp_path}/a.ttf does"
    }


def test_typefaces_of_a_collection(tmp_path: Path) -> None:
    tools = pytest.importorskip("fontTools.ttLib")
    collection = tools.TTCollection()
    collection.fonts = [tools.TTFont(SANS), tools.TTFont(SERIF)]
    collection.save(tmp_path / "two.ttc")
    assert typeface_count(tmp_path / "two.ttc") == 2
    assert code_points(tmp_path / "two.ttc", 1) == code_points(SERIF)
    typefaces = find_typefaces(tmp_path, DIGITS)
    assert [(typeface.family, typeface.index) for typeface in typefaces] == [
        ("DejaVu Sans", 0),
        ("DejaVu Serif", 1),
    ]
    assert typefaces[0].digest != typefaces[1].digest


def test_a_typeface_without_a_letter_is_refused(tmp_path: Path) -> None:
    shutil.copy(SANS, tmp_path)
    assert reason(tmp_path, "ab\u0e01\u0e02") == "lacks 2 letters: '\u0e01\u0e02'"
    with pytest.raises(TypefaceError, match=r"none of 1 typefaces has all of .*lacks 2 letters"):
        find_typefaces(tmp_path, "ab\u0e01\u0e02")


@pytest.mark.parametrize(
    ("glyphs", "why"),
    [
        ({"b": "space"}, "'b' is blank"),
        ({"b": "a"}, "'b' is rendered as 'a'"),
        ({"q": "Q"}, "'q' is rendered as 'Q'"),
    ],
)
def test_faults_are_named(edited: Callable[..., Path], glyphs: Any, why: str) -> None:
    assert reason(edited(**glyphs)) == why


def test_a_missing_glyph_in_place_of_a_letter_is_refused(edited: Callable[..., Path]) -> None:
    tools = pytest.importorskip("fontTools.ttLib")
    folder = edited()
    with tools.TTFont(folder / "edited.ttf") as font:
        font["glyf"]["b"] = font["glyf"][".notdef"]
        font["hmtx"]["b"] = font["hmtx"][".notdef"]
        font.save(folder / "edited.ttf")
    assert reason(folder) == "'b' is rendered as a missing glyph"


def test_some_letters_may_look_alike(edited: Callable[..., Path]) -> None:
    assert find_typefaces(edited(I="l", O="zero"), DIGITS + LETTERS)


def test_another_font_under_the_same_name_is_read_again(tmp_path: Path) -> None:
    place = tmp_path / "font.ttf"
    found = []
    for source in (SANS, SERIF):
        shutil.copy(source, place)
        (one,) = find_typefaces(tmp_path, "ab")
        found.append((one.family, code_points(place), glyphs([one], "ab", 16)))
    assert [family for family, *_ in found] == ["DejaVu Sans", "DejaVu Serif"]
    assert found[1][1] == code_points(SERIF)
    assert (found[1][2].images[0].numpy() == rasterize(SERIF, 0, "ab", 16)).all()
    assert found[1][2].attributes["serif"] > 1 > found[0][2].attributes["serif"]


def test_broken_files_are_refused_and_named(tmp_path: Path) -> None:
    content = SANS.read_bytes()
    cuts = [0, 3, 11, 40, 400, 4000, len(content) // 2, len(content) - 100_000]
    for cut in cuts:
        (tmp_path / f"cut{cut:06}.ttf").write_bytes(content[:cut])
    (tmp_path / "noise.otf").write_bytes(bytes(range(256)) * 40)
    shutil.copy(SERIF, tmp_path)
    found = survey(tmp_path)
    assert [typeface.path.name for typeface in found.typefaces] == ["DejaVuSerif.ttf"]
    assert len(found.refused) == len(cuts) + 1


def test_damage_anywhere_never_stops_a_survey(tmp_path: Path) -> None:
    """FreeType finds much of the damage only while rendering."""
    small = SANS.with_name("cmr10.ttf").read_bytes()
    rng = random.Random(1)
    for number in range(150):
        content = bytearray(small)
        for _ in range(rng.choice([1, 5, 50, 500])):
            content[rng.randrange(len(content))] = rng.randrange(256)
        (tmp_path / f"{number:03}.ttf").write_bytes(content)
    shutil.copy(SERIF, tmp_path / "whole.ttf")
    found = module._examine_all(font_files(tmp_path), "ABCabc012")
    assert "whole.ttf" in [typeface.path.name for typeface in found.typefaces]
    assert len(found.typefaces) + len(found.refused) == 151
    assert sum("cannot be rendered" in why for why in found.refused.values()) > 5
    module.find_all(tmp_path)


@pytest.mark.parametrize("count", [257, 10**6, 2**32 - 1])
def test_a_collection_of_too_many_typefaces_is_not_read(tmp_path: Path, count: int) -> None:
    head = struct.pack(">4sHHI", b"ttcf", 1, 0, count)
    (tmp_path / "many.ttc").write_bytes(head + bytes(4000))
    begun = time.process_time()
    expected = f"{tmp_path}/many.ttc: claims {count} typefaces; at most 256 are read"
    assert reason(tmp_path) == expected
    assert time.process_time() - begun < 5


def format_4(path: Path, segments: list[tuple[int, int]]) -> Path:
    """A file with nothing but a table ``cmap`` of format 4."""
    firsts, lasts = zip(*segments, strict=True)
    count = len(segments)
    arrays = [*lasts, 0, *firsts, *[1] * count, *[0] * count]
    table = struct.pack(">HHHHI", 0, 1, 3, 1, 12)
    table += struct.pack(">HHHHHHH", 4, 0, 0, 2 * count, 0, 0, 0)
    table += struct.pack(f">{len(arrays)}H", *arrays)
    head = struct.pack(">IHHHH4sIII", 0x10000, 1, 16, 0, 0, b"cmap", 0, 28, len(table))
    path.write_bytes(head + table)
    return path


def test_segments_that_overlap(tmp_path: Path) -> None:
    """A few overlap in published fonts; a thousand that list all code points are refused."""
    path = format_4(tmp_path / "a.ttf", [(65, 70), (68, 72), (0xFFFF, 0xFFFF)])
    assert code_points(path) == set(range(65, 73))
    begun = time.process_time()
    with pytest.raises(TypefaceError, match=r"lists \d+ code points, of 65536 that exist"):
        code_points(format_4(tmp_path / "b.ttf", [(0, 0xFFFE)] * 1000))
    assert time.process_time() - begun < 1


def test_a_blank_family_name_is_replaced_by_the_file_name(tmp_path: Path) -> None:
    tools = pytest.importorskip("fontTools.ttLib")
    with tools.TTFont(SANS) as font:
        for record in font["name"].names:
            record.string = "  "
        font.save(tmp_path / "blank.ttf")
    (typeface,) = find_typefaces(tmp_path, DIGITS)
    assert (typeface.family, typeface.style, typeface.superfamily) == ("blank", "Regular", "blank")


def test_another_font_of_the_same_size_and_time_is_noticed(tmp_path: Path) -> None:
    place = tmp_path / "font.ttf"
    size = max(SANS.stat().st_size, SERIF.stat().st_size)
    families = []
    for source in (SANS, SERIF):
        place.write_bytes(source.read_bytes().ljust(size, b"\0"))
        os.utime(place, ns=(1, 1))
        families += [typeface.family for typeface in find_typefaces(tmp_path, DIGITS)]
    assert families == ["DejaVu Sans", "DejaVu Serif"]


def test_damaged_tables_raise_typeface_errors(tmp_path: Path) -> None:
    """Bytes of the directory and of the table ``cmap``, changed one at a time."""
    content = bytearray(SANS.read_bytes())
    start = content.index(b"cmap")
    table = int.from_bytes(content[start + 8 : start + 12], "big")
    path = tmp_path / "damaged.ttf"
    for place in [*range(0, 200, 7), *range(table, table + 900, 31)]:
        old, content[place] = content[place], content[place] ^ 0xFF
        path.write_bytes(content)
        fontfiles._code_points.cache_clear()
        try:
            assert max(code_points(path), default=0) <= 0x10FFFF
        except TypefaceError as error:
            assert str(path) in str(error)
        content[place] = old


def format_12(path: Path, groups: list[tuple[int, int, int]]) -> Path:
    """A file with nothing but a table ``cmap`` of format 12."""
    table = struct.pack(">HHHHI", 0, 1, 3, 10, 12)
    table += struct.pack(">HHIII", 12, 0, 16 + 12 * len(groups), 0, len(groups))
    table += b"".join(struct.pack(">III", *group) for group in groups)
    head = struct.pack(">IHHHH4sIII", 0x10000, 1, 16, 0, 0, b"cmap", 0, 28, len(table))
    path.write_bytes(head + table)
    return path


def test_groups_of_letters(tmp_path: Path) -> None:
    """Glyph 0, the first of a group, is the missing glyph."""
    path = format_12(tmp_path / "a.ttf", [(5, 7, 1), (9, 9, 4), (0x10FFFE, 0x10FFFF, 0)])
    assert code_points(path) == {5, 6, 7, 9, 0x10FFFF}


@pytest.mark.parametrize("groups", [[(5, 7, 1), (7, 8, 4)], [(9, 8, 1)], [(0, 0x110000, 1)]])
def test_groups_out_of_order(tmp_path: Path, groups: list[tuple[int, int, int]]) -> None:
    """Many groups that each list all of Unicode would take too long."""
    with pytest.raises(TypefaceError, match="out of order"):
        code_points(format_12(tmp_path / "a.ttf", groups))


@pytest.mark.parametrize("where", ["nowhere", ""])
def test_a_missing_location(where: str) -> None:
    with pytest.raises(TypefaceError, match=f"'{where}' is no folder; where must be 'bundled'"):
        find_typefaces(where)


@pytest.mark.parametrize(
    ("letters", "why"), [("", "at least one"), ("abca", r"with \['a'\] more than once")]
)
def test_wrong_letters(letters: str, why: str) -> None:
    with pytest.raises(GlyphError, match=why):
        find_typefaces("bundled", letters)


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fontfiles, "_DPKG", tmp_path)
    monkeypatch.setattr(fontfiles, "DEBIAN_PACKAGES", ("fonts-one", "fonts-two"))
    (tmp_path / "fonts-two.list").write_text("/usr\n")
    with pytest.raises(TypefaceError, match=r"1 of 2 packages .* apt-get install fonts-one$"):
        find_typefaces("debian")


def test_files_are_those_of_the_packages_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fontfiles, "_DPKG", tmp_path)
    monkeypatch.setattr(fontfiles, "_FONTS", tmp_path)
    monkeypatch.setattr(fontfiles, "DEBIAN_PACKAGES", ("fonts-one", "fonts-two"))
    for name in ("one.ttf", "two.ttf", "other.ttf"):
        shutil.copy(SANS, tmp_path / name)
    (tmp_path / "fonts-one.list").write_text(f"/usr\n{tmp_path}/one.ttf\n{tmp_path}/gone.ttf\n")
    (tmp_path / "fonts-two:all.list").write_text(f"{tmp_path}/two.ttf\n{SANS}\n")
    assert font_files("debian") == (tmp_path / "one.ttf", tmp_path / "two.ttf")


def typeface(family: str, style: str = "Regular") -> Typeface:
    return Typeface(Path(f"{family}-{style}.ttf"), 0, family, style, f"{family}{style}")


MANY = [typeface(family, style) for family in "ABCDEFGHIJ" for style in ("Regular", "Bold")]


def superfamilies(split: Split) -> list[set[str]]:
    parts = (split.train, split.test, split.classifier)
    return [{typeface.superfamily for typeface in part} for part in parts]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("typefaces", [MANY, find_typefaces()], ids=["many", "bundled"])
def test_splits_share_no_family(typefaces: list[Typeface], seed: int) -> None:
    split = split_typefaces(typefaces, seed)
    train, test, classifier = superfamilies(split)
    assert train and test and classifier
    assert not (train & test or train & classifier or test & classifier)
    everything = split.train + split.test + split.classifier
    assert sorted(everything, key=typefaces.index) == list(typefaces)
    assert split_typefaces(typefaces, seed) == split
    assert len(split.train) > len(split.classifier)


def test_seeds_split_differently() -> None:
    assert len({split_typefaces(MANY, seed).classifier for seed in range(8)}) > 3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("DejaVu Sans", "DejaVu Sans Mono"),
        ("DejaVu Serif", "Hack"),
        ("Lato", "Carlito"),
        ("Liberation Serif", "Tinos"),
        ("Nimbus Sans", "Arimo"),
        ("STIXGeneral", "FreeSerif"),
        ("cmr10", "cmtt10"),
        ("Noto Sans Display", "Open Sans"),
        ("Linux Libertine O", "Linux Biolinum O"),
    ],
)
def test_related_families_stay_together(one: str, other: str) -> None:
    assert typeface(one).superfamily == typeface(other).superfamily


def test_other_families_are_grouped_by_their_first_word() -> None:
    assert typeface("Roboto Condensed").superfamily == "Roboto"
    assert typeface("cmake").superfamily == "cmake"


def test_too_few_families_cannot_be_split() -> None:
    with pytest.raises(TypefaceError, match=r"three unrelated families, got 2: \['A', 'DejaVu'\]"):
        split_typefaces([typeface("A"), typeface("DejaVu Sans"), typeface("DejaVu Serif")])


def test_a_survey_is_cached_until_a_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path / "cache"))
    calls = []
    examine = module._examine_all

    def counted(*args: Any) -> Any:
        calls.append(args)
        return examine(*args)

    monkeypatch.setattr(module, "_examine_all", counted)
    place = tmp_path / "fonts"
    place.mkdir()
    for typeface in find_typefaces("bundled", DIGITS)[:2]:
        shutil.copy(typeface.path, place)
    (place / "broken.ttf").write_bytes(b"no font")
    calls.clear()
    first = survey(place, DIGITS)
    module._survey.cache_clear()  # another process
    assert survey(place, DIGITS) == first
    assert len(calls) == 1
    assert len(first.typefaces) == 2
    assert len(first.refused) == 1
    (place / "broken.ttf").unlink()
    assert not survey(place, DIGITS).refused
    survey(place, "01")
    assert len(calls) == 3
