"""A small system for tests of studies; as a script it is a worker of a study.

Environment variables: ``FEATUREWISE_TEST_PAUSE`` is a delay before each batch, in seconds;
``FEATUREWISE_TEST_BEGUN`` is a file to which each training appends a line when it starts.
"""

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from featurewise.common.dataset import DatasetFacts
from featurewise.study.claims import Claim, Criterion, Verdict, above
from featurewise.study.metric import ACCURACY, Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.study.system import Arm, Config, Paper, System
from featurewise.training import ExperimentError, Intervals, Supervised


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums(Config):
    width: int = 8
    source: str = "seeing"
    broken: bool = False
    intervals: Intervals = field(default_factory=lambda: Intervals(log=4, save=4))


class Source:
    """Numbers labelled by whether their sum is positive; in the blind arm, labels with noise."""

    def __init__(self, seed, blind):
        self.seed, self.blind = seed, blind

    def batch(self, index):
        time.sleep(float(os.environ.get("FEATUREWISE_TEST_PAUSE", 0)))
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        x = torch.randn(32, 4, generator=generator)
        y = (x.sum(1) > 0).long()
        return (torch.randn(32, 4, generator=generator) if self.blind else x), y


def build(config):
    width = config.width
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 2))


def objective(network, batch):
    return nn.functional.cross_entropy(network(batch[0]), batch[1]), {}


def stepper(network, config):
    return Supervised(network, objective, torch.optim.Adam(network.parameters(), 0.05))


def data(config, seed):
    if log := os.environ.get("FEATUREWISE_TEST_BEGUN"):
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(f"{config.source}-s{seed}\n")
    return Source(seed, config.source == "blind")


def evaluate(trained, config):
    if config.broken:
        raise ExperimentError("the ruler is broken")
    source = Source(10**6, config.source == "blind")
    right = total = 0
    with trained.evaluating() as network:
        for index in range(4):
            x, y = source.batch(index)
            right, total = right + int((network(x).argmax(1) == y).sum()), total + len(y)
    return Measurement(Proportion(right, total), {}, {"wrong": float(total - right)})


def draw(trained, config):
    with trained.evaluating() as network:
        return Image.new("RGB", (60, 40), (int(network[0].weight.sum()) % 256, 40, 80))


PRESETS = {
    "tiny": Sums(steps=24),
    "small": Sums(steps=48),
    "paper": Sums(steps=480, width=64),
}

SYSTEM = System(
    name="sums",
    doc="Signs of sums. Nobody 2020, eq. 1.\n\nTwo layers on sums.",
    paper=Paper("Nobody 2020: Sums", "https://example.org", "eq. 1"),
    world=DatasetFacts("Random numbers.", "none needed"),
    presets=PRESETS,
    arms=(
        Arm("seeing", "the system"),
        Arm("blind", "sees noise", source="blind"),
        Arm("broken", "never measured", source="broken", broken=True),
    ),
    build=build,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    claims=(
        Claim("Seeing helps.", above(ACCURACY, "seeing", "blind", 20)),
        Claim(
            "It never errs.",
            Criterion("100 % right.", lambda r: Verdict(r.mean("seeing").value, low=1.01)),
        ),
        Claim("Measuring helps.", above(ACCURACY, "seeing", "broken", 1)),
    ),
    departures=("It is a toy.",),
    expected="about 90 %",
    metrics=(Metric("wrong", "errors in 128 questions"),),
    draw=draw,
    caption="A sheet of one colour; red for the sum of the weights.",
)


def main():
    from featurewise.study.study import Study

    folder, storage, arms, seeds = sys.argv[1:5]
    torch.set_num_threads(1)
    study = Study(
        SYSTEM,
        preset="tiny",
        arms=arms.split(","),
        seeds=[int(seed) for seed in seeds.split(",")],
        folder=folder,
        storage=storage or None,
        heartbeat=1,
    )
    study.work()


if __name__ == "__main__":
    main()
