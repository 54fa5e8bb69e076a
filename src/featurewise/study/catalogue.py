"""The catalogue: every system on one page, with what was found; and its card beside it.

Published results are files, ``results/<system>/<preset>.json``, with a figure for each arm that
has one, ``results/<system>/<preset>/<arm>.png``, which cards show from there. Everything else is
made from them and from the records, and `stale` names what no longer says what its sources say.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from PIL import Image, ImageChops, ImageStat
from PIL.PngImagePlugin import PngInfo

from featurewise.common.errors import wrap_errors
from featurewise.common.files import sha256, write_bytes
from featurewise.common.images import ImageFileError, read_image
from featurewise.common.opening import read_bytes
from featurewise.common.text import markdown
from featurewise.study import card, card_page
from featurewise.study.figures import BAR, as_image, figure
from featurewise.study.made import MAKER, MARK, SOURCE, made_here, require_own
from featurewise.study.results import Results
from featurewise.study.system import System
from featurewise.training.errors import ExperimentError

LIMIT, COLOUR_LIMIT = 40_000, 100_000
"""Bytes that a published image may have: a plot or grey levels; photographs in colour."""

_NEAR = 8.0
"""Largest difference (see `_difference`) of an image in fewer colours that is near enough."""

PAGE, FIGURE = "catalogue.md", "catalogue.png"
_SHOWN = ("supported", "refuted", "inconclusive")
_INTRO = """# Catalogue

