"""``featurewise demo``: train, measure, ask, and a report to look at, in a few minutes."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from featurewise.cli import discovery, options
from featurewise.cli.console import Terminal
from featurewise.cli.errors import UserError

if TYPE_CHECKING:
    from featurewise.explorer.tables import AccuracyTable, Claim, Curve, ImageQuestions
    from featurewise.study.results import Results, Trial
    from featurewise.study.run import Run

_SYSTEM = "film"
_BASELINE = "question"
_ARMS = (_SYSTEM, _BASELINE)
_REPORT = "report.html"
_SHIPPED_PICTURES = 200  # of its own, larger world: enough for two points, and quickly drawn
_SEED_OF_EXAMPLES = 2018_12
_PACED = 5  # steps whose time says how many there is time for


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the runs and the report.")] = Path(
        "runs/demo"
    ),
    minutes: Annotated[
        float,
        typer.Option(
            min=0.05,
            help="Train both networks for at most about so long. A slow machine trains both for "
            "fewer steps, the same number, each with its whole schedule.",
        ),
    ] = 6.0,
    device: options.Device = "auto",
) -> None:
    """Train FiLM and a baseline on rendered images, ask questions, write a report: 3 minutes.

    Stopped at any moment, the same command resumes; when it has finished, the next one begins
    another folder beside.
    """
    options.require_installed("", "matplotlib", "jinja2")
    options.use_device(device)
    show(out, "demo", 60 * minutes)


def show(out: Path, preset: str, seconds: float) -> Path:
    """The demonstration at a preset; returns the report's path."""
    from featurewise.explorer import report as reports
    from featurewise.explorer.tables import Report
    from featurewise.study import run as runs
    from featurewise.study.results import Results

    console = Terminal(highlight=False, soft_wrap=True)
    record = discovery.load(_SYSTEM)
    answering = discovery.part(discovery.module(_SYSTEM), "answering")
    out = _unfinished(out)
    out.mkdir(parents=True, exist_ok=True)  # fails before any work where it cannot be written
    whole = record.preset(preset).steps
    settings = replace(record.preset(preset), steps=_steps(out, record, preset, seconds))
    if settings.steps < whole:
        console.print(
            f"There is time for {settings.steps} of {whole} steps, too few to decide claims; "
            "--minutes gives more"
        )
    live, blind = (
        runs.describe_run(record, preset=preset, arm=arm, config=settings) for arm in _ARMS
    )
    console.rule("1  FiLM learns to answer questions about images", align="left")
    film = _trained(out / _SYSTEM, record, live)
    console.print(f"FiLM: {_percent(film)} of held-out questions, {film.steps} steps")
    console.rule("2  A baseline that sees the question only, for as many steps", align="left")
    question = _trained(out / _BASELINE, record, blind)
    console.print(f"question only: {_percent(question)}, {question.steps} steps")
    changed = runs.changed_settings(record, live)
    results = Results(_SYSTEM, preset, (film, question), live.hardware, changed)
    console.rule("3  Side by side", align="left")
    tables = _measure(console, record, answering, out / "film", results)
    console.rule("4  One picture, several questions", align="left")
    asking = _asking(out / "film")
    pictures = _ask(console, answering, asking, out)
    turned = film.measured.number("turned")
    console.print(f"Swap the question and the answer turns to it: {turned:.0%} of held-out pairs.")
    claims = _claims(console, record, results)
    page = reports.write(
        Report(
            title="FiLM answers questions about pictures",
            summary=_summary(record, asking),
            claims=claims,
            accuracy=tables,
            images=pictures,
            **_parameters(answering, asking),
            losses=tuple(_curve(arm, out / arm) for arm in _ARMS),
            facts=_facts(results),
            commands=("featurewise demo", f"featurewise train {_SYSTEM} --preset small"),
        ),
        out / _REPORT,
    )
    console.print(f"\nreport: [bold]{escape(str(page.resolve()))}[/]")
    return page


def _unfinished(out: Path) -> Path:
    """The folder, or the first ``-2``, ``-3``, ... beside it, that holds no report yet.

    Raises:
        UserError: it holds files, but no demonstration that was begun.
    """
    number, folder = 1, out
    while (folder / _REPORT).exists():
        number += 1
        folder = out.with_name(f"{out.name}-{number}")
    if folder.is_dir() and any(folder.iterdir()) and not _begun(folder):
        raise UserError(f"{folder}: holds files of other things; name another folder with --out")
    return folder


