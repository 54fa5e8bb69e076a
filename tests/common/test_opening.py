"""Regular files are opened; other paths raise without delay and are not changed."""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from featurewise.common.opening import (
    NotRegularError,
    TooLargeError,
    open_emptied,
    open_for_writing,
    open_regular,
    read_bytes,
    require_regular,
)

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def linked_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        here = Path.cwd()
        os.chdir(path.parent)  # the names of sockets are short
        try:
            one.bind(path.name)
        finally:
            os.chdir(here)


ODD: dict[str, tuple[Callable[[Path], None], str]] = {
    "a named pipe": (pipe, "is no regular file but a named pipe"),
    "a link to a named pipe": (linked_pipe, "is no regular file but a named pipe"),
    "a link to an endless device": (endless, "is no regular file but a device"),
    "a socket": (bound, "is no regular file but a socket"),
    "a folder": (Path.mkdir, "Is a directory"),
    "a link to nothing": (lambda path: path.symlink_to("nothing"), "No such file"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "symbolic links"),
}


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """No test may block."""
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("read", [open_regular, read_bytes, require_regular])
@pytest.mark.parametrize("name", ODD)
def test_irregular_files_raise_without_blocking(tmp_path: Path, name: str, read: Any) -> None:
    make, says = ODD[name]
    make(tmp_path / "a")
    with pytest.raises(OSError, match=says) as caught:
        read(tmp_path / "a")
    assert caught.value.filename == str(tmp_path / "a") or isinstance(caught.value.filename, Path)


@pytest.mark.parametrize("write", [open_for_writing, open_emptied])
@pytest.mark.parametrize("name", [name for name in ODD if name != "a folder"])
def test_irregular_files_are_not_written(tmp_path: Path, name: str, write: Any) -> None:
    make, _ = ODD[name]
    make(tmp_path / "a")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(NotRegularError, match="is no regular file but"):
        write(tmp_path / "a")
    assert sorted(tmp_path.iterdir()) == before


def test_a_link_is_read_but_never_written(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"precious")
    (tmp_path / "a").symlink_to("mine")
    assert read_bytes(tmp_path / "a") == b"precious"
    for forbidden in (
        lambda: read_bytes(tmp_path / "a", follow=False),
        lambda: open_for_writing(tmp_path / "a", os.O_APPEND),
        lambda: open_emptied(tmp_path / "a"),
    ):
        with pytest.raises(NotRegularError, match="a symbolic link"):
            forbidden()
    assert (tmp_path / "mine").read_bytes() == b"precious"


def test_a_path_that_changes_after_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x")
    look = Path.stat

    def looked(self: Path, **options: Any) -> os.stat_result:
        found = look(self, **options)
        path.unlink()
        os.mkfifo(path)
        return found

    monkeypatch.setattr(Path, "stat", looked)
    with pytest.raises(NotRegularError, match="a named pipe"):
        read_bytes(path)


def test_files_are_not_read_beyond_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_bytes(path, limit=5) == read_bytes(path) == b"12345"
    with pytest.raises(TooLargeError, match="is longer than 4 bytes"):
        read_bytes(path, limit=4)
    path.write_bytes(b"")
    assert read_bytes(path, limit=0) == b""


def test_own_files_are_created_appended_to_or_emptied(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for _ in range(2):
        descriptor = open_for_writing(path, os.O_APPEND)
        os.write(descriptor, b"ab")
        os.close(descriptor)
    assert path.read_bytes() == b"abab"
    assert stat.S_IMODE(path.stat().st_mode) & 0o111 == 0
    with open_emptied(path) as file:
        file.write(b"c")
    assert path.read_bytes() == b"c"
