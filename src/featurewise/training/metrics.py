"""Averaging of metrics over steps, and the metrics log ``metrics.jsonl``."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from featurewise.common.errors import wrap_errors
from featurewise.common.files import sha256, write_all, write_bytes
from featurewise.common.json import MAX_BYTES, Fail, JsonError, Node, dumps, failing, loads
from featurewise.common.opening import open_for_writing, read_bytes
from featurewise.common.seal import SEAL, sealed, unsealed
from featurewise.training.errors import DivergedError, ExperimentError
from featurewise.training.facts import MOST
from featurewise.training.files import storage_errors

_DIGITS = 16  # hexadecimal digits of the SHA-256 in each line
_REMEDY = "Free some space and resume; the checkpoints are intact."


class Meter:
    """Collects the metrics of several steps; tensors are read from a GPU only on demand."""

    def __init__(self) -> None:
        self._steps: list[dict[str, float | Tensor]] = []

    def add(self, metrics: Mapping[str, float | Tensor]) -> None:
        """Adds the metrics of one step."""
        self._steps.append(
            {k: v.detach() if isinstance(v, Tensor) else v for k, v in metrics.items()}
        )

    def state(self, step: int) -> list[dict[str, float]]:
        """The metrics of each step since the last `clear`.

        Raises:
            DivergedError: a metric is infinite or NaN; the message names it and the step.
        """
        numbers = [{name: float(value) for name, value in each.items()} for each in self._steps]
        for each in numbers:
            check_finite(each, step)
        return numbers

    def load_state(self, state: list[dict[str, float]]) -> None:
        """Replaces the collected metrics."""
        self._steps = [dict(each) for each in state]

    def means(self, step: int) -> dict[str, float]:
        """Mean of each metric since the last `clear`; raises like `state`."""
        numbers = self.state(step)
        return {
            name: math.fsum(each[name] for each in numbers) / len(numbers) for name in numbers[0]
        }

    def clear(self) -> None:
        """Removes all collected metrics."""
        self._steps.clear()


def check_finite(metrics: Mapping[str, float], step: int) -> None:
    """Checks that all metrics are finite.

    Raises:
        DivergedError: a metric is infinite or NaN.
    """
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise DivergedError(
                f"{name} is {value} by step {step}: training diverged. This state was not saved; "
                "resume from the last checkpoint with a lower learning rate or clipped gradients"
            )


class MetricsLog:
    """Appends metrics as JSON lines: ``{"step": 20, "kind": "train", "loss": 1.5, "seal": ...}``.

    The log contains no times, only what the seed determines, so that the log of a resumed run is
    identical to the log of an uninterrupted one.

    The seal of a line is the beginning of the SHA-256 of the file up to and including this line,
    which detects every changed byte. The file ``metrics.jsonl.seal`` holds the length of the log at
    the last sync, which detects missing lines at the end.

    Args:
        path: of the file, created if missing.
        length: bytes that belong to the run so far; the file is truncated to it.

    Raises:
        ExperimentError: the file is shorter than `length`, or damaged before it.
        StorageError: the file cannot be written.
    """

    def __init__(self, path: Path, length: int) -> None:
        self.path = path
        with storage_errors(path, _REMEDY):
            self._file = open_for_writing(path, os.O_APPEND)
        try:
            self._digest = self._verified(length)
            with storage_errors(path, _REMEDY):
                self._seal(length)  # before truncating: it must never exceed the file's length
                os.ftruncate(self._file, length)
        except BaseException:
            self.close()
            raise

    def _verified(self, length: int) -> Any:
        """The digest of the first `length` bytes, after checking the seal of each line."""
        if os.fstat(self._file).st_size < length:
            raise ExperimentError(
                f"{self.path}: is shorter than the {length} bytes that the checkpoint states"
            )
        return _checked(self.path, read_bytes(self.path)[:length])[1]

    def write(self, step: int, kind: str, metrics: Mapping[str, float]) -> None:
        """Appends one line.

        Raises:
            ExperimentError: a metric has a reserved name (step, kind, seal).
            StorageError: the file cannot be written.
        """
        if reserved := {"step", "kind", SEAL} & metrics.keys():
            raise ExperimentError(f"a metric cannot be called {min(reserved)!r}")
        line = _line(self._digest, {"step": step, "kind": kind, **metrics})
        with storage_errors(self.path, _REMEDY):
            write_all(self._file, line)
        self._digest.update(line)

    def sync(self) -> int:
        """Syncs the file to disk and returns its length in bytes."""
        with storage_errors(self.path, _REMEDY):
            os.fsync(self._file)
            length = os.fstat(self._file).st_size
            self._seal(length)
        return length

    def _seal(self, length: int) -> None:
        content = {"bytes": length, "sha256": self._digest.hexdigest()}
        write_bytes(_seal_of(self.path), sealed(content))

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)


def read_metrics(path: Path | str) -> list[dict[str, Any]]:
    """The records of a metrics log, in order, without their seals.

    Raises:
        ExperimentError: the file is missing, or a line is invalid, damaged or missing; the
            message begins with the path and names the line.
    """
    path = Path(path)
    with wrap_errors(path, ExperimentError, ExperimentError):
        content = read_bytes(path)
    records, _ = _checked(path, content)
    seal = _seal_of(path)
    if seal.is_file():
        with wrap_errors(seal, ExperimentError, ExperimentError):
            raw = read_bytes(seal, limit=MAX_BYTES)
            expected = Node(unsealed(raw, Node(loads(raw)).mapping()))
            length = expected["bytes"].integer(0, MOST)
            digest = expected["sha256"].text()
        if len(content) < length or sha256(content[:length]) != digest:
            raise ExperimentError(
                f"{path}: is damaged: its first {length} bytes do not match {seal.name}"
            )
    return records


def _seal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.{SEAL}")


def _line(preceding: Any, record: Mapping[str, Any]) -> bytes:
    """A record as a line, sealed with the digest of all preceding lines."""
    digest = preceding.copy()
    digest.update(dumps(record, indent=None))
    return dumps({**record, SEAL: digest.hexdigest()[:_DIGITS]}, indent=None)


def _checked(path: Path, content: bytes) -> tuple[list[dict[str, Any]], Any]:
    """The records of a log and the digest of its bytes; logs of version 0.1 have no seals."""
    records: list[dict[str, Any]] = []
    digest, sealed_before = hashlib.sha256(), False
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        found = _record(line, failing(ExperimentError, f"{path}: line {number}"))
        record = {key: value for key, value in found.items() if key != SEAL}
        if SEAL in found or sealed_before:
            if _line(digest, record) != line:
                raise ExperimentError(f"{path}: line {number} or an earlier one is damaged")
            sealed_before = True
        digest.update(line)
        records.append(record)
    return records, digest


def _record(line: bytes, fail: Fail) -> dict[str, Any]:
    """The content of a line; all values but ``kind`` and the seal must be numbers."""
    if not line.endswith(b"\n"):
        raise fail("is incomplete: its writer was stopped; resume the run", "")
    try:
        content = Node(loads(line), "", fail)
    except JsonError as error:
        raise fail(f"is not JSON: {error}", "") from error
    for name, value in content.entries().items():
        if name == "step":
            value.integer(0, MOST)
        elif name in ("kind", SEAL):
            value.name()
        else:
            value.number()
    _ = content["step"], content["kind"]
    return content.mapping()
