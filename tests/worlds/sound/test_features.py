"""Log-mel features against loops in float64, and resampling of sines."""

from __future__ import annotations

import math

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from featurewise.worlds.sound import SoundError, log_mel, mel_filters, pitch, resample
from featurewise.worlds.sound.features import HOP, MELS, WINDOW


def hz_to_mel(f: float) -> float:
    return 2595 * math.log10(1 + f / 700)


def filter_height(number: int, f: float, rate: int) -> float:
    """A triangle, as the docstring says."""
    low, high = hz_to_mel(60), hz_to_mel(0.475 * rate)
    edges = [
        700 * (10 ** ((low + (high - low) * i / (MELS + 1)) / 2595) - 1) for i in range(MELS + 2)
    ]
    left, middle, right = edges[number : number + 3]
    if not left < f < right:
        return 0.0
    return (f - left) / (middle - left) if f < middle else (right - f) / (right - middle)


def test_filters_are_triangles_in_mel() -> None:
    filters = mel_filters(8000)
    assert filters.shape == (257, MELS)
    for k in range(0, 257, 3):
        for number in range(MELS):
            expected = filter_height(number, k * 8000 / 512, 8000)
            assert filters[k, number].item() == pytest.approx(expected, abs=1e-9)
    assert (filters.sum(0) > 0.5).all(), "every filter hears something"


@pytest.mark.parametrize("rate", [138, 500, 8000, 22050, 44100, 116_000])
def test_every_filter_hears_something(rate: int) -> None:
    assert mel_filters(rate).any(0).all()


@pytest.mark.parametrize("rate", [127, 137, 117_000, 192_000])
def test_a_rate_with_empty_filters_is_refused(rate: int) -> None:
    with pytest.raises(SoundError, match=rf"at {rate} .* \d+ of 40 filters are empty.*resample"):
        log_mel(torch.zeros(1000), rate)


@pytest.mark.parametrize("rate", [126, 0, -8000])
def test_a_rate_below_the_first_filter_is_refused(rate: int) -> None:
    with pytest.raises(SoundError, match=f"needs 138 samples a second, got {rate}"):
        log_mel(torch.zeros(1000), rate)


def loop(samples: Tensor) -> list[list[float]]:
    rows = []
    for start in range(0, len(samples) - WINDOW + 1, HOP):
        frame = [
            samples[start + n].item() * (0.5 - 0.5 * math.cos(2 * math.pi * n / WINDOW))
            for n in range(WINDOW)
        ]
        padded = torch.tensor(frame + [0.0] * 256, dtype=torch.complex128)
        power = torch.fft.fft(padded).abs().square()[:257].tolist()
        row = []
        for number in range(MELS):
            heights = (filter_height(number, k * 8000 / 512, 8000) for k in range(257))
            energy = sum(h * p for h, p in zip(heights, power, strict=True))
            row.append(math.log(max(energy, 1e-8)))
        rows.append(row)
    return rows


def test_log_mel_is_the_loop() -> None:
    samples = torch.randn(600, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    samples[300:] *= 1e-7  # below the floor
    found = log_mel(samples)
    assert found.shape == (3, MELS)
    torch.testing.assert_close(found, torch.tensor(loop(samples), dtype=torch.float64))


def test_two_channels_are_refused() -> None:
    for function in (log_mel, lambda sound: resample(sound, 8000, 4000)):
        with pytest.raises((SoundError, TypeCheckError)) as found:
            function(torch.zeros(2, 1000))
        assert isinstance(found.value, TypeCheckError) or "take one channel" in str(found.value)


def test_less_than_a_frame_is_refused() -> None:
    with pytest.raises(SoundError, match="a frame has 256 samples, got 255"):
        log_mel(torch.zeros(255))


@pytest.mark.parametrize(("rate", "target"), [(22050, 8000), (8000, 22050), (8000, 8000)])
def test_a_sine_keeps_its_frequency(rate: int, target: int) -> None:
    """440 Hz, and a window that is zero at both ends, as at the ends of speech."""

    def sound(r: int) -> Tensor:
        t = torch.arange(r, dtype=torch.float64) / r
        return torch.sin(2 * math.pi * 440 * t) * torch.sin(math.pi * t).square()

    found = resample(sound(rate), rate, target)
    torch.testing.assert_close(found, sound(target), rtol=0, atol=1e-5)


def test_what_the_lower_rate_cannot_hold_is_removed() -> None:
    t = torch.arange(22050, dtype=torch.float64) / 22050
    assert resample(torch.sin(2 * math.pi * 6000 * t), 22050, 8000).abs().max() < 1e-6


def test_rates_are_positive() -> None:
    with pytest.raises(SoundError, match="rates must be 1 or more"):
        resample(torch.zeros(10), 0, 8000)


@pytest.mark.parametrize("frequency", [62.0, 77.0, 98.0, 160.0, 235.0, 330.0])
@pytest.mark.parametrize("rate", [4000, 8000])
def test_the_pitch_of_a_buzz(frequency: float, rate: int) -> None:
    """All harmonics, and the same without the first two: the pitch is that of the period."""
    t = torch.arange(rate) / rate
    for first in (1, 3):
        numbers = range(first, int(rate / 2 / frequency))
        tones = [torch.cos(2 * math.pi * n * frequency * t + n * n) for n in numbers]
        assert pitch(torch.stack(tones).sum(0), rate) == pytest.approx(frequency, rel=0.01)


def test_quiet_frames_have_no_say_in_the_pitch() -> None:
    t = torch.arange(4000) / 4000
    low, high = ((f * t) % 1 - 0.5 for f in (100.0, 250.0))
    assert pitch(torch.cat((low, 0.2 * high, 0.2 * high)), 4000) == pytest.approx(100, rel=0.01)


def test_sound_without_a_pitch_is_refused() -> None:
    with pytest.raises(SoundError, match="a frame has 256 samples, got 255"):
        pitch(torch.zeros(255), 4000)
    with pytest.raises(SoundError, match="silence has no pitch"):
        pitch(torch.full((4000,), 0.3), 4000)
    with pytest.raises((SoundError, TypeCheckError), match="take one channel|Type-check error"):
        pitch(torch.zeros(2, 1000), 4000)
