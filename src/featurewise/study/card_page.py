"""The card of a system as a page in Markdown: what was found first, then how.

Takes the facts that `featurewise.study.card.content` gives; knows no records and no results.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from featurewise.common.text import markdown
from featurewise.study.made import MARK
from featurewise.study.metric import Metric

VERDICTS = (
    "A verdict is decided by the 95 % interval (Student's t) over training seeds, on one test "
    "set: supported where all of it meets the bar, refuted where none of it does, inconclusive "
    'otherwise. One seed gives no interval, and no verdict. "Bar beyond the scale" says that no '
    "result could meet the bar, as 10 points above 96 %. The number of seeds that would decide a "
    "claim is in total, for a power of 80 %, if the mean and the standard deviation measured here "
    "are the true ones."
)
"""What a reader of verdicts has to know."""

_TITLES = {
    "processor": "Processor",
    "cores": "Cores",
    "threads": "Threads",
    "accelerator": "Accelerator",
    "system": "System",
    "python": "Python",
}


def to_markdown(card: Mapping[str, Any]) -> str:
    """The page.

    Args:
        card: see `featurewise.study.card.content`.
    """
    measured = {each["preset"]: takes(each) for each in card["results"] if not each.get("changed")}
    paper = card["paper"]
    chart = f"![Arms of {card['name']} side by side]({card['chart']})"
    sections = [
        f"# {card['title']}",
        f"[{paper['citation']}]({paper['url']}), {paper['where']}.",
        "## What was found",
        card["finding"] or "No finding is stated yet.",
        _counted(card),
        *([chart, _chart_caption(card)] if card["chart"] else []),
        _claims(card),
        VERDICTS,
        *([f"The paper also reports: {paper['reports']}."] if paper["reports"] else []),
        "## Method",
        card["body"],
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
        *([f"Expected: {card['expected']}."] if card["expected"] else []),
        "## Arms",
        table(("arm", "what it is"), [(f"`{n}`", a["what"]) for n, a in card["arms"].items()]),
        "## Metrics",
        table(
            ("metric", "unit", "definition"),
            [(m["name"], m["unit"] or "–", m["what"]) for m in card["metrics"]],
        ),
        "## Results",
        *([part for each in card["results"] for part in _results(card, each)] or ["None yet."]),
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


def counts(card: Mapping[str, Any]) -> Counter[str]:
    """Verdict -> number of claims, at the preset that was run first."""
    return Counter(claim["verdicts"][0]["verdict"] for claim in card["claims"])


def _counted(card: Mapping[str, Any]) -> str:
    """How many claims came to what, in a sentence."""
    if not card["results"]:
        return f"{len(card['claims'])} claims, none tested yet."
    first = card["results"][0]
    parts = ", ".join(f"{count} {word}" for word, count in counts(card).most_common())
    seeds = len(first["seeds"])
    return (
        f"{len(card['claims'])} claims at preset `{first['preset']}`, "
        f"{seeds} {'seed' if seeds == 1 else 'seeds'}: {parts}."
    )


def _chart_caption(card: Mapping[str, Any]) -> str:
    arms = card["results"][0]["arms"].values()
    curves = any(arm["curves"] for arm in arms)
    return f"Each arm's {card['score']} (across), the mean over seeds with its 95 % interval" + (
        "; right: training loss over steps, one line a seed." if curves else "."
    )


def _claims(card: Mapping[str, Any]) -> str:
    """The table of claims, beside what the paper states."""
    several = len(card["results"]) > 1
    rows = []
    for claim in card["claims"]:
        paper = claim["paper"] or {}
        stated = f"{paper['what']} ({paper['where']})" if paper else "–"
        tested = [each for each in claim["verdicts"] if each["verdict"] != "not tested"]
        for verdict in tested or claim["verdicts"][:1]:
            rows.append(
                (
                    f"{claim['sentence']} {claim['criterion']}",
                    stated,
                    paper.get("number") or "–",
                    with_unit(verdict, claim["unit"]),
                    *((verdict["preset"],) if several else ()),
                    verdict["verdict"],
                    paper.get("comparable", "–"),
                    remark(claim, verdict) or "–",
                )
            )
    preset = ("preset",) if several else ()
    head = ("claim", "the paper states", "its number", "ours", *preset, "verdict", "comparable?")
    return table((*head, "remark"), rows)


def remark(claim: Mapping[str, Any], verdict: Mapping[str, Any]) -> str:
    """What is to be said of a claim's verdict: how many seeds it needs, why, and since when.

    Args:
        claim: as in a card.
        verdict: one of its verdicts.
    """
    parts = []
    if verdict["seeds_needed"]:
        word = "support" if verdict["meets_bar"] else "refute"
        parts.append(f"About {verdict['seeds_needed']:,} seeds would {word} it, if the mean holds.")
    if verdict["verdict"] == "bar beyond the scale":
        parts.append("No result could meet the bar.")
    if claim["why"] and verdict["verdict"] not in ("supported", "not tested"):
        parts.append(claim["why"])
    if verdict["preset"] in claim["added"]:
        parts.append("Stated after the results were known.")
    return " ".join(parts)


def takes(results: Mapping[str, Any]) -> str:
    """What all trials of a card's results took, in words."""
    trials = sum(arm["seeds"] for arm in results["arms"].values())
    return f"{duration(results['seconds'])} for {trials} {'trial' if trials == 1 else 'trials'}"


