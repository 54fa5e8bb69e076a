"""``featurewise demo``: train, evaluate, answer questions and write a report, in minutes."""

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
_SHIPPED_IMAGES = 200  # held-out images for the shipped model: 95 % interval about ± 2 points
_EXAMPLE_SEED = 2018_12
_TIMED_STEPS = 5  # training steps per time measurement


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the runs and the report.")] = Path(
        "runs/demo"
    ),
    minutes: Annotated[
        float,
        typer.Option(
            min=0.05,
            help="Approximate limit of the training time of both networks together. On a slow "
            "machine both are trained for fewer steps (the same number) with a full learning-rate "
            "schedule.",
        ),
    ] = 6.0,
    device: options.Device = "auto",
) -> None:
    """Train FiLM and a baseline on rendered images, answer questions, write a report: 3 minutes.

    If it is stopped, run the same command again to resume. After a finished demonstration, the
    next one gets a new folder beside the first.
    """
    options.require_installed("", "matplotlib", "jinja2")
    options.use_device(device)
    show(out, "demo", 60 * minutes)


def show(out: Path, preset: str, seconds: float) -> Path:
    """Runs the demonstration.

    Args:
        out: folder for the runs and the report.
        preset: preset of FiLM.
        seconds: approximate limit of the training time of both networks together.

    Returns:
        Path of the report.
    """
    from featurewise.explorer import report as reports
    from featurewise.explorer.tables import Report
    from featurewise.study import run as runs
    from featurewise.study.results import Results

    console = Terminal(highlight=False, soft_wrap=True)
    record = discovery.load(_SYSTEM)
    answering = discovery.part(discovery.module(_SYSTEM), "answering")
    out = _unfinished(out)
    out.mkdir(parents=True, exist_ok=True)  # fails before training if it cannot be written
    all_steps = record.preset(preset).steps
    settings = replace(record.preset(preset), steps=_steps(out, record, preset, seconds))
    if settings.steps < all_steps:
        console.print(
            f"There is time for {settings.steps} of {all_steps} steps, too few to test the claims; "
            "use a larger --minutes"
        )
    film_run, question_run = (
        runs.describe_run(record, preset=preset, arm=arm, config=settings) for arm in _ARMS
    )
    console.rule("1  Training FiLM to answer questions about images", align="left")
    film = _trained(out / _SYSTEM, record, film_run)
    console.print(f"FiLM: accuracy {_percent(film)} on held-out questions, {film.steps} steps")
    console.rule("2  Training a question-only baseline for as many steps", align="left")
    question = _trained(out / _BASELINE, record, question_run)
    console.print(f"question only: accuracy {_percent(question)}, {question.steps} steps")
    changed = runs.changed_settings(record, film_run)
    results = Results(_SYSTEM, preset, (film, question), film_run.hardware, changed)
    console.rule("3  Accuracy by question type", align="left")
    tables = _measure(console, record, answering, out / "film", results)
    console.rule("4  Several questions about one image", align="left")
    found = _answering_network(out / "film")
    images = _answer(console, answering, found, out)
    share = film.measured.number("turned")
    console.print(
        "Pairs of questions about one held-out image with different answers: where the first is "
        f"answered correctly, so is the second in {share:.1%}."
    )
    claims = _claims(console, record, results)
    page = reports.write(
        Report(
            title="FiLM answers questions about images",
            summary=_summary(record, found),
            claims=claims,
            accuracy=tables,
            images=images,
            **_parameters(answering, found),
            losses=tuple(_curve(arm, out / arm) for arm in _ARMS),
            facts=_facts(results),
            commands=("featurewise demo", f"featurewise train {_SYSTEM} --preset small"),
        ),
        out / _REPORT,
    )
    console.print(f"\nreport: [bold]{escape(str(page.resolve()))}[/]")
    return page


def _unfinished(out: Path) -> Path:
    """The folder, or else the first of ``<folder>-2``, ``<folder>-3``, ... without a report.

    Raises:
        UserError: that folder holds files, but no unfinished demonstration.
    """
    number, folder = 1, out
    while (folder / _REPORT).exists():
        number += 1
        folder = out.with_name(f"{out.name}-{number}")
    if folder.is_dir() and any(folder.iterdir()) and not _is_started(folder):
        raise UserError(f"{folder}: holds files of another kind; give another folder with --out")
    return folder


def _is_started(folder: Path) -> bool:
    """Whether the folder holds a demonstration whose training has started."""
    return (folder / _SYSTEM / discovery.RUN).is_file()


def _steps(out: Path, record: Any, preset: str, seconds: float) -> int:
    """Number of training steps of each network: that of the started runs, or what time allows.

    Both networks are timed, because both get the same number of steps.
    """
    from featurewise.study.run import read_run

    if _is_started(out):
        return int(read_run(out / _SYSTEM).settings["steps"])
    settings = record.preset(preset)
    fitting = int(
        seconds / sum(_seconds_per_step(record, settings, record.arm(arm)) for arm in _ARMS)
    )
    whole = fitting - fitting % 50 if fitting > 50 else max(fitting, 1)
    steps: int = min(settings.steps, whole)
    return steps


def _seconds_per_step(record: Any, settings: Any, arm: Any) -> float:
    """Time of one training step of an arm on this machine: the minimum of five measurements."""
    from featurewise.training import distributed
    from featurewise.training.randomness import isolated

    with isolated():
        network = record.build(settings, arm).to(distributed.device())
        stepper = record.stepper(network, settings, arm)
        source = record.data(settings, arm, 0)
        times = []
        for first in range(0, 5 * _TIMED_STEPS, _TIMED_STEPS):
            start = time.perf_counter()
            for step in range(first, first + _TIMED_STEPS):
                stepper.step(source.batch(step))
            times.append((time.perf_counter() - start) / _TIMED_STEPS)
    return min(times)  # the other measurements include delays by other processes


