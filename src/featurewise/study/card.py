"""The card of a system, Markdown and JSON, written from its record and its results.

No fact of a card is typed by hand: what the record does not say and no run measured is not
there. `stale` tells when a card on disk no longer says what its sources say.
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from featurewise.common.files import write_bytes
from featurewise.common.text import markdown as markdown
from featurewise.study.made import MARK
from featurewise.study.results import Interval, Proportion, Results, Trial, over_seeds
from featurewise.study.system import Claim, Settings, System, Verdict

SEEDS = 3
"""How many a published figure is of, at least."""

VERDICTS = (
    "A claim is decided by the 95 % interval (Student's t) over training seeds, on one test set: "
    "supported where all of it meets the bar, refuted where none of it does, inconclusive "
    "otherwise. One seed gives no interval, and no verdict. Where no result could meet the bar, "
    "nothing is decided either. Seeds that would decide a claim are counted all together, for a "
    "chance of 80 %, if the mean and the spread measured here are the true ones."
)
"""What a reader of verdicts has to know."""

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
"""Preset -> arm -> picture of what it does, as an address seen from the card."""

_TITLES = {
    "processor": "Processor",
    "cores": "Cores",
    "threads": "Threads",
    "accelerator": "Accelerator",
    "system": "System",
    "python": "Python",
}


def missing(system: System[Any], results: Results, seeds: Iterable[int] = ()) -> str | None:
    """What results lack of all arms with at least three seeds, in a sentence; None when nothing.

    Args:
        system: its record.
        results: of some of its arms.
        seeds: those that were asked for, beside those there are.
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
    system: System[Any], *results: Results, sheets: Sheets | None = None, seeds: Iterable[int] = ()
) -> dict[str, Any]:
    """All facts of the card, as JSON values; the results may be of several presets.

    Args:
        system: its record.
        results: of one preset each.
        sheets: pictures of what arms do.
        seeds: those that were asked for, see `missing`.
    """
    asked = tuple(seeds)
    return {
        "name": system.name,
        "title": system.title,
        "what": system.what,
        "paper": dataclasses.asdict(system.paper),
        "world": system.world,
        "data_licence": system.licence,
        "needs": system.needs,
        "tested_on": system.tested_on,
        "tuned_on": system.tuned_on,
        "band": system.band,
        "departures": list(system.departures),
        "limits": list(system.limits),
        "arms": {arm.name: arm.what for arm in system.arms},
        "measures": dict(system.measures),
        "presets": {
            name: {
                "command": _command(system, name),
                "cost": system.cost.get(name, ""),
                **_fields(preset),
            }
            for name, preset in system.presets.items()
        },
        "score": system.score,
        "better": system.better,
        "claims": [_claim(claim, results) for claim in system.claims],
        "results": [_results(system, each, sheets or {}, asked) for each in results],
    }


def to_json(
    system: System[Any], *results: Results, sheets: Sheets | None = None, seeds: Iterable[int] = ()
) -> str:
    """The card as JSON text; see `content`."""
    card = content(system, *results, sheets=sheets, seeds=seeds)
    return json.dumps(card, indent=1, allow_nan=False) + "\n"


