"""Qt resource files: what is read, and what is refused."""

from __future__ import annotations

import random
import re
import struct
import tracemalloc
import zlib
from pathlib import Path

import pytest
from tests.worlds.pictures.rcc import packed, resource_file

from featurewise.worlds.pictures import ResourceError, resources
from featurewise.worlds.pictures.resources import read_resources

ENTRIES = {"a/plain.txt": b"plain", "a/b/packed.txt": packed(b"packed " * 9), "c": b""}
CONTENT = {"/a/plain.txt": b"plain", "/a/b/packed.txt": b"packed " * 9, "/c": b""}


def read(content: bytes, folder: Path) -> dict[str, bytes]:
    path = folder / "some.rcc"
    path.write_bytes(content)
    return read_resources(path)


def refused(content: bytes, folder: Path, why: str) -> None:
    """The file is refused with a message that begins with its path."""
    path = folder / "some.rcc"
    path.write_bytes(content)
    with pytest.raises(ResourceError, match=f"^{re.escape(str(path))}: .*{why}"):
        read_resources(path)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_plain_and_packed_entries_are_read(version: int, tmp_path: Path) -> None:
    assert read(resource_file(ENTRIES, version), tmp_path) == CONTENT


def test_names_may_have_any_letters(tmp_path: Path) -> None:
    assert read(resource_file({"ä/日本": b"x"}), tmp_path) == {"/ä/日本": b"x"}


def test_every_shorter_file_is_refused(tmp_path: Path) -> None:
    content = resource_file(ENTRIES)
    for length in range(len(content)):
        refused(content[:length], tmp_path, "truncated" if length >= 4 else "no Qt resource file")


def test_damaged_files_raise_nothing_else(tmp_path: Path) -> None:
    content, rng = resource_file(ENTRIES), random.Random(0)
    failed = 0
    for _ in range(500):
        damaged = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(4, len(damaged))] = rng.choice(
                [0, 1, 2, 127, 255, rng.randrange(256)]
            )
        try:
            read(bytes(damaged), tmp_path)
        except ResourceError:
            failed += 1
    assert 50 < failed < 500  # times and hashes are not read


def test_other_files_are_refused(tmp_path: Path) -> None:
    content = resource_file(ENTRIES)
    refused(b"\x89PNG" + content[4:], tmp_path, "it begins with .*not b'qres'")
    refused(content[:4] + struct.pack(">I", 4) + content[8:], tmp_path, "version 4; 1 to 3")
    refused(b"", tmp_path, "no Qt resource file")
    with pytest.raises(ResourceError, match=r"nowhere\.rcc: cannot be read"):
        read_resources(tmp_path / "nowhere.rcc")
    with pytest.raises(ResourceError, match="cannot be read"):
        read_resources(tmp_path)


def node(index: int, version: int = 3) -> int:
    """Offset of a node."""
    return 24 + index * (22 if version > 1 else 14)


def test_a_folder_in_itself_is_refused(tmp_path: Path) -> None:
    content = bytearray(resource_file(ENTRIES))
    # The root has the nodes 1 and 2. Its first folder now has them too, or the root.
    for first in (0, 1):
        content[node(1) + 6 : node(1) + 14] = struct.pack(">II", 1, first)
        refused(
            bytes(content), tmp_path, f"node {first} of its tree is in two folders, or in itself"
        )


def test_a_file_is_no_root(tmp_path: Path) -> None:
    content = bytearray(resource_file(ENTRIES))
    content[node(0) + 4 : node(0) + 6] = struct.pack(">H", 0)
    refused(bytes(content), tmp_path, "does not begin with a folder")


def test_a_great_number_of_children_ends_with_the_file(tmp_path: Path) -> None:
    content = bytearray(resource_file(ENTRIES))
    content[node(0) + 6 : node(0) + 10] = struct.pack(">I", 0xFFFFFFFF)
    refused(bytes(content), tmp_path, "")


def test_the_size_of_a_packed_entry_must_be_true(tmp_path: Path) -> None:
    for stated in (0, 62, 64):
        refused(resource_file({"x": packed(b"7" * 63, stated)}), tmp_path, "/x: damaged: .*stated")
    refused(resource_file({"x": (1, b"\0\0")}), tmp_path, "/x is compressed, but has only 2 bytes")
    refused(resource_file({"x": (1, struct.pack(">I", 3) + b"abc")}), tmp_path, "/x: damaged")
    cut = (1, struct.pack(">I", 63) + zlib.compress(b"7" * 63)[:-2])
    refused(resource_file({"x": cut}), tmp_path, "/x: damaged")


def test_bombs_are_refused_before_they_are_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "MAX_FILE", 1 << 20)  # as much is reserved to read a file
    bomb = b"\0" * (resources.MAX_ENTRY + 1)
    refused(resource_file({"x": packed(bomb)}), tmp_path, "/x has 33,554,433 bytes; 33,554,432 are")
    # It says that it is small: only as much as it says is unpacked.
    small = resource_file({"x": packed(bomb, 5)})
    tracemalloc.start()
    refused(small, tmp_path, "/x: damaged: .* 5 bytes stated")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(bomb) / 8


def test_there_are_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {
        "MAX_FILE": (20, "cannot be read: is longer than 20 bytes"),
        "MAX_TOTAL": (60, "more than 60 bytes in all"),
        "MAX_NODES": (5, "more than 5 nodes"),
        "MAX_PATH": (10, "more than 10 characters"),
    }
    for name, (limit, why) in limits.items():
        with monkeypatch.context() as patch:
            patch.setattr(resources, name, limit)
            refused(resource_file(ENTRIES), tmp_path, why)
    assert read(resource_file(ENTRIES), tmp_path) == CONTENT


def test_what_cannot_be_unpacked_is_named(tmp_path: Path) -> None:
    refused(resource_file({"x": (4, b"\x28\xb5\x2f\xfd")}), tmp_path, "/x is compressed by zstd")


def test_a_path_occurs_once(tmp_path: Path) -> None:
    content = bytearray(resource_file({"a": b"1", "b": b"2"}))
    content[node(2) : node(2) + 4] = content[node(1) : node(1) + 4]  # the same name
    refused(bytes(content), tmp_path, "/a occurs twice")
    broken = resource_file({"a": b"1"})
    refused(broken[:-2] + b"\xd8\x00", tmp_path, "the name of node 1 is not UTF-16")
