"""``featurewise evaluate``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featurewise.cli import discovery
from featurewise.cli.console import Terminal
from featurewise.cli.errors import UserError

if TYPE_CHECKING:
    from featurewise.explorer.tables import AccuracyTable
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
    answering = discovery.part(found, "answering")
    if twins:
        if questions or predictions or control:
            raise UserError(
                "--twins generates its own questions; omit --questions, --predictions and --control"
            )
        shown = _twins(answering, [found, *others], data, split, limit)
        if as_json:
            typer.echo(json.dumps(accuracy.as_json(shown), indent=1, allow_nan=False))
        else:
            Terminal().print(accuracy.on_screen(shown))
        return
    folder = _folder(found)
    if data is None and any(_folder(other) != folder for other in others):
        raise UserError("these runs have different held-out data; give a data set with --data")
    queries = _queries(answering, data, split, questions, limit, predictions)
    columns: dict[str, Measurement | list[Trial]] = {}
    answers = answering.Predictions(queries)
    for each, name in _named([found, *others]):
        network, settings = load_network(each.folder, each.system)
        on_answers = answers.add if each is found else None
        batches = _batches(answering, settings, queries, limit)
        columns[name] = answering.measured(network, settings, batches, on_answers=on_answers)
        if control and each is found:
            batches = _batches(answering, settings, queries, limit)
            measured = answering.measured(network, settings, batches, control=True)
            columns[f"{name}, shuffled questions"] = measured
    if queries is None and limit is None and folder is None:
        columns.update(_shipped(found, columns))
    notes = _notes(answering, found, queries, answers)
    if predictions is not None:
        _write(predictions, answers.as_json())
    shown = accuracy.table(
        found.system.prose.title, _sentence(found, queries, limit), columns, answering.groups
    )
    if as_json:
        facts = {
            **accuracy.as_json(shown),
            "questions": answers.questions,
            "unknown_words": answers.unknown(),
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
        console.print(f"{answers.questions} answers are in {predictions}")


def _twins(
    answering: Any,
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
        network, settings = load_network(each.folder, each.system)
        columns[name] = answering.twins(network, settings, data, split, limit)
    on = found[0].system.world if data is None else f"Data set in {data}, split {split}."
    some = "" if limit is None else f" The first {limit} images."
    sentence = (
        f"{on}{some} Two objects (twins) of one shape and different colors stand on either side of "
        "a third object. left, right, front, behind: accuracy on the question for the color of "
        "the twin there. pair: both answers correct; mirrored: the answer is the color of the "
        "other twin; changed: the two answers differ."
    )
    names = {name: name.removeprefix("twin_").replace("_", " ") for name in answering.TWINS}
    return accuracy.plain_table("Twin test", sentence, columns, names)


def _queries(
    answering: Any,
    data: Path | None,
    split: str,
    questions: Path | None,
    limit: int | None,
    predictions: Path | None,
) -> Any | None:
    """The questions of a data set; None for the built-in world.

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
    queries = answering.FolderQueries(data, split, questions, limit)
    if not queries.has_answers and predictions is None:
        raise UserError(
            f"{queries.path}: has no answers, so that accuracy cannot be measured; write the "
            "answers of the network with --predictions FILE"
        )
    if predictions is not None:
        queries.numbers  # noqa: B018  # raises now rather than after the evaluation
    return queries


def _batches(
    answering: Any, settings: Any, queries: Any | None, limit: int | None
) -> Iterator[Any]:
    """The batches that a network is evaluated on."""
    from featurewise.worlds.clevr.progress import reading_images

    if queries is None:
        found: Iterator[Any] = answering.held_out(settings, limit)
        return found
    with reading_images() as progress:
        read: Iterator[Any] = queries.batches(settings, progress)
    return read


def _folder(found: discovery.Found) -> Any | None:
    """The data set that a network was trained on; None for the built-in world."""
    from featurewise.study.run import read_run

    return read_run(found.folder).settings.get("folder")


def _sentence(found: discovery.Found, queries: Any | None, limit: int | None) -> str:
    """One sentence about the evaluation data."""
    some = "" if limit is None else f", the first {limit} images"
    if queries is None:
        if folder := _folder(found):
            return f"Held-out images of {folder['path']}, trained on split {folder['split']}{some}."
        return f"{found.system.world} Held out from training{some}."
    file = "" if queries.questions is None else f", questions in {queries.questions}"
    return f"Data set in {queries.folder}, split {queries.split}{file}{some}."


def _notes(answering: Any, found: discovery.Found, queries: Any | None, answers: Any) -> list[str]:
    """Notes about the data: images of another shape, and words that the network does not know."""
    from featurewise.study.model import load_network

    if queries is None:
        return []
    notes = []
    _, settings = load_network(found.folder, found.system)
    if note := answering.framing(settings, queries.first_image):
        notes.append(f"{queries.first_image.name}: {note}")
    unknown = answers.unknown()
    if unknown["words"]:
        notes.append(
            f"{unknown['words'] / unknown['of_words']:.1%} of the words are unknown to the "
            f"network, in {unknown['questions'] / unknown['of_questions']:.1%} of the questions"
        )
    return notes


def _write(path: Path, found: list[dict[str, Any]]) -> None:
    """Writes a new JSON file with one entry per line."""
    lines = ",\n".join(json.dumps(each) for each in found)
    with path.open("x", encoding="utf-8") as file:
        file.write(f"[\n{lines}\n]\n")


def _named(found: list[discovery.Found]) -> Iterator[tuple[discovery.Found, str]]:
    """Each network with a unique short name: its arm, and its folder if two arms are equal."""
    from featurewise.study.run import read_run

    arms = [read_run(each.folder).arm for each in found]
    for each, arm in zip(found, arms, strict=True):
        yield each, arm if arms.count(arm) == 1 else f"{arm} ({each.folder.name})"


def _shipped(
    found: discovery.Found, columns: dict[str, Measurement | list[Trial]]
) -> dict[str, list[Trial]]:
    """Published trials of the other arms at the same preset."""
    from featurewise.study.run import read_run

    run = read_run(found.folder)
    results = discovery.published_results(found.system.name).get(run.preset)
    if results is None:
        return {}
    return {arm: results.of(arm) for arm in results.arms() if arm != run.arm and arm not in columns}
