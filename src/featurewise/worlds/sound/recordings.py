"""Reads recordings of spoken digits in the layout of the Free Spoken Digit Dataset.

A folder of WAV files ``{digit}_{speaker}_{take}.wav``: 8 kHz, one channel of 16-bit samples. By
Zohar Jackson and contributors, CC BY-SA 4.0; the data set is not part of this library.
"""

from __future__ import annotations

import hashlib
import io
import re
import wave
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from featurewise.common.cache import cache_folder
from featurewise.common.errors import wrap_errors
from featurewise.common.opening import read_bytes
from featurewise.worlds.sound.errors import RecordingError

RATE: Final = 8000
FOLDER: Final = "spoken-digits"
"""Where the cache folder has the recordings, unless a path is given."""

_NAME: Final = re.compile(r"([0-9])_([a-z]+)_([0-9]{1,3})")
_LONGEST: Final = 1 << 20  # bytes of a file; the longest published one has 37 kB


@dataclass(frozen=True)
class Recording:
    """One spoken digit.

    Attributes:
        samples: from -1 to 1, 8,000 a second.
        digit: from 0 to 9.
        speaker: name.
        take: number of the recording of this digit by this speaker.
    """

    samples: Float[Tensor, " N"]
    digit: int
    speaker: str
    take: int


def spoken_digits(path: Path | str = "") -> tuple[Recording, ...]:
    """All recordings, ordered by speaker, take and digit.

    Args:
        path: a folder of recordings, or one that has them in a folder ``recordings``, as the
            repository of the data set; empty for the folder ``spoken-digits`` of the cache folder.

    Raises:
        RecordingError: the folder is missing (the message says where to get it) or has no
            recording, or a file is malformed.
    """
    return _all(_located(path))


def recording_versions(path: Path | str = "") -> dict[str, str]:
    """Number of the recordings with one SHA-256 of all of them; empty where they are missing.

    Raises:
        RecordingError: a file cannot be read.
    """
    folder = _located(path)
    files = sorted(folder.glob("*.wav"))
    if not files:
        return {}
    digest = hashlib.sha256()
    for file in files:
        with wrap_errors(file, RecordingError, RecordingError):
            content = read_bytes(file, limit=_LONGEST)
        digest.update(hashlib.sha256(content).digest())
    return {"spoken digits": f"{len(files)} recordings, SHA-256 {digest.hexdigest()}"}


def read_recording(path: Path | str) -> Recording:
    """Reads one file.

    Raises:
        RecordingError: its name or its content is not as in the data set; the message begins with
            the path and says what would be right.
    """
    name = _NAME.fullmatch(Path(path).stem)
    if name is None:
        raise RecordingError(
            f"{path}: the name must be that of digit, speaker and take, as 7_george_12.wav"
        )
    with wrap_errors(path, RecordingError, RecordingError, what="is not a WAV file"):
        content = read_bytes(path, limit=_LONGEST)
        with wave.open(io.BytesIO(content)) as file:
            found = file.getframerate(), file.getnchannels(), 8 * file.getsampwidth()
            if found != (RATE, 1, 16):
                raise RecordingError(
                    f"{path}: must have {RATE} samples a second, 1 channel and 16 bits, has "
                    f"{found[0]}, {found[1]} and {found[2]}"
                )
            count, data = file.getnframes(), file.readframes(file.getnframes())
    if count == 0:
        raise RecordingError(f"{path}: has no samples")
    if len(data) != 2 * count:
        raise RecordingError(f"{path}: has {len(data) // 2} of {count} samples that it must have")
    samples = torch.from_numpy(np.frombuffer(data, dtype="<i2").astype(np.float32) / 32768)
    return Recording(samples, int(name[1]), name[2], int(name[3]))


def _located(path: Path | str) -> Path:
    folder = Path(path) if path else cache_folder() / FOLDER
    inner = folder / "recordings"
    return inner if inner.is_dir() else folder


@lru_cache(maxsize=2)
def _all(folder: Path) -> tuple[Recording, ...]:
    files = sorted(folder.glob("*.wav"))
    if not files:
        raise RecordingError(
            f"{folder}: has no recordings: get github.com/Jakobovski/free-spoken-digit-dataset and "
            "put its folder recordings there"
        )
    found = [read_recording(file) for file in files]
    return tuple(sorted(found, key=lambda each: (each.speaker, each.take, each.digit)))
