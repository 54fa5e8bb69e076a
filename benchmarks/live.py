"""Time of a block of samples in the audio effect, on one core, over the time in which it arrives.

python -m benchmarks.live
"""

from __future__ import annotations

import torch

from featurewise.systems.sound.audio_effect import SYSTEM
from featurewise.systems.sound.audio_effect.live import latency
from featurewise.worlds.sound.recordings import RATE

SAMPLES = (32, 64, 128, 256)


def main() -> None:
    """Prints a table, one row for each arm and number of samples."""
    print("| arm | preset | samples | ms of sound | median ms | 99 % below, ms |")
    print("|---|---|---|---|---|---|")
    for preset in ("small", "paper"):
        for arm in ("frames", "input", "none"):
            torch.manual_seed(0)
            network = SYSTEM.build(SYSTEM.config(preset, arm)).eval()
            for samples in SAMPLES:
                arrives = 1000 * samples / RATE
                median, late = (share * arrives for share in latency(network, samples))
                print(
                    f"| {arm} | {preset} | {samples} | {arrives:g} | {median:.2f} | {late:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
