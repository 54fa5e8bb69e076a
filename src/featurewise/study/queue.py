"""A persistent job queue for several workers, in which each item is completed exactly once.

The queue is an Optuna study in a database: an SQLite file for the workers of one machine, or a
server for workers on several machines. A dead worker is detected by a file lock that the operating
system releases (one machine), or by missing heartbeats (server). While a server is unreachable, all
calls wait and retry.

An item can have several entries in the study: if two workers added it at the same time, or if its
worker died. The first entry that has not failed is valid, and the others are ignored. Entries are
numbered in the order in which they become visible, so all workers choose the same one.
"""

from __future__ import annotations

import json
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from featurewise.study.database import Database, quiet
from featurewise.training.errors import ExperimentError, OccupiedError
from featurewise.training.files import locked, storage_errors

DATABASE = "study.db"
_LOCKS = ".workers"
_SETTINGS = "facts"  # name of the settings in existing databases
_MISSED_HEARTBEATS = 6  # after which a lease expires
_RELEASE_TIMEOUT = 10.0  # seconds to retry the release of an item


@dataclass(frozen=True)
class Item:
    """An item of the queue.

    Attributes:
        key: its unique name.
        state: ``running`` includes items whose worker died and whose lease has not expired.
        text: result of an item that is done, error message of one that failed, else empty.
    """

    key: str
    state: Literal["waiting", "running", "done", "failed"]
    text: str = ""


@dataclass
class Lease:
    """Exclusive right of a worker to process an item.

    An item that is neither `done` nor `failed` when the lease ends becomes available again.

    Attributes:
        key: of the item.
    """

    key: str
    _finish: Callable[[float | None, str], None]
    _finished: bool = field(default=False, init=False)

    def done(self, score: float, text: str) -> None:
        """Marks the item as done and stores its score and result."""
        self._finish(score, text)
        self._finished = True

    def failed(self, text: str) -> None:
        """Marks the item as failed, with a reason; it is not retried unless it is added again."""
        self._finish(None, text)
        self._finished = True