def _trained(folder: Path, record: Any, run: Run) -> Trial:
    """Trains a network and returns its trial; a finished run is read from its folder."""
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
    """Evaluates the trained networks and the control, then the shipped model if there is one."""
    from featurewise.cli import accuracy
    from featurewise.study import model as models
    from featurewise.study import run as runs

    network, settings = models.load_network(folder, record)
    control = answering.measured(network, settings, answering.held_out(settings), control=True)
    columns = {
        "FiLM": results.of("film"),
        "question only": results.of(_BASELINE),
        "FiLM, shuffled questions": control,
    }
    data = f"{record.world} Preset {results.preset}: few objects, no relations; held-out images."
    tables = [accuracy.table("Trained in this demonstration", data, columns, answering.groups)]
    shipped = discovery.shipped_model(discovery.module(_SYSTEM))
    if (shipped / discovery.MODEL).is_file():
        network, settings = models.load_network(shipped, record)
        settings = replace(settings, held_out=min(settings.held_out, _SHIPPED_IMAGES))
        found = answering.measured(network, settings, answering.held_out(settings))
        preset = runs.read_run(shipped).preset
        data = f"{record.world} Preset {preset}, {settings.held_out} held-out images."
        title = "Shipped model"
        tables.append(accuracy.table(title, data, {"FiLM": found}, answering.groups))
    for table in tables:
        console.print(accuracy.on_screen(table))
    return tuple(tables)


def _answering_network(trained: Path) -> discovery.Found:
    """The shipped model, which is trained on all question types; else the one trained here."""
    of = discovery.module(_SYSTEM)
    shipped = discovery.shipped_model(of)
    exists = (shipped / discovery.MODEL).is_file()
    return discovery.Found(of.SYSTEM, of, shipped if exists else trained, exists)


def _answer(
    console: Console, answering: Any, found: discovery.Found, out: Path
) -> tuple[ImageQuestions, ...]:
    """Renders two new images and answers four questions about each."""
    from PIL import Image

    from featurewise.explorer.overlay import heat
    from featurewise.explorer.tables import AnsweredQuestion, ImageQuestions
    from featurewise.study import model as models
    from featurewise.worlds.clevr import render

    network, settings = models.load_network(found.folder, found.system)
    shown = []
    for number, (scene, questions) in enumerate(answering.examples(settings, _EXAMPLE_SEED, 2), 1):
        path = out / f"image-{number}.png"
        pixels = render([scene], width=480, height=320, samples=4).images[0]
        image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
        image.save(path)
        console.print(f"[bold]image {number}[/] ({escape(str(path))})")
        answered = []
        for question in _with_different_answers(questions, 4):
            answer = answering.answer(network, answering.picture(settings, path), question.text)
            best, probability = answer.ranked[0]
            mark = (
                "[green]correct[/]"
                if best == question.answer
                else f"[red]wrong, {question.answer}[/]"
            )
            console.print(f"  {question.text}\n    [bold]{best}[/] ({probability:.0%})  {mark}")
            overlay = None if answer.places is None else heat(image, answer.places.numpy())
            answered.append(
                AnsweredQuestion(question.text, answer.ranked[:4], question.answer, overlay)
            )
        shown.append(
            ImageQuestions(image, f"Image {number}: {_description(scene)}", tuple(answered))
        )
    return tuple(shown)


def _with_different_answers(questions: Sequence[Any], count: int) -> list[Any]:
    """Up to `count` questions with as many different answers as possible."""
    seen: dict[str, int] = {}
    ranked = []
    for index, question in enumerate(questions):
        seen[question.answer] = seen.get(question.answer, -1) + 1
        ranked.append((seen[question.answer], index))
    return [questions[index] for _, index in sorted(ranked)[:count]]


def _description(scene: Any) -> str:
    objects = [f"a {o.size} {o.color} {o.material} {o.shape}" for o in scene.objects]
    return f"{', '.join(objects[:-1])} and {objects[-1]}." if len(objects) > 1 else f"{objects[0]}."


def _claims(console: Console, record: Any, results: Results) -> tuple[Claim, ...]:
    """Every claim of the system with its measured value; one seed gives no verdict."""
    from featurewise.explorer.tables import Claim
    from featurewise.study import card

    console.rule("5  Claims", align="left")
    shown = []
    for claim in record.claims:
        # A claim is about networks that were trained for all steps of the preset.
        verdict = None if results.changed else claim.check(results)
        if verdict is None:
            shown.append(Claim(claim.plain, card.outcome(None), None))
            continue
        value = verdict.value if math.isfinite(verdict.value) else None
        shown.append(Claim(claim.plain, verdict.outcome, value))
        bound = "within the bound" if verdict.within else "outside the bound"
        console.print(
            f"{verdict.outcome}: {claim.plain}  (measured: {verdict.value:.4g}; {bound})",
            markup=False,
        )
    return tuple(shown)


def _summary(record: Any, found: discovery.Found) -> tuple[str, ...]:
    network = "the shipped model" if found.shipped else "the network trained in this demonstration"
    return (record.what, f"{record.paper.citation}. The questions below are answered by {network}.")


def _parameters(answering: Any, found: discovery.Found) -> dict[str, Any]:
    """γ and β for the questions about 20 images, for the histograms of the report."""
    from featurewise.study import model as models

    network, settings = models.load_network(found.folder, found.system)
    examples = answering.examples(settings, _EXAMPLE_SEED + 1, 20)
    questions = [question.text for _, group in examples for question in group]
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
