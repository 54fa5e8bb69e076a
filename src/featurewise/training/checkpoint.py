"""Checkpoints: folders that are written atomically and loaded only if their hashes match.

Saving writes the files into a temporary folder next to the target, syncs each file, adds a
manifest (SHA-256 and size of every file, format version), renames the folder and syncs the parent.
A reader therefore sees the complete checkpoint or none, even if the writer is killed.

Loading reads every file once and compares the hashes before parsing: safetensors files have no
checksum of their own, so a flipped bit would load silently.

``tensors.safetensors`` holds the tensors, ``state.json`` everything else, ``manifest.json`` the
hashes.
"""

from __future__ import annotations

import errno
import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch

from featurewise.common.errors import wrap_errors
from featurewise.common.files import sha256, write_folder
from featurewise.common.json import MAX_BYTES, Node, failing, loads
from featurewise.common.opening import read_bytes
from featurewise.common.seal import sealed, unsealed
from featurewise.common.text import short
from featurewise.training.errors import CheckpointError, CheckpointWarning, FormatVersionError
from featurewise.training.facts import check_format
from featurewise.training.files import storage_errors
from featurewise.training.state import State, flatten, unflatten

FORMAT = 1
_MANIFEST, _STATE, _TENSORS = "manifest.json", "state.json", "tensors.safetensors"
_MOST = 1 << 62  # upper bound of a file size in a manifest, in bytes
# Temporary folders of interrupted saves (``.writing-*``: of version 0.1) and removals.
_TEMPORARY = (".step-*.part", ".writing-*", ".removing-*")


def save(folder: Path | str, state: State) -> None:
    """Saves a nested state (see `featurewise.training.state`) as a new folder.

    Args:
        folder: must not exist; its parent must exist.
        state: nested dicts, lists, tuples, tensors, strings, numbers, booleans, None.

    Raises:
        CheckpointError: the folder exists already, or the state contains another type.
        StorageError: the disk is full or not writable. No partial checkpoint remains, and
            earlier checkpoints are unchanged.
    """
    folder = Path(folder)
    if folder.exists():
        raise CheckpointError(f"{folder}: exists already; a checkpoint is never overwritten")
    text, tensors = flatten(state)
    files = {_STATE: text.encode(), _TENSORS: safetensors.torch.save(tensors)}
    files[_MANIFEST] = sealed({"files": _listing(files), "format": FORMAT}, end="")
    with storage_errors(folder, "Free some space and resume; older checkpoints are intact."):
        write_folder(folder, files, replace=False)


def load(folder: Path | str) -> dict[str, Any]:
    """Loads a checkpoint; all hashes are verified before any file is parsed.

    Returns:
        The state as it was saved; tensors on the CPU.

    Raises:
        CheckpointError: the checkpoint is missing or damaged, or a file is missing or
            unexpected. The message begins with the path and names the file.
        FormatVersionError: undamaged, but of a newer format.
    """
    folder = Path(folder)
    files = _verified(folder)
    with wrap_errors(folder, CheckpointError, CheckpointError, what="is not a checkpoint"):
        tensors = safetensors.torch.load(files[_TENSORS])
        return unflatten(files[_STATE].decode(), tensors)


