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
    from featurewise.study.answerer import Answerer
    from featurewise.study.results import Measurement, Results, Trial
    from featurewise.study.run import Run
    from featurewise.study.system import System

_SYSTEM = discovery.QUESTIONS
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
    answerer, labels = discovery.answerer(record), _labels(record)
    (system, title), (baseline, other) = labels.items()
    out = _unfinished(out)
    out.mkdir(parents=True, exist_ok=True)  # fails before training if it cannot be written
    all_steps = record.preset(preset).steps
    config = replace(record.preset(preset), steps=_steps(out, record, preset, seconds))
    if config.steps < all_steps:
        console.print(
            f"There is time for {config.steps} of {all_steps} steps, too few to test the claims; "
            "use a larger --minutes"
        )
    run, baseline_run = (
        runs.describe_run(record, preset=preset, arm=arm, config=config) for arm in labels
    )
    console.rule(f"1  Training {title} to answer questions about images", align="left")
    trial = _trained(out / system, record, run)
    console.print(f"{title}: accuracy {_percent(trial)} on held-out questions, {trial.steps} steps")
    console.rule(f"2  Training a {other} for as many steps", align="left")
    baseline_trial = _trained(out / baseline, record, baseline_run)
    console.print(f"{other}: accuracy {_percent(baseline_trial)}, {baseline_trial.steps} steps")
    changed = runs.changed_settings(record, run)
    results = Results(_SYSTEM, preset, (trial, baseline_trial), run.hardware, changed=changed)
    console.rule("3  Accuracy by question type", align="left")
    tables = _measure(console, record, answerer, out / system, results)
    console.rule("4  Several questions about one image", align="left")
    found = _answering_network(out / system)
    images = _answer(console, answerer, found, out)
    if remark := answerer.remark(trial.measured):
        console.print(remark)
    claims = _claims(console, record, results)
    page = reports.write(
        Report(
            title=f"{title} answers questions about images",
            summary=_summary(record, found),
            claims=claims,
            accuracy=tables,
            images=images,
            **_parameters(answerer, found),
            losses=tuple(_curve(label, out / arm) for arm, label in labels.items()),
            facts=_facts(results),
            commands=("featurewise demo", f"featurewise train {_SYSTEM} --preset small"),
        ),
        out / _REPORT,
    )
    console.print(f"\nreport: [bold]{escape(str(page.resolve()))}[/]")
    return page


def _labels(record: System[Any]) -> dict[str, str]:
    """The arms that are trained, the system and the first baseline, and what tables call them."""
    system, baseline = record.arms[:2]
    title = record.prose.title.partition(":")[0]
    return {system.name: title, baseline.name: baseline.what.partition(":")[0]}


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
    return any(folder.glob(f"*/{discovery.RUN}"))


def _steps(out: Path, record: System[Any], preset: str, seconds: float) -> int:
    """Number of training steps of each network: that of the started runs, or what time allows.

    Both networks are timed, because both get the same number of steps.
    """
    from featurewise.study.run import read_run

    system = record.arms[0].name
    if (out / system / discovery.RUN).is_file():
        return int(read_run(out / system).settings["steps"])
    config = record.preset(preset)
    step = sum(_seconds_per_step(record, record.config(config, arm)) for arm in _labels(record))
    fitting = int(seconds / step)
    whole = fitting - fitting % 50 if fitting > 50 else max(fitting, 1)
    steps: int = min(config.steps, whole)
    return steps


def _seconds_per_step(record: System[Any], config: Any) -> float:
    """Time of one training step on this machine, in seconds: the minimum of five measurements."""
    from featurewise.training import distributed
    from featurewise.training.randomness import isolated

    with isolated():
        network = record.build(config).to(distributed.device())
        stepper = record.stepper(network, config)
        source = record.data(config, 0)
        times = []
        for first in range(0, 5 * _TIMED_STEPS, _TIMED_STEPS):
            start = time.perf_counter()
            for step in range(first, first + _TIMED_STEPS):
                stepper.step(source.batch(step))
            times.append((time.perf_counter() - start) / _TIMED_STEPS)
    return min(times)  # the other measurements include delays by other processes


def _trained(folder: Path, record: System[Any], run: Run) -> Trial:
    """Trains a network and returns its trial; a finished run is read from its folder."""
    from featurewise.study import run as runs
    from featurewise.study.results import Results

    if (folder / runs.RESULTS).is_file():
        return Results.load(folder / runs.RESULTS).trials[0]
    return runs.train(folder, record, run)


def _percent(trial: Trial) -> str:
    return f"{trial.measured.number():.1%}"


