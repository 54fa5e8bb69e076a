"""What can go wrong in the lab, one type for each kind of trouble."""

from __future__ import annotations

import signal

from featurewise.common.text import printable


class ExperimentError(ValueError):
    """Training was asked for something it cannot do, or met something it cannot use.

    Characters of a message that would steer a terminal are written out.
    """

    def __str__(self) -> str:
        return printable(super().__str__(), lines=True)


class CheckpointError(ExperimentError):
    """A checkpoint is damaged, incomplete, of another format, or of another run.

    The message begins with the path.
    """


class FormatVersionError(CheckpointError):
    """A checkpoint is sound, but of a format that this version does not read."""


class StorageError(ExperimentError):
    """A file of a run could not be written, most often because the disk is full.

    What was complete before stays complete. The message begins with the path.
    """


class DivergedError(ExperimentError):
    """A training metric became infinite or NaN. Nothing of it was saved."""


class WorkerError(ExperimentError):
    """A process that prepares batches died or failed."""


class OccupiedError(ExperimentError):
    """Another process or thread works in the folder."""


class CheckpointWarning(UserWarning):
    """A damaged checkpoint was passed over for an older one."""


class Interrupted(SystemExit):
    """Training was told to stop; its state is saved and the run can be resumed.

    Left uncaught it ends the program with the usual code of that signal (130 for
    Ctrl-C, 143 for SIGTERM), without a traceback.

    Attributes:
        signal: the signal that asked.
        step: number of completed, saved steps.
    """

    def __init__(self, signum: int, step: int) -> None:
        super().__init__(128 + signum)
        self.signal = signal.Signals(signum)
        self.step = step