def _listing(files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """The entries of the manifest: size and SHA-256 of each file."""
    return {
        name: {"bytes": len(content), "sha256": sha256(content)}
        for name, content in sorted(files.items())
    }


def _verified(folder: Path) -> dict[str, bytes]:
    """The contents of all files but the manifest, after comparing sizes and hashes."""
    try:
        names = sorted(path.name for path in folder.iterdir())
        if _MANIFEST not in names:
            raise CheckpointError(f"{folder}: is not a checkpoint: it has no {_MANIFEST}")
        listed = _read_manifest(folder, read_bytes(folder / _MANIFEST, limit=MAX_BYTES))
        files = {}
        for name in sorted(listed.keys() | {*names} - {_MANIFEST}):
            if name not in names:
                raise CheckpointError(f"{folder}: {name} is missing")
            if name not in listed:
                raise CheckpointError(f"{folder}: {name} is not part of the checkpoint")
            files[name] = read_bytes(folder / name, limit=listed[name]["bytes"].integer(0, _MOST))
            if _listing({name: files[name]})[name] != listed[name].value:
                raise CheckpointError(f"{folder}: {name} is damaged")
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise CheckpointError(f"{folder}: {name} is damaged: it {error.strerror}") from error
        raise CheckpointError(f"{folder}: cannot be read: {error.strerror or error}") from error
    if files.keys() != {_STATE, _TENSORS}:
        raise CheckpointError(f"{folder}: is not a checkpoint: it has no {_STATE} or {_TENSORS}")
    return files


def _read_manifest(folder: Path, content: bytes) -> dict[str, Node]:
    """The file entries of a manifest, after checking its seal and format."""
    try:
        manifest_content = unsealed(content, Node(loads(content)).mapping(), end="")
    except ValueError as error:
        raise CheckpointError(f"{folder}: {_MANIFEST} is damaged") from error
    manifest = Node(manifest_content, _MANIFEST, failing(CheckpointError, folder))
    check_format(manifest["format"], FORMAT, folder)
    return manifest["files"].entries()


class CheckpointStore:
    """The numbered checkpoints of one run: ``step-00000123`` holds the state after 123 steps.

    One writer at a time, readers at any time. Each save first removes the temporary folders of
    interrupted saves.

    Args:
        folder: created if missing.
        keep: number of newest checkpoints to keep; at least 2, so that there is an older one to
            fall back to when the newest is damaged.

    Raises:
        CheckpointError: `keep` is below 2.
        StorageError: the folder cannot be created.
    """

    def __init__(self, folder: Path | str, *, keep: int = 3) -> None:
        if keep < 2:
            raise CheckpointError(f"{folder}: keep must be at least 2, not {keep}")
        self.folder = Path(folder)
        self.keep = keep
        with storage_errors(self.folder, "Choose a folder that can be written."):
            self.folder.mkdir(parents=True, exist_ok=True)

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, damaged ones included, in ascending order."""
        names = (re.fullmatch(r"step-([0-9]{8,18})", path.name) for path in self.folder.iterdir())
        found = [name for name in names if name and self.path(int(name[1])).name == name[0]]
        return sorted(int(name[1]) for name in found)

    def path(self, step: int) -> Path:
        """The folder of the checkpoint of `step`, whether it exists or not."""
        return self.folder / f"step-{step:08d}"

    def save(self, step: int, state: State) -> Path:
        """Saves `state` as a new checkpoint, then removes the oldest beyond `keep`.

        Raises:
            CheckpointError: this step has a checkpoint already.
            StorageError: see `save`; no older checkpoint was removed.
        """
        path = self.path(step)
        for leftover in [path for each in _TEMPORARY for path in self.folder.glob(each)]:
            shutil.rmtree(leftover, ignore_errors=True)
        save(path, {"step": step, "state": state})
        for old in self.steps()[: -self.keep]:
            self._remove(old)
        return path

    def load(self, step: int) -> dict[str, Any]:
        """The state saved after `step` steps.

        Raises:
            CheckpointError: see `load`; also if the folder contains the state of another step.
        """
        content = Node(load(self.path(step)), "", failing(CheckpointError, self.path(step)))
        content.mapping(("step", "state"))
        if content["step"].value != step:
            raise CheckpointError(f"{self.path(step)}: holds step {short(content['step'].value)}")
        return content["state"].mapping()

    def latest(self) -> tuple[int, dict[str, Any]] | None:
        """The newest undamaged checkpoint and its step; None if there is none.

        Damaged checkpoints are skipped, each with a `CheckpointWarning` that says why.

        Raises:
            FormatVersionError: the newest has a newer format; it is not damaged, so an older one
                must not replace it.
        """
        for step in reversed(self.steps()):
            try:
                return step, self.load(step)
            except FormatVersionError:
                raise
            except CheckpointError as error:
                warnings.warn(
                    f"{error}; falling back to the one before", CheckpointWarning, stacklevel=2
                )
        return None

    def discard_after(self, step: int) -> None:
        """Removes all checkpoints after `step`, from which the run continues."""
        for later in [found for found in self.steps() if found > step]:
            self._remove(later)

    def _remove(self, step: int) -> None:
        # Renamed first: a partly removed checkpoint must not look like a damaged one.
        removing = self.folder / f".removing-{self.path(step).name}"
        shutil.rmtree(removing, ignore_errors=True)
        self.path(step).rename(removing)
        shutil.rmtree(removing, ignore_errors=True)
