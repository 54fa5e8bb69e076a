"""The card of a system: all facts of its record and its results, as JSON values.

No fact of a card is typed by hand: what the record does not say and no run measured is not
there. `featurewise.study.card_page` writes them as Markdown. `stale` names the files of a card
on disk that no longer say what their sources say.
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from featurewise.common.files import write_bytes
from featurewise.study import card_page
from featurewise.study.claims import Claim, Verdict
from featurewise.study.metric import Metric
from featurewise.study.results import Interval, Proportion, Results, Trial, over_seeds
from featurewise.study.system import Arm, Config, System

SEEDS = 3
"""How many a published figure is of, at least."""

OUTCOMES = (
    "supported",
    "refuted",
    "inconclusive",
    "one seed",
    "no interval",
    "bar beyond the scale",
    "not tested",
)
"""All that can become of a claim."""

Sheets: TypeAlias = Mapping[str, Mapping[str, str]]
"""Preset -> arm -> image of what it does, as an address seen from the card."""


def missing(system: System[Any], results: Results, seeds: Iterable[int] = ()) -> str | None:
    """What results lack of all arms with at least three seeds, in a sentence; None when nothing.

    Args:
        system: its record.
        results: of some of its arms.
        seeds: those that were requested, beside those there are.
    """
    wanted = sorted({trial.seed for trial in results.trials} | set(seeds))
    unused = (seed for seed in range(len(wanted) + SEEDS) if seed not in wanted)
    wanted = sorted([*wanted, *(next(unused) for _ in range(SEEDS - len(wanted)))])
    found = {arm.name: {t.seed for t in results.trials if t.arm == arm.name} for arm in system.arms}
    lacking: dict[tuple[int, ...], list[str]] = {}
    for name, seen in found.items():
        lacking.setdefault(tuple(seed for seed in wanted if seed not in seen), []).append(name)
    lacking.pop((), None)
    if not lacking:
        return None
    tried = [seen for seen in found.values() if seen]
    common = len(set(wanted).intersection(*tried)) if tried else 0
    parts = [
        ("all" if len(names) == len(found) and absent != tuple(wanted) else ", ".join(names))
        + (f" with seed {', '.join(map(str, absent))}" if len(absent) < len(wanted) else "")
        for absent, names in lacking.items()
    ]
    return (
        f"{len(tried)} of {len(found)} arms, {common} of {len(wanted)} seeds; "
        f"missing: {'; '.join(parts)}"
    )


def content(
    system: System[Any],
    *results: Results,
    sheets: Sheets | None = None,
    seeds: Iterable[int] = (),
    chart: str = "",
) -> dict[str, Any]:
    """All facts of the card, as JSON values; the results may be of several presets.

    Args:
        system: its record.
        results: of one preset each.
        sheets: images of what arms do.
        seeds: those that were requested, see `missing`.
        chart: address of the chart of arms and training curves; empty for none.
    """
    requested = tuple(seeds)
    prose = system.prose
    return {
        "name": system.name,
        "title": prose.title,
        "reference": prose.reference,
        "body": prose.body,
        "finding": system.finding,
        "chart": chart if results else "",
        "paper": dataclasses.asdict(system.paper),
        "world": system.world.what,
        "data_licence": system.world.licence,
        "needs": system.world.needs,
        "tested_on": system.tested_on,
        "tuned_on": system.tuned_on,
        "expected": system.expected,
        "departures": list(system.departures),
        "limits": list(system.limits),
        "arms": {arm.name: _described(arm) for arm in system.arms},
        "metrics": [_metric(metric) for metric in _metrics(system)],
        "presets": {
            name: {
                "command": f"featurewise run {system.name} --preset {name}",
                "cost": system.cost.get(name, ""),
                "settings": _fields(preset),
            }
            for name, preset in system.presets.items()
        },
        "score": system.score.name,
        "claims": [_claim(claim, results) for claim in system.claims],
        "results": [_results(system, each, sheets or {}, requested) for each in results],
    }


def to_json(card: Mapping[str, Any]) -> str:
    """The card as JSON text.

    Args:
        card: see `content`.
    """
    return json.dumps(card, indent=1, allow_nan=False) + "\n"


def to_markdown(card: Mapping[str, Any]) -> str:
    """The card as Markdown.

    Args:
        card: see `content`.
    """
    return card_page.to_markdown(card)


def save(folder: Path | str, card: Mapping[str, Any]) -> list[Path]:
    """Writes ``<name>.md`` and ``<name>.json`` into a folder; returns their paths."""
    texts = _texts(Path(folder), card)
    for path, text in texts.items():
        write_bytes(path, text.encode())
    return list(texts)


def stale(folder: Path | str, card: Mapping[str, Any]) -> list[Path]:
    """The files of the card that are missing or say something else than they should."""
    return [
        path
        for path, text in _texts(Path(folder), card).items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def _texts(folder: Path, card: Mapping[str, Any]) -> dict[Path, str]:
    return {
        folder / f"{card['name']}.md": to_markdown(card),
        folder / f"{card['name']}.json": to_json(card),
    }


def outcome(verdict: Verdict | None) -> str:
    """What became of a claim, one of `OUTCOMES`; of None, that it was not tested."""
    return "not tested" if verdict is None else verdict.outcome


def headline(arm: Mapping[str, Any], score: str) -> Mapping[str, Any] | None:
    """The score of an arm in a card's results, with its interval; None where not measured."""
    found: Mapping[str, Any] | None = arm["numbers"].get(score)
    return found


def _described(arm: Arm) -> dict[str, Any]:
    return {"what": arm.what, "changes": _as_json(arm.changes)}


