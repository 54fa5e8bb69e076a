"""``featurewise evaluate``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featurewise.cli import discovery
from featurewise.cli.console import Terminal
from featurewise.cli.errors import UserError

if TYPE_CHECKING:
    from featurewise.explorer.tables import AccuracyTable
    from featurewise.study.answerer import Answerer, Evaluation, Queries, UnknownWords
    from featurewise.study.results import Measurement, Trial

RUN_HELP = "Name of a system (its shipped model), or folder of a run or a model."


def evaluate(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help=RUN_HELP, autocompletion=discovery.complete_run)
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="Data set in the layout of CLEVR v1.0, in place of the built-in world."),
    ] = None,
    split: Annotated[str, typer.Option(help="Split of that data set.")] = "val",
    questions: Annotated[
        Path | None,
        typer.Option(
            help="Another file of questions about the images of that split, such as CLEVR-Humans."
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Number of images to evaluate on, from the first on.")
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="New JSON file for the answers of the network: a list of question_index and "
            "answer. The questions then need no answers (--split test)."
        ),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            help="Another run, evaluated on the same data; may be repeated.",
            autocompletion=discovery.complete_run,
        ),
    ] = None,
    control: Annotated[
        bool,
        typer.Option(
            "--control", help="Also evaluate with shuffled questions, each of another image."
        ),
    ] = False,
    twins: Annotated[
        bool,
        typer.Option(
            "--twins",
            help="Run the twin test instead: does the network use left, right, in front and "
            "behind? With --data, the scenes file of the data set is needed.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure accuracy by question type on held-out images."""
    from featurewise.cli import accuracy
    from featurewise.study.model import load_network

    found = discovery.find(run)
    others = [discovery.find(other) for other in compare or []]
    for other in others:
        if other.system.name != found.system.name:
            raise UserError(f"{other.folder}: is of {other.system.name}, not of {run}")
    answerer = discovery.answerer(found.system)
    if twins:
        if questions or predictions or control:
            raise UserError(
                "--twins generates its own questions; omit --questions, --predictions and --control"
            )
        shown = _twins(answerer, [found, *others], data, split, limit)
        if as_json:
            typer.echo(json.dumps(accuracy.as_json(shown), indent=1, allow_nan=False))
        else:
            Terminal().print(accuracy.on_screen(shown))
        return
    held_out = _held_out(answerer, found)
    if data is None and any(_held_out(answerer, other) != held_out for other in others):
        raise UserError("these runs have different held-out data; give a data set with --data")
    queries = _queries(answerer, data, split, questions, limit, predictions)
    columns: dict[str, Measurement | list[Trial]] = {}
    evaluated: list[Evaluation] = []
    for each, name in _named([found, *others]):
        network, config = load_network(each.folder, each.system)
        evaluated.append(answerer.evaluate(network, config, queries, limit=limit))
        columns[name] = evaluated[-1].measured
        if control and each is found:
            shuffled = answerer.evaluate(network, config, queries, limit=limit, shuffled=True)
            columns[f"{name}, shuffled questions"] = shuffled.measured
    answered = evaluated[0]
    if queries is None and limit is None:
        columns.update(_published(answerer, found, held_out, columns))
    notes = _notes(answerer, found, queries, answered.unknown)
    if predictions is not None and queries is not None:
        _write(predictions, queries, answered.answers)
    sentence = held_out if queries is None else _described(data, split, questions)
    if limit is not None:
        sentence = f"{sentence} The first {limit} images."
    shown = accuracy.table(found.system.prose.title, sentence, columns, answerer.groups)
    if as_json:
        facts = {
            **accuracy.as_json(shown),
            "questions": len(answered.answers),
            "unknown_words": dataclasses.asdict(answered.unknown),
            "notes": notes,
            "predictions": None if predictions is None else str(predictions),
        }
        typer.echo(json.dumps(facts, indent=1, allow_nan=False))
        return
    if queries is None or queries.has_answers:
        Terminal().print(accuracy.on_screen(shown))
    console = Terminal(highlight=False, soft_wrap=True, markup=False)
    for note in notes:
        console.print(note)
    if predictions is not None:
        console.print(f"{len(answered.answers)} answers are in {predictions}")


