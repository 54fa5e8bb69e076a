"""The record of a published system: all a reader, the loop and the card need to know of it.

A system file ends in one `System`. A variant is derived from its relative with
`dataclasses.replace` and never copied. The lab knows systems only through this record.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar

from PIL.Image import Image
from torch import nn

from featurewise.common.text import short
from featurewise.lab.errors import LabError
from featurewise.lab.facts import is_path_name
from featurewise.lab.loop import Every
from featurewise.lab.results import Interval, Measurement, Results
from featurewise.lab.source import Source
from featurewise.lab.steppers import Stepper

PRESETS = ("tiny", "small", "paper")
"""Seconds, for the tests; at most 15 minutes on two CPU cores; one GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a preset fixes. A system subclasses it, frozen, and adds its own fields.

    Attributes:
        steps: training steps.
        every: how often to log, evaluate and save.
        workers: processes that prepare batches.
    """

    steps: int
    every: Every = field(default_factory=Every)
    workers: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise LabError(f"a preset trains for at least 1 step, not {short(self.steps)}")
        if not 0 <= self.workers <= 1024:
            raise LabError(f"0 to 1024 processes prepare batches, not {short(self.workers)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged(Settings):
    """What systems share that draw letters of typefaces, for a judge to read.

    Attributes:
        where: which typefaces, as `featurewise.worlds.glyphs.find_typefaces` takes it.
        size: height and width of a picture.
        batch_size: pictures in a batch.
        rate: learning rate of Adam.
        average: decay of the average of the weights, which draws.
        asked: drawings of each letter that the judge reads.
        judging: steps that the judge is trained for.
    """

    where: str = "debian"
    size: int = 16
    batch_size: int = 32
    rate: float = 2e-3
    average: float = 0.99
    asked: int = 20
    judging: int = 900


SettingsT = TypeVar("SettingsT", bound=Settings)


@dataclass(frozen=True, slots=True)
class Paper:
    """Where a system comes from.

    Attributes:
        citation: authors, year, title, venue.
        url: of the paper.
        where: the equation or figure that the system file reads like.
        reports: its own figures; they are of other data, and not to be compared with ours.
    """

    citation: str
    url: str
    where: str
    reports: str = ""


@dataclass(frozen=True, slots=True)
class Arm:
    """One thing compared: the system, a baseline, or a control.

    Attributes:
        name: short, as in ``shuffled``.
        what: one sentence that says what it does differently.

    Raises:
        LabError: the name cannot be that of a file.
    """

    name: str
    what: str

    def __post_init__(self) -> None:
        if not is_path_name(self.name):
            raise LabError(f"an arm is called like a file, not {short(self.name)}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a claim.

    Attributes:
        held: whether the measured value bears it out.
        value: the measured value.
        interval: of the value, over seeds; None where it has none.
        clear: whether all of the interval bears it out, or none of it; None where that is not
            known. A claim is decided by its value alone, and says whether it is clear.
    """

    held: bool
    value: float
    interval: Interval | None = None
    clear: bool | None = None

    @classmethod
    def between(
        cls, found: Interval, low: float | int = -math.inf, high: float | int = math.inf
    ) -> Verdict:
        """Held where the value lies within these bounds, which belong to them."""
        inside = low <= found.low and found.high <= high
        outside = found.high < low or found.low > high
        known = math.isfinite(found.low) and math.isfinite(found.high)
        held = low <= found.value <= high
        return cls(held, found.value, found, inside or outside if known else None)


@dataclass(frozen=True, slots=True)
class Claim:
    """A falsifiable sentence with numbers, and the code that decides it.

    Attributes:
        sentence: as in "The system is at least 20 points above the shuffled control."; names as
            Markdown's code.
        judge: results -> verdict; may raise `LabError` when an arm was not tried.

    Raises:
        LabError: the sentence has no number.
    """

    sentence: str
    judge: Callable[[Results], Verdict]

    def __post_init__(self) -> None:
        if not re.search(r"\d", self.sentence):
            raise LabError(f"a claim without a number cannot fail: {self.sentence!r}")

    @property
    def plain(self) -> str:
        """The sentence as a terminal shows it."""
        return self.sentence.replace("`", "")

    def check(self, results: Results) -> Verdict | None:
        """Held or failed, with the value; None when the results do not decide it."""
        try:
            verdict = self.judge(results)
        except LabError:
            return None
        # A NaN compares false both ways, so it must never count as held.
        return replace(verdict, held=verdict.held and math.isfinite(verdict.value))


