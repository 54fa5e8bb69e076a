"""The database of a study: opened, called again until it answers, named without its secrets."""

from __future__ import annotations

import logging
import random
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote, quote_plus

from featurewise.training.errors import ExperimentError

if TYPE_CHECKING:
    import optuna
    import sqlalchemy

#: Seconds for which a server that was open may be away, for which one is waited for at first, and
#: for which a file may be unusable.
AWAY: Final = 300.0
_AT_FIRST: Final = 30.0
_FILE: Final = 10.0
#: Seconds between two tries: doubled each time, from the first up to the second.
_PAUSES: Final = (0.25, 5.0)
#: Parts of an address after the question mark that are no secrets.
_OPEN: Final = frozenset({"host", "port", "sslmode"})
#: What a connection to PostgreSQL must not wait for longer, in seconds and milliseconds.
_LIBPQ: Final = {"connect_timeout": 10, "tcp_user_timeout": 30_000}

_log = logging.getLogger(__name__)
_ResultT = TypeVar("_ResultT")


class Database:
    """An Optuna storage whose calls are made again while it is away, with a deadline.

    Args:
        url: as SQLAlchemy reads it.
        heartbeat: seconds between signs of life; None for a file, whose workers give none.
        missed: signs of life, until a worker counts as dead.

    Attributes:
        storage: the storage.
        away: when a call failed last, by `time.monotonic`.

    Raises:
        ExperimentError: Optuna or the driver is missing, the address is none, or the database
            cannot be used for 30 s (a file: 10 s). No message holds a password.
    """

    def __init__(self, url: str, heartbeat: int | None, missed: int) -> None:
        import sqlalchemy

        self._url = url
        self.away = float("-inf")
        self._deadline = _AT_FIRST if heartbeat else _FILE
        try:
            address = sqlalchemy.make_url(url)
        except (sqlalchemy.exc.ArgumentError, ValueError):
            raise ExperimentError(
                f"{shown(url)} is no address of a database; one looks like "
                "postgresql+psycopg://user@host/name"
            ) from None  # their text may hold a part of the address
        options = {"connect_args": _connect_args(address)}

        def opened() -> optuna.storages.RDBStorage:
            import optuna

            return optuna.storages.RDBStorage(
                url,
                # No connection is kept: a server may be restarted, and processes that are forked
                # here must not share one.
                engine_kwargs={"poolclass": sqlalchemy.pool.NullPool, **options},
                heartbeat_interval=heartbeat,
                grace_period=None if heartbeat is None else missed * heartbeat,
            )

        try:
            self.storage = self.call(opened)
        except ImportError as error:
            raise ExperimentError(
                f"{shown(url)}: its driver is not installed: pip install 'featurewise[study]'"
            ) from error
        except ExperimentError:
            raise
        except Exception as error:  # whatever a driver makes of an address
            raise self._given_up(error, 0.0) from None
        if heartbeat:
            self._deadline = AWAY

    def call(self, action: Callable[[], _ResultT], *, deadline: float | None = None) -> _ResultT:
        """What `action` returns, as soon as the database lets it.

        It may be done twice: when the database went away just after it was done.

        Args:
            action: calls of the storage.
            deadline: seconds until it is given up.

        Raises:
            ExperimentError: the database was away until the deadline.
        """
        import sqlalchemy
        from optuna.exceptions import StorageInternalError

        limit = self._deadline if deadline is None else deadline
        begun, pause, tries = time.monotonic(), _PAUSES[0], 0
        while True:
            try:
                return action()
            # Also what is no sign of absence: two workers may make the same tables at once.
            except (sqlalchemy.exc.DBAPIError, StorageInternalError) as error:
                self.away = time.monotonic()
                tries += 1
                if self.away - begun + pause > limit:
                    raise self._given_up(error, self.away - begun) from None
                if tries == 2:
                    _log.warning(
                        "%s: this database does not answer; it is waited for, up to %.0f s",
                        shown(self._url),
                        limit,
                    )
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, _PAUSES[1])

    def _given_up(self, error: Exception, seconds: float) -> ExperimentError:
        """The error, told in one line; those of the driver may hold passwords."""
        cause = error.__cause__ or error
        reason = str(getattr(cause, "orig", None) or cause).strip().splitlines() or ["no reason"]
        return ExperimentError(
            f"{shown(self._url)}: this database cannot be used (tried for {seconds:.0f} s): "
            f"{without_secrets(reason[0], self._url)}"
        )


def _connect_args(address: sqlalchemy.URL) -> dict[str, Any]:
    if address.drivername.startswith("sqlite"):
        return {"timeout": 60}
    if address.drivername in ("postgresql", "postgresql+psycopg", "postgresql+psycopg2"):
        return {name: value for name, value in _LIBPQ.items() if name not in address.query}
    return {}


def shown(url: str) -> str:
    """An address of a database without anything that may be a secret.

    The password, and all that follows a question mark (but hosts and ports), becomes ``***``; an
    address that cannot be taken apart becomes that altogether.
    """
    parts = _parts(url)
    if parts is None:
        return repr(url) if re.fullmatch(r"[\w./-]*", url) else "'***'"
    query = {key: value for key, value in parts.query.items() if key in _OPEN}
    hidden = len(parts.query) > len(query)
    text: str = parts.set(query=query).render_as_string(hide_password=True)
    return f"{text}{'&' if query else '?'}***" if hidden else text


def without_secrets(text: str, url: str) -> str:
    """A text in which no secret of an address occurs, however it is written."""
    for secret in sorted(_secrets(url), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _parts(url: str) -> sqlalchemy.URL | None:
    """An address taken apart; None where a password may have ended up in another part."""
    import sqlalchemy

    try:
        parts = sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        return None
    odd = re.compile(r"[@:\s]|//")
    misread = odd.search(parts.username or "") or "@" in f"{parts.host}{parts.database}"
    return None if misread and not parts.drivername.startswith("sqlite") else parts


def _secrets(url: str) -> set[str]:
    parts = _parts(url)
    if parts is None:
        found = {url, *re.split(r"[@/:?&=,\s]+", url)[1:]}
    else:
        found = {str(parts.password or "")}
        for key, value in parts.query.items():
            if key not in _OPEN:
                found |= {value} if isinstance(value, str) else set(value)
    written = {way(each) for each in found for way in (str, quote, quote_plus)}
    return {each for each in written if len(each) > 2}


@contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's log, and its warnings of what may change: its version is pinned."""
    try:
        import optuna
    except ImportError as error:
        raise ExperimentError(
            "Optuna is not installed: pip install 'featurewise[study]'"
        ) from error
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
