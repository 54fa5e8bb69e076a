"""``featurewise demo``: train, measure, ask, and a page to look at, in a few minutes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from featurewise.cli import accuracy, discovery
from featurewise.cli.console import Terminal
from featurewise.explorer import report as reports
from featurewise.explorer.overlay import heat
from featurewise.explorer.tables import AccuracyTable, Asked, Claim, Curve, Picture, Report
from featurewise.lab import card
from featurewise.lab import model as models
from featurewise.lab import run as runs
from featurewise.lab.metrics import read_metrics
from featurewise.lab.results import Measurement, Results, Trial

_SYSTEM = "film"
_BASELINE = "question"
_SHIPPED_PICTURES = 200  # of its own, larger world: enough for two points, and quickly drawn
_SEED_OF_EXAMPLES = 2018_12


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the runs and the report.")] = Path(
        "runs/demo"
    ),
    minutes: Annotated[
        float, typer.Option(min=0.05, help="Stop training FiLM after so many.")
    ] = 4.0,
) -> None:
    """Train FiLM on drawn pictures, compare it with a baseline, ask it questions, write a report.

    Stopped at any moment, the same line goes on; when it is through, it begins anew beside.
    """
    show(out, "demo", 60 * minutes)


def show(out: Path, preset: str, seconds: float) -> Path:
    """The demonstration at a preset; returns the report's path."""
    console = Terminal(highlight=False, soft_wrap=True)
    record = discovery.load(_SYSTEM)
    answering = discovery.part(discovery.module(_SYSTEM), "answering")
    out = _unfinished(out)
    console.rule("1  FiLM learns to answer questions about pictures", align="left")
    settings = record.preset(preset)
    live = runs.describe_run(record, preset=preset)
    film = _trained(out / "film", record, live, seconds)
    console.print(f"FiLM: {_percent(film)} of held-out questions, {film.steps} steps")
    console.rule("2  A baseline that never looks, for as many steps", align="left")
    same = replace(settings, steps=max(film.steps, 1))
    blind = runs.describe_run(record, preset=preset, arm=_BASELINE, settings=same)
    question = _trained(out / _BASELINE, record, blind)
    console.print(f"question only: {_percent(question)}")
    results = Results(_SYSTEM, preset, (film, question), live.hardware)
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
            pictures=pictures,
            **_parameters(answering, asking),
            losses=tuple(_curve(arm, out / arm) for arm in ("film", _BASELINE)),
            facts=_facts(results),
            commands=("make demo", f"featurewise train {_SYSTEM} --preset small"),
        ),
        out / "report.html",
    )
    console.print(f"\nreport: [bold]{escape(str(page.resolve()))}[/]")
    return page


def _unfinished(out: Path) -> Path:
    """The folder, or the first ``-2``, ``-3``, ... beside it, that holds no report yet."""
    number, folder = 1, out
    while (folder / "report.html").exists():
        number += 1
        folder = out.with_name(f"{out.name}-{number}")
    return folder


def _trained(folder: Path, record: Any, run: runs.Run, seconds: float | None = None) -> Trial:
    """What training measured; in a demonstration that goes on, perhaps in an earlier sitting."""
    if (folder / runs.RESULTS).is_file():
        return Results.load(folder / runs.RESULTS).trials[0]
    return runs.train(folder, record, run, seconds=seconds)


def _percent(trial: Trial) -> str:
    return f"{trial.measured.number():.1%}"


def _measure(
    console: Console, record: Any, answering: Any, folder: Path, results: Results
) -> tuple[AccuracyTable, ...]:
    """The live networks with the control; then the model that comes with the library, if any."""
    network, settings = models.load_network(folder, record)
    control = answering.measured(network, settings, answering.held_out(settings), control=True)
    columns: dict[str, Measurement | Sequence[Trial]] = {
        "FiLM": results.of("film"),
        "question only": results.of(_BASELINE),
        "FiLM, other questions": control,
    }
    data = f"{record.world} Preset {results.preset}: few objects, no relations; held out."
    tables = [accuracy.table("Trained just now", data, columns, answering.groups)]
    shipped = discovery.shipped_model(discovery.module(_SYSTEM))
    if (shipped / runs.MODEL).is_file():
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
    known = (shipped / runs.MODEL).is_file()
    return discovery.Found(of.SYSTEM, of, shipped if known else live, known)


def _ask(
    console: Console, answering: Any, asking: discovery.Found, out: Path
) -> tuple[Picture, ...]:
    """Questions about two new pictures; swapping the question turns the answer."""
    from PIL import Image

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
            asked.append(Asked(question.text, answer.ranked[:4], question.answer, overlay))
        shown.append(Picture(picture, f"Picture {number}: {_described(scene)}", tuple(asked)))
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
    console.rule("5  Claims", align="left")
    found = []
    for claim in record.claims:
        verdict = claim.check(results)
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
    network, settings = models.load_network(asking.folder, asking.system)
    about = answering.examples(settings, _SEED_OF_EXAMPLES + 1, 20)
    questions = [question.text for _, some in about for question in some]
    return {
        "parameters": answering.parameters(network, questions),
        "parameters_of": f"for {len(questions)} questions",
    }


def _curve(arm: str, folder: Path) -> Curve:
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
