"""Digests of files are cached; files are read again if they may have changed."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import pytest

from featurewise.worlds import digests
from featurewise.worlds.digests import content_digests


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read; the clock is two minutes ahead."""
    found: list[str] = []
    whole = digests.file_sha256

    def noted(path: Path) -> str:
        found.append(path.name)
        return whole(path)

    monkeypatch.setattr(digests, "file_sha256", noted)
    ahead = time.time_ns() + 120 * 10**9
    monkeypatch.setattr(digests.time, "time_ns", lambda: ahead)
    return found


def files(folder: Path) -> list[Path]:
    for name in ("a", "b"):
        (folder / name).write_bytes(name.encode())
    return [folder / "a", folder / "b"]


def test_a_file_is_read_once(tmp_path: Path, read: list[str]) -> None:
    wanted = [hashlib.sha256(name).hexdigest() for name in (b"a", b"b")]
    some = files(tmp_path)
    for _ in range(2):
        assert content_digests(some, tmp_path / "folder/kept.json") == wanted
    assert read == ["a", "b"]


def test_a_change_with_the_same_size_and_time_is_detected(tmp_path: Path, read: list[str]) -> None:
    some, kept = files(tmp_path), tmp_path / "kept.json"
    first = content_digests(some, kept)
    before = some[0].stat()
    some[0].write_bytes(b"z")
    os.utime(some[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    second = content_digests(some, kept)
    assert second == [hashlib.sha256(b"z").hexdigest(), first[1]]
    assert read == ["a", "b", "a"]


def test_a_recently_written_file_is_read_again(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later write within the resolution of the file system's clock would have the same time."""
    some, kept = files(tmp_path), tmp_path / "kept.json"
    now = some[1].stat().st_ctime_ns + 10**6
    monkeypatch.setattr(digests.time, "time_ns", lambda: now)
    content_digests(some, kept)
    content_digests(some, kept)
    assert read == ["a", "b"] * 2


@pytest.mark.parametrize("damage", [b"", b"[]", b"{", None])
def test_a_damaged_cache_is_ignored(tmp_path: Path, read: list[str], damage: bytes | None) -> None:
    some, kept = files(tmp_path), tmp_path / "kept.json"
    first: Any = content_digests(some, kept)
    text = kept.read_bytes()
    kept.write_bytes(text.replace(first[0].encode(), b"0" * 64) if damage is None else damage)
    assert content_digests(some, kept) == first
    assert read == ["a", "b"] * 2


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, read: list[str]) -> None:
    (tmp_path / "file").touch()
    some = files(tmp_path)
    assert content_digests(some, tmp_path / "file/kept.json") == content_digests(
        some, tmp_path / "file/kept.json"
    )
