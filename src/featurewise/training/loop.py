"""The training loop for all steppers; runs can be interrupted at any time and resumed exactly.

A run is a folder::

    run/checkpoints/step-00000500/   the newest few, written atomically (`CheckpointStore`)
    run/metrics.jsonl                one JSON object per line (`MetricsLog`)

With ``resume=True`` the same call starts a run or resumes it, in one process or under
``torchrun --nproc-per-node N`` with gradients averaged over N processes.
"""

from __future__ import annotations

import math
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
from featurewise.common.ranges import Positive, require_settings
from featurewise.training import distributed, randomness
from featurewise.training.checkpoint import CheckpointStore
from featurewise.training.errors import CheckpointError, ExperimentError, Interrupted
from featurewise.training.facts import MOST
from featurewise.training.files import locked
from featurewise.training.metrics import Meter, MetricsLog, check_finite
from featurewise.training.progress import Reporter, Screen, TensorBoard
from featurewise.training.source import Source, prefetched
from featurewise.training.steppers import CanCalibrate, Stepper

METRICS = "metrics.jsonl"
OBSERVED = "parameters"
"""Kind of the records of what is observed in the log."""

CALIBRATION = 10
"""Batches from which batch-norm statistics of averaged weights are computed."""
_CONTENT = {"stepper", "processes", "evaluated", "log_bytes", "seconds"}

StepperT = TypeVar("StepperT", bound=Stepper)
Evaluate: TypeAlias = Callable[[StepperT], Mapping[str, float]]
"""Stepper -> metrics. Use of the global random generators here does not affect training."""


@dataclass(frozen=True, slots=True)
class Intervals:
    """Intervals of logging, evaluation and checkpoints, in steps; None: only after the last step.

    Attributes:
        log: number of steps over which metrics are averaged and logged.
        evaluate: steps between evaluations.
        save: steps between checkpoints.
        save_seconds: a checkpoint is also written when the last one is older than this, in seconds.

    Raises:
        ExperimentError: a value is not of its type, not above 0 or not finite.
    """

    log: int = 20
    evaluate: int | None = None
    save: int | None = 500
    save_seconds: Positive | None = None

    def __post_init__(self) -> None:
        require_settings(self, ExperimentError)


