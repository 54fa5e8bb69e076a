"""Files and folders are written atomically, and only regular files are read."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from featurewise.common import files
from featurewise.common.files import file_sha256, recovered, sha256, write_bytes, write_folder


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    write_bytes(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_follow_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_bytes(tmp_path / "a.bin", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failure_leaves_the_old_file_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), fail)
    with pytest.raises(OSError, match="No space"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_is_complete_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    replace = Path.replace

    def watch(source: Path, target: Path) -> Path:
        seen.append((source.parent, source.read_bytes(), target.exists()))
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", watch)
    write_bytes(tmp_path / "a.bin", b"all of it")
    assert seen == [(tmp_path, b"all of it", False)]


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_bytes(tmp_path / "no" / "a.bin", b"x")


def test_an_error_while_producing_content_leaves_the_old_file_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_bytes(path, b"one")

    def pieces() -> Iterator[bytes]:
        yield b"tw"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_bytes(path, pieces())
    assert path.read_bytes() == b"one"
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def test_content_is_on_the_disk_before_the_file_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced = tmp_path / "a", []

    def fsync(descriptor: int) -> None:
        found = os.fstat(descriptor)
        synced.append((found.st_size if stat.S_ISREG(found.st_mode) else None, path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_bytes(path, [b"one", b"two"])
    assert synced == [(6, False), (None, True)]
    assert path.read_bytes() == b"onetwo"


def test_of_two_concurrent_writers_the_last_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "a"

    def pieces() -> Iterator[bytes]:
        yield b"on"
        write_bytes(path, b"two")
        assert path.read_bytes() == b"two"
        yield b"e"

    write_bytes(path, pieces())
    assert path.read_bytes() == b"one"
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


# --- folders --------------------------------------------------------------------------------------

OLD, NEW = {"a": b"old", "b": b"old"}, {"a": b"new", "c": b"new"}


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_replaces_an_existing_one(
    exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(files, "_exchanged", lambda *_: False)
    folder = tmp_path / "a[1] *?"
    for each in (OLD, NEW):
        write_folder(folder, each)
        assert content(folder) == each
        assert list(tmp_path.iterdir()) == [folder]


def test_without_replace_an_existing_folder_stays(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", OLD, replace=False)
    with pytest.raises(FileExistsError):
        write_folder(tmp_path / "a", NEW, replace=False)
    assert content(tmp_path / "a") == OLD


def test_a_failed_rename_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_exchanged", lambda *_: False)
    folder, rename = tmp_path / "a", Path.rename
    write_folder(folder, OLD)

    def fail(source: Path, target: Path) -> Path:
        if source.name.endswith(".part"):
            raise OSError(28, "No space left on device")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="No space"):
        write_folder(folder, NEW)
    assert content(folder) == OLD and list(tmp_path.iterdir()) == [folder]


#: Without the rest of the library, whose import takes a second: one process forks for each step.
KILLED = """
import os, sys, types
from pathlib import Path

common = Path(sys.argv[1]).parent
for name, folder in (("featurewise", common.parent), ("featurewise.common", common)):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [str(folder)]
from featurewise.common import files

root, exchange = Path(sys.argv[2]), sys.argv[3] == "True"
OLD, NEW = {"a": b"old", "b": b"old"}, {"a": b"new", "c": b"new"}

def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}

def killed(folder, last):
    steps = 0

    def counted(call):
        def wrapped(*args, **kwargs):
            nonlocal steps
            if steps == last:
                os._exit(9)
            steps += 1
            return call(*args, **kwargs)
        return wrapped

    files._exchanged = counted(files._exchanged) if exchange else lambda *_: False
    for owner, name in ((os, "open"), (os, "fsync"), (os, "mkdir"), (os, "rename"), (os, "unlink"),
                        (os, "rmdir"), (Path, "open"), (Path, "mkdir"), (Path, "rename")):
        setattr(owner, name, counted(getattr(owner, name)))
    files.write_folder(folder, NEW)
    os._exit(0)

step, code = 0, 9
while code:
    folder = root / str(step) / "a"
    folder.parent.mkdir()
    files.write_folder(folder, OLD)
    child = os.fork()
    if not child:
        killed(folder, step)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    stands = folder.is_dir()
    found = content(files.recovered(folder))
    files.write_folder(folder, NEW)  # the next writer succeeds
    print(stands, {repr(OLD): "old", repr(NEW): "new"}[repr(dict(sorted(found.items())))])
    assert content(folder) == NEW
    step += 1
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks, and exchanges folders")
@pytest.mark.parametrize("exchange", [True, False])
def test_a_writer_killed_at_any_step_leaves_the_old_or_the_new_folder(
    exchange: bool, tmp_path: Path
) -> None:
    words = [sys.executable, "-c", KILLED, files.__file__, str(tmp_path), str(exchange)]
    ended = subprocess.run(words, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    stood, found = zip(*map(str.split, ended.stdout.splitlines()), strict=True)
    assert len(found) > 10 and list(found) == sorted(found, reverse=True)
    assert {"old", "new"} == set(found)
    assert ("False" in stood) is not exchange


def test_an_interrupted_replacement_is_read_without_renaming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = tmp_path / ".a.0123456789abcdef.part"
    write_folder(new, NEW)
    write_folder(tmp_path / ".a.0123456789abcdef.old", OLD)

    def fail(source: Path, target: Path) -> Path:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "rename", fail)
    assert recovered(tmp_path / "a") == new


def test_a_removed_folder_is_not_recovered(tmp_path: Path) -> None:
    write_folder(
        tmp_path / ".a.0123456789abcdef.old", OLD
    )  # its successor was complete, and was removed later
    write_folder(tmp_path / ".a.1123456789abcdef.part", NEW)  # an incomplete folder
    assert not recovered(tmp_path / "a").exists()


# --- digests --------------------------------------------------------------------------------------


def test_digests_are_those_of_the_standard(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_sha256(tmp_path / "a") == known == sha256(b"a", memoryview(b"bc"))
