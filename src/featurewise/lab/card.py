"""The card of a system, Markdown and JSON, written from its record and its results.

No fact of a card is typed by hand: what the record does not say and no run measured is not
there. `stale` tells when a card on disk no longer says what its sources say.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from featurewise.lab.record import Claim, Settings, System, Verdict
from featurewise.lab.results import Interval, Proportion, Results, Trial, over_seeds

_TITLES = {
    "processor": "Processor",
    "cores": "Cores",
    "threads": "Threads",
    "accelerator": "Accelerator",
    "system": "System",
    "python": "Python",
}


def content(system: System[Any], *results: Results) -> dict[str, Any]:
    """All facts of the card, as JSON values; the results may be of several presets."""
    return {
        "name": system.name,
        "title": system.title,
        "what": system.what,
        "paper": dataclasses.asdict(system.paper),
        "world": system.world,
        "data_licence": system.licence,
        "band": system.band,
        "departures": list(system.departures),
        "arms": {arm.name: arm.what for arm in system.arms},
        "presets": {
            name: {
                "command": _command(system, name),
                "cost": system.cost.get(name, ""),
                **_fields(preset),
            }
            for name, preset in system.presets.items()
        },
        "claims": [_claim(claim, results) for claim in system.claims],
        "results": [_results(each) for each in results],
    }


def to_json(system: System[Any], *results: Results) -> str:
    """The card as JSON text."""
    return json.dumps(content(system, *results), indent=1, allow_nan=False) + "\n"


def to_markdown(system: System[Any], *results: Results) -> str:
    """The card as Markdown."""
    card = content(system, *results)
    sections = [
        f"# {card['title']}",
        card["what"],
        f"{card['paper']['citation']} <{card['paper']['url']}>, {card['paper']['where']}.",
        "## Run it",
        _table(
            ("preset", "command", "cost"),
            [(name, f"`{p['command']}`", p["cost"]) for name, p in card["presets"].items()],
        ),
        f"Expected: {card['band']}",
        "## Arms",
        _table(("arm", "what it does"), card["arms"].items()),
        "## Claims",
        _table(
            ("claim", "preset", "verdict", "measured"),
            [
                (claim["sentence"], v["preset"] or "–", v["verdict"], _number(v["value"]))
                for claim in card["claims"]
                for v in claim["verdicts"]
            ],
        ),
        "## Results",
        *([part for each in card["results"] for part in _results_sections(each)] or ["None yet."]),
        "## Departures from the paper",
        "\n".join(f"- {departure}" for departure in card["departures"]) or "None known.",
        "## Data",
        f"{card['world']} Licence: {card['data_licence']}.",
    ]
    return "\n\n".join(sections) + "\n"


def save(system: System[Any], results: Sequence[Results], folder: Path | str) -> list[Path]:
    """Writes ``<name>.md`` and ``<name>.json`` into a folder; returns their paths."""
    texts = _texts(system, results, Path(folder))
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return list(texts)


def stale(system: System[Any], results: Sequence[Results], folder: Path | str) -> list[Path]:
    """The files of the card that are missing or say something else than they should."""
    texts = _texts(system, results, Path(folder))
    return [
        path
        for path, text in texts.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def _texts(system: System[Any], results: Sequence[Results], folder: Path) -> dict[Path, str]:
    return {
        folder / f"{system.name}.md": to_markdown(system, *results),
        folder / f"{system.name}.json": to_json(system, *results),
    }


def _command(system: System[Any], preset: str) -> str:
    return f"featurewise train {system.name} --preset {preset}"


def _fields(settings: Settings) -> dict[str, Any]:
    """A preset's fields; what JSON cannot say is written out."""
    fields = dataclasses.asdict(settings)
    return {"settings": json.loads(json.dumps(fields, default=str))}


def _claim(claim: Claim, results: Sequence[Results]) -> dict[str, Any]:
    """What became of a claim at each preset that was run; one open verdict if none was."""
    verdicts = [_verdict(each.preset, claim.check(each)) for each in results]
    return {"sentence": claim.sentence, "verdicts": verdicts or [_verdict(None, None)]}


def _verdict(preset: str | None, verdict: Verdict | None) -> dict[str, Any]:
    word = "not tested" if verdict is None else "held" if verdict.held else "failed"
    value = None if verdict is None or not math.isfinite(verdict.value) else verdict.value
    return {"preset": preset, "verdict": word, "value": value}


def _results(results: Results) -> dict[str, Any]:
    return {
        "preset": results.preset,
        "hardware": dict(results.hardware),
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
        "seconds": round(sum(trial.seconds for trial in trials) / len(trials), 1),
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


def _accuracy(proportions: Sequence[Proportion]) -> dict[str, Any]:
    """Over seeds where there are several, else over the questions asked of the only one."""
    if len(proportions) == 1:
        return {**_interval(proportions[0].interval), "over": "questions"}
    spread = over_seeds([each.value for each in proportions])
    return {**_interval(spread), "over": "seeds"}


def _interval(interval: Interval) -> dict[str, float | None]:
    return {
        name: value if math.isfinite(value) else None
        for name, value in dataclasses.asdict(interval).items()
    }


def _results_sections(results: Mapping[str, Any]) -> list[str]:
    arms = results["arms"]
    seeds = ", ".join(map(str, results["seeds"]))
    rows = [
        (
            name,
            _percent(a["accuracy"]),
            a["seeds"],
            f"{a['parameters']:,}",
            a["steps"],
            a["seconds"],
        )
        for name, a in arms.items()
    ]
    hardware = "; ".join(f"{_TITLES.get(k, k)} {v}" for k, v in results["hardware"].items())
    return [
        f"### Preset `{results['preset']}`",
        f"Seeds {seeds}. Accuracy in %, with 95 % intervals: over "
        "seeds (Student's t) where there are several, else over questions (Wilson).",
        _table(("arm", "accuracy", "seeds", "parameters", "steps", "seconds"), rows),
        *_details("By type", "type", arms, "by_type", _percent),
        *_details("Other measurements", "measurement", arms, "values", _plain),
        f"Measured on: {hardware or 'not recorded'}.",
    ]


def _details(title: str, head: str, arms: Mapping[str, Any], part: str, show: Any) -> list[str]:
    """A table with a row for each name and a column for each arm; nothing without names."""
    names = dict.fromkeys(name for arm in arms.values() for name in arm[part])
    rows = [(name, *(show(arm[part].get(name)) for arm in arms.values())) for name in names]
    return [f"#### {title}", _table((head, *arms), rows)] if rows else []


def _percent(interval: Mapping[str, Any] | None) -> str:
    return _spread(interval, 100.0, ".1f")


def _plain(interval: Mapping[str, Any] | None) -> str:
    return _spread(interval, 1.0, ".4g")


def _spread(interval: Mapping[str, Any] | None, scale: float, form: str) -> str:
    if interval is None:
        return "–"
    value = format(scale * interval["value"], form)
    if interval["low"] is None:
        return value
    low, high = (format(scale * interval[end], form) for end in ("low", "high"))
    return f"{value} [{low}, {high}]"


def _number(value: float | None) -> str:
    return "–" if value is None else format(value, ".4g")


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    cells = ([str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
