"""Metrics on their way from the stepper to the log, the screen and TensorBoard."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from featurewise.common.opening import open_for_writing, read_bytes
from featurewise.lab.errors import DivergedError, LabError
from featurewise.lab.files import storage_errors, write_all

_REMEDY = "Free some space and resume; the checkpoints are intact."


class Meter:
    """Gathers the metrics of some steps; tensors are read only when asked for."""

    def __init__(self) -> None:
        self._steps: list[dict[str, float | Tensor]] = []

    def add(self, metrics: Mapping[str, float | Tensor]) -> None:
        """Takes in the metrics of one step."""
        self._steps.append(
            {k: v.detach() if isinstance(v, Tensor) else v for k, v in metrics.items()}
        )

    def state(self, step: int) -> list[dict[str, float]]:
        """The numbers gathered since the last `clear`.

        Raises:
            DivergedError: one is infinite or NaN; the message names it and says by which step.
        """
        numbers = [{name: float(value) for name, value in each.items()} for each in self._steps]
        for each in numbers:
            check_finite(each, step)
        return numbers

    def load_state(self, state: list[dict[str, float]]) -> None:
        """Goes on with these numbers."""
        self._steps = [dict(each) for each in state]

    def means(self, step: int) -> dict[str, float]:
        """Mean of each metric since the last `clear`; raises like `state`."""
        numbers = self.state(step)
        return {
            name: math.fsum(each[name] for each in numbers) / len(numbers) for name in numbers[0]
        }

    def clear(self) -> None:
        """Begins anew."""
        self._steps.clear()


def check_finite(metrics: Mapping[str, float], step: int) -> None:
    """Raises `DivergedError` when a metric is infinite or NaN."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise DivergedError(
                f"{name} is {value} by step {step}: training diverged. Nothing of it was saved; "
                "resume from the last checkpoint with a lower learning rate or clipped gradients"
            )


class MetricsLog:
    """Appends metrics as JSON lines: ``{"step": 20, "kind": "train", "loss": 1.5}``.

    Only what the seed determines goes in, no times: the log of a resumed run equals the log
    of an uninterrupted one byte for byte.

    Args:
        path: the file, created when missing.
        length: bytes that belong to the run so far; what is beyond is cut off.

    Raises:
        LabError: the file is shorter than `length`.
        StorageError: it cannot be written.
    """

    def __init__(self, path: Path, length: int) -> None:
        self.path = path
        with storage_errors(path, _REMEDY):
            self._file = open_for_writing(path, os.O_APPEND)
        if os.fstat(self._file).st_size < length:
            self.close()
            raise LabError(f"{path}: is shorter than the {length} bytes the checkpoint knows of")
        os.ftruncate(self._file, length)

    def write(self, step: int, kind: str, metrics: Mapping[str, float]) -> None:
        """Appends one line."""
        line = json.dumps({"step": step, "kind": kind, **metrics}, allow_nan=False) + "\n"
        with storage_errors(self.path, _REMEDY):
            write_all(self._file, line.encode())

    def sync(self) -> int:
        """Puts all lines on the disk and returns their length in bytes."""
        with storage_errors(self.path, _REMEDY):
            os.fsync(self._file)
        return os.fstat(self._file).st_size

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)


def read_metrics(path: Path | str) -> list[dict[str, Any]]:
    """The records of a metrics log, in order.

    Raises:
        LabError: the file is missing or a line is no JSON object; the message begins with
            the path and names the line.
    """
    path = Path(path)
    try:
        lines = read_bytes(path).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(f"{path}: cannot be read: {error}") from error
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise LabError(f"{path}: line {number} is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise LabError(f"{path}: line {number} is not a JSON object")
        records.append(record)
    return records
