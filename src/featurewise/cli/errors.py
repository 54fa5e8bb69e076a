"""What a user got wrong is told in one line; only our own mistakes show a traceback."""

from __future__ import annotations

from typing import Any, Final, NoReturn

import typer
from typer.core import TyperGroup

from featurewise.cli.console import Terminal
from featurewise.common.text import printable

#: What typer raises at words that it cannot take: of click, or of the click that typer brings.
_USAGE: Final[Any] = typer.BadParameter.__bases__[0]


class UserError(ValueError):
    """The command line asked for something that there is not; the message says what there is."""


class Commands(TyperGroup):
    """A group of commands whose foreseen errors become one line and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except _USAGE as error:  # typer shows it; file names stand in it
            error.message = error.message and printable(error.message)
            raise
        except BrokenPipeError:
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            _fail(f"{where}{error.strerror or error}", error)
        except ValueError as error:
            if not isinstance(error, _foreseen()):
                raise
            _fail(str(error), error)


def _foreseen() -> tuple[type[Exception], ...]:
    from featurewise.core.errors import FeaturewiseError
    from featurewise.explorer.tables import ReportError
    from featurewise.lab.errors import LabError
    from featurewise.worlds.clevr.errors import WorldError

    return UserError, LabError, WorldError, FeaturewiseError, ReportError


def _fail(message: str, error: Exception) -> NoReturn:
    console = Terminal(stderr=True, highlight=False, soft_wrap=True)
    console.print("[bold red]error:[/]", end=" ")
    console.print(message, markup=False)
    raise typer.Exit(2) from error
