"""Studies: all arms and seeds of a system, each trained exactly once by one of several workers.

A worker that is killed loses at most the steps since the last checkpoint: another worker resumes
its run exactly (see `featurewise.training.loop`). The results of all trials are stored in the queue
(`featurewise.study.queue`), a database in a file or on a server.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import sleep
from typing import Any, NamedTuple

from featurewise.common.errors import wrap_errors
from featurewise.common.files import write_bytes
from featurewise.common.processes import exit_if_unguarded
from featurewise.study.queue import Lease, Queue
from featurewise.study.results import Results
from featurewise.study.run import (
    RESULTS,
    SHEET,
    changed_settings,
    describe_run,
    is_begun,
    require_seed,
    train,
    write_run,
)
from featurewise.study.system import Config, System
from featurewise.training.errors import ExperimentError, OccupiedError
from featurewise.training.files import storage_errors

TRACEBACK = "error.txt"


class Key(NamedTuple):
    """Identifies a trial; ``str()`` gives the name of its folder, ``<arm>-s<seed>``.

    Attributes:
        arm: name of the arm.
        seed: of weights, data and noise.
    """

    arm: str
    seed: int

    def __str__(self) -> str:
        return f"{self.arm}-s{self.seed}"


@dataclass(frozen=True)
class StudyStatus:
    """Progress of a study.

    Attributes:
        results: of all completed trials, in the order of the system's arms, then by seed.
        running: trials in progress, including those of workers that died without expired lease.
        waiting: trials that have not been started, or were interrupted.
        failed: trial -> error message.
    """

    results: Results
    running: tuple[Key, ...]
    waiting: tuple[Key, ...]
    failed: Mapping[Key, str]

    @property
    def remaining(self) -> int:
        """Number of trials that are neither done nor failed."""
        return len(self.running) + len(self.waiting)


class Study:
    """Trains several arms and seeds of a system with one preset.

    Args:
        system: to be trained.
        preset: name of its settings.
        arms: names of its arms.
        seeds: of weights, data and noise.
        config: in place of the preset's; the results say which settings differ.
        folder: of the study, made when missing; a trial's folder in it is ``<arm>-s<seed>``.
        storage: address of a database server, as SQLAlchemy reads it; default: an SQLite
            file in the folder. Workers with the same address share the trials.
        heartbeat: see `Queue`.

    Attributes:
        config: the one before arms change it.

    Raises:
        ExperimentError: no arms or seeds, an unknown arm or preset, settings that do not fit an
            arm, or see `Queue`.
    """

    def __init__(
        self,
        system: System[Any],
        *,
        preset: str,
        arms: Sequence[str],
        seeds: Sequence[int],
        config: Config | None = None,
        folder: Path | str,
        storage: str | None = None,
        heartbeat: int = 10,
    ) -> None:
        if not arms or not seeds:
            raise ExperimentError(f"{system.name}: a study needs at least one arm and one seed")
        self.system, self.preset, self.folder = system, preset, Path(folder)
        # Seed by seed, so that a study that is stopped early compares all arms.
        self.keys = tuple(Key(system.arm(arm).name, seed) for seed in seeds for arm in arms)
        self._names = [str(key) for key in self.keys]
        self.config: Config = config or system.preset(preset)
        for arm in arms:
            system.config(self.config, arm)
        for seed in seeds:
            require_seed(seed)
        run = describe_run(system, preset=preset, config=self.config)
        self._changed = changed_settings(system, run)
        self._queue = Queue(
            "-".join([system.name, preset, *(f"{k}={v}" for k, v in self._changed.items())]),
            folder=self.folder,
            storage=storage,
            higher=system.score.better == "higher",
            settings=run.settings,
            replaceable=not _any_begun(self.folder),
            heartbeat=heartbeat,
        )

    def begin(self) -> None:
        """Adds all trials to the queue that are missing or failed."""
        self._queue.add(self._names, again=True)

    def work(self, on_progress: Callable[[str], None] = lambda message: None) -> None:
        """Trains trials until none remains, and waits for those of other workers, which may die.

        Args:
            on_progress: called with a message when a trial begins and when it ends.
        """
        exit_if_unguarded()
        self._queue.add(self._names)
        while True:
            with self._queue.lease(self._names) as lease:
                if lease is not None and self._run_trial(lease, on_progress):
                    continue
            if not self.status().remaining:
                return
            sleep(self._queue.poll_interval)

    def status(self) -> StudyStatus:
        """Progress of the study, of all workers."""
        items = self._queue.items()
        open_trials: dict[str, list[Key]] = {"running": [], "waiting": []}
        for key in self.keys:
            item = items.get(str(key))
            if item is None or item.state in open_trials:
                open_trials["waiting" if item is None else item.state].append(key)
        found = [
            _trial(self.system, self.preset, key, item.text)
            for key, item in items.items()
            if item.state == "done"
        ]
        return StudyStatus(
            replace(_joined(self.system, self.preset, found), changed=self._changed),
            tuple(open_trials["running"]),
            tuple(open_trials["waiting"]),
            {
                key: items[str(key)].text
                for key in self.keys
                if str(key) in items and items[str(key)].state == "failed"
            },
        )

    def sheets(self) -> dict[str, Path]:
        """Arm -> sample sheet of its first seed that has one in this folder."""
        found: dict[str, Path] = {}
        for key in self.keys:
            path = self.folder / str(key) / SHEET
            if path.is_file():
                found.setdefault(key.arm, path)
        return found

    def _run_trial(self, lease: Lease, on_progress: Callable[[str], None]) -> bool:
        """Runs a trial; False if another process still uses its folder."""
        key = next(key for key in self.keys if str(key) == lease.key)
        folder = self.folder / lease.key
        on_progress(f"{key.arm}, seed {key.seed}: starts")
        try:
            results = self._results_of(folder, key)
            (trial,) = results.trials
            score = trial.measured.number(self.system.score)
            text = results.to_json()
        except OccupiedError:  # a worker whose lease expired still trains it
            return False
        except Exception as error:  # of one trial; the other trials continue
            with storage_errors(folder, "Free some space."):
                folder.mkdir(parents=True, exist_ok=True)
                write_bytes(folder / TRACEBACK, traceback.format_exc().encode(errors="replace"))
            reason = (
                str(error)
                if isinstance(error, ExperimentError)
                else f"{type(error).__name__}: {error}"
            )
            lease.failed(reason)
            on_progress(f"{key.arm}, seed {key.seed}: failed: {reason}")
            return True
        lease.done(score, text)
        on_progress(
            f"{key.arm}, seed {key.seed}: {self.system.score.name} {score:.4g} "
            f"after {trial.steps} steps, {trial.seconds:.0f} s"
        )
        return True

    def _results_of(self, folder: Path, key: Key) -> Results:
        """The results of a trial: those in its folder if they are complete, else trains it."""
        run = describe_run(
            self.system, preset=self.preset, arm=key.arm, seed=key.seed, config=self.config
        )
        complete = (folder / RESULTS).is_file() and (
            self.system.draw is None or (folder / SHEET).is_file()
        )
        if complete:
            write_run(folder, run, self.system)  # raises unless it is the same run
            with suppress(ExperimentError):  # damaged results are measured again
                found = Results.load(folder / RESULTS)
                self.system.require(found)
                expected = [(self.preset, key.arm, key.seed, run.settings["steps"])]
                stored = [(found.preset, t.arm, t.seed, t.steps) for t in found.trials]
                if stored == expected:
                    return found
        train(folder, self.system, run)
        return Results.load(folder / RESULTS)


def _any_begun(folder: Path) -> bool:
    """Whether a trial in the folder of a study has kept anything."""
    return folder.is_dir() and any(is_begun(each) for each in folder.iterdir() if each.is_dir())


def _trial(system: System[Any], preset: str, key: str, text: str) -> Results:
    """The results of a completed trial, from the queue."""
    with wrap_errors(f"trial {key} of the study", ExperimentError, ExperimentError):
        found = Results.from_json(text)
        if (found.system, found.preset, len(found.trials)) != (system.name, preset, 1):
            raise ExperimentError("contains results of another system, preset or trial")
        return found


def _joined(system: System[Any], preset: str, found: Sequence[Results]) -> Results:
    """The results of all trials in one record, with every hardware that they ran on."""
    order = {arm.name: index for index, arm in enumerate(system.arms)}
    known = [each for each in found if each.trials[0].arm in order]
    known.sort(key=lambda each: (order[each.trials[0].arm], each.trials[0].seed))
    return Results.joined(known) if known else Results(system.name, preset, ())