def _begun(folder: Path) -> bool:
    return (folder / _SYSTEM / discovery.RUN).is_file()


def _steps(out: Path, record: Any, preset: str, seconds: float) -> int:
    """How many steps each network is trained for: as many as were begun with, or there is time.

    Steps of both are timed, so that both can have the same number, each with its whole schedule.
    """
    from featurewise.study.run import read_run

    if _begun(out):
        return int(read_run(out / _SYSTEM).settings["steps"])
    settings = record.preset(preset)
    fitting = int(seconds / sum(_pace(record, settings, record.arm(arm)) for arm in _ARMS))
    whole = fitting - fitting % 50 if fitting > 50 else max(fitting, 1)
    steps: int = min(settings.steps, whole)
    return steps


def _pace(record: Any, settings: Any, arm: Any) -> float:
    """Seconds that a training step of an arm takes here, at best."""
    from featurewise.training import distributed
    from featurewise.training.randomness import isolated

    with isolated():
        network = record.build(settings, arm).to(distributed.device())
        stepper = record.stepper(network, settings, arm)
        source = record.data(settings, arm, 0)
        times = []
        for first in range(0, 5 * _PACED, _PACED):
            begun = time.perf_counter()
            for step in range(first, first + _PACED):
                stepper.step(source.batch(step))
            times.append((time.perf_counter() - begun) / _PACED)
    return min(times)  # others were slowed down by something that passes


def _trained(folder: Path, record: Any, run: Run) -> Trial:
    """What training measured; in a demonstration that goes on, perhaps in an earlier sitting."""
    from featurewise.study import run as runs
    from featurewise.study.results import Results

    if (folder / runs.RESULTS).is_file():
        return Results.load(folder / runs.RESULTS).trials[0]
    return runs.train(folder, record, run)


def _percent(trial: Trial) -> str:
    return f"{trial.measured.number():.1%}"


def _measure(
    console: Console, record: Any, answering: Any, folder: Path, results: Results
) -> tuple[AccuracyTable, ...]:
    """The live networks with the control; then the model that comes with the library, if any."""
    from featurewise.cli import accuracy
    from featurewise.study import model as models
    from featurewise.study import run as runs

    network, settings = models.load_network(folder, record)
    control = answering.measured(network, settings, answering.held_out(settings), control=True)
    columns = {
        "FiLM": results.of("film"),
        "question only": results.of(_BASELINE),
        "FiLM, other questions": control,
    }
    data = f"{record.world} Preset {results.preset}: few objects, no relations; held out."
    tables = [accuracy.table("Trained just now", data, columns, answering.groups)]
    shipped = discovery.shipped_model(discovery.module(_SYSTEM))
    if (shipped / discovery.MODEL).is_file():
        network, settings = models.load_network(shipped, record)
        settings = replace(settings, held_out=min(settings.held_out, _SHIPPED_PICTURES))
        found = answering.measured(network, settings, answering.held_out(settings))
        preset = runs.read_run(shipped).preset
        data = f"{record.world} Preset {preset}, {settings.held_out} held-out pictures."
        title = "The model that comes with the library"
        tables.append(accuracy.table(title, data, {"FiLM": found}, answering.groups))
    for table in tables:
        console.print(accuracy.on_screen(table))
    return tuple(tables)


def _asking(live: Path) -> discovery.Found:
    """The network that is asked: the shipped one, which knows all questions, else the live one."""
    of = discovery.module(_SYSTEM)
    shipped = discovery.shipped_model(of)
    known = (shipped / discovery.MODEL).is_file()
    return discovery.Found(of.SYSTEM, of, shipped if known else live, known)


