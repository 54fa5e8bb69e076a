"""Worker processes: detection of failed workers, and of scripts without a main guard.

A spawned process imports the script that started it. A script that starts processes when it is
imported would start more of them in the worker, or deadlock on a lock of its parent.
"""

from __future__ import annotations

import multiprocessing
import re
import sys
from pathlib import Path

HINT = (
    'A script that starts processes must do its work under if __name__ == "__main__": because '
    "every process imports the script"
)


class UnguardedScriptError(SystemExit):
    """A worker process runs the script of its parent, because the script has no main guard.

    It ends the worker, since error handlers do not catch `SystemExit`; the parent detects this.
    """


def exit_if_unguarded() -> None:
    """End this process if it is an unguarded worker; call it before starting processes or locking.

    Raises:
        UnguardedScriptError: this process is a worker that is importing the script of its parent.
    """
    # Set while a worker imports the script; multiprocessing itself checks the same flag.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise UnguardedScriptError(f"featurewise: worker ended. {HINT}.")


def can_spawn() -> bool:
    """Whether a spawned process can import the main script; not if it was read from a pipe."""
    main = sys.modules["__main__"]
    path = getattr(main, "__file__", None)
    return path is None or getattr(main, "__spec__", None) is not None or Path(path).is_file()


def is_dead_loader(error: BaseException) -> bool:
    """Whether an error from torch's ``DataLoader`` means that a worker process has died.

    Torch raises a ``RuntimeError``; if the worker died while it sent a batch, the pipe ends. Errors
    that the data source raised in a worker are re-raised with a note, and are not of this kind.
    """
    if isinstance(error, RuntimeError):
        return re.match(r"DataLoader worker .*(killed|exited|exits)", str(error)) is not None
    passed_on = "in DataLoader worker process" in str(error)
    return isinstance(error, (OSError, EOFError)) and not passed_on
