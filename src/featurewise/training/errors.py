"""Exceptions and warnings of training and studies."""

from __future__ import annotations

import signal

from featurewise.common.text import printable


class ExperimentError(ValueError):
    """An invalid argument, setting or file of a training run or study; base of the errors below.

    Control characters in the message are escaped.
    """

    def __str__(self) -> str:
        return printable(super().__str__(), lines=True)


class CheckpointError(ExperimentError):
    """A checkpoint is damaged, incomplete, of another format, or of another run.

    The message begins with the path.
    """


class FormatVersionError(CheckpointError):
    """An undamaged file has a format that this version does not read."""


class StorageError(ExperimentError):
    """A file of a run could not be written, most often because the disk is full.

    Files that were complete before stay complete. The message begins with the path.
    """


class DivergedError(ExperimentError):
    """A training metric became infinite or NaN; the diverged state was not saved."""


class WorkerError(ExperimentError):
    """A data-loading worker process died or failed."""


class OccupiedError(ExperimentError):
    """Another process or thread uses the folder."""


class CheckpointWarning(UserWarning):
    """A damaged checkpoint was skipped in favour of an older one."""


class Interrupted(SystemExit):
    """A signal stopped training; its state is saved and the run can be resumed.

    If it is not caught, the program exits with the usual code of that signal (130 for Ctrl-C, 143
    for SIGTERM) and without a traceback.

    Attributes:
        signal: the signal that was received.
        step: number of completed and saved steps.
    """

    def __init__(self, signum: int, step: int) -> None:
        super().__init__(128 + signum)
        self.signal = signal.Signals(signum)
        self.step = step
