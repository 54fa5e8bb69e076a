"""What a user got wrong, or stopped, is said in a line; only our own mistakes show a traceback."""

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

#: What typer raises at words that it cannot take: of click, or of the click that typer brings.
_USAGE: Final[Any] = typer.BadParameter.__bases__[0]

_RESUMABLE = {"train", "run", "demo", "world"}
"""Commands that continue, given again, where they stopped."""


class UserError(ValueError):
    """The command line asked for something that there is not; the message says what there is."""


class Commands(TyperGroup):
    """A group of commands whose foreseen errors become one line and exit code 2.

    Ctrl-C and SIGTERM become a line that says how to resume, and exit codes 130 and 143.
    """

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        try:
            with _terminable():
                return super().invoke(ctx)
        except _USAGE as error:  # typer shows it; file names stand in it
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
            if not type(error).__module__.startswith("featurewise."):
                raise
            _fail(str(error), error)


class Terminated(BaseException):
    """SIGTERM arrived. No `Exception`, so that nothing but the group takes it for an error."""


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM unwinds the stack as Ctrl-C does, so that what is begun is put away."""

    def leave(signum: int, frame: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
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
        message += f"; what is finished is kept. To resume, run the same command again:\n  {line}"
    notes().print(message, markup=False)
    raise typer.Exit(128 + signum)


def _cache_hint(error: OSError) -> str:
    """What moves the cache, where it is the cache that cannot be used."""
    from featurewise.common.cache import cache_folder

    if not isinstance(error.filename, str):
        return ""
    cache, place = cache_folder(), Path(error.filename)
    # Making the folder may have failed at one of its parents.
    if place.is_relative_to(cache) or cache.is_relative_to(place):
        return f". The cache is in {cache}; set FEATUREWISE_CACHE to a folder that can be written"
    return ""


def _fail(message: str, error: Exception) -> NoReturn:
    console = notes()
    console.print("[bold red]error:[/]", end=" ")
    console.print(message, markup=False)
    raise typer.Exit(2) from error
