"""The database of a study: access with retries, and its URL without secrets."""

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

#: Seconds to retry calls of a server after it was opened, while it is opened, and of a file.
SERVER_TIMEOUT: Final = 300.0
_OPEN_TIMEOUT: Final = 30.0
_FILE_TIMEOUT: Final = 10.0
#: Seconds between two attempts: doubled each time, from the first value up to the second.
_PAUSES: Final = (0.25, 5.0)
#: Query parameters of a URL that are not secret.
_PUBLIC: Final = frozenset({"host", "port", "sslmode"})
#: Timeouts of PostgreSQL connections, in seconds and in milliseconds.
_LIBPQ: Final = {"connect_timeout": 10, "tcp_user_timeout": 30_000}

_log = logging.getLogger(__name__)
_ResultT = TypeVar("_ResultT")


class Database:
    """An Optuna storage whose calls are retried while the database is unreachable.

    Args:
        url: SQLAlchemy URL.
        heartbeat: seconds between heartbeats; None for a file, which needs none.
        missed: number of missing heartbeats after which a trial is stale.

    Attributes:
        storage: the Optuna storage.
        last_failure: time of the last failed call, by `time.monotonic`.

    Raises:
        ExperimentError: Optuna or the database driver is not installed, the URL is invalid, or the
            database cannot be used for 30 s (a file: 10 s). No message contains a password.
    """

    def __init__(self, url: str, heartbeat: int | None, missed: int) -> None:
        import sqlalchemy

        self._url = url
        self.last_failure = float("-inf")
        self._deadline = _OPEN_TIMEOUT if heartbeat else _FILE_TIMEOUT
        try:
            address = sqlalchemy.make_url(url)
        except (sqlalchemy.exc.ArgumentError, ValueError):
            raise ExperimentError(
                f"{redacted(url)} is not the URL of a database; expected, for example, "
                "postgresql+psycopg://user@host/name"
            ) from None  # the original message may contain parts of the URL
        options = {"connect_args": _connect_args(address)}

        def opened() -> optuna.storages.RDBStorage:
            import optuna

            return optuna.storages.RDBStorage(
                url,
                # Without a connection pool: a server may restart, and forked processes must not
                # share a connection.
                engine_kwargs={"poolclass": sqlalchemy.pool.NullPool, **options},
                heartbeat_interval=heartbeat,
                grace_period=None if heartbeat is None else missed * heartbeat,
            )

        try:
            self.storage = self.call(opened)
        except ImportError as error:
            raise ExperimentError(
                f"{redacted(url)}: its driver is not installed: pip install 'featurewise[study]'"
            ) from error
        except ExperimentError:
            raise
        except Exception as error:  # drivers raise all kinds of errors for an invalid URL
            raise self._failure(error, 0.0) from None
        if heartbeat:
            self._deadline = SERVER_TIMEOUT

    def call(self, action: Callable[[], _ResultT], *, deadline: float | None = None) -> _ResultT:
        """Calls `action`, retrying while the database is unreachable, and returns its result.

        The action may run twice, if the connection is lost just after it has taken effect.

        Args:
            action: calls methods of the storage.
            deadline: seconds to retry; default: 300 (a file: 10).

        Raises:
            ExperimentError: the database was unreachable until the deadline.
        """
        import sqlalchemy
        from optuna.exceptions import StorageInternalError

        limit = self._deadline if deadline is None else deadline
        start, pause, attempts = time.monotonic(), _PAUSES[0], 0
        while True:
            try:
                return action()
            # These include transient conflicts: two workers may create the same table at once.
            except (sqlalchemy.exc.DBAPIError, StorageInternalError) as error:
                self.last_failure = time.monotonic()
                attempts += 1
                if self.last_failure - start + pause > limit:
                    raise self._failure(error, self.last_failure - start) from None
                if attempts == 2:
                    _log.warning(
                        "%s: this database does not respond; retrying for up to %.0f s",
                        redacted(self._url),
                        limit,
                    )
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, _PAUSES[1])

    def _failure(self, error: Exception, seconds: float) -> ExperimentError:
        """An error with a one-line reason, without the secrets that drivers may print."""
        cause = error.__cause__ or error
        reason = str(getattr(cause, "orig", None) or cause).strip().splitlines() or ["no reason"]
        return ExperimentError(
            f"{redacted(self._url)}: this database cannot be used (tried for {seconds:.0f} s): "
            f"{without_secrets(reason[0], self._url)}"
        )


def _connect_args(address: sqlalchemy.URL) -> dict[str, Any]:
    if address.drivername.startswith("sqlite"):
        return {"timeout": 60}
    if address.drivername in ("postgresql", "postgresql+psycopg", "postgresql+psycopg2"):
        return {name: value for name, value in _LIBPQ.items() if name not in address.query}
    return {}


def redacted(url: str) -> str:
    """The URL of a database without anything that may be secret.

    The password and all query parameters except host, port and sslmode are replaced by ``***``, as
    is the whole URL if it cannot be parsed.
    """
    parts = _parts(url)
    if parts is None:
        return repr(url) if re.fullmatch(r"[\w./-]*", url) else "'***'"
    query = {key: value for key, value in parts.query.items() if key in _PUBLIC}
    hidden = len(parts.query) > len(query)
    text: str = parts.set(query=query).render_as_string(hide_password=True)
    return f"{text}{'&' if query else '?'}***" if hidden else text


def without_secrets(text: str, url: str) -> str:
    """A text with all secrets of a URL replaced, percent-encoded or not."""
    for secret in sorted(_secrets(url), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _parts(url: str) -> sqlalchemy.URL | None:
    """The parsed URL; None if a password may have been parsed as another part."""
    import sqlalchemy

    try:
        parts = sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        return None
    suspicious = re.compile(r"[@:\s]|//")
    misread = suspicious.search(parts.username or "") or "@" in f"{parts.host}{parts.database}"
    return None if misread and not parts.drivername.startswith("sqlite") else parts


def _secrets(url: str) -> set[str]:
    parts = _parts(url)
    if parts is None:
        found = {url, *re.split(r"[@/:?&=,\s]+", url)[1:]}
    else:
        found = {str(parts.password or "")}
        for key, value in parts.query.items():
            if key not in _PUBLIC:
                found |= {value} if isinstance(value, str) else set(value)
    spellings = {encode(each) for each in found for encode in (str, quote, quote_plus)}
    return {each for each in spellings if len(each) > 2}


@contextmanager
def quiet() -> Iterator[None]:
    """Silences Optuna's log and its warnings about experimental features (its version is pinned).

    Raises:
        ExperimentError: Optuna is not installed.
    """
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
