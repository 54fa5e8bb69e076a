"""A queue of things to do, each done exactly once, that outlives every worker.

It is an Optuna study in a database: an SQLite file for the workers of one machine, or a server
for those of many. How a dead worker is told from a slow one: on one machine by a lock that the
system releases when its holder dies; over a server by a heartbeat that stops. While a server is
away, all wait for it to come back.

An item may stand in the study more than once, when two workers added it at the same moment or
its worker died. The first entry that has not failed counts and the others are never taken; as
entries are numbered in the order in which they become visible, all workers agree on it.
"""

from __future__ import annotations

import json
import threading
import time
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
_MISSED = 6  # signs of life, until a worker counts as dead
_LEAVING = 10.0  # seconds to put an item back


@dataclass(frozen=True)
class Item:
    """Something to do.

    Attributes:
        key: what.
        state: whether it waits, is worked on (or was, by a worker that died), done or given up.
        text: what came of it, or what went wrong.
    """

    key: str
    state: Literal["waiting", "running", "done", "failed"]
    text: str = ""


@dataclass
class Lease:
    """An item that is ours to do; unless told what came of it, it is put back.

    Attributes:
        key: what to do.
    """

    key: str
    _settle: Callable[[float | None, str], None]
    _settled: bool = field(default=False, init=False)

    def done(self, score: float, text: str) -> None:
        """It is done, and this came of it."""
        self._settle(score, text)
        self._settled = True

    def failed(self, text: str) -> None:
        """It cannot be done, for this reason; nobody tries again until asked to."""
        self._settle(None, text)
        self._settled = True


