"""The catalogue: every system on one page, with what its claims came to; and its card beside it.

Published results are files, ``results/<system>/<preset>.json``, with a picture for each arm that
drew one, ``results/<system>/<preset>/<arm>.png``. Everything else is made from them and from the
records, and `stale` tells when what was made no longer says what its sources say.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from featurewise.common.errors import wrap_errors
from featurewise.common.files import write_bytes
from featurewise.common.images import ImageFileError, read_image
from featurewise.common.opening import read_bytes
from featurewise.study import card
from featurewise.study.figures import BAR, as_image, figure
from featurewise.study.made import MAKER, MARK, SOURCE, made_here, require_own
from featurewise.study.results import Results
from featurewise.study.system import System
from featurewise.training.errors import ExperimentError

LIMIT = 40_000
"""Bytes that a published picture may have."""

PAGE = "catalogue.md"
_MARKS = {"supported": "✓ ", "refuted": "✗ ", "inconclusive": "? "}
_INTRO = (
    """# Catalogue

Every system, what it claims and what came of it. A claim that is refuted stays on the page: it is
a finding. Values stand with their 95 % intervals over seeds. """
    + card.VERDICTS
)


@dataclass(frozen=True)
class Entry:
    """A system as it is published.

    Attributes:
        family: where it belongs.
        system: its record.
        results: of each preset that was run.
        sheets: preset -> arm -> picture of what it does.
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
    folder: Path | str, system: System[Any], results: Results, sheets: Mapping[str, Path]
) -> list[Path]:
    """Takes results, and pictures of what arms do, into the folder of all published results.

    Args:
        folder: of all published results, made when missing.
        system: its record.
        results: of one preset; those published of it before are replaced.
        sheets: arm -> picture, made small enough here.

    Returns:
        The files.

    Raises:
        ExperimentError: the results are of another system, of a preset or an arm that it has not,
            or of changed settings; or there is a file in the way that this library did not make.
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
    pictures = own / results.preset
    written = [own / f"{results.preset}.json"]
    require_own([*written, *(pictures / f"{arm}.png" for arm in sheets)])
    own.mkdir(parents=True, exist_ok=True)
    for path in filter(made_here, pictures.glob("*.png")):
        path.unlink()
    results.save(written[0])
    for arm, sheet in sheets.items():
        pictures.mkdir(exist_ok=True)
        written.append(pictures / f"{arm}.png")
        shrink(sheet, written[-1])
    return written


def shrink(source: Path, path: Path) -> None:
    """Makes a picture small enough to be published, unless it was before."""
    require_own([path])
    digest = hashlib.sha256(read_bytes(source)).hexdigest()
    if _digest_in(path) != digest:
        write_bytes(path, small(_sheet(source), source=digest))


def save(entries: Sequence[Entry], docs: Path | str) -> list[Path]:
    """Writes every card with its pictures into ``docs/cards``, and the catalogue beside it.

    Cards of systems that are not among the entries are removed. Files that this library did not
    make are never touched.

    Raises:
        ExperimentError: matplotlib, which draws the charts, is not installed; or there is a file in
            the way that this library did not make: then nothing is written.
    """
    docs = Path(docs)
    cards = docs / "cards"
    require_own([docs / PAGE, *(path for entry in entries for path in _own(entry, cards))])
    cards.mkdir(parents=True, exist_ok=True)
    written = []
    for entry in entries:
        for path, source in _copies(entry, cards).items():
            write_bytes(path, source.read_bytes())
            written.append(path)
        picture = _picture(entry, cards)
        if picture is not None:
            if _digest_in(picture) != _digest(entry):
                write_bytes(picture, small(_drawn(entry), source=_digest(entry)))
            written.append(picture)
        written += card.save(entry.system, entry.results, cards, sheets=_addresses(entry))
    for path in filter(made_here, _strangers(entries, cards)):
        path.unlink()
    page = docs / PAGE
    write_bytes(page, to_markdown(entries).encode())
    return [*written, page]


def stale(entries: Sequence[Entry], docs: Path | str) -> list[Path]:
    """The files of cards and catalogue that are missing, left over, or say something else."""
    docs = Path(docs)
    cards, page = docs / "cards", docs / PAGE
    found = [path for path in _strangers(entries, cards) if made_here(path)]
    for entry in entries:
        found += card.stale(entry.system, entry.results, cards, sheets=_addresses(entry))
        found += [
            path
            for path, source in _copies(entry, cards).items()
            if not path.is_file() or path.read_bytes() != source.read_bytes()
        ]
        picture = _picture(entry, cards)
        if picture is not None and _digest_in(picture) != _digest(entry):
            found.append(picture)
    if not page.is_file() or page.read_text(encoding="utf-8") != to_markdown(entries):
        found.append(page)
    return found


def to_markdown(entries: Sequence[Entry]) -> str:
    """The catalogue as Markdown."""
    families = sorted({entry.family for entry in entries})
    sections = [_INTRO, _overview(entries)]
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


def small(image: Image.Image, limit: int = LIMIT, *, width: int = 960, source: str = "") -> bytes:
    """A picture as a PNG of at most so many bytes: fewer colours first, then fewer pixels.

    Args:
        image: of any mode.
        limit: bytes.
        width: pixels, at most.
        source: kept in the file, to tell later what it was drawn from.
    """
    picture = image.convert("RGB")
    if picture.width > width:
        height = max(1, round(picture.height * width / picture.width))
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    while True:
        for colours in (256, 64, 16):
            content = _png(picture.quantize(colours, dither=Image.Dither.NONE), source)
            if len(content) <= limit:
                return content
        if max(picture.size) < 16:
            return content
        scale = min(0.9, max(0.3, (limit / len(content)) ** 0.5))
        width, height = (max(1, int(scale * side)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)


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


def _copies(entry: Entry, cards: Path) -> dict[Path, Path]:
    """Picture beside the card -> where it is published."""
    return {
        cards / address: entry.sheets[preset][arm]
        for preset, arms in _addresses(entry).items()
        for arm, address in arms.items()
    }


def _addresses(entry: Entry) -> dict[str, dict[str, str]]:
    return {
        preset: {arm: f"{entry.system.name}.{preset}.{arm}.png" for arm in arms}
        for preset, arms in entry.sheets.items()
    }


def _picture(entry: Entry, cards: Path) -> Path | None:
    """Where the small picture of the catalogue is; None where there is nothing to show."""
    return cards / f"{entry.system.name}.png" if entry.results else None


def _strangers(entries: Iterable[Entry], cards: Path) -> list[Path]:
    """What lies among the cards and is of no system that there is."""
    own = {path for entry in entries for path in _own(entry, cards)}
    return sorted(path for path in cards.glob("*.*") if path not in own)


def _own(entry: Entry, cards: Path) -> set[Path]:
    """The files of a system's card."""
    texts = {cards / f"{entry.system.name}.{kind}" for kind in ("md", "json")}
    picture = _picture(entry, cards)
    return texts | _copies(entry, cards).keys() | ({picture} if picture else set())


