"""The reader of R's lazy-load databases against objects written here, and malformed files."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from featurewise.worlds.text import TextFileError, rdata, read_character_vectors

HEADS = {
    2: b"X\n" + struct.pack(">iii", 2, 0x40201, 0x20300),
    3: b"X\n" + struct.pack(">iii", 3, 0x40201, 0x30500) + struct.pack(">i", 5) + b"UTF-8",
}
NIL = struct.pack(">i", 254)


def characters(text: str | None, encoding: str = "utf-8") -> bytes:
    raw = b"" if text is None else text.encode(encoding)
    return struct.pack(">ii", 9, -1 if text is None else len(raw)) + raw


def strings(values: Sequence[str | None], encoding: str = "utf-8") -> bytes:
    body = b"".join(characters(each, encoding) for each in values)
    return struct.pack(">ii", 16, len(values)) + body


def integers(*values: int) -> bytes:
    return struct.pack(f">ii{len(values)}i", 13, len(values), *values)


def reals(*values: float) -> bytes:
    return struct.pack(f">ii{len(values)}d", 14, len(values), *values)


def named(values: Mapping[str, bytes], symbol: bytes | None = None) -> bytes:
    """A list with the attribute names; `symbol` in place of the symbol."""
    body = struct.pack(">ii", 19 | 0x200, len(values)) + b"".join(values.values())
    tag = struct.pack(">i", 1) + characters("names") if symbol is None else symbol
    return body + struct.pack(">i", 2 | 0x400) + tag + strings(list(values)) + NIL


def write(
    folder: Path, objects: Mapping[str, bytes], version: int = 3, places: object = None
) -> Path:
    """A database of these objects; returns the stem."""
    database, found = b"", {}
    for name, value in objects.items():
        content = HEADS[version] + value
        stored = struct.pack(">I", len(content)) + zlib.compress(content)
        found[name] = integers(len(database), len(stored))
        database += stored
    index = named(
        {
            "variables": named(found),
            # the symbol was read before: a reference to the first
            "references": named({"a": reals(1.5)}, struct.pack(">i", 1 << 8 | 255)),
            "compressed": struct.pack(">iii", 10, 1, 1),
        },
        struct.pack(">ii", 255, 1),
    )
    (folder / "x.rdb").write_bytes(database)
    (folder / "x.rdx").write_bytes(gzip.compress(HEADS[version] + index))
    return folder / "x"


@pytest.mark.parametrize("version", [2, 3])
def test_strings_are_read(tmp_path: Path, version: int) -> None:
    values = ["", "café", "line", None]
    objects = {"one": strings(values), "other": strings(["x"]), "numbers": integers(1, 2)}
    found = read_character_vectors(write(tmp_path, objects, version))
    assert found == {"one": ["", "café", "line", ""], "other": ["x"]}


def test_strings_in_latin_1_are_read(tmp_path: Path) -> None:
    stem = write(tmp_path, {"one": strings(["café"], "latin-1")})
    assert read_character_vectors(stem) == {"one": ["café"]}


def test_attributes_of_vectors_are_skipped(tmp_path: Path) -> None:
    value = strings(["a", "b"])
    flagged = struct.pack(">i", 16 | 0x200) + value[4:]
    inner = struct.pack(">i", 2 | 0x600) + NIL  # a pairlist with attributes of its own, none
    symbol = struct.pack(">i", 1) + characters("class")
    more = struct.pack(">i", 2) + integers(3) + NIL  # one without a tag, and the end
    stem = write(tmp_path, {"one": flagged + inner + symbol + strings(["text"]) + more})
    assert read_character_vectors(stem) == {"one": ["a", "b"]}


def _damaged(value: bytes, tmp_path: Path) -> Path:
    return write(tmp_path, {"one": value})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (struct.pack(">i", 238), "type 238"),
        (struct.pack(">ii", 16, 99), "too long"),
        (struct.pack(">ii", 13, -2), "too long"),
        (struct.pack(">iiii", 16, 1, 9, 50), "too long"),
        (struct.pack(">ii", 255, 3), "reference 3 of 0"),
        (b"\0\0", "truncated"),
        (struct.pack(">ii", 19, 1) * 70 + b"\0" * 400, "deeper than 64"),
        (struct.pack(">i", 2) + NIL + struct.pack(">i", 13), "pairlist ends with type 13"),
        (
            struct.pack(">ii", 19 | 0x200, 1)
            + NIL
            + struct.pack(">ii", 2 | 0x400, 1)
            + characters("names")
            + strings(["a", "b"])
            + NIL,
            "other names",
        ),
    ],
)
def test_malformed_objects_are_refused(tmp_path: Path, value: bytes, message: str) -> None:
    stem = _damaged(value, tmp_path)
    with pytest.raises(TextFileError, match=message) as caught:
        read_character_vectors(stem)
    assert str(caught.value).startswith(f"{stem}.rdb: one: ")


def test_malformed_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stem = write(tmp_path, {"one": strings(["a"])})
    database, index = tmp_path / "x.rdb", tmp_path / "x.rdx"
    whole, whole_index = database.read_bytes(), index.read_bytes()

    def refused(message: str, path: Path) -> None:
        with pytest.raises(TextFileError, match=message) as caught:
            read_character_vectors(stem)
        assert str(caught.value).startswith(str(path))
        database.write_bytes(whole)
        index.write_bytes(whole_index)

    database.unlink()
    refused("cannot be read: No such file", database)
    database.write_bytes(whole[:-3])
    refused("truncated: ", database)
    database.write_bytes(whole[:4] + b"\0" + whole[5:])
    refused("damaged: ", database)
    database.write_bytes(struct.pack(">I", 7) + whole[4:])
    refused("where 7 are stated", database)
    index.write_bytes(b"no gzip")
    refused("damaged: ", index)
    index.write_bytes(gzip.compress(b"RDX3\n" + b"\0" * 40))
    refused("begins with b'RD'", index)
    index.write_bytes(gzip.compress(b"X\n" + struct.pack(">iii", 4, 0, 0)))
    refused("version 4; 2 and 3", index)
    index.write_bytes(gzip.compress(HEADS[3] + strings(["a"])))
    refused("no list called variables", index)
    for place in (integers(1), integers(-1, 2), strings(["a", "b"])):
        content = named({"variables": named({"one": place}, struct.pack(">i", 1 << 8 | 255))})
        index.write_bytes(gzip.compress(HEADS[3] + content))
        # the inner list refers to a symbol that comes later
        refused("reference 1 of 0", index)
        content = named({"variables": named({"one": place})}, struct.pack(">i", 1 << 8 | 255))
        index.write_bytes(gzip.compress(HEADS[3] + content))
        refused("one must have an offset and a length", index)
    monkeypatch.setattr(rdata, "MAX_OBJECT", 8)
    refused("longer than 8 bytes", index)
    monkeypatch.setattr(rdata, "MAX_FILE", 8)
    refused("longer than 8 bytes", database)
