"""The training loop: one for every stepper, interruptible at any moment, exact when resumed.

A run is a folder::

    run/checkpoints/step-00000500/   whole or absent, newest few (`CheckpointStore`)
    run/metrics.jsonl                one JSON object a line (`MetricsLog`)

The same command starts a run and goes on with it (``resume=True``), alone or under
``torchrun --nproc-per-node N`` with gradients averaged over N processes.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias, TypeVar

from featurewise.common.errors import wrap_errors
from featurewise.common.json import Node, failing
from featurewise.common.text import short
from featurewise.core.numbers import is_finite
from featurewise.training import distributed, randomness
from featurewise.training.checkpoint import CheckpointStore
from featurewise.training.errors import CheckpointError, ExperimentError, Interrupted
from featurewise.training.facts import MOST
from featurewise.training.files import locked
from featurewise.training.metrics import Meter, MetricsLog, check_finite
from featurewise.training.progress import Reporter, Screen, TensorBoard
from featurewise.training.source import Source, prefetched
from featurewise.training.steppers import Stepper

METRICS = "metrics.jsonl"
_CONTENT = {"stepper", "processes", "evaluated", "log_bytes", "seconds"}

StepperT = TypeVar("StepperT", bound=Stepper)
Evaluate: TypeAlias = Callable[[StepperT], Mapping[str, float]]
"""Stepper -> metrics. Random numbers drawn here do not change the training."""


@dataclass(frozen=True, slots=True)
class Every:
    """How often something happens, in steps; None for never but at the end.

    Attributes:
        log: metrics are averaged over this many steps and logged.
        evaluate: the evaluation runs.
        save: a checkpoint is written.
        save_seconds: a checkpoint is also written when the last is this old.
    """

    log: int = 20
    evaluate: int | None = None
    save: int | None = 500
    save_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("log", "evaluate", "save", "save_seconds"):
            value = getattr(self, name)
            if value is not None and not (is_finite(value) and value > 0):
                raise ExperimentError(
                    f"every {short(value)} ({name}): it must be above 0, and finite"
                )


@dataclass(frozen=True, slots=True)
class Fit:
    """What came of a run.

    Attributes:
        step: completed steps.
        seconds: time spent in training, evaluation included, over all sittings.
        metrics: of the last evaluation; empty when there was none.
    """

    step: int
    seconds: float
    metrics: Mapping[str, float]


def fit(
    run_dir: Path | str,
    stepper: StepperT,
    data: Source[Any],
    *,
    steps: int,
    evaluate: Evaluate[StepperT] | None = None,
    every: Every | None = None,
    resume: bool = False,
    seed: int = 0,
    seconds: float | None = None,
    workers: int = 0,
    keep: int = 3,
    tensorboard: bool = False,
    reporters: Sequence[Reporter] = (),
) -> Fit:
    """Trains for `steps` steps, or goes on until there are so many.

    Ctrl-C and SIGTERM end the step in progress, save and leave (`Interrupted`); a second
    Ctrl-C leaves at once. Killed at any moment and resumed, a run ends with the same bits
    as one left alone, on the same machine and with the same number of processes.

    Args:
        run_dir: folder of the run, created when missing.
        stepper: what a step does; built the same way before resuming.
        data: batch i is for step i (see `Source`).
        steps: total number of steps, those of earlier sittings included.
        evaluate: called with the stepper in the writing process.
        every: how often to log, evaluate and save; the end does all three.
        resume: goes on from the newest sound checkpoint; begins when there is none.
        seed: seeds every random generator at the beginning (plus the rank of a process).
        seconds: stops, saved and resumable, when this much time was spent in all sittings.
        workers: processes that prepare batches; 0 prepares them in this one.
        keep: how many checkpoints stay.
        tensorboard: also writes for TensorBoard, to ``run_dir/tensorboard``.
        reporters: who else is told of metrics, as a `OverfitMonitor`; in the writing process.

    Raises:
        Interrupted: a signal asked to stop.
        ExperimentError: the folder holds a run and `resume` is false, or another run's checkpoint,
            or another process trains there; TensorBoard is asked for and not installed.
        CheckpointError: there are checkpoints and none is sound.
        DivergedError: a metric became infinite or NaN.
        StorageError: the disk is full; the checkpoints so far are intact.
        WorkerError: a process that prepares batches died.
    """
    with ExitStack() as stack:
        group = stack.enter_context(distributed.joined())
        run = _Run(Path(run_dir), stepper, group, every or Every(), keep)
        if group.writes:
            stack.enter_context(locked(run.folder))
        random_state = run.begin(seed, resume=resume)
        stack.callback(run.close)
        stopping = stack.enter_context(_stopping())
        if group.writes:
            run.reporters.append(stack.enter_context(Screen(steps, run.step)))
            run.reporters.extend(reporters)
            if tensorboard:
                board = TensorBoard(run.folder / "tensorboard", run.step)
                run.reporters.append(stack.enter_context(board))
        indices = range(run.step * group.size + group.rank, steps * group.size, group.size)
        batches = stack.enter_context(prefetched(data, indices, workers))
        randomness.restore(random_state)
        run.train(batches, steps, seconds, evaluate, stopping)
        return Fit(run.step, run.spent(), run.evaluated)


@dataclass
class _Stopping:
    signum: int | None = None


@contextmanager
def _stopping() -> Iterator[_Stopping]:
    """Notes SIGINT and SIGTERM instead of dying of them; a second SIGINT is let through."""
    stopping = _Stopping()

    def note(signum: int, frame: FrameType | None) -> None:
        if stopping.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        stopping.signum = signum

    if threading.current_thread() is not threading.main_thread():
        yield stopping  # only the main thread may handle signals
        return
    before = {which: signal.signal(which, note) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


@dataclass
class _Run:
    """A run in progress: what is done after each step, and what is remembered."""

    folder: Path
    stepper: Any
    group: distributed.Group
    every: Every
    keep: int
    step: int = 0
    evaluated: dict[str, float] = field(default_factory=dict)
    reporters: list[Reporter] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = CheckpointStore(self.folder / "checkpoints", keep=self.keep)
        self.meter = Meter()
        self.log: MetricsLog | None = None
        self._earlier = 0.0
        self._begun = self._saved = time.monotonic()

    def close(self) -> None:
        """Closes the log."""
        if self.log is not None:
            self.log.close()

    def spent(self) -> float:
        """Seconds of all sittings."""
        return self._earlier + time.monotonic() - self._begun

    def begin(self, seed: int, *, resume: bool) -> Mapping[str, Any]:
        """Restores the newest checkpoint or starts afresh; returns the random state to use."""
        state = self._find(resume)
        log_bytes = 0
        if state is None:
            randomness.seed_everything(seed + self.group.rank)
            random_state: Mapping[str, Any] = randomness.capture()
        else:
            random_state = self._load(state)
            log_bytes = state["log_bytes"]
        if self.group.writes:
            self.store.discard_after(self.step)
            self.log = MetricsLog(self.folder / METRICS, log_bytes)
        return random_state

    def _find(self, resume: bool) -> dict[str, Any] | None:
        """The state to go on from; every process the same."""
        found = self._find_first(resume) if self.group.writes else None
        step = self.group.from_first(-1 if found is None else found[0])
        if step < 0:
            return None
        self.step = step
        return found[1] if found is not None else self.store.load(step)

    def _find_first(self, resume: bool) -> tuple[int, dict[str, Any]] | None:
        log = self.folder / METRICS
        if not resume and (self.store.steps() or (log.exists() and log.stat().st_size)):
            raise ExperimentError(
                f"{self.folder}: holds a run already; resume it or choose another folder"
            )
        found = self.store.latest()
        if found is None and self.store.steps():
            # Beginning anew would remove what may still be rescued.
            raise CheckpointError(f"{self.store.folder}: there are checkpoints and none is sound")
        return found

    def _load(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        path = self.store.path(self.step)
        if state.keys() != _CONTENT:
            raise CheckpointError(f"{path}: is not the checkpoint of a run")
        said = Node(dict(state), "", failing(CheckpointError, path))
        processes = said["processes"].items()
        if len(processes) != self.group.size:
            raise ExperimentError(
                f"{path}: was trained by {len(processes)} processes and "
                f"cannot go on exactly with {self.group.size}"
            )
        mine = processes[self.group.rank]
        mine.mapping(("random", "meter"))
        self.evaluated = _numbers(said["evaluated"])
        self._earlier = said["seconds"].number(0)
        said["log_bytes"].integer(0, MOST)
        random_state = mine["random"].mapping()
        with wrap_errors(
            path, CheckpointError, ExperimentError, what="is not the checkpoint of a run"
        ):
            self.stepper.load_state(state["stepper"])
            self.meter.load_state([_numbers(each) for each in mine["meter"].items()])
            randomness.check(random_state)
        return random_state

    def train(
        self,
        batches: Iterator[Any],
        steps: int,
        seconds: float | None,
        evaluate: Evaluate[Any] | None,
        stopping: _Stopping,
    ) -> None:
        """Steps until there are `steps`, the time is over, or a signal asks to stop."""
        for batch in batches:
            self.meter.add(self.stepper.step(batch))
            self.step += 1
            last = self.step >= steps
            if last or self.step % self.every.log == 0:
                self._flush()
            if evaluate and (last or _due(self.step, self.every.evaluate)):
                self._evaluate(evaluate)
            stop, over, stale = self.group.any(
                stopping.signum is not None,
                seconds is not None and self.spent() >= seconds,
                self._stale(),
            )
            if last or stop or over or stale or _due(self.step, self.every.save):
                self._save()
            if stop and not last:
                self._say(f"Stopped at step {self.step}, saved in {self.folder}; resume to go on.")
                raise Interrupted(stopping.signum or signal.SIGTERM, self.step)
            if over and not last:
                self._say(f"Time is over at step {self.step}, saved in {self.folder}.")
                return

    def _flush(self) -> None:
        self._record("train", self.group.mean(self.meter.means(self.step)))
        self.meter.clear()

    def _evaluate(self, evaluate: Evaluate[Any]) -> None:
        if self.group.writes:
            with randomness.isolated():
                self.evaluated = dict(evaluate(self.stepper))
            check_finite(self.evaluated, self.step)
            self._record("evaluate", self.evaluated)

    def _record(self, kind: str, metrics: Mapping[str, float]) -> None:
        if self.log is not None:
            self.log.write(self.step, kind, metrics)
        for reporter in self.reporters:
            reporter.report(self.step, kind, metrics)

    def _say(self, message: str) -> None:
        for reporter in self.reporters:
            reporter.say(message)

    def _stale(self) -> bool:
        limit = self.every.save_seconds
        return limit is not None and time.monotonic() - self._saved >= limit

    def _save(self) -> None:
        mine = {"random": randomness.capture(), "meter": self.meter.state(self.step)}
        processes = self.group.gather(mine)
        self._saved = time.monotonic()
        if self.log is None:
            return
        self.store.save(
            self.step,
            {
                "stepper": self.stepper.state(),
                "processes": processes,
                "evaluated": self.evaluated,
                "log_bytes": self.log.sync(),
                "seconds": self.spent(),
            },
        )


def _numbers(said: Node) -> dict[str, float]:
    """Metrics that a checkpoint holds."""
    return {name: each.number() for name, each in said.entries().items()}


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0
