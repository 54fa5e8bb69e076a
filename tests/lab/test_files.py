"""Files that appear whole: whoever reads sees the old content or the new, and nothing is left."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from featurewise.lab import files
from featurewise.lab.errors import StorageError
from featurewise.lab.files import storage_errors, write_file, write_whole


def test_it_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_whole(path, b"one")
    write_whole(path, b"two")
    assert path.read_bytes() == b"two"
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_a_failed_write_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    write_whole(path, b"one")

    def full(descriptor: int, content: bytes) -> None:
        os.write(descriptor, content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_all", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"two")
    assert path.read_bytes() == b"one"
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_what_a_killed_process_of_our_number_left_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / f".a.json.{os.getpid()}").write_bytes(b"half")
    write_whole(tmp_path / "a.json", b"one")
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_a_new_file_takes_no_ones_place(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_file(path, b"one")
    with pytest.raises(FileExistsError):
        write_file(path, b"two")
    assert path.read_bytes() == b"one"


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.EDQUOT, "the disk is full"), (errno.EROFS, "Read-only file system")],
)
def test_what_hinders_writing_is_said_in_words(tmp_path: Path, number: int, reason: str) -> None:
    with pytest.raises(StorageError) as told, storage_errors(tmp_path, "Free some space."):
        raise OSError(number, os.strerror(number))
    assert str(told.value) == f"{tmp_path}: could not be written: {reason}. Free some space."
