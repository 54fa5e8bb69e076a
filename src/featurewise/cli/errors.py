"""Errors of the user become one line without a traceback; other errors keep their traceback."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

import typer
from typer.core import TyperGroup

from featurewise.cli.streams import notes
from featurewise.common.text import printable

#: ``UsageError`` of click; some versions of typer carry a click of their own.
UsageError: Final[Any] = typer.BadParameter.__bases__[0]

_RESUMABLE = {"train", "run", "demo", "world"}
"""Commands that resume when the same command is run again."""


class UserError(ValueError):
    """A wrong argument on the command line; the message says which values are possible."""


def is_expected(error: Exception) -> bool:
    """Whether an error is one that this library states, and its user can mend."""
    return type(error).__module__.startswith("featurewise.")


class Commands(TyperGroup):
    """A group of commands that prints expected errors as one line and exits with code 2.

    On Ctrl-C and SIGTERM it prints how to resume, and exits with code 130 and 143.
    """

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        try:
            with _terminable():
                return super().invoke(ctx)
        except UsageError as error:  # typer prints the message, which may contain file names
            error.message = error.message and printable(error.message)
            raise
        except BrokenPipeError:
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            _fail(f"{where}{error.strerror or error}{_cache_hint(error)}", error)
        except KeyboardInterrupt:
            _stop(ctx, "Ctrl-C", signal.SIGINT)
        except Terminated:
            _stop(ctx, "SIGTERM", signal.SIGTERM)
        except Exception as error:
            if not is_expected(error):
                raise
            _fail(str(error), error)


class Terminated(BaseException):
    """Raised on SIGTERM. Not an `Exception`, so that only `Commands` catches it."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Raises `Terminated` on SIGTERM, so that cleanup code runs as it does on Ctrl-C."""

    def leave(signum: int, frame: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield  # Python allows signal handlers in the main thread only
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(ctx: Any, how: str, signum: signal.Signals) -> NoReturn:
    message = f"stopped by {how}"
    if ctx.invoked_subcommand in _RESUMABLE:
        line = shlex.join(["featurewise", *sys.argv[1:]])
        message += f"; finished work is kept. To resume, run the same command again:\n  {line}"
    notes().print(message, markup=False)
    raise typer.Exit(128 + signum)


def _cache_hint(error: OSError) -> str:
    """How to move the cache, if the error is about a file of the cache."""
    from featurewise.common.cache import cache_folder

    if not isinstance(error.filename, str):
        return ""
    cache, place = cache_folder(), Path(error.filename)
    # The error names a parent of the cache folder if that could not be created.
    if place.is_relative_to(cache) or cache.is_relative_to(place):
        return f". The cache is in {cache}; set FEATUREWISE_CACHE to a folder that can be written"
    return ""


def _fail(message: str, error: Exception) -> NoReturn:
    console = notes()
    console.print("[bold red]error:[/]", end=" ")
    console.print(message, markup=False)
    raise typer.Exit(2) from error
