"""Speech of espeak-ng: samples, times of phones, order, errors. Skipped without the library."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from typing import Any

import pytest
import torch

from featurewise.worlds.sound import (
    PHONES,
    Line,
    MissingSynthesiserError,
    SoundError,
    SynthesiserError,
    espeak,
    frame_phones,
    speak,
)
from featurewise.worlds.sound.phones import phone_class


def installed() -> bool:
    try:
        ctypes.CDLL(espeak.LIBRARY)
    except OSError:
        return False
    return True


needs_espeak = pytest.mark.skipif(
    not installed(), reason=f"espeak-ng is not installed: {espeak.INSTALL}"
)
LINES = [Line("en-us+f2", "yellow sun"), Line("en-us+m3", "zero", pitch=70, speed=250)]


@needs_espeak
def test_speech_has_samples_and_phones_in_order() -> None:
    one, other = speak(LINES)
    assert one.rate == other.rate == 22050
    assert 0.5 * one.rate < len(one.samples) < 3 * one.rate
    assert 0.05 < one.samples.abs().max() <= 1
    spoken = [p for p in one.phones if not p.startswith("_")]
    assert spoken == ["j", "E", "l", "oU", "s", "V", "n"]
    assert list(one.starts) == sorted(one.starts)
    assert one.starts[-1] <= len(one.samples)
    assert len(other.samples) < len(one.samples)


@needs_espeak
def test_a_phone_sounds_where_its_event_says() -> None:
    """The s of "yellow sun" has most of the energy above 4 kHz, and the vowel E has little."""
    spoken = speak(LINES[:1])[0]

    def high_share(phone: str) -> float:
        place = spoken.phones.index(phone)
        part = spoken.samples[spoken.starts[place] : spoken.starts[place + 1]]
        power = torch.fft.rfft(part).abs().square()
        limit = round(4000 / spoken.rate * len(part))
        return float(power[limit:].sum() / power.sum())

    assert high_share("s") > 0.5 > 0.1 > high_share("E")


@needs_espeak
def test_the_same_lines_give_the_same_samples() -> None:
    """Samples depend on the lines before, which is why a process of its own renders them."""
    one, again = speak(LINES), speak(LINES)
    assert all(torch.equal(a.samples, b.samples) for a, b in zip(one, again, strict=True))


@needs_espeak
def test_a_voice_that_it_has_not_is_named() -> None:
    with pytest.raises(SynthesiserError, match="no voice 'xx-nowhere'"):
        speak([Line("xx-nowhere", "yes")])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"pitch": 100}, "pitch must be from 0 to 99, got 100"),
        ({"pitch": -1}, "pitch must be from 0 to 99, got -1"),
        ({"speed": 79}, "speed must be from 80 to 450, got 79"),
        ({"text": "a\0b"}, "a zero byte or half of a surrogate pair"),
        ({"text": "\ud800"}, "a zero byte or half of a surrogate pair"),
    ],
)
def test_a_line_that_cannot_be_said_is_refused(line: dict[str, Any], message: str) -> None:
    with pytest.raises(SoundError, match=message):
        Line(**{"voice": "en-us", "text": "yes", **line})


def test_a_missing_library_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak, "LIBRARY", "libnowhere.so.0")
    with pytest.raises(MissingSynthesiserError, match=r"libnowhere.*apt-get install libespeak"):
        speak(LINES)


@needs_espeak
def test_without_dpkg_the_library_says_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    packages = espeak.espeak_versions()
    monkeypatch.setattr(espeak, "installed_versions", lambda packages: {})
    (version,) = espeak.espeak_versions().values()
    assert re.match(r"\d+\.\d+", version)
    if "libespeak-ng1" in packages:
        assert packages["libespeak-ng1"].startswith(re.match(r"[\d.]+\d", version)[0])
    monkeypatch.setattr(espeak, "LIBRARY", "libnowhere.so.0")
    assert espeak.espeak_versions() == {}


@needs_espeak
def test_an_error_while_speech_is_taken_is_raised() -> None:
    """In a process of its own: the library can be initialised once in each."""
    program = (
        "from featurewise.worlds.sound import espeak\n"
        "synthesiser = espeak._Synthesiser(espeak.LIBRARY)\n"
        "synthesiser.say(espeak.Line('en-us', 'yes'))\n"
        "def fail(samples, count, events): raise UnicodeError('odd name')\n"
        "synthesiser._append = fail\n"
        "try: synthesiser.say(espeak.Line('en-us', 'yes'))\n"
        "except espeak.SynthesiserError as error: print(error)\n"
        "del synthesiser._append\n"
        "assert len(synthesiser.say(espeak.Line('en-us', 'yes'))[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "what it said of 'yes' cannot be read" in done.stdout and "odd name" in done.stdout
    assert done.returncode == 0 and not done.stderr


def test_frames_have_the_phone_at_their_centre() -> None:
    phones, starts = ["D", "@2", ";", "k", "_:"], [10.0, 20.0, 25.0, 30.0, 40.0]
    centres = [0.0, 9.9, 10.0, 19.0, 20.5, 26.0, 30.0, 39.9, 40.0, 90.0]
    found = frame_phones(phones, starts, centres)
    expected = ["_", "_", "D", "D", "@", "@", "k", "k", "_", "_"]
    assert [PHONES[i] for i in found.tolist()] == expected


def test_an_unknown_phone_is_named() -> None:
    with pytest.raises(SoundError, match="phone 'Q' is unknown; there is _, p, b"):
        frame_phones(["Q"], [0.0], [1.0])


def test_phones_are_different_and_variants_have_their_class() -> None:
    assert len(set(PHONES)) == len(PHONES)
    assert [phone_class(p) for p in PHONES] == list(range(len(PHONES)))
    assert PHONES[phone_class("aI3")] == "aI@" and PHONES[phone_class("_!")] == "_"