def to_markdown(
    system: System[Any], *results: Results, sheets: Sheets | None = None, seeds: Iterable[int] = ()
) -> str:
    """The card as Markdown; see `content`."""
    card = content(system, *results, sheets=sheets, seeds=seeds)
    measured = {each["preset"]: takes(each) for each in card["results"]}
    sections = [
        f"# {card['title']}",
        card["what"],
        f"{card['paper']['citation']} <{card['paper']['url']}>, {card['paper']['where']}.",
        "## Run it",
        table(
            ("preset", "command", "steps", "cost"),
            [
                (
                    name,
                    f"`{p['command']}`",
                    f"{p['settings']['steps']:,}",
                    measured.get(name) or (f"expected: {p['cost']}" if p["cost"] else "never run"),
                )
                for name, p in card["presets"].items()
            ],
        ),
        f"Expected: {card['band']}",
        f"The paper reports, on other data, not comparable: {card['paper']['reports']}"
        if card["paper"]["reports"]
        else "The paper gives no number for this experiment.",
        "## Arms",
        table(("arm", "what it does"), _coded(card["arms"])),
        "## Claims",
        table(
            ("claim", "preset", "verdict", "measured", "remark"),
            [
                (claim["sentence"], v["preset"] or "–", v["verdict"], plain(v), remark(claim, v))
                for claim in card["claims"]
                for v in claim["verdicts"]
            ],
        ),
        VERDICTS,
        *(
            ["### What is measured", table(("measure", "what it is"), _coded(card["measures"]))]
            if card["measures"]
            else []
        ),
        "## Results",
        *(
            [
                part
                for each in card["results"]
                for part in _results_sections(each, system.score, system.needs)
            ]
            or ["None yet."]
        ),
        "## Departures from the paper",
        _list(card["departures"]) or "None known.",
        *(["## What it cannot show", _list(card["limits"])] if card["limits"] else []),
        "## Data",
        f"{card['world']} Licence: {card['data_licence']}.",
        *([f"To install: {card['needs']}"] if card["needs"] else []),
        f"Test set: {card['tested_on'] or 'size not recorded'}.",
        f"Settings were chosen on: {card['tuned_on'] or 'not recorded'}.",
    ]
    return MARK + "\n\n".join(sections) + "\n"