def duration(seconds: float) -> str:
    """Seconds in words, with as many digits as mean something."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


def _results(card: Mapping[str, Any], results: Mapping[str, Any]) -> list[str]:
    """The section of one preset."""
    partial = [f"**Partial**: {results['partial']}."] if results["partial"] else []
    changes = results.get("changed", {}).items()
    changed = [f"`{name}` = {json.dumps(value)}" for name, value in changes]
    seeds = ", ".join(map(str, results["seeds"]))
    return [
        f"### Preset `{results['preset']}`",
        *([f"**Changed from the preset**: {', '.join(changed)}."] if changed else []),
        *partial,
        *([results["remark"]] if results["remark"] else []),
        f"Seeds {seeds}. Square brackets hold 95 % intervals: over seeds (Student's t) where "
        "there are several, else over independent test samples (Wilson).",
        *_measured(card, results),
        *_by_seed(card, results),
        "#### Cost",
        *_costs(results),
        *_figures(results),
        *_versions(card, results),
    ]


def _measured(card: Mapping[str, Any], results: Mapping[str, Any]) -> list[str]:
    """All numbers: a row for each arm where there are few metrics, else one for each metric."""
    arms = results["arms"]
    metrics = [
        metric
        for metric in map(_metric, card["metrics"])
        if any(metric.name in arm["numbers"] for arm in arms.values())
    ]
    if len(metrics) <= 4:
        head = ("arm", *(metric.heading for metric in metrics))
        rows = [
            (f"`{name}`", *(_shown(arm["numbers"].get(m.name), m) for m in metrics))
            for name, arm in arms.items()
        ]
        return [table(head, rows)]
    rows = [
        (m.heading, *(_shown(arm["numbers"].get(m.name), m) for arm in arms.values()))
        for m in metrics
    ]
    return [table(("metric", *arms), rows)]


def _by_seed(card: Mapping[str, Any], results: Mapping[str, Any]) -> list[str]:
    """The score of each arm with each seed, where there are several."""
    if len(results["seeds"]) < 2:
        return []
    metric = next(m for m in map(_metric, card["metrics"]) if m.name == card["score"])
    rows = []
    for name, arm in results["arms"].items():
        found = arm["numbers"].get(metric.name, {"by_seed": {}})["by_seed"]
        values = (found.get(str(seed)) for seed in results["seeds"])
        rows.append((f"`{name}`", *("–" if v is None else metric.text(v) for v in values)))
    head = ("arm", *(f"seed {seed}" for seed in results["seeds"]))
    return [f"#### {metric.heading} of each seed", table(head, rows)]


def _costs(results: Mapping[str, Any]) -> list[str]:
    """Parameters, operations, memory and time of each arm, as far as they were recorded."""
    arms = results["arms"]
    columns = {
        "arm": [f"`{name}`" for name in arms],
        "parameters": [f"{arm['parameters']:,}" for arm in arms.values()],
        "MFLOPs a batch": [_scaled(arm["flops"], 1e6, ",.1f") for arm in arms.values()],
        "peak memory (MiB)": [
            _scaled(arm["peak_memory"], 2.0**20, ",.0f") for arm in arms.values()
        ],
        "steps": [f"{arm['steps']:,}" for arm in arms.values()],
        "seconds a trial": [_time(arm["seconds"]) for arm in arms.values()],
    }
    recorded = {name: cells for name, cells in columns.items() if {*cells} != {"–"}}
    flops = (
        "FLOPs are those of one forward pass over a training batch, a multiplication and an "
        "addition as two. "
    )
    return [
        table(list(recorded), zip(*recorded.values(), strict=True)),
        (flops if "MFLOPs a batch" in recorded else "")
        + "Seconds: the median, and the least and the most, on a machine that ran other work too, "
        "hence not to be compared.",
        f"All trials: {takes(results)}. Measured on: {_hardware(results) or 'not recorded'}.",
        *map(_apart, results.get("hardware_of", ())),
    ]


def _hardware(described: Mapping[str, Any]) -> str:
    named = {_TITLES.get(name, name): each for name, each in described["hardware"].items()}
    return "; ".join(f"{markdown(name)} {markdown(each)}" for name, each in named.items())


def _apart(group: Mapping[str, Any]) -> str:
    """What some of the trials ran on, where others ran on something else."""
    arms = (
        f"`{arm}` with seed {', '.join(map(str, seeds))}" for arm, seeds in group["arms"].items()
    )
    return f"Of these, {_hardware(group)}: {'; '.join(arms)}."


def _scaled(value: int | None, unit: float, form: str) -> str:
    return "–" if value is None else format(value / unit, form)


def _time(seconds: Mapping[str, float]) -> str:
    if seconds["least"] == seconds["most"]:
        return f"{seconds['median']:,}"
    return f"{seconds['median']:,} ({seconds['least']:,} to {seconds['most']:,})"


def _versions(card: Mapping[str, Any], results: Mapping[str, Any]) -> list[str]:
    """What rendered the data, where they are rendered from what is installed."""
    if not card["needs"]:
        return []
    versions = results["data_versions"].items()
    listed = ", ".join(f"{name} {version}" for name, version in versions)
    return [f"The data were rendered by: {listed or 'versions not recorded'}."]


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


def _metric(facts: Mapping[str, Any]) -> Metric:
    return Metric(**facts)


def _shown(number: Mapping[str, Any] | None, metric: Metric) -> str:
    """A number with its interval, without the unit, which the head of the column has."""
    if number is None or number["value"] is None:
        return "–"
    text = metric.text(number["value"])
    if number["low"] is None:
        return text
    return f"{text} [{metric.text(number['low'])}, {metric.text(number['high'])}]"


def with_unit(verdict: Mapping[str, Any], unit: str) -> str:
    """What was measured of a claim, with its interval and its unit.

    Args:
        verdict: of a claim in a card.
        unit: of the claim.
    """
    text = _shown(verdict, Metric("measured", "what was measured", unit))
    if text == "–" or not unit:
        return text
    return f"{text}×" if unit == "×" and "[" not in text else f"{text} {unit}"


def _list(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    cells = ([str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