def _ask(
    console: Console, answering: Any, asking: discovery.Found, out: Path
) -> tuple[ImageQuestions, ...]:
    """Questions about two new pictures; swapping the question turns the answer."""
    from PIL import Image

    from featurewise.explorer.overlay import heat
    from featurewise.explorer.tables import AnsweredQuestion, ImageQuestions
    from featurewise.study import model as models
    from featurewise.worlds.clevr import render

    network, settings = models.load_network(asking.folder, asking.system)
    shown = []
    for number, (scene, questions) in enumerate(
        answering.examples(settings, _SEED_OF_EXAMPLES, 2), 1
    ):
        path = out / f"picture-{number}.png"
        drawn = render([scene], width=480, height=320, samples=4).images[0]
        picture = Image.fromarray(drawn.permute(1, 2, 0).contiguous().numpy())
        picture.save(path)
        console.print(f"[bold]picture {number}[/] ({escape(str(path))})")
        asked = []
        for question in _various(questions, 4):
            answer = answering.answer(network, answering.picture(settings, path), question.text)
            said, probability = answer.ranked[0]
            mark = (
                "[green]right[/]" if said == question.answer else f"[red]no, {question.answer}[/]"
            )
            console.print(f"  {question.text}\n    [bold]{said}[/] ({probability:.0%})  {mark}")
            overlay = None if answer.places is None else heat(picture, answer.places.numpy())
            asked.append(
                AnsweredQuestion(question.text, answer.ranked[:4], question.answer, overlay)
            )
        shown.append(
            ImageQuestions(picture, f"Picture {number}: {_described(scene)}", tuple(asked))
        )
    return tuple(shown)


def _various(questions: Sequence[Any], count: int) -> list[Any]:
    """Some of the questions, with as many different answers as there are."""
    seen: dict[str, int] = {}
    ranked = []
    for index, question in enumerate(questions):
        seen[question.answer] = seen.get(question.answer, -1) + 1
        ranked.append((seen[question.answer], index))
    return [questions[index] for _, index in sorted(ranked)[:count]]


def _described(scene: Any) -> str:
    things = [f"a {o.size} {o.color} {o.material} {o.shape}" for o in scene.objects]
    return f"{', '.join(things[:-1])} and {things[-1]}." if len(things) > 1 else f"{things[0]}."


def _claims(console: Console, record: Any, results: Results) -> tuple[Claim, ...]:
    """What became of every claim of the system; one seed gives no verdict."""
    from featurewise.explorer.tables import Claim
    from featurewise.study import card

    console.rule("5  Claims", align="left")
    found = []
    for claim in record.claims:
        verdict = None if results.changed else claim.check(results)  # they are of all steps
        if verdict is None:
            found.append(Claim(claim.plain, card.outcome(None), None))
            continue
        value = verdict.value if math.isfinite(verdict.value) else None
        found.append(Claim(claim.plain, verdict.outcome, value))
        met = "the bar is met" if verdict.within else "the bar is not met"
        console.print(
            f"{verdict.outcome}: {claim.plain}  (measured: {verdict.value:.4g}; {met})",
            markup=False,
        )
    return tuple(found)


def _summary(record: Any, asking: discovery.Found) -> tuple[str, ...]:
    who = "the model that comes with the library" if asking.shipped else "the network trained here"
    return (record.what, f"{record.paper.citation}. Pictures below are answered by {who}.")


def _parameters(answering: Any, asking: discovery.Found) -> dict[str, Any]:
    """γ and β of some questions, for the histograms."""
    from featurewise.study import model as models

    network, settings = models.load_network(asking.folder, asking.system)
    about = answering.examples(settings, _SEED_OF_EXAMPLES + 1, 20)
    questions = [question.text for _, some in about for question in some]
    return {
        "parameters": answering.parameters(network, questions),
        "parameters_of": f"for {len(questions)} questions",
    }


def _curve(arm: str, folder: Path) -> Curve:
    from featurewise.explorer.tables import Curve
    from featurewise.training.metrics import read_metrics

    records = [r for r in read_metrics(folder / "metrics.jsonl") if r["kind"] == "train"]
    steps, losses = (tuple(r[name] for r in records) for name in ("step", "loss"))
    return Curve("FiLM" if arm == "film" else f"{arm} only", steps, losses)


def _facts(results: Results) -> dict[str, str]:
    trained = {
        f"{t.arm}": f"{t.steps} steps, {t.seconds:.0f} seconds, {t.parameters:,} parameters, "
        f"seed {t.seed}"
        for t in results.trials
    }
    return {"preset": results.preset, **trained, **results.hardware}
