"""Reporters of training progress: a bar in a terminal, lines in a log file, TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from featurewise.common.text import printable
from featurewise.training.errors import ExperimentError


@runtime_checkable
class Reporter(Protocol):
    """Receives metrics and messages during training."""

    def report(self, step: int, kind: str, metrics: Mapping[str, float]) -> None:
        """Receives new metrics; ``kind`` is ``train`` or ``evaluate``."""

    def say(self, message: str) -> None:
        """Receives a message for the user."""


class Screen:
    """Shows step, metrics, steps per second and remaining time.

    Args:
        steps: total number of steps.
        start: number of steps completed before.
        console: default: standard error.
    """

    def __init__(self, steps: int, start: int, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._steps, self._start, self._begun = steps, start, time.monotonic()
        self._latest = dict[str, str]()
        self._bar = Progress(
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[text]}", markup=False),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task("", total=steps, completed=start, text="")

    def __enter__(self) -> Screen:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def report(self, step: int, kind: str, metrics: Mapping[str, float]) -> None:
        """Updates the bar; prints a line if the output is not a terminal."""
        speed = (step - self._start) / max(time.monotonic() - self._begun, 1e-9)
        self._latest[kind] = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        if self.console.is_terminal:
            text = "  |  ".join(self._latest.values())
            self._bar.update(self._task, completed=step, text=f"{text}  {speed:.3g} steps/s")
        else:
            remaining = _duration((self._steps - step) / speed) if speed else "?"
            self.say(
                f"step {step}/{self._steps}  {kind}: {self._latest[kind]}  "
                f"{speed:.3g} steps/s  {remaining} to go"
            )

    def say(self, message: str) -> None:
        """Prints a message, above the bar if there is one."""
        shown = printable(message, lines=True)
        self.console.print(shown, markup=False, highlight=False, soft_wrap=True)


class TensorBoard:
    """Writes metrics for TensorBoard.

    Args:
        folder: of the event files.
        start: step at which the run starts or resumes; records of later steps are hidden.

    Raises:
        ExperimentError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, start: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ExperimentError(
                "TensorBoard is not installed: pip install 'featurewise[tensorboard]'"
            ) from error
        self._writer: Any = SummaryWriter(str(folder), purge_step=start + 1)

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._writer.close()

    def report(self, step: int, kind: str, metrics: Mapping[str, float]) -> None:
        """Writes a scalar for each metric, such as ``train/loss``."""
        for name, value in metrics.items():
            self._writer.add_scalar(f"{kind}/{name}", value, step)
        self._writer.flush()

    def say(self, message: str) -> None:
        """Ignores messages; part of the `Reporter` protocol."""


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
