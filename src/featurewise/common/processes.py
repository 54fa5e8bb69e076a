"""Processes that are started by others: noticed when they die, ended when they must not begin.

A process that is spawned imports the script that started it. A script that starts processes as it
is imported would start more of them there, or wait there for what its parent holds.
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
    """A worker process was about to do its parent's work, for lack of a guard in the script.

    It ends the worker, past whatever handles errors; the parent notices.
    """


def exit_if_unguarded() -> None:
    """Call it before starting processes, or before waiting for a lock.

    Raises:
        UnguardedScriptError: this process is a worker that still imports its parent's script.
    """
    # Set as long as a worker imports; multiprocessing refuses to start processes by it.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise UnguardedScriptError(f"featurewise: worker ended. {HINT}.")


def can_spawn() -> bool:
    """Whether a spawned process would find what this one runs: not, when it came from a pipe."""
    main = sys.modules["__main__"]
    path = getattr(main, "__file__", None)
    return path is None or getattr(main, "__spec__", None) is not None or Path(path).is_file()


def is_dead_loader(error: BaseException) -> bool:
    """Whether an error met while batches come from torch's ``DataLoader`` is a worker's death.

    Torch says so in a ``RuntimeError``; when the worker was just handing over a batch, the pipe
    ends. What the source raised in the worker is passed on with a remark, and is none.
    """
    if isinstance(error, RuntimeError):
        return re.match(r"DataLoader worker .*(killed|exited|exits)", str(error)) is not None
    passed_on = "in DataLoader worker process" in str(error)
    return isinstance(error, (OSError, EOFError)) and not passed_on