def _metrics(system: System[Any]) -> tuple[Metric, ...]:
    """All metrics, the score first; a system's own definition replaces the general one."""
    by_name = {metric.name: metric for metric in (system.score, *system.metrics)}
    return tuple(by_name.values())


def _metric(metric: Metric) -> dict[str, str]:
    return {
        "name": metric.name,
        "what": metric.what,
        "unit": metric.unit,
        "better": metric.better,
    }


def _fields(config: Config) -> Any:
    """A preset's fields; what JSON cannot say is written out."""
    return _as_json(dataclasses.asdict(config))


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(dict(value), default=str))


def _claim(claim: Claim, results: Sequence[Results]) -> dict[str, Any]:
    """What became of a claim at each preset that was run; one open verdict if none was."""
    verdicts = [_verdict(each.preset, claim.check(each)) for each in results]
    return {
        "sentence": claim.sentence,
        "criterion": claim.criterion.sentence,
        "unit": claim.criterion.unit,
        "paper": None if claim.paper is None else dataclasses.asdict(claim.paper),
        "why": claim.why,
        "added": list(claim.added),
        "verdicts": verdicts or [_verdict(None, None)],
    }


def _verdict(preset: str | None, verdict: Verdict | None) -> dict[str, Any]:
    interval, needed = Interval(math.nan, math.nan, math.nan), None
    if verdict is not None:
        interval = verdict.interval or Interval(verdict.value, math.nan, math.nan)
        interval = dataclasses.replace(interval, value=verdict.value)
        needed = verdict.seeds_needed
    facts = {
        "preset": preset,
        "verdict": outcome(verdict),
        "meets_bar": None if verdict is None else verdict.within,
        "seeds_needed": needed,
    }
    return {**facts, **_interval(interval)}


def _results(
    system: System[Any], results: Results, sheets: Sheets, seeds: Sequence[int]
) -> dict[str, Any]:
    return {
        "preset": results.preset,
        "remark": system.remarks.get(results.preset, ""),
        **({"changed": dict(results.changed)} if results.changed else {}),
        "partial": missing(system, results, seeds),
        "seconds": round(sum(trial.seconds for trial in results.trials), 1),
        "sheets": dict(sheets.get(results.preset, {})),
        "caption": system.caption,
        "captions": dict(system.captions),
        "hardware": dict(results.hardware),
        **({"hardware_of": apart} if (apart := _hardware_of(results)) else {}),
        "data_versions": dict(results.data_versions),
        "seeds": sorted({trial.seed for trial in results.trials}),
        "arms": {arm: _arm(system, results.of(arm)) for arm in results.arms()},
    }


def _hardware_of(results: Results) -> list[dict[str, Any]]:
    """Trials that did not all run on the same, in groups: arms and seeds, and what they ran on."""
    groups: list[dict[str, Any]] = []
    for trial in results.trials:
        found = dict(trial.hardware)
        group = next((each for each in groups if each["hardware"] == found), None)
        if found and group is None:
            groups.append(group := {"arms": {}, "hardware": found})
        if group is not None:
            group["arms"].setdefault(trial.arm, []).append(trial.seed)
    return groups


def _arm(system: System[Any], trials: Sequence[Trial]) -> dict[str, Any]:
    found = {metric.name: _number(metric, trials) for metric in _metrics(system)}
    return {
        "seeds": len(trials),
        "parameters": trials[0].parameters,
        "steps": trials[0].steps,
        "flops": trials[0].flops,
        "peak_memory": max((t.peak_memory for t in trials if t.peak_memory), default=None),
        "seconds": _seconds([trial.seconds for trial in trials]),
        "numbers": {name: each for name, each in found.items() if each is not None},
        "curves": {str(t.seed): [list(point) for point in t.curve] for t in trials if t.curve},
    }


def _number(metric: Metric, trials: Sequence[Trial]) -> dict[str, Any] | None:
    """A number of one arm in its unit: mean, interval, and the value of each seed."""
    measured = {
        trial.seed: metric.scale * trial.measured.number(metric)
        for trial in trials
        if metric.name in _names(trial)
    }
    if not measured:
        return None
    interval, over = over_seeds(list(measured.values())), "seeds"
    if len(measured) == 1:
        proportion = next(filter(None, (_proportion(trial, metric) for trial in trials)), None)
        if proportion is not None:
            wilson = proportion.interval
            ends = (metric.scale * each for each in (wilson.value, wilson.low, wilson.high))
            interval, over = Interval(*ends), "test samples"
    if math.isfinite(interval.low):  # Student's t does not know the ends of a scale
        low, high = max(metric.ends[0], interval.low), min(metric.ends[1], interval.high)
        interval = Interval(interval.value, low, high)
    return {
        **_interval(interval),
        "over": over,
        "by_seed": {str(seed): value for seed, value in measured.items()},
    }


def _names(trial: Trial) -> set[str]:
    measured = trial.measured
    own = {"accuracy"} if measured.accuracy else set()
    return own | measured.by_type.keys() | measured.values.keys()


def _proportion(trial: Trial, metric: Metric) -> Proportion | None:
    if metric.name == "accuracy":
        return trial.measured.accuracy
    return trial.measured.by_type.get(metric.name)


def _seconds(seconds: Sequence[float]) -> dict[str, float]:
    """Median, least and most: a mean would be that of the one trial that something disturbed."""
    found = {"median": statistics.median(seconds), "least": min(seconds), "most": max(seconds)}
    return {name: round(value, 1) for name, value in found.items()}


def _interval(interval: Interval) -> dict[str, float | None]:
    return {
        name: value if math.isfinite(value) else None
        for name, value in dataclasses.asdict(interval).items()
    }
