"""What hinders writing is said in words."""

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
def test_what_hinders_writing_is_said_in_words(tmp_path: Path, number: int, reason: str) -> None:
    with pytest.raises(StorageError) as told, storage_errors(tmp_path, "Free some space."):
        raise OSError(number, os.strerror(number))
    assert str(told.value) == f"{tmp_path}: could not be written: {reason}. Free some space."
