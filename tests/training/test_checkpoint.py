import errno
import json
import os
import pickle
import random
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from featurewise.common.seal import sealed
from featurewise.training import checkpoint
from featurewise.training.checkpoint import CheckpointStore, load, save
from featurewise.training.errors import (
    CheckpointError,
    CheckpointWarning,
    FormatVersionError,
    StorageError,
)

FILES = ("manifest.json", "state.json", "tensors.safetensors")


def sample(seed=0):
    generator = torch.Generator().manual_seed(seed)
    weights = {f"layer{i}": torch.randn(32, 48, generator=generator) for i in range(4)}
    return {"weights": weights, "step": seed, "losses": [0.1, 0.2], "betas": (0.9, 0.999)}


def equal(a, b):
    return (
        all(torch.equal(a["weights"][k], b["weights"][k]) for k in a["weights"])
        and a["weights"].keys() == b["weights"].keys()
        and all(a[k] == b[k] for k in ("step", "losses", "betas"))
    )


def test_round_trip(tmp_path):
    save(tmp_path / "a", sample())
    assert equal(load(tmp_path / "a"), sample())
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == sorted(FILES)


def test_equal_states_give_equal_files(tmp_path):
    save(tmp_path / "a", sample())
    save(tmp_path / "b", load(tmp_path / "a"))
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_files_are_readable_by_other_users(tmp_path):
    before = os.umask(0o022)
    try:
        save(tmp_path / "a", sample())
    finally:
        os.umask(before)
    assert all((tmp_path / "a" / name).stat().st_mode & 0o777 == 0o644 for name in FILES)


def test_an_existing_checkpoint_is_not_overwritten(tmp_path):
    save(tmp_path / "a", sample(1))
    with pytest.raises(CheckpointError, match="exists already"):
        save(tmp_path / "a", sample(2))
    assert equal(load(tmp_path / "a"), sample(1))


# --- corruption -------------------------------------------------------------------------


def flip(folder, rng):
    path = folder / rng.choice(FILES)
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def zero_page(folder, rng):
    path = folder / rng.choice(FILES)
    content = bytearray(path.read_bytes())
    at = rng.randrange(0, len(content), 4096)
    page = content[at : at + 4096]
    content[at : at + 4096] = bytes(len(page))
    path.write_bytes(content)


def truncate(folder, rng):
    path = folder / rng.choice(FILES)
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])


def append(folder, rng):
    with (folder / rng.choice(FILES)).open("ab") as file:
        file.write(rng.choice([b" ", b"\n", b"\0" * 16, rng.randbytes(5)]))


def swap(folder, rng):
    one, two = (folder / name for name in rng.sample(FILES, 2))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


def stale_file(folder, rng):
    name = rng.choice(FILES)
    shutil.copy(folder.parent / "other" / name, folder / name)


def missing(folder, rng):
    (folder / rng.choice(FILES)).unlink()


def extra(folder, rng):
    name = rng.choice(["more.safetensors", "state.json~", ".hidden", "a\nb"])
    (folder / name).write_bytes(rng.randbytes(3))


def folder_instead(folder, rng):
    path = folder / rng.choice(FILES)
    path.unlink()
    path.mkdir()


CORRUPTIONS = [flip, zero_page, truncate, append, swap, stale_file, missing, extra, folder_instead]


def test_every_corruption_is_rejected_before_tensors_are_read(tmp_path, monkeypatch):
    good, bad = tmp_path / "good", tmp_path / "bad"
    save(good, sample(0))
    save(tmp_path / "other", sample(1))
    originals = {name: (good / name).read_bytes() for name in FILES}
    monkeypatch.setattr(
        checkpoint.safetensors.torch, "load", lambda content: pytest.fail("tensors were read")
    )
    rng = random.Random(0)
    rejected = 0
    for corrupt in CORRUPTIONS * 120:
        shutil.rmtree(bad, ignore_errors=True)
        bad.mkdir()
        for name, content in originals.items():
            (bad / name).write_bytes(content)
        corrupt(bad, rng)
        with pytest.raises(CheckpointError) as caught:
            load(bad)
        assert str(caught.value).startswith(str(bad)), corrupt.__name__
        rejected += 1
    assert rejected == 1080


def test_error_names_the_damaged_file(tmp_path):
    save(tmp_path / "a", sample())
    path = tmp_path / "a" / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match=r"tensors\.safetensors is damaged"):
        load(tmp_path / "a")