class Queue:
    """What is to be done, under a name, in a database.

    Args:
        name: of the study.
        folder: for the database and the locks; exists.
        storage: address of a database server, as SQLAlchemy reads it; a file in the folder unless
            told.
        higher: whether a higher score is better.
        facts: what all workers must agree on, as JSON values.
        heartbeat: seconds between signs of life over a server; after six without one, a worker
            counts as dead.

    Raises:
        ExperimentError: Optuna is missing, the database cannot be used, or it holds other facts.
            Any method raises it when a database that was open is away for 300 s (see `Database`).
    """

    def __init__(
        self,
        name: str,
        *,
        folder: Path,
        storage: str | None = None,
        higher: bool = True,
        facts: Mapping[str, Any] | None = None,
        heartbeat: int = 10,
    ) -> None:
        self.name, self.folder = name, folder
        self._local, self._beat = storage is None, heartbeat
        with storage_errors(folder, "Choose a folder that can be written."):
            (folder / _LOCKS).mkdir(parents=True, exist_ok=True)
        url = storage or f"sqlite:///{(folder / DATABASE).resolve()}"
        with quiet(), self._alone():
            self._database = Database(url, None if self._local else heartbeat, _MISSED)
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
            self._agree(facts or {})

    @property
    def patience(self) -> float:
        """Seconds to wait before looking again when there was nothing to take."""
        return 0.5 if self._local else min(5.0, float(self._beat))

    def add(self, keys: Sequence[str], *, again: bool = False) -> None:
        """Puts in what is not there yet, or whose worker died.

        Args:
            keys: what to do, in this order.
            again: also what was given up.
        """
        import optuna

        waiting = optuna.trial.TrialState.WAITING
        with quiet(), self._alone():
            known = self._current()
            for key in keys:
                if key not in known or (again and known[key][1].state == "failed"):
                    entry = optuna.trial.create_trial(state=waiting, user_attrs={"key": key})
                    self._database.call(partial(self._storage.create_new_trial, self._id, entry))

    def items(self) -> dict[str, Item]:
        """All that stands in the queue, by key."""
        with quiet():
            return {key: item for key, (_, item) in self._current().items()}

    @contextmanager
    def lease(self, keys: Sequence[str]) -> Iterator[Lease | None]:
        """The first of these items that is free, ours until left; None when none is."""
        with ExitStack() as stack:
            with quiet():
                if not self._local:
                    self._expire(keys)
                found = self._claim(keys, stack)
            if found is None:
                yield None
                return
            number, key = found
            taken = Lease(key, lambda score, text: self._settle(number, score, text))
            try:
                yield taken
            finally:
                if not taken._settled:
                    self._put_back(number)

    def _claim(self, keys: Sequence[str], stack: ExitStack) -> tuple[int, str] | None:
        current = self._current()
        # A lock tells at once that a worker died; a server's silence is `_expire`'s to judge.
        free = ("waiting", "running") if self._local else ("waiting",)
        for key in keys:
            number, item = current.get(key, (-1, None))
            if item is None or item.state not in free:
                continue
            with ExitStack() as attempt:
                if self._get(number, key, attempt):
                    stack.enter_context(attempt.pop_all())
                    return number, key
        return None

    def _get(self, number: int, key: str, stack: ExitStack) -> bool:
        """Whether this entry is ours now, as long as the stack lasts."""
        from optuna.trial import TrialState

        if not self._local:
            # The sign of life comes first: whoever dies right after must be seen to be dead. That
            # is why this is not `Study.ask`.
            self._database.call(lambda: self._storage.record_heartbeat(number))
            if not self._set(number, TrialState.RUNNING):
                return False
            stack.enter_context(self._living(number))
            return True
        folder = self.folder / _LOCKS / key
        folder.mkdir(exist_ok=True)
        try:
            stack.enter_context(locked(folder))
        except OccupiedError:
            return False
        # Whoever worked on it is dead, or we would not have got the lock.
        state = self._database.call(lambda: self._storage.get_trial(number).state)
        return state == TrialState.RUNNING or self._set(number, TrialState.RUNNING)

    def _set(self, number: int, state: Any, values: Sequence[float] | None = None) -> bool:
        """Whether an entry was open to be put into a state."""
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            return self._database.call(
                lambda: self._storage.set_trial_state_values(number, state, values)
            )
        except UpdateFinishedTrialError:
            return False

    def _settle(self, number: int, score: float | None, text: str) -> None:
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        name = "error" if score is None else "result"
        state = TrialState.FAIL if score is None else TrialState.COMPLETE
        # Finished already: we were taken for dead, and somebody else does it again.
        with quiet(), suppress(UpdateFinishedTrialError):
            self._database.call(lambda: self._storage.set_trial_user_attr(number, name, text))
            self._set(number, state, None if score is None else [score])

    def _put_back(self, number: int) -> None:
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        # Briefly: we are leaving, and it is put back when no sign of life comes any more.
        with quiet(), suppress(ExperimentError, UpdateFinishedTrialError):
            self._database.call(
                lambda: self._storage.set_trial_state_values(number, TrialState.WAITING),
                deadline=_LEAVING,
            )

    def _current(self) -> dict[str, tuple[int, Item]]:
        """Key -> the entry that counts, by its number in the database, and what it says."""
        found: dict[str, tuple[int, Item]] = {}
        states = {0: "running", 1: "done", 3: "failed", 4: "waiting"}
        for entry in self._database.call(
            lambda: self._storage.get_all_trials(self._id, deepcopy=False)
        ):
            key, state = str(entry.user_attrs.get("key")), states.get(entry.state.value)
            buried = state == "failed" and "error" not in entry.user_attrs
            settled = key in found and found[key][1].state != "failed"
            if state is None or buried or settled:
                continue
            text = entry.user_attrs.get({"done": "result"}.get(state, "error"), "")
            found[key] = entry._trial_id, Item(key, state, text)  # type: ignore[arg-type]
        return found

    def _expire(self, keys: Sequence[str]) -> None:
        """Gives up the entries of workers that show no sign of life, and puts in new ones."""
        import optuna

        # Nobody could show one while the server was away, and it may have come back just now.
        if time.monotonic() < max(self._opened, self._database.away) + 2 * self._beat:
            return
        self._database.call(lambda: optuna.storages.fail_stale_trials(self._study))
        self.add(keys)

    @contextmanager
    def _living(self, number: int) -> Iterator[None]:
        """Gives signs of life until left."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(self._beat):
                with suppress(ExperimentError):  # the server may come back
                    self._database.call(
                        lambda: self._storage.record_heartbeat(number), deadline=0.0
                    )

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps the other workers of this machine out; those of a server need no such thing."""
        if not self._local:
            yield
            return
        with locked(self.folder / _LOCKS, wait=True):
            yield

    def _agree(self, facts: Mapping[str, Any]) -> None:
        """Leaves the facts where there are none."""
        known = self._database.call(lambda: self._study.user_attrs.get("facts"))
        mine = json.loads(json.dumps(facts))
        if known is None:
            self._database.call(lambda: self._study.set_user_attr("facts", mine))
            return
        for name in {**known, **mine}:
            if known.get(name) != mine.get(name):
                raise ExperimentError(
                    f"{self.folder}: the study {self.name} was begun with {name} "
                    f"{known.get(name)}, not {mine.get(name)}; choose another folder or database"
                )
