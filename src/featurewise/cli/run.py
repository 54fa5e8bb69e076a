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

if TYPE_CHECKING:
    from featurewise.study.study import Key, Study, StudyStatus
    from featurewise.study.system import System
    from featurewise.study.workers import WorkerPool

COMMAND = (sys.executable, "-m", "featurewise.cli")
"""How a worker is started."""

_STORAGE = "FEATUREWISE_STORAGE"


@dataclass(frozen=True)
class _Line:
    """What the command line asked for."""

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
        """The same line again, to be typed; a password is hidden."""
        from featurewise.study.database import redacted

        storage = [] if self.storage is None else ["--storage", redacted(self.storage)]
        return shlex.join(["featurewise", *self.words(), *storage])

    def words(self) -> list[str]:
        """The same line again, for a worker: the address of a database is no word of it."""
        options = {"preset": self.preset, "arms": self.arms, "seeds": self.seeds, "out": self.out}
        given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        changes = [word for change in self.changes for word in ("--set", change)]
        device = ["--device", self.device] if self.device != "auto" else []
        return ["run", self.system, *given, *changes, *device, "--jobs", str(self.jobs)]


def run(
    system: Annotated[
        str,
        typer.Argument(
            help="Which one; 'featurewise systems' lists them.",
            autocompletion=discovery.complete_system,
        ),
    ],
    arms: Annotated[str, typer.Option(help="Names, with commas between, or 'all'.")] = "all",
    seeds: Annotated[
        str, typer.Option(help="How many, from 0; or which, with commas: '0,4,7' or '5,'.")
    ] = "3",
    preset: Annotated[
        str,
        typer.Option(
            help="Size of network, data and training.", autocompletion=discovery.complete_preset
        ),
    ] = "small",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the study.", show_default="runs/SYSTEM-PRESET"),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Another value of a setting, as learning_rate=0.001; may be repeated. The results "
            "say so, and are not published as the preset's.",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps in place of the preset's.")
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="So many trainings at a time; several: a thread each.")
    ] = 1,
    storage: Annotated[
        str | None,
        typer.Option(
            envvar=_STORAGE,
            help="A database server whose workers, on any machine, share the trials: "
            "postgresql+psycopg://user@host/name.",
            show_default="a file in the folder",
        ),
    ] = None,
    device: options.Device = "auto",
    worker: Annotated[bool, typer.Option("--worker", hidden=True)] = False,
) -> None:
    """Train arms with several seeds, decide the claims, and write results and card.

    Stopped at any moment, by whatever, the same line goes on: what is finished is not trained
    again, what was begun goes on where it was.
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
    _whole(line, study, storage)


def _arms(record: System[Any], text: str) -> list[str]:
    known = [arm.name for arm in record.arms]
    if text == "all":
        return known
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        discovery.require(name, known, f"arm of {record.name}")
    if not names:
        raise UserError(f"no arm is named; there is {', '.join(known)}, or all")
    return names


def _seeds(text: str) -> list[int]:
    """``3`` are 0, 1 and 2; with a comma they are the seeds themselves."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts) or text.strip() == "0":
        raise UserError(f"{text!r} are no seeds; say how many, as 3, or which, as 0,4,7")
    if "," not in text:
        return list(range(int(parts[0])))
    return list(dict.fromkeys(map(int, parts)))


def _whole(line: _Line, study: Study, storage: str | None) -> None:
    """All of the command but what its workers do."""
    from featurewise.study.made import require_own
    from featurewise.study.run import RESULTS
    from featurewise.training.errors import ExperimentError

    name = study.system.name
    require_own(line.out / each for each in (RESULTS, f"{name}.md", f"{name}.json"))
    console = notes()
    console.print(f"[bold]{study.system.prose.title}[/]")
    study.begin()
    standing = study.status()
    console.print(_begin(line, study, standing), markup=False)
    try:
        if line.jobs == 1:
            _alone(console, study)
        elif standing.remaining:
            _together(console, line, study, storage)
    except (KeyboardInterrupt, SystemExit, Terminated) as stopped:
        standing = _publish(study)
        console.print(
            f"Stopped; {standing.remaining} trials are left. The same line goes on:\n"
            f"  {line.text()}",
            markup=False,
        )
        signum = signal.SIGTERM if isinstance(stopped, Terminated) else signal.SIGINT
        code = stopped.code if isinstance(stopped, SystemExit) else 128 + signum
        raise SystemExit(code) from None
    standing = _publish(study)
    _tell_claims(Terminal(highlight=False, soft_wrap=True), study, standing)
    if standing.failed:
        reasons = "; ".join(f"{key}: {reason}" for key, reason in standing.failed.items())
        raise ExperimentError(f"{len(standing.failed)} trials failed ({reasons}); see {line.out}")


def _begin(line: _Line, study: Study, standing: StudyStatus) -> str:
    done = len(study.keys) - standing.remaining
    arms, seeds = (len({key[part] for key in study.keys}) for part in (0, 1))
    preset = ", ".join([f"preset {line.preset}", *line.changes])
    text = f"{preset}, {arms} arms, {seeds} seeds: {len(study.keys)} trials"
    return f"{text}, {done} done before" if done else text