def _twins(
    answerer: Answerer[Any],
    found: list[discovery.Found],
    data: Path | None,
    split: str,
    limit: int | None,
) -> AccuracyTable:
    """The results of the twin test, one column per network."""
    from featurewise.cli import accuracy
    from featurewise.study.model import load_network

    columns = {}
    for each, name in _named(found):
        network, config = load_network(each.folder, each.system)
        columns[name] = answerer.measure_twins(network, config, data, split, limit)
    on = found[0].system.world.what if data is None else f"Data set in {data}, split {split}."
    some = "" if limit is None else f" The first {limit} images."
    test = answerer.twin_test
    return accuracy.plain_table(
        "Twin test", f"{on}{some} {test.description}", columns, test.figures
    )


def _queries(
    answerer: Answerer[Any],
    data: Path | None,
    split: str,
    questions: Path | None,
    limit: int | None,
    predictions: Path | None,
) -> Queries | None:
    """The questions of a data set; None for the held-out data of the run.

    Raises:
        UserError: the options do not fit together, the file for the predictions cannot be created,
            or the questions have no answers and no predictions are to be written.
    """
    if data is None:
        if questions is not None or predictions is not None:
            raise UserError("--questions and --predictions need --data, the folder of the images")
        return None
    if predictions is not None and (predictions.exists() or predictions.is_symlink()):
        raise UserError(f"{predictions}: exists; give the name of a new file")
    if predictions is not None and not predictions.absolute().parent.is_dir():
        raise UserError(f"{predictions}: there is no folder {predictions.parent}")
    queries = answerer.queries(data, split, questions, limit)
    if not queries.has_answers and predictions is None:
        raise UserError(
            f"{queries.path}: has no answers, so that accuracy cannot be measured; write the "
            "answers of the network with --predictions FILE"
        )
    if predictions is not None:
        queries.numbers()  # raises now rather than after the evaluation
    return queries


def _held_out(answerer: Answerer[Any], found: discovery.Found) -> str:
    """One sentence about the held-out data of a run."""
    from featurewise.study.run import read_run

    return answerer.held_out(read_run(found.folder).config(found.system))


def _described(data: Path | None, split: str, questions: Path | None) -> str:
    """One sentence about a data set."""
    file = "" if questions is None else f", questions in {questions}"
    return f"Data set in {data}, split {split}{file}."


def _notes(
    answerer: Answerer[Any],
    found: discovery.Found,
    queries: Queries | None,
    unknown: UnknownWords,
) -> list[str]:
    """Notes about the data: images of another shape, and words that the network does not know."""
    from featurewise.study.run import read_run

    if queries is None:
        return []
    notes = []
    config = read_run(found.folder).config(found.system)
    if note := answerer.image(config, queries.first_image).note:
        notes.append(f"{queries.first_image.name}: {note}")
    if unknown.words:
        notes.append(
            f"{unknown.words / unknown.of_words:.1%} of the words are unknown to the network, in "
            f"{unknown.questions / unknown.of_questions:.1%} of the questions"
        )
    return notes


def _write(path: Path, queries: Queries, answers: Sequence[str]) -> None:
    """Writes a new JSON file of all answers, by the number of the question; one entry per line."""
    pairs = sorted(zip(queries.numbers(), answers, strict=True))
    entries = ({"question_index": number, "answer": answer} for number, answer in pairs)
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    with path.open("x", encoding="utf-8") as file:
        file.write(f"[\n{lines}\n]\n")


def _named(found: list[discovery.Found]) -> Iterator[tuple[discovery.Found, str]]:
    """Each network with a unique short name: its arm, and its folder if two arms are equal."""
    from featurewise.study.run import read_run

    arms = [read_run(each.folder).arm for each in found]
    for each, arm in zip(found, arms, strict=True):
        yield each, arm if arms.count(arm) == 1 else f"{arm} ({each.folder.name})"


def _published(
    answerer: Answerer[Any],
    found: discovery.Found,
    held_out: str,
    columns: dict[str, Measurement | list[Trial]],
) -> dict[str, list[Trial]]:
    """Published trials of the other arms at the same preset, on the same held-out data."""
    from featurewise.study.run import read_run

    run = read_run(found.folder)
    results = discovery.published_results(found.system.name).get(run.preset)
    if results is None or answerer.held_out(found.system.preset(run.preset)) != held_out:
        return {}
    return {arm: results.of(arm) for arm in results.arms() if arm != run.arm and arm not in columns}
