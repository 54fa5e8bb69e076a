"""All arms and seeds of a system, each trained exactly once by whichever worker is free.

Killed at any moment, a worker loses at most the steps since a checkpoint: another, or the next,
goes on with its run bit for bit (see `featurewise.training.loop`). The results are rebuilt from the
queue alone (`featurewise.study.queue`), in a file or on a server.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import sleep
from typing import Any, NamedTuple

from featurewise.common.errors import wrap_errors
from featurewise.common.files import write_bytes
from featurewise.common.processes import exit_if_unguarded
from featurewise.study.queue import Queue, Taken
from featurewise.study.results import Results
from featurewise.study.run import (
    RESULTS,
    SHEET,
    changed_settings,
    describe_run,
    train,
    write_run,
)
from featurewise.study.system import Settings, System
from featurewise.training.errors import ExperimentError, OccupiedError
from featurewise.training.files import storage_errors

TRACEBACK = "error.txt"


class Key(NamedTuple):
    """Which trial: an arm and a seed; written ``<arm>-s<seed>``, as its folder is called."""

    arm: str
    seed: int

    def __str__(self) -> str:
        return f"{self.arm}-s{self.seed}"


@dataclass(frozen=True)
class Standing:
    """How far a study is.

    Attributes:
        results: of all trials that are done, by arm as in the record, then by seed.
        running: trials that somebody works on, or did until it died.
        waiting: trials that nobody works on.
        failed: trial -> what went wrong.
    """

    results: Results
    running: tuple[Key, ...]
    waiting: tuple[Key, ...]
    failed: Mapping[Key, str]

    @property
    def left(self) -> int:
        """How many trials are neither done nor failed."""
        return len(self.running) + len(self.waiting)


class Study:
    """Arms and seeds of a system at a preset.

    Args:
        system: its record.
        preset: name of the settings.
        arms: names of arms.
        seeds: of weights, data and noise.
        settings: in place of the preset's; the results say which differ.
        folder: of the study, made when missing; a trial's folder in it is ``<arm>-s<seed>``.
        storage: address of a database server, as SQLAlchemy reads it; a file in the folder unless
            told. All who give the same share the work.
        heartbeat: see `Queue`.

    Attributes:
        settings: all of them.

    Raises:
        ExperimentError: there is no such arm or preset, or see `Queue`.
    """

    def __init__(
        self,
        system: System[Any],
        *,
        preset: str,
        arms: Sequence[str],
        seeds: Sequence[int],
        settings: Settings | None = None,
        folder: Path | str,
        storage: str | None = None,
        heartbeat: int = 10,
    ) -> None:
        if not arms or not seeds:
            raise ExperimentError(f"{system.name}: a study needs at least one arm and one seed")
        self.system, self.preset, self.folder = system, preset, Path(folder)
        # Seeds outside: what is there when it stops early compares all arms.
        self.keys = tuple(Key(system.arm(arm).name, seed) for seed in seeds for arm in arms)
        self._names = [str(key) for key in self.keys]
        self.settings: Settings = settings or system.preset(preset)
        run = describe_run(system, preset=preset, settings=self.settings)
        self._changed = changed_settings(system, run)
        self._queue = Queue(
            "-".join([system.name, preset, *(f"{k}={v}" for k, v in self._changed.items())]),
            folder=self.folder,
            storage=storage,
            higher=system.better == "higher",
            facts=run.settings,
            heartbeat=heartbeat,
        )

    def begin(self) -> None:
        """Puts all trials into the queue that are not in it, and those that failed anew."""
        self._queue.add(self._names, again=True)

    def work(self, told: Callable[[str], None] = lambda message: None) -> None:
        """Takes trials until none is left, those of other workers included: they may die.

        Args:
            told: is given a sentence when a trial begins and when it ends.
        """
        exit_if_unguarded()
        self._queue.add(self._names)
        while True:
            with self._queue.take(self._names) as taken:
                if taken is not None and self._perform(taken, told):
                    continue
            if not self.standing().left:
                return
            sleep(self._queue.patience)

    def standing(self) -> Standing:
        """How far the study is, whoever worked on it."""
        items = self._queue.items()
        of = {state: [] for state in ("running", "waiting")}  # type: dict[str, list[Key]]
        for key in self.keys:
            item = items.get(str(key))
            if item is None or item.state in of:
                of["waiting" if item is None else item.state].append(key)
        found = [
            _trial(self.system, self.preset, key, item.text)
            for key, item in items.items()
            if item.state == "done"
        ]
        return Standing(
            replace(_joined(self.system, self.preset, found), changed=self._changed),
            tuple(of["running"]),
            tuple(of["waiting"]),
            {
                key: items[str(key)].text
                for key in self.keys
                if str(key) in items and items[str(key)].state == "failed"
            },
        )

    def sheets(self) -> dict[str, Path]:
        """Arm -> what it drew with its first seed that drew, here."""
        found: dict[str, Path] = {}
        for key in self.keys:
            path = self.folder / str(key) / SHEET
            if path.is_file():
                found.setdefault(key.arm, path)
        return found

    def _perform(self, taken: Taken, told: Callable[[str], None]) -> bool:
        """Whether a trial was settled: not, while another process still works in its folder."""
        key = next(key for key in self.keys if str(key) == taken.key)
        folder = self.folder / taken.key
        told(f"{key.arm}, seed {key.seed}: begins")
        try:
            results = self._trained(folder, key)
            (trial,) = results.trials
            score = trial.measured.number(self.system.score)
            text = results.to_json()
        except OccupiedError:  # a worker that was taken for dead still trains it
            return False
        except Exception as error:  # of one trial: the others go on
            with storage_errors(folder, "Free some space."):
                folder.mkdir(parents=True, exist_ok=True)
                write_bytes(folder / TRACEBACK, traceback.format_exc().encode(errors="replace"))
            reason = (
                str(error)
                if isinstance(error, ExperimentError)
                else f"{type(error).__name__}: {error}"
            )
            taken.failed(reason)
            told(f"{key.arm}, seed {key.seed}: failed: {reason}")
            return True
        taken.done(score, text)
        told(
            f"{key.arm}, seed {key.seed}: {self.system.score} {score:.4g} "
            f"after {trial.steps} steps, {trial.seconds:.0f} s"
        )
        return True

    def _trained(self, folder: Path, key: Key) -> Results:
        """What a trial measured: just now, or before somebody died who had it measured."""
        run = describe_run(
            self.system, preset=self.preset, arm=key.arm, seed=key.seed, settings=self.settings
        )
        complete = (folder / RESULTS).is_file() and (
            self.system.draw is None or (folder / SHEET).is_file()
        )
        if complete:
            write_run(folder, run)  # raises unless it is the same run
            with suppress(ExperimentError):  # damaged results are measured again
                found = Results.load(folder / RESULTS)
                self.system.require(found)
                expected = [(self.preset, key.arm, key.seed, run.settings["steps"])]
                told = [(found.preset, t.arm, t.seed, t.steps) for t in found.trials]
                if told == expected:
                    return found
        train(folder, self.system, run)
        return Results.load(folder / RESULTS)


def _trial(system: System[Any], preset: str, key: str, text: str) -> Results:
    """What the queue keeps of a trial that is done."""
    with wrap_errors(f"trial {key} of the study", ExperimentError, ExperimentError):
        found = Results.from_json(text)
        if (found.system, found.preset, len(found.trials)) != (system.name, preset, 1):
            raise ExperimentError("holds results of something else")
        return found


def _joined(system: System[Any], preset: str, found: Sequence[Results]) -> Results:
    """The results of single trials as one; what hardware they ran on, each that there was."""
    order = {arm.name: index for index, arm in enumerate(system.arms)}
    known = [each for each in found if each.trials[0].arm in order]
    known.sort(key=lambda each: (order[each.trials[0].arm], each.trials[0].seed))
    return Results(
        system.name,
        preset,
        tuple(each.trials[0] for each in known),
        _facts(each.hardware for each in known),
        _facts(each.data_versions for each in known),
    )


def _facts(each: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Facts of several trials as one: of every name each value that there was."""
    found: dict[str, list[str]] = {}
    for name, value in (fact for facts in each for fact in facts.items()):
        if value not in found.setdefault(name, []):
            found[name].append(value)
    return {name: " / ".join(values) for name, values in found.items()}