def _alone(console: Console, study: Study) -> None:
    """One trial after another, in this process, each with a bar of its own."""

    def told(message: str) -> None:
        standing = _publish(study)
        done = len(study.keys) - standing.remaining
        console.print(f"[{done}/{len(study.keys)}] {message}", markup=False)

    study.work(told)


def _together(console: Console, line: _Line, study: Study, storage: str | None) -> None:
    """Several workers, each with one thread; here only what they do is shown."""
    from featurewise.study.workers import WorkerPool
    from featurewise.training.errors import ExperimentError

    environment = {"OMP_NUM_THREADS": "1", **({_STORAGE: storage} if storage else {})}
    command = [*COMMAND, *line.words(), "--worker"]
    told: set[Key] = set()
    fallen: set[int] = set()
    with (
        _Board(console, study) as board,
        WorkerPool(command, line.jobs, line.out / ".workers", environment) as crew,
    ):
        while True:
            standing = study.status()
            if fresh := board.show(standing, told):
                told |= fresh
                _publish(study)
            for number, how in crew.exited().items():
                if number not in fallen:
                    fallen.add(number)
                    board.say(f"worker {number} ended ({how}); see {crew.log(number)}")
            if not standing.remaining:
                return
            if not crew.pids():
                raise ExperimentError(
                    f"no worker is left, but {standing.remaining} trials: {_last(crew)}"
                )
            time.sleep(0.5)


def _last(crew: WorkerPool) -> str:
    """The last line that a fallen worker wrote, and where there is more."""
    for number in crew.exited():
        written = read_bytes(crew.log(number)).decode("utf-8", errors="replace").split("\n")
        lines = [line.strip() for line in written if line.strip()]
        return f"{lines[-1] if lines else 'it wrote nothing'} (see {crew.log(number)})"
    return "they stopped"


class _Board:
    """A bar of all trials, a line for each that is trained now, and above it what was measured."""

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
        """A line that stays."""
        self._console.print(message, markup=False)

    def show(self, standing: StudyStatus, told: set[Key]) -> set[Key]:
        """Moves the bar; tells of the trials that are new, and returns them."""
        from featurewise.study.card_page import duration
        from featurewise.study.study import Key

        done = len(self._study.keys) - standing.remaining
        lines = [
            Text(f"  {key.arm}, seed {key.seed}: {self._step(key)}") for key in standing.running
        ]
        self._bar.update(self._task, completed=done)
        self._live.update(Group(self._bar, *lines))
        score, fresh = self._study.system.score, set()
        for trial in standing.results.trials:
            key = Key(trial.arm, trial.seed)
            if key in self._study.keys and key not in told:
                fresh.add(key)
                self.say(
                    f"[{done}/{len(self._study.keys)}] {key.arm}, seed {key.seed}: {score.name} "
                    f"{trial.measured.number(score):.4g}, {trial.steps} steps, "
                    f"{duration(trial.seconds)}"
                )
        for key, reason in standing.failed.items():
            if key not in told:
                fresh.add(key)
                self.say(f"{key.arm}, seed {key.seed}: failed: {reason}")
        return fresh

    def _step(self, key: Key) -> str:
        """Where a trial is that is trained in this folder."""
        log = self._study.folder / str(key) / "metrics.jsonl"
        try:
            with open_regular(log) as file:
                file.seek(max(0, log.stat().st_size - 4096))
                last = json.loads(file.read().splitlines()[-1])
            step = int(last["step"])
        except (
            OSError,
            ValueError,
            IndexError,
            KeyError,
            TypeError,
        ):  # not begun, or being written
            return "begins"
        return f"step {step} of {self._study.config.steps}"


def _publish(study: Study) -> StudyStatus:
    """Results and card of what there is, into the folder of the study."""
    from featurewise.study import card, catalogue
    from featurewise.study.run import REMEDY, RESULTS
    from featurewise.training.files import storage_errors

    standing = study.status()
    with storage_errors(study.folder, REMEDY):
        standing.results.save(study.folder / RESULTS)
    sheets = {}
    for arm, sheet in study.sheets().items():
        sheets[arm] = f"{study.system.name}.{study.preset}.{arm}.png"
        catalogue.shrink(sheet, study.folder / sheets[arm])
    facts = card.content(
        study.system,
        *([standing.results] if standing.results.trials else []),
        sheets={study.preset: sheets},
        seeds=[key.seed for key in study.keys],
    )
    card.save(study.folder, facts)
    return standing


def _tell_claims(console: Console, study: Study, standing: StudyStatus) -> None:
    """What became of the claims, what is missing, and where it is written."""
    from featurewise.study import card, card_page

    found = [standing.results] if standing.results.trials else []
    for claim in card.content(study.system, *found)["claims"]:
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
    partial = card.missing(study.system, standing.results, [key.seed for key in study.keys])
    if partial:
        console.print(f"partial: {partial}", markup=False)
    path = study.folder / f"{study.system.name}.md"
    publish = shlex.join(["featurewise", "cards", "--add", str(study.folder)])
    console.print(f"card: {path}; publish it: {publish}", markup=False)