class Queue:
    """A named queue in a database.

    Args:
        name: of the Optuna study.
        folder: of the database file and the locks; exists.
        storage: SQLAlchemy URL of a database server; default: an SQLite file in the folder.
        higher: whether a higher score is better.
        settings: JSON values that must be equal for all workers of the queue.
        replaceable: whether nothing is lost if a queue in a file without finished items and without
            workers gets other settings.
        heartbeat: seconds between heartbeats to a server; a lease expires after six missing ones.

    Raises:
        ExperimentError: Optuna is not installed, the database cannot be used, or it was created
            with other settings. All methods raise it if a server does not respond for 300 s (see
            `Database`).
    """

    def __init__(
        self,
        name: str,
        *,
        folder: Path,
        storage: str | None = None,
        higher: bool = True,
        settings: Mapping[str, Any] | None = None,
        replaceable: bool = False,
        heartbeat: int = 10,
    ) -> None:
        self.name, self.folder = name, folder
        self._local, self._heartbeat = storage is None, heartbeat
        with storage_errors(folder, "Choose a folder that can be written."):
            (folder / _LOCKS).mkdir(parents=True, exist_ok=True)
        url = storage or f"sqlite:///{(folder / DATABASE).resolve()}"
        with quiet(), self._exclusive():
            self._database = Database(url, None if self._local else heartbeat, _MISSED_HEARTBEATS)
            self._storage, self._opened = self._database.storage, time.monotonic()
            import optuna

            self._study = self._database.call(
                lambda: optuna.create_study(
                    storage=self._storage,
                    study_name=name,
                    direction="maximize" if higher else "minimize",
                    load_if_exists=True,
                )
            )
            self._id = self._database.call(lambda: self._storage.get_study_id_from_name(name))
            self._check_settings(settings or {}, replaceable)

    @property
    def poll_interval(self) -> float:
        """Seconds to wait before the next attempt when no item was available."""
        return 0.5 if self._local else min(5.0, float(self._heartbeat))

    def add(self, keys: Sequence[str], *, again: bool = False) -> None:
        """Adds the items that are not in the queue, and those whose lease expired.

        Args:
            keys: of the items, in order.
            again: also add items that failed.
        """
        import optuna

        waiting = optuna.trial.TrialState.WAITING
        with quiet(), self._exclusive():
            known = self._current()
            for key in keys:
                if key not in known or (again and known[key][1].state == "failed"):
                    entry = optuna.trial.create_trial(state=waiting, user_attrs={"key": key})
                    self._database.call(partial(self._storage.create_new_trial, self._id, entry))

    def items(self) -> dict[str, Item]:
        """All items of the queue, by key."""
        with quiet():
            return {key: item for key, (_, item) in self._current().items()}

    @contextmanager
    def lease(self, keys: Sequence[str]) -> Iterator[Lease | None]:
        """Leases the first available of these items; yields None if there is none.

        Args:
            keys: of the items, in order of preference.
        """
        with ExitStack() as stack:
            with quiet():
                if not self._local:
                    self._expire(keys)
                found = self._claim(keys, stack)
            if found is None:
                yield None
                return
            number, key = found
            lease = Lease(key, lambda score, text: self._finish(number, score, text))
            try:
                yield lease
            finally:
                if not lease._finished:
                    self._release(number)

    def _claim(self, keys: Sequence[str], stack: ExitStack) -> tuple[int, str] | None:
        current = self._current()
        # Locks also show which running items lost their worker; on a server, `_expire` finds them.
        available = ("waiting", "running") if self._local else ("waiting",)
        for key in keys:
            number, item = current.get(key, (-1, None))
            if item is None or item.state not in available:
                continue
            with ExitStack() as attempt:
                if self._acquire(number, key, attempt):
                    stack.enter_context(attempt.pop_all())
                    return number, key
        return None

    def _acquire(self, number: int, key: str, stack: ExitStack) -> bool:
        """Tries to lease an entry; the lease ends with the stack."""
        from optuna.trial import TrialState

        if not self._local:
            # The heartbeat precedes the state: without one, the lease of a worker that dies right
            # after would never expire. That is why `Study.ask` is not used.
            self._database.call(lambda: self._storage.record_heartbeat(number))
            if not self._set(number, TrialState.RUNNING):
                return False
            stack.enter_context(self._heartbeats(number))
            return True
        folder = self.folder / _LOCKS / key
        folder.mkdir(exist_ok=True)
        try:
            stack.enter_context(locked(folder))
        except OccupiedError:
            return False
        # The lock was free, so the worker of an entry that is running has died.
        state = self._database.call(lambda: self._storage.get_trial(number).state)
        return state == TrialState.RUNNING or self._set(number, TrialState.RUNNING)

    def _set(self, number: int, state: Any, values: Sequence[float] | None = None) -> bool:
        """Sets the state of an entry; False if another worker has changed it before."""
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            return self._database.call(
                lambda: self._storage.set_trial_state_values(number, state, values)
            )
        except UpdateFinishedTrialError:
            return False

    def _finish(self, number: int, score: float | None, text: str) -> None:
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        name = "error" if score is None else "result"
        state = TrialState.FAIL if score is None else TrialState.COMPLETE
        # An entry that is finished already belongs to an expired lease: another worker has it.
        with quiet(), suppress(UpdateFinishedTrialError):
            self._database.call(lambda: self._storage.set_trial_user_attr(number, name, text))
            self._set(number, state, None if score is None else [score])

    def _release(self, number: int) -> None:
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        # With a short timeout, because this worker is stopping; otherwise the lease expires.
        with quiet(), suppress(ExperimentError, UpdateFinishedTrialError):
            self._database.call(
                lambda: self._storage.set_trial_state_values(number, TrialState.WAITING),
                deadline=_RELEASE_TIMEOUT,
            )

    def _current(self) -> dict[str, tuple[int, Item]]:
        """Key -> number of the valid entry in the database, and the item."""
        found: dict[str, tuple[int, Item]] = {}
        states = {0: "running", 1: "done", 3: "failed", 4: "waiting"}
        for entry in self._database.call(
            lambda: self._storage.get_all_trials(self._id, deepcopy=False)
        ):
            key, state = str(entry.user_attrs.get("key")), states.get(entry.state.value)
            expired = state == "failed" and "error" not in entry.user_attrs
            superseded = key in found and found[key][1].state != "failed"
            if state is None or expired or superseded:
                continue
            text = entry.user_attrs.get({"done": "result"}.get(state, "error"), "")
            found[key] = entry._trial_id, Item(key, state, text)  # type: ignore[arg-type]
        return found

    def _expire(self, keys: Sequence[str]) -> None:
        """Fails the entries without recent heartbeats and adds new entries for their items."""
        import optuna

        # While the server was unreachable, no worker could send heartbeats: wait for two of them.
        since = max(self._opened, self._database.last_failure)
        if time.monotonic() < since + 2 * self._heartbeat:
            return
        self._database.call(lambda: optuna.storages.fail_stale_trials(self._study))
        self.add(keys)

    @contextmanager
    def _heartbeats(self, number: int) -> Iterator[None]:
        """Sends heartbeats from a thread until the context ends."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(self._heartbeat):
                with suppress(ExperimentError):  # the next heartbeat may succeed
                    self._database.call(
                        lambda: self._storage.record_heartbeat(number), deadline=0.0
                    )

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Locks out other workers of an SQLite file; a database server does not need it."""
        if not self._local:
            yield
            return
        with locked(self.folder / _LOCKS, wait=True):
            yield

    def _check_settings(self, settings: Mapping[str, Any], replaceable: bool) -> None:
        """Compares the settings with those in the database, or stores them in a new one."""
        stored = self._database.call(lambda: self._study.user_attrs.get(_SETTINGS))
        given = json.loads(json.dumps(settings))
        if stored == given:
            return
        if stored is not None:
            name = next(each for each in {**stored, **given} if stored.get(each) != given.get(each))
            found = (
                f"{self.folder}: the study {self.name} was started with {name} "
                f"{stored.get(name)}, not {given.get(name)}"
            )
            if not (replaceable and self._local and self._is_idle()):
                raise ExperimentError(f"{found}; choose another folder or database")
            warnings.warn(f"{found}. Nothing of it was kept: it begins again", stacklevel=4)
        self._database.call(lambda: self._study.set_user_attr(_SETTINGS, given))

    def _is_idle(self) -> bool:
        """Whether no item of a queue in a file is done, and no worker has one."""
        for key, (_, item) in self._current().items():
            if item.state == "done":
                return False
            folder = self.folder / _LOCKS / key
            if item.state == "running" and folder.is_dir():
                try:
                    with locked(folder):
                        pass
                except OccupiedError:
                    return False
        return True