@dataclass(frozen=True, kw_only=True)
class System(Generic[SettingsT]):
    """A published system.

    Attributes:
        name: as its file is called.
        title: what people call it.
        what: one or two sentences: which network, at which sites, with which operation, by
            which generator, on which world.
        paper: where it comes from.
        world: the data, in a sentence; never under an official data set's name.
        licence: of the data.
        presets: ``tiny``, ``small`` and ``paper``, and others by name.
        arms: the system first, then baselines and controls.
        build: (settings, arm) -> network, initialised from the global seed; it takes a batch. One
            that holds several networks in training holds them by name.
        stepper: (network, settings, arm) -> what a step does.
        data: (settings, arm, seed) -> training batches by index.
        evaluate: (stepper, settings, arm) -> what was measured on held-out data.
        claims: what must come out.
        departures: how it differs from the paper, a sentence each.
        band: what to expect, as in "93 to 96 % at small".
        measures: name of a type or value that is measured -> what it is, with its unit; that of an
            accuracy is "accuracy", explained where it is not plain.
        cost: preset -> what it is expected to take, as in "one GPU; never run"; what was measured
            is in the results.
        draw: (stepper, settings, arm) -> a picture of what a trained arm does (a sheet of samples,
            a figure), shown in the card; None for none.
        score: the number that stands for the system where there is room for one.
        better: whether a higher or a lower score is better.

    Raises:
        LabError: a part is missing or contradicts another; the message begins with the name.
    """

    name: str
    title: str
    what: str
    paper: Paper
    world: str
    licence: str
    presets: Mapping[str, SettingsT]
    arms: tuple[Arm, ...]
    build: Callable[[SettingsT, Arm], nn.Module]
    stepper: Callable[[nn.Module, SettingsT, Arm], Stepper]
    data: Callable[[SettingsT, Arm, int], Source[Any]]
    evaluate: Callable[[Any, SettingsT, Arm], Measurement]
    claims: tuple[Claim, ...]
    departures: tuple[str, ...]
    band: str
    measures: Mapping[str, str] = field(default_factory=dict)
    cost: Mapping[str, str] = field(default_factory=dict)
    draw: Callable[[Any, SettingsT, Arm], Image] | None = None
    score: str = "accuracy"
    better: Literal["higher", "lower"] = "higher"

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise LabError(f"{self.name!r}: a system is called like its file: lower_case")
        if not set(PRESETS) <= self.presets.keys() or not self.cost.keys() <= self.presets.keys():
            raise LabError(f"{self.name}: needs presets {PRESETS}, and costs of presets alone")
        if odd := [preset for preset in self.presets if not is_path_name(preset)]:
            raise LabError(f"{self.name}: a preset is called like a file, not {short(odd[0])}")
        if not names or len(set(names)) < len(names):
            raise LabError(f"{self.name}: arms must have different names, at least one: {names}")
        if not self.claims:
            raise LabError(f"{self.name}: a system claims something")

    def arm(self, name: str) -> Arm:
        """The arm of this name.

        Raises:
            LabError: there is none.
        """
        return _named({arm.name: arm for arm in self.arms}, name, f"{self.name}: arm")

    def preset(self, name: str) -> SettingsT:
        """The settings of this name.

        Raises:
            LabError: there are none.
        """
        return _named(self.presets, name, f"{self.name}: preset")

    def require(self, results: Results) -> None:
        """Raise unless results are of this system, a preset and arms that it has.

        Raises:
            LabError: the message names what is unknown, or what is there twice.
        """
        if results.system != self.name:
            raise LabError(f"these are results of {results.system}, not of {self.name}")
        self.preset(results.preset)
        seen = set()
        for trial in results.trials:
            self.arm(trial.arm)
            if (trial.arm, trial.seed) in seen:
                raise LabError(f"{self.name}: two trials of {trial.arm} with seed {trial.seed}")
            seen.add((trial.arm, trial.seed))


ThingT = TypeVar("ThingT")


def _named(things: Mapping[str, ThingT], name: str, kind: str) -> ThingT:
    if name not in things:
        raise LabError(f"{kind} {short(name)} is unknown; there is {', '.join(things)}")
    return things[name]
