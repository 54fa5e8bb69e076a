"""Log-mel features of sound, and resampling, with torch alone."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from featurewise.worlds.sound.errors import SoundError

MELS: Final = 40
WINDOW: Final = 256
"""Samples of a frame."""

HOP: Final = 128
"""Samples from one frame to the next."""

_BINS: Final = 512  # length of the Fourier transform, zero-padded
_FLOOR: Final = 1e-8


def _check_channels(samples: Tensor) -> None:
    if samples.ndim != 1:
        raise SoundError(
            f"sound has one axis, its samples, got shape {tuple(samples.shape)}; take one channel, "
            "or the mean of all"
        )


def resample(samples: Float[Tensor, " N"], rate: int, target: int) -> Float[Tensor, " M"]:
    """Sound at another rate, by its Fourier series: M = round(N * target / rate) samples.

    Frequencies above half of the lower rate are removed. The sound is taken as periodic, so that
    its ends affect each other unless it begins and ends with silence.

    Raises:
        SoundError: a rate is not positive, or there are several channels.
    """
    _check_channels(samples)
    if rate < 1 or target < 1:
        raise SoundError(f"rates must be 1 or more samples a second, got {rate} and {target}")
    length = round(len(samples) * target / rate)
    if length == len(samples) or not length:
        return samples[:length].clone()
    spectrum = torch.fft.rfft(samples.double())
    kept = min(len(samples), length) // 2 + 1
    changed = spectrum.new_zeros(length // 2 + 1)
    changed[:kept] = spectrum[:kept]
    scaled: Tensor = torch.fft.irfft(changed, length) * (length / len(samples))
    return scaled.to(samples.dtype)


def log_mel(samples: Float[Tensor, " N"], rate: int = 8000) -> Float[Tensor, "T 40"]:
    """Logarithm of the energy in 40 mel filters, one row for each whole frame.

    Frames of `WINDOW` samples begin every `HOP` samples and are multiplied by a Hann window; the
    energies are at least 1e-8. Frame t is centred at sample ``t * HOP + WINDOW / 2``.

    Args:
        samples: from -1 to 1, at least one frame.
        rate: samples a second.

    Raises:
        SoundError: there are fewer samples than one frame has, several channels, or a rate for
            which a filter is empty, see `mel_filters`.
    """
    _check_channels(samples)
    if len(samples) < WINDOW:
        raise SoundError(f"a frame has {WINDOW} samples, got {len(samples)}")
    frames = samples.unfold(0, WINDOW, HOP) * torch.hann_window(WINDOW, dtype=samples.dtype)
    power = torch.fft.rfft(frames, _BINS).abs().square()
    energies: Tensor = power @ mel_filters(rate).to(power.dtype)
    return energies.clamp_min(_FLOOR).log()


@lru_cache(maxsize=4)
def mel_filters(rate: int) -> Float[Tensor, "F 40"]:
    """Triangular filters, equally wide in mel, from 60 Hz to 95 % of half the rate.

    ``mel(f) = 2595 log10(1 + f / 700)``; each filter is 1 in its middle and 0 at the middles of its
    neighbours.

    Raises:
        SoundError: a filter would be empty, as it lies between two frequencies of the Fourier
            transform; at rates from 138 to 116,000 none is.
    """
    if rate * 0.475 <= 60:
        raise SoundError(f"filters begin at 60 Hz, which needs 138 samples a second, got {rate}")
    low, high = (2595 * math.log10(1 + f / 700) for f in (60.0, 0.475 * rate))
    mels = torch.linspace(low, high, MELS + 2, dtype=torch.float64)
    edges = 700 * (10 ** (mels / 2595) - 1)
    bins = torch.arange(_BINS // 2 + 1, dtype=torch.float64)[:, None] * rate / _BINS
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters: Tensor = torch.minimum(rising, falling).clamp_min(0)
    if empty := (~filters.any(0)).nonzero().flatten().tolist():
        raise SoundError(
            f"at {rate} samples a second {len(empty)} of {MELS} filters are empty; use resample to "
            "a rate from 138 to 116,000"
        )
    return filters


def pitch(samples: Float[Tensor, " N"], rate: int, low: float = 60.0, high: float = 400.0) -> float:
    """Fundamental frequency in Hz: the median over loud frames of that with the best lag.

    The autocorrelation of each frame of about 64 ms is divided by that of its Hann window
    (Boersma 1993). The lag of a frame is that of the first peak which is at least 0.85 times the
    highest one, as multiples of the period have peaks that are as high. Frames with less than a
    tenth of the energy of the loudest are left out.

    Args:
        samples: at least one frame, not all equal.
        rate: samples a second.
        low: least frequency in Hz, so that a frame has several periods.
        high: largest one.

    Raises:
        SoundError: there are fewer samples than one frame has, several channels, or only silence.
    """
    _check_channels(samples)
    size = round(0.064 * rate)
    if len(samples) < size:
        raise SoundError(f"a frame has {size} samples, got {len(samples)}")
    frames = samples.double().unfold(0, size, size // 2)
    frames = frames - frames.mean(1, keepdim=True)
    energy = frames.square().sum(1)
    if not energy.max() > 0:
        raise SoundError("silence has no pitch")
    frames = frames[energy >= 0.1 * energy.max()]
    window = torch.hann_window(size, dtype=torch.float64)
    own, taper = (
        torch.fft.irfft(torch.fft.rfft(each, 2 * size).abs().square())[..., :size]
        for each in (frames * window, window)
    )
    first, last = math.floor(rate / high), math.ceil(rate / low)
    curve = (own / own[:, :1] / (taper / taper[0]))[:, first - 1 : last + 2]
    middle = curve[:, 1:-1]
    peak = (middle >= curve[:, :-2]) & (middle >= curve[:, 2:])
    peak &= middle >= 0.85 * middle.amax(1, keepdim=True)
    lag = torch.where(peak.any(1), peak.int().argmax(1), middle.argmax(1))
    before, here, after = (curve.gather(1, (lag + n)[:, None])[:, 0] for n in range(3))
    bend = 2 * here - before - after  # of the parabola through three points, around its top
    shift = torch.where(bend > 0, (after - before) / (2 * bend.clamp_min(1e-9)), 0).clamp(-0.5, 0.5)
    return float((rate / (first + lag + shift)).median())
