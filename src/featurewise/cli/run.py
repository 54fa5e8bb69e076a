"""``featurewise run``."""

from __future__ import annotations

import json
import re
import shlex
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group
from rich.text import Text

from featurewise.cli import discovery, options
from featurewise.cli.console import Terminal
from featurewise.cli.errors import Terminated, UserError
from featurewise.cli.streams import notes
from featurewise.common.opening import open_regular, read_bytes
from featurewise.common.text import short

if TYPE_CHECKING:
    from featurewise.study.study import Key, Study, StudyStatus
    from featurewise.study.system import System
    from featurewise.study.workers import WorkerPool

COMMAND = (sys.executable, "-m", "featurewise.cli")
"""Start of the command line of a worker process."""

_STORAGE = "FEATUREWISE_STORAGE"
_MOST_SEEDS = 10_000


@dataclass(frozen=True)
class _Line:
    """The command line, so that it can be repeated.

    Attributes:
        system: name of the system.
        preset: name of the preset.
        arms: names of the arms, separated by commas, or "all".
        seeds: number of seeds, or the seeds separated by commas.
        out: folder of the study.
        jobs: number of trials that are trained at the same time.
        changes: texts NAME=VALUE of changed settings.
        device: training device.
        storage: URL of the database of the study; None for a file in `out`.
    """

    system: str
    preset: str
    arms: str
    seeds: str
    out: Path
    jobs: int
    changes: tuple[str, ...]
    device: str
    storage: str | None

    def text(self) -> str:
        """The command to resume the study, for the user; a password is hidden."""
        from featurewise.study.database import redacted

        storage = [] if self.storage is None else ["--storage", redacted(self.storage)]
        return shlex.join(["featurewise", *self.words(), *storage])

    def words(self) -> list[str]:
        """Arguments for a worker, without the URL of the database, which may hold a password."""
        options = {"preset": self.preset, "arms": self.arms, "seeds": self.seeds, "out": self.out}
        given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        changes = [word for change in self.changes for word in ("--set", change)]
        device = ["--device", self.device] if self.device != "auto" else []
        return ["run", self.system, *given, *changes, *device, "--jobs", str(self.jobs)]


def run(
    system: Annotated[
        str,
        typer.Argument(
            metavar="SYSTEM",
            help="Name of a system; 'featurewise systems' lists them.",
            autocompletion=discovery.complete_system,
        ),
    ],
    arms: Annotated[str, typer.Option(help="Names separated by commas, or 'all'.")] = "all",
    seeds: Annotated[
        str, typer.Option(help="Number of seeds: '3' means 0,1,2. Or the seeds: '0,4,7' or '5,'.")
    ] = "3",
    preset: Annotated[
        str,
        typer.Option(
            help="Size of network, data and training.", autocompletion=discovery.complete_preset
        ),
    ] = "small",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the study.", show_default="runs/SYSTEM-PRESET"),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Change a setting, as in learning_rate=0.001; may be repeated. The results list "
            "the changes and cannot be published as results of the preset.",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Number of training steps.", show_default="as in the preset"),
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(
            min=1,
            max=1024,
            help="Trials to train at the same time; if more than 1, one thread each.",
        ),
    ] = 1,
    storage: Annotated[
        str | None,
        typer.Option(
            envvar=_STORAGE,
            help="URL of a database through which workers on several machines share the trials: "
            "postgresql+psycopg://user@host/name.",
            show_default="a file in the folder",
        ),
    ] = None,
    device: options.Device = "auto",
    worker: Annotated[bool, typer.Option("--worker", hidden=True)] = False,
) -> None:
    """Train arms with several seeds, test the claims, and write results and card.

    If it is stopped, run the same command again to resume: finished trials are kept, and
    unfinished trials resume from their checkpoints.
    """
    discovery.require(system, discovery.names(), "system")
    options.require_installed("study", "optuna")
    import torch

    from featurewise.study.study import Study
    from featurewise.study.workers import exit_with_parent

    record = discovery.load(system)
    discovery.require(preset, record.presets, f"preset of {system}")
    named = (*(changes or ()), *([] if steps is None else [f"steps={steps}"]))
    folder = out or Path("runs", re.sub(r"[^\w.=-]+", "_", "-".join([system, preset, *named])))
    line = _Line(system, preset, arms, seeds, folder, jobs, named, device, storage)
    options.use_device(device)
    study = Study(
        record,
        preset=preset,
        arms=_arms(record, arms),
        seeds=_seeds(seeds),
        config=options.changed(record, preset, named),
        folder=line.out,
        storage=storage,
    )
    if worker:
        exit_with_parent()
        torch.set_num_threads(1)
        study.work()
        return
    _run_study(line, study, storage)