@dataclass(frozen=True, slots=True)
class Fit:
    """Outcome of a run.

    Attributes:
        step: number of completed steps.
        seconds: training time including evaluation, summed over all sessions of the run.
        metrics: of the last evaluation; empty if there was none.
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
    intervals: Intervals | None = None,
    resume: bool = False,
    seed: int = 0,
    seconds: float | None = None,
    workers: int = 0,
    keep: int = 3,
    tensorboard: bool = False,
    reporters: Sequence[Reporter] = (),
    observe: Evaluate[StepperT] | None = None,
) -> Fit:
    """Trains until `steps` steps are completed.

    On Ctrl-C or SIGTERM the current step is finished and saved, and `Interrupted` is raised; a
    second Ctrl-C stops immediately. A run that is killed at any time and resumed is bit-identical
    to an uninterrupted run, on the same machine and with the same number of processes.

    Args:
        run_dir: folder of the run, created if missing.
        stepper: performs the steps; to resume, it must be built the same way.
        data: batch i is used in step i (see `Source`).
        steps: total number of steps, those of earlier sessions included.
        evaluate: called with the stepper, in the process of rank 0.
        intervals: of logging, evaluation and checkpoints; after the last step all three happen.
        resume: continue from the newest undamaged checkpoint; start if there is none.
        seed: of all global random generators at the start (plus the rank of a process).
        seconds: time limit over all sessions; the run stops, is saved and can be resumed.
        workers: number of data-loading processes; with 0, batches are prepared in this process.
        keep: number of newest checkpoints to keep.
        tensorboard: also write TensorBoard events to ``run_dir/tensorboard``.
        reporters: further receivers of metrics, such as an `OverfitMonitor`, in the process of
            rank 0.
        observe: called with the stepper after steps 8, 10, 11, 13, 16, 19, ... (powers of the
            fourth root of 2) and the last, in the process of rank 0. What it returns is logged as
            "parameters", if it is not empty, and not reported.

    Raises:
        Interrupted: training was stopped by a signal.
        ExperimentError: the folder contains a run and `resume` is false, or a checkpoint of another
            run, or another process trains there; TensorBoard is required and not installed.
        CheckpointError: there are checkpoints, and all are damaged.
        DivergedError: a metric became infinite or NaN.
        StorageError: the disk is full; existing checkpoints are intact.
        WorkerError: a data-loading process died.
    """
    with ExitStack() as stack:
        group = stack.enter_context(distributed.joined())
        run = _Run(Path(run_dir), stepper, group, intervals or Intervals(), keep)
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
        run.train(batches, data, steps, seconds, evaluate, observe, stopping)
        return Fit(run.step, run.spent(), run.evaluated)


@dataclass
class _Stopping:
    signum: int | None = None


@contextmanager
def _stopping() -> Iterator[_Stopping]:
    """Records SIGINT and SIGTERM instead of terminating; a second SIGINT raises as usual."""
    stopping = _Stopping()

    def record(signum: int, frame: FrameType | None) -> None:
        if stopping.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        stopping.signum = signum

    if threading.current_thread() is not threading.main_thread():
        yield stopping  # only the main thread may handle signals
        return
    before = {which: signal.signal(which, record) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


@dataclass
class _Run:
    """State of a run in progress, and what happens after each step."""

    folder: Path
    stepper: Any
    group: distributed.Group
    intervals: Intervals
    keep: int
    step: int = 0
    _calibrated: int = -1
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
        """Training time over all sessions, in seconds."""
        return self._earlier + time.monotonic() - self._begun

    def begin(self, seed: int, *, resume: bool) -> Mapping[str, Any]:
        """Restores the newest checkpoint or starts a run; returns the state of the generators."""
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
        """The state to resume from, the same in every process; None to start."""
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
                f"{self.folder}: contains a run already; resume it or choose another folder"
            )
        found = self.store.latest()
        if found is None and self.store.steps():
            # Starting again would remove checkpoints that may still be repaired.
            raise CheckpointError(f"{self.store.folder}: all checkpoints are damaged")
        return found

    def _load(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        path = self.store.path(self.step)
        if state.keys() != _CONTENT:
            raise CheckpointError(f"{path}: is not the checkpoint of a run")
        content = Node(dict(state), "", failing(CheckpointError, path))
        processes = content["processes"].items()
        if len(processes) != self.group.size:
            raise ExperimentError(
                f"{path}: was trained by {len(processes)} processes and "
                f"cannot be resumed exactly by {self.group.size}"
            )
        own = processes[self.group.rank]
        own.mapping(("random", "meter"))
        self.evaluated = _numbers(content["evaluated"])
        self._earlier = content["seconds"].number(0)
        content["log_bytes"].integer(0, MOST)
        random_state = own["random"].mapping()
        with wrap_errors(
            path, CheckpointError, ExperimentError, what="is not the checkpoint of a run"
        ):
            self.stepper.load_state(state["stepper"])
            self.meter.load_state([_numbers(each) for each in own["meter"].items()])
            randomness.check(random_state)
        return random_state

    def train(
        self,
        batches: Iterator[Any],
        data: Source[Any],
        steps: int,
        seconds: float | None,
        evaluate: Evaluate[Any] | None,
        observe: Evaluate[Any] | None,
        stopping: _Stopping,
    ) -> None:
        """Trains until `steps` are completed, the time limit is reached or a signal arrives."""
        for batch in batches:
            self.meter.add(self.stepper.step(batch))
            self.step += 1
            last = self.step >= steps
            if last or self.step % self.intervals.log == 0:
                self._flush()
            if evaluate and (last or _due(self.step, self.intervals.evaluate)):
                self._calibrate(data)
                self._evaluate(evaluate)
            if observe and (last or _observed(self.step)):
                self._observe(observe)
            stop, over, stale = self.group.any(
                stopping.signum is not None,
                seconds is not None and self.spent() >= seconds,
                self._stale(),
            )
            if last or stop or over or stale or _due(self.step, self.intervals.save):
                self._calibrate(data)
                self._save()
            if stop and not last:
                self._say(
                    f"Stopped at step {self.step}, saved in {self.folder}; resume to continue."
                )
                raise Interrupted(stopping.signum or signal.SIGTERM, self.step)
            if over and not last:
                self._say(f"Time limit reached at step {self.step}, saved in {self.folder}.")
                return

    def _calibrate(self, data: Source[Any]) -> None:
        """Lets a stepper compute statistics of averaged weights, from its newest batches."""
        if isinstance(self.stepper, CanCalibrate) and self._calibrated != self.step:
            newest = range(max(0, self.step - CALIBRATION), self.step)
            indices = (step * self.group.size + self.group.rank for step in newest)
            with randomness.isolated():
                self.stepper.calibrate(data.batch(index) for index in indices)
            self._calibrated = self.step

    def _flush(self) -> None:
        self._record("train", self.group.mean(self.meter.means(self.step)))
        self.meter.clear()

    def _evaluate(self, evaluate: Evaluate[Any]) -> None:
        if self.group.writes:
            with randomness.isolated():
                self.evaluated = dict(evaluate(self.stepper))
            check_finite(self.evaluated, self.step)
            self._record("evaluate", self.evaluated)

    def _observe(self, observe: Evaluate[Any]) -> None:
        if self.log is not None:
            with randomness.isolated():
                values = observe(self.stepper)
            if values:
                check_finite(values, self.step)
                self.log.write(self.step, OBSERVED, values)

    def _record(self, kind: str, metrics: Mapping[str, float]) -> None:
        if self.log is not None:
            self.log.write(self.step, kind, metrics)
        for reporter in self.reporters:
            reporter.report(self.step, kind, metrics)

    def _say(self, message: str) -> None:
        for reporter in self.reporters:
            reporter.say(message)

    def _stale(self) -> bool:
        limit = self.intervals.save_seconds
        return limit is not None and time.monotonic() - self._saved >= limit

    def _save(self) -> None:
        own = {"random": randomness.capture(), "meter": self.meter.state(self.step)}
        processes = self.group.gather(own)
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


def _numbers(node: Node) -> dict[str, float]:
    """Metrics in a checkpoint."""
    return {name: each.number() for name, each in node.entries().items()}


def _due(step: int, interval: int | None) -> bool:
    return interval is not None and step % interval == 0


def _observed(step: int) -> bool:
    """Whether a step is a power of the fourth root of 2, rounded, and 8 at least."""
    return step >= 8 and step == round(2 ** (round(4 * math.log2(step)) / 4))