def _list(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _coded(said: Mapping[str, str]) -> list[tuple[str, str]]:
    """Names as claims write them, and what is said of them."""
    return [(f"`{name}`", what) for name, what in said.items()]


def outcome(verdict: Verdict | None) -> str:
    """What became of a claim, one of `OUTCOMES`; of None, that it was not tested."""
    return "not tested" if verdict is None else verdict.outcome


def remark(claim: Mapping[str, Any], verdict: Mapping[str, Any]) -> str:
    """What is to be said of a claim's verdict: how many seeds it needs, why, and since when.

    Args:
        claim: as in a card.
        verdict: one of its verdicts.
    """
    parts = []
    if verdict["seeds_needed"]:
        parts.append(f"About {verdict['seeds_needed']:,} seeds would decide it.")
    if verdict["verdict"] == "bar beyond the scale":
        parts.append("No result could meet the bar.")
    if claim["why"] and verdict["verdict"] not in ("supported", "not tested"):
        parts.append(claim["why"])
    if claim["added"]:
        parts.append("Stated after the results were known.")
    return " ".join(parts)


def takes(results: Mapping[str, Any]) -> str:
    """What all trials of a card's results took, in words."""
    trials = sum(arm["seeds"] for arm in results["arms"].values())
    return f"{duration(results['seconds'])} for {trials} {'trial' if trials == 1 else 'trials'}"


def duration(seconds: float) -> str:
    """Seconds in words, as precisely as anybody cares."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


def save(
    system: System[Any],
    results: Sequence[Results],
    folder: Path | str,
    *,
    sheets: Sheets | None = None,
    seeds: Iterable[int] = (),
) -> list[Path]:
    """Writes ``<name>.md`` and ``<name>.json`` into a folder; returns their paths."""
    texts = _texts(system, results, Path(folder), sheets or {}, tuple(seeds))
    for path, text in texts.items():
        write_bytes(path, text.encode())
    return list(texts)


def stale(
    system: System[Any],
    results: Sequence[Results],
    folder: Path | str,
    *,
    sheets: Sheets | None = None,
) -> list[Path]:
    """The files of the card that are missing or say something else than they should."""
    texts = _texts(system, results, Path(folder), sheets or {}, ())
    return [
        path
        for path, text in texts.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def _texts(
    system: System[Any],
    results: Sequence[Results],
    folder: Path,
    sheets: Sheets,
    seeds: Sequence[int],
) -> dict[Path, str]:
    return {
        folder / f"{system.name}.{kind}": to_text(system, *results, sheets=sheets, seeds=seeds)
        for kind, to_text in (("md", to_markdown), ("json", to_json))
    }


def _command(system: System[Any], preset: str) -> str:
    return f"featurewise run {system.name} --preset {preset}"


def _fields(settings: Settings) -> dict[str, Any]:
    """A preset's fields; what JSON cannot say is written out."""
    fields = dataclasses.asdict(settings)
    return {"settings": json.loads(json.dumps(fields, default=str))}


def _claim(claim: Claim, results: Sequence[Results]) -> dict[str, Any]:
    """What became of a claim at each preset that was run; one open verdict if none was."""
    verdicts = [_verdict(each.preset, claim.check(each)) for each in results]
    facts = {"sentence": claim.sentence, "why": claim.why, "added": claim.added}
    return {**facts, "verdicts": verdicts or [_verdict(None, None)]}


def _verdict(preset: str | None, verdict: Verdict | None) -> dict[str, Any]:
    interval, needed = Interval(math.nan, math.nan, math.nan), None
    if verdict is not None:
        interval = verdict.interval or Interval(verdict.value, math.nan, math.nan)
        interval = dataclasses.replace(interval, value=verdict.value)
        needed = verdict.seeds_needed
    facts = {"preset": preset, "verdict": outcome(verdict), "seeds_needed": needed}
    return {**facts, **_interval(interval)}


def _results(
    system: System[Any], results: Results, sheets: Sheets, seeds: Sequence[int]
) -> dict[str, Any]:
    return {
        "preset": results.preset,
        **({"changed": dict(results.changed)} if results.changed else {}),
        "partial": missing(system, results, seeds),
        "seconds": round(sum(trial.seconds for trial in results.trials), 1),
        "sheets": dict(sheets.get(results.preset, {})),
        "caption": system.caption,
        "captions": dict(system.captions),
        "hardware": dict(results.hardware),
        "data_versions": dict(results.data_versions),
        "seeds": sorted({trial.seed for trial in results.trials}),
        "arms": {arm: _arm(results.of(arm)) for arm in results.arms()},
    }


def _arm(trials: Sequence[Trial]) -> dict[str, Any]:
    measured = [trial.measured for trial in trials]
    accuracies = [each.accuracy for each in measured if each.accuracy is not None]
    types = dict.fromkeys(name for each in measured for name in each.by_type)
    values = dict.fromkeys(name for each in measured for name in each.values)
    return {
        "seeds": len(trials),
        "parameters": trials[0].parameters,
        "steps": trials[0].steps,
        "seconds": _seconds([trial.seconds for trial in trials]),
        "accuracy": _accuracy(accuracies) if accuracies else None,
        "by_type": {
            name: _accuracy([each.by_type[name] for each in measured if name in each.by_type])
            for name in types
        },
        "values": {
            name: _interval(over_seeds([e.values[name] for e in measured if name in e.values]))
            for name in values
        },
    }


def _seconds(seconds: Sequence[float]) -> dict[str, float]:
    """Median, least and most: a mean is that of the trial which something else disturbed."""
    found = {"median": statistics.median(seconds), "least": min(seconds), "most": max(seconds)}
    return {name: round(value, 1) for name, value in found.items()}


def _accuracy(proportions: Sequence[Proportion]) -> dict[str, Any]:
    """Over seeds where there are several, else over the questions asked of the only one."""
    if len(proportions) == 1:
        return {**_interval(proportions[0].interval), "over": "questions"}
    spread = over_seeds([each.value for each in proportions])
    if math.isfinite(spread.low):  # Student's t knows no ends
        spread = Interval(spread.value, max(0.0, spread.low), min(1.0, spread.high))
    return {**_interval(spread), "over": "seeds"}


def _interval(interval: Interval) -> dict[str, float | None]:
    return {
        name: value if math.isfinite(value) else None
        for name, value in dataclasses.asdict(interval).items()
    }


def _results_sections(results: Mapping[str, Any], score: str, needs: str) -> list[str]:
    arms = results["arms"]
    seeds = ", ".join(map(str, results["seeds"]))
    rows = [
        (
            name,
            headline_text(a, score),
            a["seeds"],
            f"{a['parameters']:,}",
            a["steps"],
            _time(a["seconds"]),
        )
        for name, a in arms.items()
    ]
    named = {_TITLES.get(name, name): each for name, each in results["hardware"].items()}
    hardware = "; ".join(f"{markdown(name)} {markdown(each)}" for name, each in named.items())
    partial = [f"**Partial**: {results['partial']}."] if results["partial"] else []
    changes = results.get("changed", {}).items()
    changed = [f"`{name}` = {json.dumps(value)}" for name, value in changes]
    return [
        f"### Preset `{results['preset']}`",
        *([f"**Changed from the preset**: {', '.join(changed)}."] if changed else []),
        *partial,
        f"Seeds {seeds}. Proportions in %, with 95 % intervals: over "
        "seeds (Student's t) where there are several, else over questions (Wilson). Seconds: the "
        "median, and the least and the most, on a machine that did other things too.",
        table(("arm", score, "seeds", "parameters", "steps", "seconds a trial"), rows),
        *([] if score == "accuracy" else _accuracies(arms)),
        *_details("By type", "type", arms, "by_type", _percent, {score}),
        *_details("Other measurements", "measure", arms, "values", plain, {score, "parameters"}),
        *_figures(results),
        f"All together {takes(results)}. Measured on: {hardware or 'not recorded'}.",
        *([_rendered_by(results["data_versions"])] if needs else []),
    ]


def _rendered_by(versions: Mapping[str, str]) -> str:
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"The data were rendered by: {listed or 'versions not recorded'}."


def _figures(results: Mapping[str, Any]) -> list[str]:
    """What the arms do: the caption of all, and a figure for each, with a caption of its own."""
    sheets, own = results["sheets"], results["captions"]
    shared = [results["caption"]] if sheets.keys() - own.keys() and results["caption"] else []
    return [
        *(["#### What the arms do"] if sheets else []),
        *shared,
        *(
            f"**{arm}**{': ' + own[arm] if arm in own else ''}\n\n"
            f"![Figure of what arm {arm} does]({address})"
            for arm, address in sheets.items()
        ),
    ]


def _time(seconds: Mapping[str, float]) -> str:
    if seconds["least"] == seconds["most"]:
        return f"{seconds['median']:,}"
    return f"{seconds['median']:,} ({seconds['least']:,} to {seconds['most']:,})"


def _accuracies(arms: Mapping[str, Any]) -> list[str]:
    """A row of accuracies, where they are not the score and there are some."""
    if not any(arm["accuracy"] for arm in arms.values()):
        return []
    return [table(("", *arms), [("accuracy", *(_percent(a["accuracy"]) for a in arms.values()))])]


def _details(
    title: str, head: str, arms: Mapping[str, Any], part: str, show: Any, shown: Container[str]
) -> list[str]:
    """A table of what is not shown yet, a row for each name and a column for each arm."""
    names = dict.fromkeys(name for arm in arms.values() for name in arm[part] if name not in shown)
    rows = [
        (markdown(name), *(show(arm[part].get(name)) for arm in arms.values())) for name in names
    ]
    return [f"#### {title}", table((head, *arms), rows)] if rows else []


def headline(arm: Mapping[str, Any], score: str) -> Mapping[str, Any] | None:
    """The score of an arm in a card's results, with its interval, as a number."""
    if score == "accuracy":
        found: Mapping[str, Any] | None = arm["accuracy"]
        return found
    return {**arm["by_type"], **arm["values"]}.get(score)


def headline_text(arm: Mapping[str, Any], score: str) -> str:
    """The same, as the card writes it: a proportion in %."""
    proportion = score == "accuracy" or score in arm["by_type"]
    return (_percent if proportion else plain)(headline(arm, score))


def _percent(interval: Mapping[str, Any] | None) -> str:
    return _spread(interval, 100.0, ".1f")


def plain(interval: Mapping[str, Any] | None) -> str:
    """A value and its interval, as the card writes them."""
    return _spread(interval, 1.0, ".4g")


def _spread(interval: Mapping[str, Any] | None, scale: float, form: str) -> str:
    if interval is None or interval["value"] is None:
        return "–"
    value = _number(scale * interval["value"], form)
    if interval["low"] is None:
        return value
    low, high = (_number(scale * interval[end], form) for end in ("low", "high"))
    return f"{value} [{low}, {high}]"


def _number(value: float, form: str) -> str:
    """Large ones whole, as counts are."""
    return format(value, ",.0f" if abs(value) >= 1000 else form)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    cells = ([str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