def _arms(record: System[Any], text: str) -> list[str]:
    known = [arm.name for arm in record.arms]
    if text == "all":
        return known
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        discovery.require(name, known, f"arm of {record.name}")
    if not names:
        raise UserError(f"no arm is named; choose from {', '.join(known)}, or all")
    return names


def _seeds(text: str) -> list[int]:
    """The seeds of an argument: ``3`` means 0, 1 and 2; ``0,4,7`` and ``5,`` list the seeds."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts) or text.strip() == "0":
        raise UserError(
            f"{text!r} is no list of seeds; give their number, as 3, or the seeds, as 0,4,7"
        )
    if "," not in text:
        # The length first: Python reads no number of more than 4300 digits.
        if len(parts[0]) > 9 or int(parts[0]) > _MOST_SEEDS:
            raise UserError(f"at most {_MOST_SEEDS} seeds, not {short(parts[0])}")
        return list(range(int(parts[0])))
    if odd := [part for part in parts if len(part) > 19]:
        raise UserError(f"a seed has at most 19 digits, not {short(odd[0])}")
    return list(dict.fromkeys(map(int, parts)))


def _run_study(line: _Line, study: Study, storage: str | None) -> None:
    """Trains all missing trials, publishes results and card after each, and prints the claims."""
    from featurewise.study.made import require_own
    from featurewise.study.run import RESULTS
    from featurewise.study.study import TRACEBACK
    from featurewise.training.errors import ExperimentError

    name = study.system.name
    require_own(line.out / each for each in (RESULTS, f"{name}.md", f"{name}.json"))
    console = notes()
    console.print(f"[bold]{study.system.prose.title}[/]")
    study.begin()
    status = study.status()
    console.print(_summary(line, study, status), markup=False)
    try:
        if line.jobs == 1:
            _one_process(console, study)
        elif status.remaining:
            _worker_processes(console, line, study, storage)
    except (KeyboardInterrupt, SystemExit, Terminated) as stopped:
        status = _publish(study)
        console.print(
            f"Stopped; {status.remaining} trials are left. To resume, run the same command again:\n"
            f"  {line.text()}",
            markup=False,
        )
        signum = signal.SIGTERM if isinstance(stopped, Terminated) else signal.SIGINT
        code = stopped.code if isinstance(stopped, SystemExit) else 128 + signum
        raise SystemExit(code) from None
    status = _publish(study)
    if status.failed and not status.results.trials:
        key, reason = next(iter(status.failed.items()))
        raise ExperimentError(
            f"all {len(status.failed)} trials failed, so that there are no results; {key}: "
            f"{reason}; see {line.out / str(key) / TRACEBACK}"
        )
    _print_claims(Terminal(highlight=False, soft_wrap=True), study, status)
    if status.failed:
        reasons = "; ".join(f"{key}: {reason}" for key, reason in status.failed.items())
        raise ExperimentError(f"{len(status.failed)} trials failed ({reasons}); see {line.out}")


def _summary(line: _Line, study: Study, status: StudyStatus) -> str:
    done = len(study.keys) - status.remaining
    arms, seeds = (len({key[part] for key in study.keys}) for part in (0, 1))
    preset = ", ".join([f"preset {line.preset}", *line.changes])
    text = f"{preset}, {arms} arms, {seeds} seeds: {len(study.keys)} trials"
    return f"{text}, {done} finished before" if done else text


def _one_process(console: Console, study: Study) -> None:
    """Trains one trial after another in this process, each with its own progress bar."""

    def on_progress(message: str) -> None:
        status = _publish(study)
        done = len(study.keys) - status.remaining
        console.print(f"[{done}/{len(study.keys)}] {message}", markup=False)

    study.work(on_progress)


def _worker_processes(console: Console, line: _Line, study: Study, storage: str | None) -> None:
    """Trains in several worker processes of one thread each; this process shows their progress."""
    from featurewise.study.workers import WorkerPool
    from featurewise.training.errors import ExperimentError

    environment = {"OMP_NUM_THREADS": "1", **({_STORAGE: storage} if storage else {})}
    command = [*COMMAND, *line.words(), "--worker"]
    workers = min(line.jobs, study.status().remaining)
    reported: set[Key] = set()
    exited: set[int] = set()
    with (
        _Board(console, study) as board,
        WorkerPool(command, workers, line.out / ".workers", environment) as pool,
    ):
        while True:
            status = study.status()
            if fresh := board.show(status, reported):
                reported |= fresh
                _publish(study)
            for number, how in pool.exited().items():
                if number not in exited:
                    exited.add(number)
                    board.say(f"worker {number} ended ({how}); see {pool.log(number)}")
            if not status.remaining:
                return
            if not pool.pids():
                raise ExperimentError(
                    f"all workers exited, but {status.remaining} trials are left: {_last(pool)}"
                )
            time.sleep(0.5)


def _last(pool: WorkerPool) -> str:
    """The last line of the log of a worker that exited, and the path of the log."""
    for number in pool.exited():
        written = read_bytes(pool.log(number)).decode("utf-8", errors="replace").split("\n")
        lines = [line.strip() for line in written if line.strip()]
        return f"{lines[-1] if lines else 'its log is empty'} (see {pool.log(number)})"
    return "none reported an error"


class _Board:
    """Progress display: results of finished trials, a bar, and a line for each running trial."""

    def __init__(self, console: Console, study: Study) -> None:
        from rich.live import Live
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        self._console, self._study = console, study
        columns = TextColumn("trials"), BarColumn(bar_width=30), MofNCompleteColumn()
        self._bar = Progress(*columns, TimeElapsedColumn(), console=console)
        self._task = self._bar.add_task("", total=len(study.keys))
        self._live = Live(self._bar, console=console, refresh_per_second=4)

    def __enter__(self) -> _Board:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def say(self, message: str) -> None:
        """Prints a permanent line above the bar."""
        self._console.print(message, markup=False)

    def show(self, status: StudyStatus, reported: set[Key]) -> set[Key]:
        """Updates the bar; prints the trials that are not in `reported`, and returns them."""
        from featurewise.study.card_page import duration
        from featurewise.study.study import Key

        done = len(self._study.keys) - status.remaining
        lines = [Text(f"  {key.arm}, seed {key.seed}: {self._step(key)}") for key in status.running]
        self._bar.update(self._task, completed=done)
        self._live.update(Group(self._bar, *lines))
        score, fresh = self._study.system.score, set()
        for trial in status.results.trials:
            key = Key(trial.arm, trial.seed)
            if key in self._study.keys and key not in reported:
                fresh.add(key)
                self.say(
                    f"[{done}/{len(self._study.keys)}] {key.arm}, seed {key.seed}: {score.name} "
                    f"{trial.measured.number(score):.4g}, {trial.steps} steps, "
                    f"{duration(trial.seconds)}"
                )
        for key, reason in status.failed.items():
            if key not in reported:
                fresh.add(key)
                self.say(f"{key.arm}, seed {key.seed}: failed: {reason}")
        return fresh

    def _step(self, key: Key) -> str:
        """The training step of a trial, from its log in the folder of the study."""
        log = self._study.folder / str(key) / "metrics.jsonl"
        try:
            with open_regular(log) as file:
                file.seek(max(0, log.stat().st_size - 4096))
                last = json.loads(file.read().splitlines()[-1])
            step = int(last["step"])
        # Missing, or incomplete while another process writes it.
        except (OSError, ValueError, IndexError, KeyError, TypeError):
            return "starting"
        return f"step {step} of {self._study.config.steps}"


def _publish(study: Study) -> StudyStatus:
    """Writes results and card of the finished trials, if any, into the folder of the study."""
    from featurewise.study import card, catalogue
    from featurewise.study.run import REMEDY, RESULTS
    from featurewise.training.files import storage_errors

    status = study.status()
    if not status.results.trials:
        return status
    with storage_errors(study.folder, REMEDY):
        status.results.save(study.folder / RESULTS)
    sheets = {}
    for arm, sheet in study.sheets().items():
        sheets[arm] = f"{study.system.name}.{study.preset}.{arm}.png"
        catalogue.shrink(sheet, study.folder / sheets[arm])
    facts = card.content(
        study.system,
        status.results,
        sheets={study.preset: sheets},
        seeds=[key.seed for key in study.keys],
    )
    card.save(study.folder, facts)
    return status


def _print_claims(console: Console, study: Study, status: StudyStatus) -> None:
    """Prints the verdict of each claim, the missing trials, and the path of the card."""
    from featurewise.study import card, card_page

    for claim in card.content(study.system, status.results)["claims"]:
        (verdict,) = claim["verdicts"]
        word, remark = verdict["verdict"], card_page.remark(claim, verdict)
        colour = {"supported": "green", "refuted": "red"}.get(word, "yellow")
        measured = card_page.with_unit(verdict, claim["unit"])
        value = "" if verdict["value"] is None else f" ({measured})"
        console.print(f"[{colour}]{word:>12}[/]", end="")
        sentence = f"{claim['sentence']} {claim['criterion'].replace('`', '')}"
        console.print(f"{value} {sentence}", markup=False)
        if remark:
            console.print(f"{'':13}{remark}", markup=False)
    partial = card.missing(study.system, status.results, [key.seed for key in study.keys])
    if partial:
        console.print(f"partial: {partial}", markup=False)
    path = study.folder / f"{study.system.name}.md"
    publish = shlex.join(["featurewise", "cards", "--add", str(study.folder)])
    text = f"publish it: {publish}"
    if changed := status.results.changed:
        text = f"cannot be published: not the {', '.join(changed)} of preset {study.preset}"
    console.print(f"card: {path}; {text}", markup=False)
