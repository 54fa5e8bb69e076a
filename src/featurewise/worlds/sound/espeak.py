"""Speech with the time of every phone, from the library of espeak-ng.

The library is loaded by `ctypes` in a process of its own, as what it renders depends on all that it
rendered before: the same lines in the same order always give the same samples. It is not part of
this project and has the licence GPL-3.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from safetensors.numpy import load, save
from torch import Tensor

from featurewise.common.errors import error_text
from featurewise.worlds.packages import installed_versions
from featurewise.worlds.sound.errors import MissingSynthesiserError, SoundError, SynthesiserError

DEBIAN_PACKAGES: Final = ("libespeak-ng1", "espeak-ng-data")
"""Debian's packages of the synthesiser and of its voices."""

INSTALL: Final = f"apt-get install {' '.join(DEBIAN_PACKAGES)}"
"""The line that installs them."""

LIBRARY = "libespeak-ng.so.1"
"""Name of the shared library."""

#: Program of a process of its own, as every other use of the library.
_PRINT_VERSION: Final = """
import ctypes, sys
info = ctypes.CDLL(sys.argv[1]).espeak_Info
info.argtypes, info.restype = (ctypes.c_void_p,), ctypes.c_char_p
print(info(None).decode())
"""

# Of espeak-ng's speak_lib.h
_SYNCHRONOUS, _PHONEME_EVENTS, _NO_EXIT, _UTF8, _RATE, _PITCH, _PHONEME = 2, 1, 0x8000, 1, 1, 3, 7
_SECONDS: Final = 60.0  # that a job may take, and one more for each line
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_MISSING: Final = 3  # exit status of a process that found no library


@dataclass(frozen=True, slots=True)
class Line:
    """Something to say.

    Attributes:
        voice: of espeak-ng, with a variant behind ``+``, as in "en-us+f3".
        text: in the language of the voice.
        pitch: from 0 to 99; 50 is that of the voice.
        speed: in words a minute, from 80 to 450.

    Raises:
        SoundError: a number is out of its range, or the text contains a character that cannot be
            given to espeak-ng.
    """

    voice: str
    text: str
    pitch: int = 50
    speed: int = 175

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("pitch", self.pitch, 0, 99),
            ("speed", self.speed, 80, 450),
        ):
            if not low <= value <= high:
                raise SoundError(f"{name} must be from {low} to {high}, got {value}")
        if "\0" in self.voice + self.text or _SURROGATE.search(self.voice + self.text):
            raise SoundError(f"a zero byte or half of a surrogate pair cannot be said: {self!r}")


@dataclass(frozen=True)
class Spoken:
    """Rendered speech.

    Attributes:
        samples: from -1 to 1.
        rate: samples a second.
        phones: mnemonics of espeak-ng, in the order in which they are spoken.
        starts: index of the first sample of each phone, not falling.
    """

    samples: Float[Tensor, " N"]
    rate: int
    phones: tuple[str, ...]
    starts: tuple[int, ...]


def speak(lines: Sequence[Line]) -> list[Spoken]:
    """Speech of all lines, in order.

    Args:
        lines: to say. The samples of one depend on those before it, too.

    Raises:
        MissingSynthesiserError: espeak-ng is not installed.
        SynthesiserError: it has no such voice, it failed, or it hangs: it may take a minute, and
            a second for each line.
    """
    job = json.dumps([asdict(line) for line in lines])
    command = [sys.executable, "-m", __name__, LIBRARY]
    # The process finds this module where this one did, wherever the caller put it.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            command,
            input=job.encode(),
            capture_output=True,
            check=False,
            env=environment,
            timeout=_SECONDS + len(lines),
        )
    except subprocess.TimeoutExpired as error:
        raise SynthesiserError(
            f"espeak-ng took more than {error.timeout:g} s for {len(lines)} lines"
        ) from error
    said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
    if done.returncode == _MISSING:
        raise MissingSynthesiserError(f"espeak-ng is not installed ({LIBRARY}): {INSTALL}")
    if done.returncode:
        raise SynthesiserError(f"espeak-ng failed: {said[0] if said else done.returncode}")
    return _unpacked(load(done.stdout), len(lines))


