"""Tables of accuracy for several networks: for the terminal, as JSON and for the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from rich.table import Table

from featurewise.explorer.tables import AccuracyRow, AccuracyTable, Score
from featurewise.study.results import Measurement, Proportion, Trial, over_seeds

Groups: TypeAlias = Callable[[Measurement], Mapping[str, tuple[Proportion, tuple[str, ...]]]]
"""Function from a measurement to the groups of its question types: accuracy and types of each."""


def table(
    title: str, data: str, measured: Mapping[str, Measurement | Sequence[Trial]], groups: Groups
) -> AccuracyTable:
    """Accuracy on all questions, then by group and by question type; one column per measurement.

    Args:
        title: title of the table.
        data: one sentence that describes the evaluation data.
        measured: column name -> one measurement, or the trials of an arm. The accuracy of several
            trials is their mean, with an interval over seeds.
        groups: function that groups the question types of a measurement.
    """
    columns = {
        name: [found] if isinstance(found, Measurement) else [trial.measured for trial in found]
        for name, found in measured.items()
    }
    rows = [AccuracyRow("all questions", 0, _scores(columns, lambda m: m.accuracy))]
    for group, types in _types(columns, groups).items():
        rows.append(AccuracyRow(group, 1, _scores(columns, partial(_of_group, groups, group))))
        if len(types) > 1:
            rows += [
                AccuracyRow(name, 2, _scores(columns, partial(_of_type, name))) for name in types
            ]
    return AccuracyTable(title, data, tuple(columns), tuple(rows))


def plain_table(
    title: str,
    data: str,
    measured: Mapping[str, Mapping[str, Proportion]],
    names: Mapping[str, str],
) -> AccuracyTable:
    """Proportions by name, without groups; one column per measurement.

    Args:
        title: title of the table.
        data: one sentence that describes the evaluation data.
        measured: column name -> name of a proportion -> proportion.
        names: names of the proportions to show, in order -> their labels.
    """
    rows = [
        AccuracyRow(what, 1, tuple(_score([found.get(name)]) for found in measured.values()))
        for name, what in names.items()
    ]
    return AccuracyTable(title, data, tuple(measured), tuple(rows))


def _types(
    columns: Mapping[str, Sequence[Measurement]], groups: Groups
) -> dict[str, dict[str, None]]:
    """Groups of all measurements, each with its question types, in order of first appearance."""
    order: dict[str, dict[str, None]] = {}
    for measured in (each for found in columns.values() for each in found):
        for group, (_, types) in groups(measured).items():
            order.setdefault(group, {}).update(dict.fromkeys(types))
    return order


def _of_group(groups: Groups, group: str, measured: Measurement) -> Proportion | None:
    found = groups(measured).get(group)
    return None if found is None else found[0]


def _of_type(name: str, measured: Measurement) -> Proportion | None:
    return measured.by_type.get(name)


def _scores(
    columns: Mapping[str, Sequence[Measurement]], pick: Callable[[Measurement], Proportion | None]
) -> tuple[Score | None, ...]:
    return tuple(_score([pick(each) for each in found]) for found in columns.values())


def _score(found: Sequence[Proportion | None]) -> Score | None:
    known = [each for each in found if each is not None]
    if not known:
        return None
    questions = sum(each.total for each in known)
    interval = known[0].interval if len(known) == 1 else over_seeds([p.value for p in known])
    return Score(interval.value, max(0.0, interval.low), min(1.0, interval.high), questions)


def on_screen(shown: AccuracyTable) -> Table:
    """The table for a terminal, in percent with 95 % intervals."""
    table = Table(
        title=shown.title, caption=shown.data, title_justify="left", caption_justify="left"
    )
    table.add_column("")
    for name in shown.columns:
        table.add_column(name, justify="right", overflow="fold")
    with_counts = any(score for row in shown.rows for score in row.scores[:1])
    if with_counts:
        table.add_column("questions", justify="right")
    for row in shown.rows:
        cells = [_cell(score) for score in row.scores]
        count = [f"{row.scores[0].count:,}" if row.scores[0] else ""] if with_counts else []
        style = "" if row.level == 2 else "bold"
        table.add_row("  " * row.level + row.name, *cells, *count, style=style)
    return table


def _cell(score: Score | None) -> str:
    if score is None:
        return "–"
    return f"{100 * score.value:.1f} [{100 * score.low:.1f}, {100 * score.high:.1f}]"


def as_json(shown: AccuracyTable) -> dict[str, Any]:
    """The table as JSON values."""
    return dataclasses.asdict(shown)