def _main_sheet(entry: Entry) -> Path | None:
    """What the system itself drew, in the results that stand for it."""
    results = headline(entry)
    sheets = entry.sheets.get(results.preset, {}) if results else {}
    return sheets.get(entry.system.arms[0].name)


def _digest(entry: Entry) -> str:
    """Of what the small picture is drawn from."""
    sheet = _main_sheet(entry)
    source = read_bytes(sheet) if sheet else json.dumps(_chart(entry)).encode()
    return hashlib.sha256(source).hexdigest()


def _sheet(path: Path) -> Image.Image:
    """A PNG file of results, which may be somebody else's."""
    try:
        return read_image(path, formats=("PNG",))
    except ImageFileError as error:
        raise ExperimentError(str(error)) from error


def _digest_in(picture: Path) -> str | None:
    if not picture.is_file():
        return None
    found: str | None = _sheet(picture).info.get(SOURCE)
    return found


def _drawn(entry: Entry) -> Image.Image:
    sheet = _main_sheet(entry)
    if sheet is None:
        return draw(_chart(entry))
    picture = _sheet(sheet).convert("RGB")
    picture.thumbnail((480, 320), Image.Resampling.LANCZOS)
    return picture


def _chart(entry: Entry) -> dict[str, Any]:
    """What a chart of the arms shows, as JSON values."""
    results = headline(entry)
    if results is None:
        raise ExperimentError(f"{entry.system.name}: there are no results to draw")
    (found,) = card.content(entry.system, results)["results"]
    arms = {name: card.headline(arm, entry.system.score) for name, arm in found["arms"].items()}
    return {"score": entry.system.score, "arms": arms}