Every system, what was found, and how its claims came out. A claim that is refuted stays on the
page: it is a finding. Each card has the claims beside what the paper states, the arms, the numbers
of each seed, and the command that repeats them. """


@dataclass(frozen=True)
class Entry:
    """A system as it is published.

    Attributes:
        family: where it belongs.
        system: its record.
        results: of each preset that was run.
        sheets: preset -> arm -> image of what it does.
    """

    family: str
    system: System[Any]
    results: tuple[Results, ...] = ()
    sheets: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)


def read(folder: Path | str, family: str, system: System[Any]) -> Entry:
    """What is published of a system.

    Args:
        folder: of all published results.
        family: where it belongs.
        system: its record.

    Raises:
        ExperimentError: a file is damaged, or of another system or preset than it is called.
    """
    own = Path(folder) / system.name
    order = list(system.presets)
    results = []
    for path in sorted(own.glob("*.json")):
        found = Results.load(path)
        if (found.system, found.preset) != (system.name, path.stem) or found.preset not in order:
            raise ExperimentError(
                f"{path}: holds results of {found.system} at preset {found.preset}"
            )
        with wrap_errors(path, ExperimentError, ExperimentError):
            system.require(found)
        results.append(found)
    results.sort(key=lambda each: order.index(each.preset))
    sheets = {each.preset: _sheets(own / each.preset, system) for each in results}
    return Entry(family, system, tuple(results), sheets)


def publish(
    folder: Path | str,
    system: System[Any],
    results: Results,
    sheets: Mapping[str, Path],
    others: Literal["keep", "drop"] | None = None,
) -> list[Path]:
    """Takes results, and images of what arms do, into the folder of all published results.

    Args:
        folder: of all published results, made when missing.
        system: its record.
        results: of one preset; of a trial that was published before they replace what it gave.
        sheets: arm -> image, made small enough here.
        others: what becomes of published trials, and images of arms, that the results have not.

    Returns:
        The files.

    Raises:
        ExperimentError: the results are of another system, of a preset or an arm that it has not,
            or of changed settings; or there is a file in the way that this library did not make;
            or trials are published that the results have not, and ``others`` is not given, or is
            "keep" where data were not the same.
    """
    system.require(results)
    for arm in sheets:
        system.arm(arm)
    if results.changed:
        changes = ", ".join(f"{name} = {value}" for name, value in results.changed.items())
        raise ExperimentError(
            f"these are results with {changes}, not of preset {results.preset} as it is; results "
            "are published of presets only"
        )
    own = Path(folder) / system.name
    images = own / results.preset
    written = [own / f"{results.preset}.json"]
    require_own([*written, *(images / f"{arm}.png" for arm in sheets)])
    arms = {trial.arm for trial in results.trials}
    results = _with_others(results, written[0], others)
    own.mkdir(parents=True, exist_ok=True)
    for path in filter(made_here, images.glob("*.png")):
        if path.stem in arms or others != "keep":
            path.unlink()
    results.save(written[0])
    for arm, sheet in sheets.items():
        images.mkdir(exist_ok=True)
        written.append(images / f"{arm}.png")
        shrink(sheet, written[-1])
    return written


def _with_others(results: Results, path: Path, others: Literal["keep", "drop"] | None) -> Results:
    """The results, with published trials that they have not if these are kept."""
    if not path.exists() or others == "drop":
        return results
    published = Results.load(path)
    new = {(trial.arm, trial.seed) for trial in results.trials}
    lacking = [trial for trial in published.trials if (trial.arm, trial.seed) not in new]
    if not lacking:
        return results
    if others is None:
        named = ", ".join(f"{trial.arm}-s{trial.seed}" for trial in lacking[:5])
        more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
        raise ExperimentError(
            f"{path}: has trials that these results have not ({named}{more}): keep them with "
            "--others keep (others='keep'), or drop them with --others drop"
        )
    before, now = published.data_versions, results.data_versions
    if before != now:
        differing = sorted(
            key for key in before.keys() | now.keys() if before.get(key) != now.get(key)
        )
        raise ExperimentError(
            f"{path}: its trials cannot be kept beside these: data versions differ in "
            f"{', '.join(differing)}"
        )
    return Results.joined([dataclasses.replace(published, trials=tuple(lacking)), results])


def shrink(source: Path, path: Path) -> None:
    """Makes an image small enough to be published, unless it was before."""
    require_own([path])
    digest = sha256(read_bytes(source))
    if _digest_in(path) != digest:
        write_bytes(path, small(_sheet(source), source=digest))


def save(entries: Sequence[Entry], docs: Path | str) -> list[Path]:
    """Writes every card with its chart into ``docs/cards``, and the catalogue beside it.

    Cards of systems that are not among the entries are removed. Files that this library did not
    make are never touched.

    Raises:
        ExperimentError: matplotlib, which plots the charts, is not installed; or there is a file in
            the way that this library did not make: then nothing is written.
    """
    docs = Path(docs)
    cards = docs / "cards"
    own = [path for entry in entries for path in _own(entry, cards)]
    require_own([docs / PAGE, docs / FIGURE, *own])
    cards.mkdir(parents=True, exist_ok=True)
    written = []
    for entry in entries:
        chart = _chart_path(entry, cards)
        if chart is not None:
            digest = _digest(_chart(entry))
            if _digest_in(chart) != digest:
                write_bytes(chart, small(draw_arms(_chart(entry)), source=digest))
            written.append(chart)
        written += card.save(cards, _card(entry, cards))
    for path in filter(made_here, _leftovers(entries, cards)):
        path.unlink()
    verdicts = _verdicts(entries)
    if _digest_in(docs / FIGURE) != _digest(verdicts):
        image = small(draw_verdicts(verdicts), source=_digest(verdicts))
        write_bytes(docs / FIGURE, image)
    page = docs / PAGE
    write_bytes(page, to_markdown(entries).encode())
    return [*written, docs / FIGURE, page]


def stale(entries: Sequence[Entry], docs: Path | str) -> list[Path]:
    """The files of cards and catalogue that are missing, left over, or say something else."""
    docs = Path(docs)
    cards, page, figure = docs / "cards", docs / PAGE, docs / FIGURE
    found = [path for path in _leftovers(entries, cards) if made_here(path)]
    for entry in entries:
        found += card.stale(cards, _card(entry, cards))
        chart = _chart_path(entry, cards)
        if chart is not None and _digest_in(chart) != _digest(_chart(entry)):
            found.append(chart)
    if _digest_in(figure) != _digest(_verdicts(entries)):
        found.append(figure)
    if not page.is_file() or page.read_text(encoding="utf-8") != to_markdown(entries):
        found.append(page)
    return found


def to_markdown(entries: Sequence[Entry]) -> str:
    """The catalogue as Markdown."""
    families = sorted({entry.family for entry in entries})
    sections = [_INTRO + card_page.VERDICTS, _totals(entries), _overview(entries)]
    sections += [f"![Verdicts of each system's claims]({FIGURE}){{ width=720 }}"]
    sections += ["Claims of each system that was run, by verdict; grey: no verdict."]
    for family in families:
        sections.append(f"## {family.replace('_', ' ').capitalize()}")
        sections += [_section(entry) for entry in entries if entry.family == family]
    return MARK + "\n\n".join(sections) + "\n"


def headline(entry: Entry) -> Results | None:
    """The results that stand for a system: complete ones first, then small, then the costliest."""
    if not entry.results:
        return None

    def weight(each: Results) -> tuple[bool, bool, float]:
        complete = card.missing(entry.system, each) is None
        return complete, each.preset == "small", sum(trial.seconds for trial in each.trials)

    return max(entry.results, key=weight)


def small(
    image: Image.Image, limit: int | None = None, *, width: int = 960, source: str = ""
) -> bytes:
    """An image as a PNG of at most so many bytes: fewer colours first, then fewer pixels.

    It has 256 colours, or fewer where these are near enough to its own.

    Args:
        image: of any mode.
        limit: bytes; default: `LIMIT`, and `COLOUR_LIMIT` where 16 colours are too few.
        width: pixels, at most.
        source: kept in the file, to know later what it was made from.
    """
    found = image.convert("RGB")
    if found.width > width:
        height = max(1, round(found.height * width / found.width))
        found = found.resize((width, height), Image.Resampling.LANCZOS)
    if limit is None:
        limit = LIMIT if _difference(found, _with_colours(found, 16)) <= _NEAR else COLOUR_LIMIT
    while True:
        for colours in (256, 64, 16):
            fewer = _with_colours(found, colours)
            if colours < 256 and _difference(found, fewer) > _NEAR:
                break
            content = _png(fewer, source)
            if len(content) <= limit:
                return content
        if max(found.size) < 16:
            return content
        scale = min(0.9, max(0.3, (limit / len(content)) ** 0.5))
        width, height = (max(1, int(scale * side)) for side in found.size)
        found = found.resize((width, height), Image.Resampling.LANCZOS)


def _with_colours(image: Image.Image, colours: int) -> Image.Image:
    """An image with a palette of so many colours."""
    return image.quantize(colours, dither=Image.Dither.NONE)


def _difference(image: Image.Image, other: Image.Image) -> float:
    """Root mean squared difference of all values, of 0 to 255."""
    squares = ImageStat.Stat(ImageChops.difference(image, other.convert("RGB"))).sum2
    return float((sum(squares) / (3 * image.width * image.height)) ** 0.5)


def _png(image: Image.Image, source: str) -> bytes:
    text, file = PngInfo(), io.BytesIO()
    text.add_text(*MAKER)
    if source:
        text.add_text(SOURCE, source)
    image.save(file, "PNG", optimize=True, pnginfo=text)
    return file.getvalue()


def _sheets(folder: Path, system: System[Any]) -> dict[str, Path]:
    found = {arm.name: folder / f"{arm.name}.png" for arm in system.arms}
    return {arm: path for arm, path in found.items() if path.is_file()}


def _card(entry: Entry, cards: Path) -> dict[str, Any]:
    """The facts of the card, its figures at their addresses seen from the cards' folder."""
    sheets = {
        preset: {arm: _address(path, cards) for arm, path in arms.items()}
        for preset, arms in entry.sheets.items()
    }
    chart = _chart_path(entry, cards)
    name = "" if chart is None else chart.name
    return card.content(entry.system, *entry.results, sheets=sheets, chart=name)


