"""Errors of writing files give their reason."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from featurewise.training.errors import StorageError
from featurewise.training.files import storage_errors


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.EDQUOT, "the disk is full"), (errno.EROFS, "Read-only file system")],
)
def test_a_storage_error_gives_its_reason(tmp_path: Path, number: int, reason: str) -> None:
    with pytest.raises(StorageError) as caught, storage_errors(tmp_path, "Free some space."):
        raise OSError(number, os.strerror(number))
    assert str(caught.value) == f"{tmp_path}: could not be written: {reason}. Free some space."
