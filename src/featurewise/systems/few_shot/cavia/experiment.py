"""Experiment of CAVIA on sine waves: errors by step, and what the context holds."""

from __future__ import annotations

from typing import Any

from PIL import Image

from featurewise.study.figures import as_image, figure
from featurewise.study.inner_loops import (
    inner_errors,
    r_squared,
)
from featurewise.study.metric import Metric
from featurewise.study.results import Measurement
from featurewise.systems.few_shot.cavia.method import Config
from featurewise.training.batch import to_device
from featurewise.training.inner import Context
from featurewise.training.shuffled import ShuffledCondition, previous_sample
from featurewise.training.source import Source
from featurewise.training.steppers import Episodic
from featurewise.worlds.small.sines import SineSource, SineTasks


def data(config: Config, seed: int) -> Source[Any]:
    """Waves that never repeat."""
    source = SineSource(config.tasks, config.shots, config.shots, seed)
    if config.shuffled_support:
        return ShuffledCondition(source, ("support_x", "support_y"), previous_sample)
    return source


PLANE = Metric(
    "R² of amplitude and phase",
    "of A cos(p) and A sin(p), for amplitude A and phase p, as a linear map of phi",
    better="higher",
    ends=(float("-inf"), 1.0),
)


def test_tasks(config: Config) -> SineTasks:
    """Waves of a stream that no run is trained on, with a hundred query points each."""
    return SineSource(config.test_tasks, config.shots, 100, split="test").batch(0)


def evaluate(trained: Episodic, config: Config) -> Measurement:
    """Errors before and after adaptation; and how much of the wave is in phi."""
    tasks = test_tasks(config)
    tasks = to_device(
        tasks.swapped() if config.shuffled_support else tasks, trained.learner.device
    )
    with trained.evaluating() as network:
        numbers = inner_errors(network, tasks)
        if isinstance(network, Context) and config.adapted == "context":
            numbers[PLANE] = r_squared(network.fit(tasks), tasks.plane)
    return Measurement.of(None, numbers)


def draw(trained: Episodic, config: Config) -> Image.Image:
    """A context of two numbers for each wave; for other sizes, three waves."""
    tasks = to_device(test_tasks(config), trained.learner.device)
    plot = figure(7.5, 3.0)
    with trained.evaluating() as network:
        if isinstance(network, Context) and network.size == 2:
            first, second = network.fit(tasks).cpu().T
            for ax, name in zip(
                plot.subplots(1, 2), ("amplitude", "phase"), strict=True
            ):
                dots = ax.scatter(first, second, c=getattr(tasks, name).cpu(), s=5)
                ax.set(xlabel="φ, first number", ylabel="φ, second number")
                plot.colorbar(dots, label=name)
        else:
            predictions = network(tasks).cpu()
            for row, ax in enumerate(plot.subplots(1, 3, sharey=True)):
                order = tasks.query_x[row, :, 0].argsort().cpu()
                for y, style in ((tasks.query_y.cpu(), "k:"), (predictions, "-")):
                    ax.plot(tasks.query_x[row, order, 0].cpu(), y[row, order, 0], style)
                ax.plot(tasks.support_x[row].cpu(), tasks.support_y[row].cpu(), "k^")
    return as_image(plot)