def _measure(
    console: Console,
    record: System[Any],
    answerer: Answerer[Any],
    folder: Path,
    results: Results,
) -> tuple[AccuracyTable, ...]:
    """Evaluates the trained networks and the control, then the shipped model if there is one."""
    from featurewise.cli import accuracy
    from featurewise.study import model as models

    network, config = models.load_network(folder, record)
    labels = _labels(record)
    title = next(iter(labels.values()))
    control = answerer.evaluate(network, config, shuffled=True).measured
    columns: dict[str, Measurement | list[Trial]] = {
        **{label: results.of(arm) for arm, label in labels.items()},
        f"{title}, shuffled questions": control,
    }
    data = answerer.held_out(config)
    tables = [accuracy.table("Trained in this demonstration", data, columns, answerer.groups)]
    shipped = discovery.shipped_model(discovery.module(_SYSTEM))
    if (shipped / discovery.MODEL).is_file():
        network, config = models.load_network(shipped, record)
        found = answerer.evaluate(network, config, limit=_SHIPPED_IMAGES).measured
        data = (
            f"{answerer.held_out(config)} The first {_SHIPPED_IMAGES} images. These are other data "
            "than those of the table above: the two accuracies are not comparable."
        )
        tables.append(accuracy.table("Shipped model", data, {title: found}, answerer.groups))
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
    console: Console, answerer: Answerer[Any], found: discovery.Found, out: Path
) -> tuple[ImageQuestions, ...]:
    """Renders two new images and answers four questions about each."""
    from featurewise.explorer.overlay import heat
    from featurewise.explorer.tables import AnsweredQuestion, ImageQuestions
    from featurewise.study import model as models

    network, config = models.load_network(found.folder, found.system)
    shown = []
    for number, example in enumerate(answerer.examples(config, _EXAMPLE_SEED, 2), 1):
        path = out / f"image-{number}.png"
        image = example.render()
        image.save(path)
        pixels = answerer.image(config, path).pixels
        console.print(f"[bold]image {number}[/] ({escape(str(path))})")
        answered = []
        for question, truth in _with_different_answers(example.questions, 4):
            answer = answerer.answer(network, pixels, question)
            best, probability = answer.ranked[0]
            mark = "[green]correct[/]" if best == truth else f"[red]wrong, {truth}[/]"
            console.print(f"  {question}\n    [bold]{best}[/] ({probability:.1%})  {mark}")
            overlay = None if answer.places is None else heat(image, answer.places.numpy())
            answered.append(AnsweredQuestion(question, answer.ranked[:4], truth, overlay))
        caption = f"Image {number}: {example.description}"
        shown.append(ImageQuestions(image, caption, tuple(answered)))
    return tuple(shown)


def _with_different_answers(
    questions: Sequence[tuple[str, str]], count: int
) -> list[tuple[str, str]]:
    """Up to `count` questions, with their answers, as many of which differ as possible."""
    seen: dict[str, int] = {}
    ranked = []
    for index, (_, answer) in enumerate(questions):
        seen[answer] = seen.get(answer, -1) + 1
        ranked.append((seen[answer], index))
    return [questions[index] for _, index in sorted(ranked)[:count]]


def _claims(console: Console, record: System[Any], results: Results) -> tuple[Claim, ...]:
    """Every claim of the system with its measured value; one seed gives no verdict."""
    from featurewise.explorer.tables import Claim
    from featurewise.study import card

    console.rule("5  Claims", align="left")
    shown = []
    for claim in record.claims:
        sentence = f"{claim.sentence} {claim.criterion.sentence.replace('`', '')}"
        # A claim is about networks that were trained for all steps of the preset.
        verdict = None if results.changed else claim.check(results)
        if verdict is None:
            shown.append(Claim(sentence, card.outcome(None), None))
            continue
        value = verdict.value if math.isfinite(verdict.value) else None
        shown.append(Claim(sentence, verdict.outcome, value))
        bound = "within the bound" if verdict.within else "outside the bound"
        measured = f"{verdict.value:.1f} {claim.criterion.unit}".rstrip()
        console.print(
            f"{verdict.outcome}: {sentence}  (measured: {measured}; {bound})", markup=False
        )
    return tuple(shown)


def _summary(record: System[Any], found: discovery.Found) -> tuple[str, ...]:
    network = "the shipped model" if found.shipped else "the network trained in this demonstration"
    first = record.prose.body.partition("\n\n")[0]
    return (first, f"{record.paper.citation}. The questions below are answered by {network}.")


def _parameters(answerer: Answerer[Any], found: discovery.Found) -> dict[str, Any]:
    """γ and β for the questions about 20 images, for the histograms of the report."""
    from featurewise.study import model as models

    network, config = models.load_network(found.folder, found.system)
    examples = answerer.examples(config, _EXAMPLE_SEED + 1, 20)
    questions = [question for example in examples for question, _ in example.questions]
    return {
        "parameters": answerer.parameters(network, questions),
        "parameters_of": f"for {len(questions)} questions",
    }


def _curve(label: str, folder: Path) -> Curve:
    from featurewise.explorer.tables import Curve
    from featurewise.training.metrics import read_metrics

    records = [r for r in read_metrics(folder / "metrics.jsonl") if r["kind"] == "train"]
    steps, losses = (tuple(r[name] for r in records) for name in ("step", "loss"))
    return Curve(label, steps, losses)


def _facts(results: Results) -> dict[str, str]:
    trained = {
        f"{t.arm}": f"{t.steps} steps, {t.seconds:.0f} seconds, {t.parameters:,} parameters, "
        f"seed {t.seed}"
        for t in results.trials
    }
    return {"preset": results.preset, **trained, **results.hardware}