def test_a_newer_format_is_an_error_and_not_skipped(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path)
    store.save(1, sample(1))
    with monkeypatch.context() as later:
        later.setattr(checkpoint, "FORMAT", 2)
        store.save(2, sample(2))
    with pytest.raises(FormatVersionError, match="has format 2, this version .* reads 1"):
        store.latest()


@pytest.mark.parametrize("text", ["[]", "3", "{}", '{"format": 1}', '{"format": 1, "files": []}',
                                  "[" * 100_000, "NaN", "null"])  # fmt: skip
def test_invalid_manifests_are_rejected(tmp_path, text):
    save(tmp_path / "a", sample())
    (tmp_path / "a" / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"manifest\.json is damaged"):
        load(tmp_path / "a")


def test_missing_folder(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(tmp_path / "nothing")


# --- the store --------------------------------------------------------------------------


def test_store_keeps_the_newest(tmp_path):
    store = CheckpointStore(tmp_path / "run", keep=2)
    assert store.latest() is None
    for step in (5, 10, 15, 20):
        store.save(step, sample(step))
    assert store.steps() == [15, 20]
    step, state = store.latest()
    assert step == 20
    assert equal(state, sample(20))
    with pytest.raises(CheckpointError, match="keep must be at least 2"):
        CheckpointStore(tmp_path, keep=1)


@pytest.mark.parametrize("corrupt", CORRUPTIONS, ids=lambda c: c.__name__)
def test_store_skips_a_damaged_checkpoint_with_a_warning(tmp_path, corrupt):
    store = CheckpointStore(tmp_path)
    store.save(1, sample(1))
    store.save(2, sample(2))
    save(tmp_path / "other", sample(3))
    corrupt(store.path(2), random.Random(1))
    with pytest.warns(CheckpointWarning, match=r"step-00000002: .*; falling back") as caught:
        step, state = store.latest()
    assert len(caught) == 1
    assert step == 1
    assert equal(state, sample(1))
    store.discard_after(1)
    store.save(2, sample(2))
    assert store.latest()[0] == 2


def test_store_rejects_a_renamed_checkpoint(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(1, sample(1))
    store.path(1).rename(store.path(7))
    with pytest.raises(CheckpointError, match="holds step 1"):
        store.load(7)


def test_store_removes_temporary_folders_on_save_but_not_on_load(tmp_path):
    store = CheckpointStore(tmp_path)
    temporary = [tmp_path / ".writing-step-00000001-7", tmp_path / ".removing-step-00000000"]
    for folder in temporary:
        folder.mkdir()
        (folder / "state.json").write_text("{")
    assert CheckpointStore(tmp_path).latest() is None
    assert all(folder.exists() for folder in temporary)
    store.save(1, sample(1))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000001"]


def test_store_ignores_other_names(tmp_path):
    store = CheckpointStore(tmp_path)
    for name in ("notes", "step-1", "step-0000000x", "step-00000001.bak"):
        (tmp_path / name).mkdir()
    assert store.steps() == []


# --- writing ----------------------------------------------------------------------------


class Disk:
    """Wraps functions of `os`: records the calls, and fails at one of them (``fail_at``)."""

    def __init__(self, monkeypatch, fail_at=None, error=errno.ENOSPC):
        self.calls = []
        self.fail_at, self.error = fail_at, error
        for name in ("open", "write", "fsync", "mkdir", "rename", "close"):
            monkeypatch.setattr(os, name, self._wrap(name, getattr(os, name)))

    def _wrap(self, name, original):
        def call(*args, **options):
            if name not in ("open", "close"):
                failing = len([c for c in self.calls if c[0] not in ("open", "close")])
                if failing == self.fail_at:
                    self.fail_at = None
                    if name == "write":
                        original(args[0], bytes(args[1])[: len(args[1]) // 2])
                    raise OSError(self.error, os.strerror(self.error))
            result = original(*args, **options)
            self.calls.append((name, args, result))
            return result

        return call


def operations(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        disk = Disk(patch)
        save(tmp_path / "count", sample())
    return len([call for call in disk.calls if call[0] not in ("open", "close")])


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_full_disk_at_each_operation(tmp_path, monkeypatch, error):
    count = operations(tmp_path, monkeypatch)
    assert count >= 10
    for at in range(count):
        store = CheckpointStore(tmp_path / f"run{at}")
        store.save(1, sample(1))
        with monkeypatch.context() as patch:
            Disk(patch, fail_at=at, error=error)
            with pytest.raises(StorageError, match="step-00000002: could not be written") as caught:
                store.save(2, sample(2))
        assert ("the disk is full" in str(caught.value)) == (error != errno.EIO)
        assert not list(store.folder.glob(".*"))
        step, state = store.latest()  # a damaged checkpoint would warn, which is an error here
        assert equal(state, sample(step))
        assert step == 1 or at == count - 1  # only the last sync is after the rename


def test_all_files_are_synced_before_the_rename(tmp_path, monkeypatch):
    disk = Disk(monkeypatch)
    save(tmp_path / "a", sample())
    monkeypatch.undo()
    unsynced, opened, renamed = set(), {}, False
    for name, args, result in disk.calls:
        if name == "open":
            opened[result] = os.fspath(args[0])
        elif name == "write":
            unsynced.add(opened[args[0]])
        elif name == "mkdir":
            unsynced.add(os.fspath(args[0]))
        elif name == "fsync":
            unsynced.discard(opened[args[0]])
        elif name == "rename":
            assert not unsynced
            renamed = True
            unsynced.add(str(tmp_path))
    assert renamed
    assert not unsynced  # the parent folder was synced last


def test_short_writes_are_continued(tmp_path, monkeypatch):
    original = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: original(fd, bytes(data)[:1000]))
    save(tmp_path / "a", sample())
    monkeypatch.undo()
    assert equal(load(tmp_path / "a"), sample())


def test_no_pickle(tmp_path, monkeypatch):
    def forbidden(*args, **options):
        raise AssertionError("pickle was used")

    for name in ("load", "loads", "dump", "dumps", "Unpickler", "Pickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, forbidden)
    monkeypatch.setattr(torch, "load", forbidden)
    monkeypatch.setattr(torch, "save", forbidden)
    store = CheckpointStore(tmp_path)
    store.save(1, sample(1))
    assert equal(store.latest()[1], sample(1))


def test_views_and_lazy_tensors_are_saved_by_value(tmp_path):
    """Lazy conjugates and negatives, tied and overlapping tensors, transposed views."""
    plain = torch.randn(6)
    pair = torch.complex(plain, -plain)
    state = {
        "conjugate": pair.conj(),
        "negative": pair.conj().imag,
        "tied": [plain, plain, plain[:4], plain[2:]],
        "expanded": plain[:1].expand(3),
        "transposed": torch.randn(3, 4).T,
        "parameter": nn.Parameter(plain),
    }
    assert state["negative"].is_neg() and state["conjugate"].is_conj()
    save(tmp_path / "a", state)
    found = load(tmp_path / "a")
    for name, value in state.items():
        for one, other in zip(as_list(value), as_list(found[name]), strict=True):
            assert torch.equal(one, other) and not (other.is_neg() or other.is_conj())
    assert len({t.untyped_storage().data_ptr() for t in found["tied"]}) == 4


def as_list(value):
    return value if isinstance(value, list) else [value]


def forged(folder, **change):
    """Changes the manifest and adds a valid seal."""
    content = json.loads((folder / "manifest.json").read_text())
    del content["seal"]
    (folder / "manifest.json").write_bytes(sealed({**content, **change}, end=""))


@pytest.mark.parametrize("version", [True, 0, -3, 0.5, None, "1", 10**90])
def test_an_invalid_format_number_is_rejected(tmp_path, version):
    save(tmp_path / "a", sample())
    forged(tmp_path / "a", format=version)
    with pytest.raises(CheckpointError, match="format: "):
        load(tmp_path / "a")


@pytest.mark.parametrize("name", ["step-" + "9" * 5000, "step-" + "1" * 19, "step-000000001"])
def test_folders_with_other_names_are_ignored(tmp_path, monkeypatch, name):
    store = CheckpointStore(tmp_path)
    store.save(1, sample(1))
    if len(name) < 200:
        (tmp_path / name).mkdir()
    else:  # too long a name for this file system
        odd = tmp_path / name
        monkeypatch.setattr(Path, "iterdir", lambda folder, own=Path.iterdir: [*own(folder), odd])
    assert store.steps() == [1]


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices of POSIX")
@pytest.mark.parametrize("name", ["manifest.json", "state.json", "tensors.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "endless"])
def test_pipes_and_devices_are_rejected_without_blocking(tmp_path, name, kind):
    save(tmp_path / "a", sample())
    (tmp_path / "a" / name).unlink()
    if kind == "pipe":
        os.mkfifo(tmp_path / "a" / name)
    else:
        (tmp_path / "a" / name).symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match="no regular file"):
        load(tmp_path / "a")