def _address(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def _chart_path(entry: Entry, cards: Path) -> Path | None:
    """Where the chart of the arms is; None where there is nothing to show."""
    return cards / f"{entry.system.name}.png" if entry.results else None


def _leftovers(entries: Iterable[Entry], cards: Path) -> list[Path]:
    """What lies among the cards and is of no system that there is."""
    own = {path for entry in entries for path in _own(entry, cards)}
    return sorted(path for path in cards.glob("*.*") if path not in own)


def _own(entry: Entry, cards: Path) -> set[Path]:
    """The files of a system's card."""
    texts = {cards / f"{entry.system.name}.{kind}" for kind in ("md", "json")}
    chart = _chart_path(entry, cards)
    return texts | ({chart} if chart else set())


def _digest(facts: Any) -> str:
    """Of what an image is plotted from."""
    return sha256(json.dumps(facts).encode())


def _sheet(path: Path) -> Image.Image:
    """A PNG file of results, which anybody may have made."""
    try:
        return read_image(path, formats=("PNG",))
    except ImageFileError as error:
        raise ExperimentError(str(error)) from error


def _digest_in(path: Path) -> str | None:
    if not path.is_file():
        return None
    found: str | None = _sheet(path).info.get(SOURCE)
    return found


def _chart(entry: Entry) -> dict[str, Any]:
    """What a chart of the arms shows, as JSON values."""
    results = headline(entry)
    if results is None:
        raise ExperimentError(f"{entry.system.name}: there are no results to draw")
    (found,) = card.content(entry.system, results)["results"]
    score = entry.system.score
    arms = {name: card.headline(arm, score.name) for name, arm in found["arms"].items()}
    curves = {name: list(arm["curves"].values()) for name, arm in found["arms"].items()}
    return {"score": score.heading, "arms": arms, "curves": curves}


def draw_arms(chart: Mapping[str, Any]) -> Image.Image:
    """A chart of arms: each one's score with its interval, and its training curves beside.

    Args:
        chart: ``score``, its name and unit; ``arms``, name -> value, low and high; ``curves``,
            name -> one list of (step, loss) for each seed, empty where none was recorded.

    Raises:
        ExperimentError: matplotlib is not installed.
    """
    arms = {name: arm for name, arm in chart["arms"].items() if arm and arm["value"] is not None}
    curves = {name: each for name, each in chart.get("curves", {}).items() if any(each)}
    plot = figure(8.4 if curves else 4.6, 0.9 + 0.3 * max(4 if curves else 1, len(arms)))
    axes, *beside = plot.subplots(1, 2 if curves else 1, squeeze=False)[0]
    for row, arm in enumerate(arms.values()):
        colour = _colour(row)
        if arm["low"] is not None:
            axes.plot([arm["low"], arm["high"]], [row, row], color=colour, lw=2, alpha=0.45)
        axes.plot([arm["value"]], [row], "o", color=colour, ms=6)
    axes.set_yticks(range(len(arms)), [name.replace("_", " ") for name in arms], fontsize=9)
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.set_xlabel(chart["score"].replace("_", " "), fontsize=9)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    for other in beside:
        for row, (name, seeds) in enumerate(curves.items()):
            for index, points in enumerate(seeds):
                steps, losses = zip(*points, strict=True)
                label = None if index else name.replace("_", " ")
                other.plot(steps, losses, color=f"C{row}", lw=1, alpha=0.7, label=label)
        if all(loss > 0 for seeds in curves.values() for points in seeds for _, loss in points):
            other.set_yscale("log")
        other.set_xlabel("training step", fontsize=9)
        other.set_ylabel("training loss", fontsize=9)
        other.legend(fontsize=7, frameon=False)
        other.spines[["top", "right"]].set_visible(False)
    for each in (axes, *beside):
        each.tick_params(axis="x", labelsize=8)
    return as_image(plot)


def _colour(row: int) -> str:
    """The system itself stands out."""
    return BAR if row == 0 else "#52606d"


def _verdicts(entries: Sequence[Entry]) -> dict[str, dict[str, int]]:
    """System -> outcome -> number of claims, of those that were run."""
    return {
        entry.system.name: dict(card_page.counts(_facts(entry)))
        for entry in entries
        if entry.results
    }


def draw_verdicts(verdicts: Mapping[str, Mapping[str, int]]) -> Image.Image:
    """Bars of claims, one for each system, by outcome.

    Args:
        verdicts: system -> outcome -> number of claims.

    Raises:
        ExperimentError: matplotlib is not installed.
    """
    colours = {
        "supported": "#15803d",
        "refuted": BAR,
        "inconclusive": "#cbb26a",
        "other": "#b8bfc6",
    }
    plot = figure(7.2, 0.9 + 0.26 * max(1, len(verdicts)))
    axes = plot.subplots()
    for row, counted in enumerate(verdicts.values()):
        parts = {word: counted.get(word, 0) for word in _SHOWN}
        parts["other"] = sum(counted.values()) - sum(parts.values())
        left = 0
        for word, count in parts.items():
            axes.barh(row, count, left=left, color=colours[word], height=0.7)
            left += count
    axes.set_yticks(range(len(verdicts)), list(verdicts), fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel("claims", fontsize=9)
    labels = {**{word: word for word in _SHOWN}, "other": "not decided"}
    patches = [axes.barh(0, 0, color=colours[word], label=text) for word, text in labels.items()]
    axes.legend(handles=patches, fontsize=8, frameon=False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return as_image(plot)


def _totals(entries: Sequence[Entry]) -> str:
    """All claims together, and how many have a number of the paper beside them."""
    facts = [_facts(entry) for entry in entries]
    total: Counter[str] = sum((card_page.counts(each) for each in facts), Counter())
    claims = [claim for each in facts for claim in each["claims"]]
    stated = [claim for claim in claims if claim["paper"]]
    numbered = sum(bool(claim["paper"]["number"]) for claim in stated)
    parts = ", ".join(f"{total[word]} {word}" for word in card.OUTCOMES if total[word])
    return (
        f"{len(entries)} systems, {len(claims)} claims: {parts}. {len(stated)} claims repeat a "
        f"statement of their paper, {numbered} of these with its number beside ours."
    )


def _overview(entries: Sequence[Entry]) -> str:
    """A line for each system: what was found, and how its claims came out."""
    facts = [_facts(entry) for entry in entries]
    counted = [card_page.counts(each) for each in facts]
    shown = [word for word in card.OUTCOMES if any(each[word] for each in counted)]
    rows = []
    for each, count in zip(facts, counted, strict=True):
        found = each["finding"] or "Not stated yet."
        link = f"[{each['name']}](cards/{each['name']}.md)"
        cells = (count[word] or "" for word in shown)
        rows.append((link, found, *cells, _briefly(each["results"])))
    return card_page.table(("system", "what was found", *shown, "measured at"), rows)


def _briefly(results: Sequence[Mapping[str, Any]]) -> str:
    """Where the verdicts come from."""
    if not results:
        return "never run"
    partial = "partial, " if results[0]["partial"] else ""
    seeds = len(results[0]["seeds"])
    return f"`{results[0]['preset']}`, {partial}{seeds} {'seed' if seeds == 1 else 'seeds'}"


def _facts(entry: Entry) -> dict[str, Any]:
    """Those of the card, at the preset that stands for the system."""
    results = headline(entry)
    return card.content(entry.system, *([results] if results else []))


def _section(entry: Entry) -> str:
    """Title, paper, chart and cost of a system."""
    facts, name = _facts(entry), entry.system.name
    paper = facts["paper"]
    lines = [f"### [{facts['title']}](cards/{name}.md)"]
    lines.append(f"[{paper['citation']}]({paper['url']}), {paper['where']}.")
    if entry.results:
        title = facts["title"].replace("[", "(").replace("]", ")")
        lines.append(f"![{title}: its arms side by side](cards/{name}.png){{ width=560 }}")
    lines += [_measured(each) for each in facts["results"]] or ["Never run."]
    return "\n\n".join(lines)


def _measured(results: Mapping[str, Any]) -> str:
    """Arms, seeds, hardware and cost, in a line; what is missing, if anything, after it."""
    hardware = {name: markdown(value) for name, value in results["hardware"].items()}
    accelerator = hardware.get("accelerator", "none")
    cores = f"{hardware.get('threads', '?')} of {hardware.get('cores', '?')} cores"
    machine = accelerator if accelerator != "none" else hardware.get("processor", "not recorded")
    seeds = ", ".join(map(str, results["seeds"]))
    line = (
        f"Preset `{results['preset']}`: {len(results['arms'])} arms, seeds {seeds}; "
        f"{card_page.takes(results)} on {machine}, {cores}."
    )
    return f"{line} **Partial**: {results['partial']}." if results["partial"] else line