def espeak_versions() -> dict[str, str]:
    """Package -> version, of those that are installed; without ``dpkg`` what the library says.

    Empty where there is no library.
    """
    return installed_versions(DEBIAN_PACKAGES) or _library_version()


def _library_version() -> dict[str, str]:
    command = [sys.executable, "-c", _PRINT_VERSION, LIBRARY]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return {LIBRARY: found} if found else {}


def _unpacked(found: dict[str, NDArray[np.generic]], count: int) -> list[Spoken]:
    return [
        Spoken(
            torch.from_numpy(found[f"samples{i}"].astype(np.float32) / 32768),
            int(found["rate"][0]),
            tuple(found[f"phones{i}"].tobytes().decode().split()),
            tuple(found[f"starts{i}"].tolist()),
        )
        for i in range(count)
    ]


# What follows runs in the process of the synthesiser alone.


class _Name(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("pointer", ctypes.c_void_p), ("text", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Name),
    )


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class _Synthesiser:
    """The loaded library, which can be initialised once in a process."""

    def __init__(self, library: str) -> None:
        self.library = ctypes.CDLL(library)
        self.library.espeak_Synth.argtypes = (
            *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint),
            *(ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p),
        )
        options = _PHONEME_EVENTS | _NO_EXIT
        self.rate = self.library.espeak_Initialize(_SYNCHRONOUS, 0, None, options)
        if self.rate <= 0:
            raise SynthesiserError("it cannot be initialised: are its voices installed?")
        self._chunks: list[NDArray[np.generic]] = []
        self._events: list[tuple[str, int]] = []
        self._failure: Exception | None = None
        self._callback = _CALLBACK(self._take)
        self.library.espeak_SetSynthCallback(self._callback)

    def _take(self, samples: Any, count: int, events: Any) -> int:
        """The callback: 0 to continue, 1 to stop. ctypes would drop an error that it raises."""
        try:
            self._append(samples, count, events)
        except Exception as error:
            self._failure = error
            return 1
        return 0

    def _append(self, samples: Any, count: int, events: Any) -> None:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type:
            event = events[index]
            if event.type == _PHONEME:
                self._events.append((bytes(event.id.text).decode() or "_", event.sample))
            index += 1

    def say(self, line: Line) -> tuple[NDArray[np.generic], list[tuple[str, int]]]:
        """Samples, and (phone, its first sample) in order."""
        self._chunks, self._events, self._failure = [], [], None
        if self.library.espeak_SetVoiceByName(line.voice.encode()):
            raise SynthesiserError(f"it has no voice {line.voice!r}")
        self.library.espeak_SetParameter(_RATE, line.speed, 0)
        self.library.espeak_SetParameter(_PITCH, line.pitch, 0)
        text = line.text.encode() + b"\0"
        if self.library.espeak_Synth(text, len(text), 0, 1, 0, _UTF8, None, None):
            raise SynthesiserError(f"it did not say {line.text!r}")
        self.library.espeak_Synchronize()
        if self._failure is not None:
            raise SynthesiserError(
                f"what it said of {line.text!r} cannot be read: {error_text(self._failure)}"
            ) from self._failure
        if not self._chunks:
            raise SynthesiserError(f"it made no sound of {line.text!r}")
        return np.concatenate(self._chunks), self._events


def _main(library: str) -> int:
    """Reads lines as JSON from the standard input, and writes safetensors to the output."""
    lines = [Line(**each) for each in json.load(sys.stdin)]
    try:
        synthesiser = _Synthesiser(library)
    except OSError:
        return _MISSING
    except SynthesiserError as error:
        print(error, file=sys.stderr)
        return 1
    found: dict[str, NDArray[np.generic]] = {"rate": np.array([synthesiser.rate])}
    for i, line in enumerate(lines):
        try:
            samples, events = synthesiser.say(line)
        except SynthesiserError as error:
            print(error, file=sys.stderr)
            return 1
        found[f"samples{i}"] = samples
        names = " ".join(name for name, _ in events).encode()
        found[f"phones{i}"] = np.frombuffer(names, dtype=np.uint8)
        found[f"starts{i}"] = np.array([start for _, start in events], dtype=np.int64)
    sys.stdout.buffer.write(save(found))
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
