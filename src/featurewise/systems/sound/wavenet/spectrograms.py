"""Figure of WaveNet: spectrograms of a test clip and of generated ones."""

from __future__ import annotations

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from featurewise.study.figures import as_image, figure
from featurewise.systems.sound.wavenet.experiment import evaluated, sampled, waves
from featurewise.systems.sound.wavenet.method import Config
from featurewise.training.steppers import Supervised
from featurewise.worlds.sound.waves import RATE, WaveBatch, to_samples


def draw(trained: Supervised, config: Config) -> Image.Image:
    """Spectrograms of a test clip, and of clips under its phones and two speakers."""
    test = evaluated(config)
    phones = test.phones[:1].expand(2, -1)
    codes = WaveBatch(test.levels[:2], test.speakers[[0, -1]], phones)
    with trained.evaluating() as network:
        made = sampled(network, codes, "figure")
    names = waves(config, "train", config.per_voice).names
    first, last = (names[speaker] for speaker in codes.speakers.tolist())
    plot = figure(8.0, 2.8)
    rows = (("real", test.levels[0]), *zip((first, last), made.levels, strict=True))
    for axes, (title, levels) in zip(
        plot.subplots(1, 3, sharey=True), rows, strict=True
    ):
        shown = spectrogram(to_samples(levels))
        extent = (0, len(levels) / RATE, 0, RATE / 2000)
        axes.imshow(
            shown.T.numpy(), origin="lower", aspect="auto", extent=extent, cmap="magma"
        )
        axes.set(title=title, xlabel="time (s)")
    plot.axes[0].set_ylabel("frequency (kHz)")
    return as_image(plot)


def spectrogram(samples: Float[Tensor, " T"]) -> Float[Tensor, "N F"]:
    """Log magnitudes of windows of 64 ms every 8 ms."""
    frames = samples.unfold(0, 256, 32) * torch.hann_window(256)
    found: Tensor = torch.fft.rfft(frames).abs().clamp_min(1e-2).log()
    return found
