"""Sounds of the page on sound, from the runs of a study.

python docs/sounds.py runs/audio_effect-small
"""

from __future__ import annotations

import sys
import wave
from pathlib import Path

import torch

from featurewise.study.model import load_network
from featurewise.systems.sound.audio_effect import SYSTEM
from featurewise.worlds.sound.effects import made_tracks, rendered
from featurewise.worlds.sound.recordings import RATE

FOLDER = Path(__file__).parent / "sounds"
ARMS = ("frames", "mean", "input")


def write(name: str, samples: torch.Tensor) -> None:
    """A WAV file of 16 bits."""
    with wave.open(str(FOLDER / f"{name}.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((samples.clamp(-1, 1) * 32767).short().numpy().tobytes())


def main(runs: Path) -> None:
    """Chords of no run, through the effect and through the networks of seed 0."""
    FOLDER.mkdir(exist_ok=True)
    batch = rendered(made_tracks("test", 1, 2 * RATE), seed=0, copies=1)
    write("dry", batch.dry[0])
    write("effect", batch.wet[0])
    for arm in ARMS:
        network, _ = load_network(runs / f"{arm}-s0", SYSTEM)
        with torch.inference_mode():
            made = network.eval()(batch)
        write(arm, made[0])
        error = (made - batch.wet).square().sum() / batch.wet.square().sum()
        print(f"{arm}: error {10 * error.log10().item():.1f} dB")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {__doc__.splitlines()[2]}")
    main(Path(sys.argv[1]))
