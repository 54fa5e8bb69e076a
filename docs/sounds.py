"""Sounds of the page on sound, from the runs of studies.

python docs/sounds.py runs/audio_effect-small runs/wavenet-small
"""

from __future__ import annotations

import sys
import wave
from pathlib import Path

import torch

from featurewise.common.rng import seeded_rng
from featurewise.study.model import load_network
from featurewise.systems.sound import audio_effect, wavenet
from featurewise.systems.sound.wavenet.generate import generate
from featurewise.worlds.sound import resample
from featurewise.worlds.sound import waves as levels
from featurewise.worlds.sound.effects import made_tracks, rendered
from featurewise.worlds.sound.recordings import RATE

FOLDER = Path(__file__).parent / "sounds"
ARMS = ("frames", "mean", "input")
VOICES = ("john", "anika")
SECONDS = 1.5


def write(name: str, samples: torch.Tensor) -> None:
    """A WAV file of 16 bits."""
    with wave.open(str(FOLDER / f"{name}.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((samples.clamp(-1, 1) * 32767).short().numpy().tobytes())


def effects(runs: Path) -> None:
    """Chords of no run, through the effect and through the networks of seed 0."""
    batch = rendered(made_tracks("test", 1, 2 * RATE), seed=0, copies=1)
    write("dry", batch.dry[0])
    write("effect", batch.wet[0])
    for arm in ARMS:
        network, _ = load_network(runs / f"{arm}-s0", audio_effect.SYSTEM)
        with torch.inference_mode():
            made = network.eval()(batch)
        write(arm, made[0])
        error = (made - batch.wet).square().sum() / batch.wet.square().sum()
        print(f"{arm}: error {10 * error.log10().item():.1f} dB")


def voices(runs: Path) -> None:
    """A test sentence, and what the networks of seed 0 make of its phones in two voices."""
    found = levels.synthetic_waves("test", 6)
    blocks = round(SECONDS * levels.RATE / levels.BLOCK)
    for voice in VOICES:
        real = found.crops([6 * found.names.index(voice)], blocks)
        write(f"wavenet_real_{voice}", played(real.levels[0]))
    first = found.crops([6 * found.names.index(VOICES[0])], blocks)
    speakers = torch.tensor([found.names.index(voice) for voice in VOICES])
    codes = levels.WaveBatch(first.levels.expand(2, -1), speakers, first.phones.expand(2, -1))
    uniform = torch.rand(codes.levels.shape, generator=seeded_rng(0, "sounds"))
    network, _ = load_network(runs / "both-s0", wavenet.SYSTEM)
    for voice, made in zip(VOICES, generate(network.eval(), codes, uniform), strict=True):
        write(f"wavenet_{voice}", played(made))
    network, _ = load_network(runs / "none-s0", wavenet.SYSTEM)
    write("wavenet_none", played(generate(network.eval(), codes, uniform)[0]))


def played(made: torch.Tensor) -> torch.Tensor:
    """Samples at the rate of the other sounds, as not every browser plays 4 kHz."""
    return 0.9 * resample(levels.to_samples(made), levels.RATE, RATE)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(f"usage: {__doc__.splitlines()[2]}")
    FOLDER.mkdir(exist_ok=True)
    for folder in map(Path, sys.argv[1:]):
        render = voices if (folder / "both-s0").is_dir() else effects
        render(folder)