def draw(chart: Mapping[str, Any]) -> Image.Image:
    """A chart of arms: each one's score with its interval.

    Args:
        chart: ``score``, its name; ``arms``, name -> value, low and high.

    Raises:
        ExperimentError: matplotlib is not installed.
    """
    arms = {name: arm for name, arm in chart["arms"].items() if arm and arm["value"] is not None}
    drawn = figure(4.2, 0.8 + 0.3 * max(1, len(arms)))
    axes = drawn.subplots()
    for row, arm in enumerate(arms.values()):
        colour = BAR if row == 0 else "#52606d"
        if arm["low"] is not None:
            axes.plot([arm["low"], arm["high"]], [row, row], color=colour, lw=2, alpha=0.45)
        axes.plot([arm["value"]], [row], "o", color=colour, ms=6)
    axes.set_yticks(range(len(arms)), [name.replace("_", " ") for name in arms], fontsize=9)
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.set_xlabel(chart["score"].replace("_", " "), fontsize=9)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return as_image(drawn)


def _overview(entries: Sequence[Entry]) -> str:
    rows, total = [], dict.fromkeys(card.OUTCOMES, 0)
    for entry in entries:
        facts, name = _facts(entry), entry.system.name
        counts = _counts(facts["claims"])
        total = {word: total[word] + counts[word] for word in total}
        cells = (counts[word] or "" for word in card.OUTCOMES)
        family = entry.family.replace("_", " ")
        rows.append((f"[{name}](cards/{name}.md)", family, *cells, _briefly(facts["results"])))
    rows.append(("all", "", *(total[word] or "" for word in card.OUTCOMES), ""))
    shown = [True, True, *(bool(total[word]) for word in card.OUTCOMES), True]
    head = ("system", "family", *card.OUTCOMES, "measured at")
    return card.table(list(compress(head, shown)), (list(compress(row, shown)) for row in rows))


def _briefly(results: Sequence[Mapping[str, Any]]) -> str:
    """Where the verdicts come from."""
    if not results:
        return "never run"
    partial = "partial, " if results[0]["partial"] else ""
    return f"`{results[0]['preset']}`, {partial}{card.duration(results[0]['seconds'])}"


def _counts(claims: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    words = [claim["verdicts"][0]["verdict"] for claim in claims]
    return {word: words.count(word) for word in card.OUTCOMES}


def _facts(entry: Entry) -> dict[str, Any]:
    """Those of the card, at the preset that stands for the system."""
    results = headline(entry)
    return card.content(entry.system, *([results] if results else []))


def _section(entry: Entry) -> str:
    facts, name = _facts(entry), entry.system.name
    paper = facts["paper"]
    lines = [f"### [{facts['title']}](cards/{name}.md)"]
    if entry.results:
        shown = "a sample of what it does" if _main_sheet(entry) else "its arms side by side"
        lines.append(f"![{_plain(facts['title'])}: {shown}](cards/{name}.png){{ width=420 }}")
    lines.append(f"[{paper['citation']}]({paper['url']}), {paper['where']}.")
    lines.append(
        card.table(
            ("claim", "verdict", "measured", "remark"),
            [
                (
                    claim["sentence"],
                    _MARKS.get(verdict["verdict"], "– ") + verdict["verdict"],
                    card.plain(verdict),
                    card.remark(claim, verdict),
                )
                for claim in facts["claims"]
                for verdict in claim["verdicts"]
            ],
        )
    )
    said = " ".join(claim["sentence"] for claim in facts["claims"])
    meant = [f"`{k}`: {what}." for k, what in facts["measures"].items() if f"`{k}`" in said]
    lines += [" ".join(meant)] if meant else []
    lines += [_measured(each) for each in facts["results"]] or ["Never run."]
    return "\n\n".join(lines)


def _plain(text: str) -> str:
    return text.replace("[", "(").replace("]", ")")


def _measured(results: Mapping[str, Any]) -> str:
    """Arms, seeds, hardware and cost, in a line; what is missing, if anything, in another."""
    hardware = {name: card.markdown(value) for name, value in results["hardware"].items()}
    accelerator = hardware.get("accelerator", "none")
    cores = f"{hardware.get('threads', '?')} of {hardware.get('cores', '?')} cores"
    machine = accelerator if accelerator != "none" else hardware.get("processor", "not recorded")
    line = (
        f"Preset `{results['preset']}`: {len(results['arms'])} arms, seeds "
        f"{', '.join(map(str, results['seeds']))}; {card.takes(results)} on {machine}, {cores}."
    )
    return f"{line} **Partial**: {results['partial']}." if results["partial"] else line
