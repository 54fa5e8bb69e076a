"""Paintings: those of the package, and small puzzles made here."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.worlds.pictures.rcc import resource_file
from torch import Tensor

from featurewise.worlds.pictures import (
    MissingPicturesError,
    Painting,
    PictureError,
    packages,
    paintings,
)
from featurewise.worlds.pictures.puzzles import COUNT, MARGIN, read_paintings

FOLDER = "gcompris/src/activities/paintings/resource"
SIZE = (80, 60)


def webp(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=True, exact=True)
    return file.getvalue()


def painted(width: int = SIZE[0], height: int = SIZE[1]) -> Image.Image:
    """Smooth colours, none of them dark."""
    rows, columns = np.mgrid[:height, :width]
    channels = [100 + columns, 100 + 2 * rows, 200 - columns // 2]
    return Image.fromarray(np.stack(channels, 2).astype(np.uint8))


#: Left, top, right, bottom of four tiles.
BOXES = ((0, 0, 42, 31), (40, 0, 80, 30), (0, 30, 40, 60), (39, 29, 80, 60))


def puzzle(
    title: str = "Ann Painter, A Work - 1901",
    boxes: tuple[tuple[int, int, int, int], ...] = BOXES,
    shift: float = 0.0,
) -> dict[str, bytes]:
    """Entries of a resource file with one puzzle, whose tiles are moved to the right by a shift."""
    whole, entries, tiles = painted(), {}, []
    for i, (left, top, right, bottom) in enumerate(boxes):
        entries[f"{FOLDER}/image/t{i}.webp"] = webp(whole.crop((left, top, right, bottom)))
        x, y = ((left + right) / 2 + shift) / SIZE[0], (top + bottom) / 2 / SIZE[1]
        tiles.append(f'{{ "pixmapfile" : "image/t{i}.webp", "x" : "{x:.4f}", "y" : "{y:.4f}" }}')
    head = f'property string instruction: qsTr("{title}")\n "pixmapfile" : "image/bg.svg", '
    size = f'"width": {SIZE[0]},\n "height": {SIZE[1]}\n'
    entries[f"{FOLDER}/board/board1_0.qml"] = (head + size + ",\n".join(tiles)).encode()
    return entries


def read(entries: dict[str, bytes], folder: Path) -> tuple[Painting, ...]:
    path = folder / "paintings.rcc"
    path.write_bytes(resource_file(entries))
    return read_paintings(path)


def as_image(tensor: Tensor) -> Image.Image:
    return Image.fromarray(tensor.permute(1, 2, 0).numpy())


def test_tiles_are_put_together_without_the_margin(tmp_path: Path) -> None:
    (work,) = read(puzzle(), tmp_path)
    assert (work.name, work.painter) == ("painter_a_work", "Ann Painter")
    assert (work.title, work.year) == ("A Work", "1901")
    whole = painted().crop((MARGIN, MARGIN, SIZE[0] - MARGIN, SIZE[1] - MARGIN))
    assert work.image.dtype == torch.uint8 and as_image(work.image) == whole


def test_a_puzzle_may_be_wider_than_its_board(tmp_path: Path) -> None:
    """Some of the package are: their tiles lie at the right places all the same."""
    (work,), (moved,) = (read(puzzle(shift=shift), tmp_path) for shift in (0.0, -20.0))
    assert torch.equal(work.image, moved.image)


def test_a_gap_of_one_pixel_is_closed(tmp_path: Path) -> None:
    boxes = ((0, 0, 40, 60), (41, 0, 80, 60))
    (work,) = read(puzzle(boxes=boxes), tmp_path)
    (whole,) = read(puzzle(), tmp_path)
    assert (work.image.int() - whole.image.int()).abs().max() <= 1


def test_a_wider_gap_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"paintings\.rcc: .*board1_0\.qml: .*leave gaps"):
        read(puzzle(boxes=((0, 0, 40, 30), (48, 0, 80, 30), (0, 30, 80, 60))), tmp_path)


@pytest.mark.parametrize(
    ("title", "wanted"),
    [
        ("Bazille, The Sea", ("bazille_the_sea", "Frédéric Bazille", "The Sea", "")),
        (
            "Vincent Van Gogh, Église - 1823-1829",
            ("van_gogh_eglise", "Vincent van Gogh", "Église", "1823-1829"),
        ),
        (
            "Leonardo da Vinci, A, B - c - 1503-19.",
            ("leonardo_a_b_c", "Leonardo da Vinci", "A, B - c", "1503-19"),
        ),
    ],
)
def test_titles(title: str, wanted: tuple[str, ...], tmp_path: Path) -> None:
    (work,) = read(puzzle(title), tmp_path)
    assert (work.name, work.painter, work.title, work.year) == wanted


def test_malformed_puzzles_are_refused(tmp_path: Path) -> None:
    board, tile = f"{FOLDER}/board/board1_0.qml", f"{FOLDER}/image/t2.webp"
    good = puzzle()
    text = good[board]
    cases: list[tuple[dict[str, bytes], str]] = [
        (puzzle("No comma - 1901"), "the painter and the title"),
        (puzzle(" , A - 1901"), "the painter and the title"),
        ({**good, board: text.replace(b"width", b"wide")}, "pixels a side, not 0 x 0"),
        ({**good, board: text.replace(b": 80", b": 9999")}, "1 to 2048 pixels a side, not 9999 x"),
        ({**good, board: text.replace(b'"x" : "0', b'"x" : "7')}, "found 0 places of 4 tiles"),
        ({**good, board: text[: text.index(b"{")]}, "found 0 places of 0 tiles"),
        ({**good, board: text + b"\xff"}, "can't decode byte 0xff"),
        ({**good, tile: webp(painted(2049, 1))}, r"t2\.webp is larger than 2048"),
        ({key: each for key, each in good.items() if key != tile}, r"t2\.webp is missing"),
        ({**good, tile: b"RIFF no image"}, r"t2\.webp: not a readable image"),
        (puzzle(boxes=((0, 0, 8, 60),)), "8 x 60 pixels, too few"),
    ]
    for entries, why in cases:
        with pytest.raises(PictureError, match=rf"paintings\.rcc: .*board1_0\.qml: .*{why}"):
            read(entries, tmp_path)


def test_the_package_must_have_all_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "RESOURCES", tmp_path)
    with pytest.raises(MissingPicturesError, match="apt-get install gcompris-qt-data"):
        paintings()
    (tmp_path / "paintings.rcc").write_bytes(resource_file(puzzle()))
    with pytest.raises(PictureError, match="22 works must be there, not 1"):
        paintings()


def test_there_are_22_works(works: tuple[Painting, ...]) -> None:
    assert len(works) == COUNT == 22
    names = [work.name for work in works]
    assert names == sorted(set(names)) and all(re.fullmatch("[a-z_]+", name) for name in names)
    assert "renoir_bal_du_moulin_de_la_galette" in names
    counts = dict.fromkeys(sorted(work.painter for work in works), 0)
    for work in works:
        counts[work.painter] += 1
    assert counts == {
        "Albrecht Dürer": 1,
        "Frédéric Bazille": 1,
        "Giovanni Bellini": 1,
        "Giuseppe Arcimboldo": 2,
        "Katsushika Hokusai": 7,
        "Leonardo da Vinci": 1,
        "Mary Cassatt": 1,
        "Michelangelo": 1,
        "Pierre-Auguste Renoir": 2,
        "Pieter Bruegel": 1,
        "Utagawa Hiroshige": 2,
        "Vincent van Gogh": 1,
        "Wassily Kandinsky": 1,
    }
    sizes = torch.tensor([work.image.shape for work in works])
    assert sizes[:, 0].eq(3).all() and sizes[:, 1:].min() == 292 and sizes[:, 1:].max() == 713
    years = {work.name: work.year for work in works}
    assert years["kandinsky_composition_viii"] == "1923"
    assert years["hokusai_oiran_and_kamuro"] == ""


def dark_line(image: Tensor) -> int:
    """Length of a straight dark line, one to three pixels wide: the most dark pixels in it."""
    light, longest = image.amax(0).int(), 0
    for plane in (light, light.T):
        for width in (1, 2):
            middle = plane[width:-width]
            sides = torch.minimum(plane[: -2 * width], plane[2 * width :])
            longest = max(longest, int(((middle < 30) & (sides > middle + 30)).sum(1).max()))
    return longest


def test_the_works_have_no_seams(works: tuple[Painting, ...]) -> None:
    """Without closing gaps of a pixel, Girls At The Piano has a black line of 130 pixels."""
    for work in works:
        if work.name != "michelangelo_pieta":  # a joint of its plinth
            assert dark_line(work.image) < 60, work.name
    cut = works[0].image.clone()
    cut[:, 100] = 0
    assert dark_line(cut) > 60


def edge_step(image: Tensor) -> float:
    """Largest difference between the mean colour of an edge and that of 6 pixels further in."""
    steps = []
    for turned in (image, image.flip(1), image.mT, image.mT.flip(1)):
        edge, inner = (turned[:, rows].float().mean((1, 2)) for rows in (slice(2), slice(6, 8)))
        steps.append(float((edge - inner).abs().max()))
    return max(steps)


def test_the_works_have_no_frames(works: tuple[Painting, ...]) -> None:
    for work in works:
        if work.name != "hokusai_woman_holding_a_fan":  # a frame is part of the print
            assert edge_step(work.image) < 40, work.name
    framed = works[2].image.clone()
    framed[:, :, -3:] = 0
    assert edge_step(framed) > 40
