"""The record of a published system: all a reader, the loop and the card need to know of it.

A system file ends in one `System`. A variant is derived from its relative with
`dataclasses.replace` and never copied. The lab knows systems only through this record.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from PIL.Image import Image
from torch import nn

from featurewise.common.text import short
from featurewise.study.results import Interval, Measurement, Results
from featurewise.training.errors import ExperimentError
from featurewise.training.facts import is_path_name
from featurewise.training.loop import Intervals
from featurewise.training.source import Source
from featurewise.training.steppers import Stepper

PRESETS = ("tiny", "small", "paper")
"""Seconds, for the tests; at most 15 minutes on two CPU cores; one GPU."""

_ROUNDING = 1e-9
"""By so much a bar may pass the end of its scale: 90 % and 10 points are 100 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a preset fixes. A system subclasses it, frozen, and adds its own fields.

    Attributes:
        steps: training steps.
        every: how often to log, evaluate and save.
        workers: processes that prepare batches.
    """

    steps: int
    every: Intervals = field(default_factory=Intervals)
    workers: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ExperimentError(f"a preset trains for at least 1 step, not {short(self.steps)}")
        if not 0 <= self.workers <= 1024:
            raise ExperimentError(f"0 to 1024 processes prepare batches, not {short(self.workers)}")


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
        reports: numbers of the experiment that the system repeats, and the table or figure they
            stand in; they are of other data, and not to be compared with ours. Where it gives
            none, that.
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
        what: one sentence that says what it does differently; it begins with "control" where the
            arm is one.
        control_of: the arm that a control is to be compared with; the system unless given.

    Raises:
        ExperimentError: the name cannot be that of a file.
    """

    name: str
    what: str
    control_of: str = ""

    def __post_init__(self) -> None:
        if not is_path_name(self.name):
            raise ExperimentError(f"an arm is called like a file, not {short(self.name)}")


Outcome: TypeAlias = Literal[
    "supported", "refuted", "inconclusive", "one seed", "no interval", "bar beyond the scale"
]
"""What a claim came to; "one seed" and "no interval" are no verdicts, as nothing says how sure."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was measured of a claim, and its bar; `outcome` is what that comes to.

    Attributes:
        value: the measured value, the mean over seeds.
        interval: of the value, 95 % over seeds, without ends for one seed; None where it has none.
        low: the least value that bears the claim out.
        high: the largest one.
        ends: the least and the largest value that any result could have.
        seeds_needed: so many would decide it with 80 % chance, were the value the true one; None
            where it is decided, or where that is not known.
    """

    value: float
    interval: Interval | None = None
    low: float | int = -math.inf
    high: float | int = math.inf
    ends: tuple[float, float] = (-math.inf, math.inf)
    seeds_needed: int | None = None

    @property
    def within(self) -> bool:
        """Whether the value alone bears the claim out; a NaN never does."""
        return self.low <= self.value <= self.high

    @property
    def outcome(self) -> Outcome:
        """Decided by the interval: all of it within the bar, none of it, or a part."""
        if self.low > self.ends[1] + _ROUNDING or self.high < self.ends[0] - _ROUNDING:
            return "bar beyond the scale"
        if self.interval is None:
            return "no interval"
        if math.isinf(self.interval.low) or math.isinf(self.interval.high):
            return "one seed"
        if self.low <= self.interval.low and self.interval.high <= self.high:
            return "supported"
        if self.interval.high < self.low or self.interval.low > self.high:
            return "refuted"
        return "inconclusive"


@dataclass(frozen=True, slots=True)
class Claim:
    """A falsifiable sentence with numbers, and the code that decides it.

    Attributes:
        sentence: as in "The system is at least 20 points above the shuffled control."; names as
            Markdown's code.
        judge: results -> verdict; may raise `ExperimentError` when an arm was not tried.
        arms: names of those that it compares.
        why: why it came out as it did, in a sentence, where it was not supported.
        added: it was stated when the results that decide it were known.

    Raises:
        ExperimentError: the sentence has no number.
    """

    sentence: str
    judge: Callable[[Results], Verdict]
    arms: tuple[str, ...] = ()
    why: str = ""
    added: bool = False

    def __post_init__(self) -> None:
        if not re.search(r"\d", self.sentence):
            raise ExperimentError(f"a claim without a number cannot fail: {self.sentence!r}")

    @property
    def plain(self) -> str:
        """The sentence as a terminal shows it."""
        return self.sentence.replace("`", "")

    def check(self, results: Results) -> Verdict | None:
        """The verdict; None when the results do not decide it."""
        try:
            return self.judge(results)
        except ExperimentError:
            return None


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
        caption: of what ``draw`` draws: what is seen, and its axes.
        captions: arm -> caption, where its figure is another.
        score: the number that stands for the system where there is room for one.
        better: whether a higher or a lower score is better.
        tuned_on: the data that learning rates and other settings were chosen on.
        tested_on: the test set, counted in units that are independent of each other.
        limits: what the experiment cannot show, a sentence each.
        needs: what must be installed for the data, and the line that does it.
        versions: settings -> name and version of all that renders the data.

    Raises:
        ExperimentError: a part is missing or contradicts another, a figure has no caption, or a
            control is compared with no other arm; the message begins with the name.
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
    caption: str = ""
    captions: Mapping[str, str] = field(default_factory=dict)
    score: str = "accuracy"
    better: Literal["higher", "lower"] = "higher"
    tuned_on: str = ""
    tested_on: str = ""
    limits: tuple[str, ...] = ()
    needs: str = ""
    versions: Callable[[SettingsT], Mapping[str, str]] | None = None

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ExperimentError(f"{self.name!r}: a system is called like its file: lower_case")
        if not set(PRESETS) <= self.presets.keys() or not self.cost.keys() <= self.presets.keys():
            raise ExperimentError(
                f"{self.name}: needs presets {PRESETS}, and costs of presets alone"
            )
        if odd := [preset for preset in self.presets if not is_path_name(preset)]:
            raise ExperimentError(
                f"{self.name}: a preset is called like a file, not {short(odd[0])}"
            )
        if not names or len(set(names)) < len(names):
            raise ExperimentError(
                f"{self.name}: arms must have different names, at least one: {names}"
            )
        if not self.claims:
            raise ExperimentError(f"{self.name}: a system claims something")
        if self.draw is not None and not self.caption:
            raise ExperimentError(f"{self.name}: what draw draws needs a caption")
        self._check_controls()

    def _check_controls(self) -> None:
        """A control that no claim compares with what it controls would control nothing."""
        for arm in self.arms:
            if not arm.what.startswith("control"):
                continue
            pair = {arm.name, self.arm(arm.control_of or self.arms[0].name).name}
            if not any(pair <= set(claim.arms) for claim in self.claims):
                raise ExperimentError(
                    f"{self.name}: a claim must compare {' with '.join(sorted(pair))}: "
                    f"{arm.name} is a control"
                )

    def arm(self, name: str) -> Arm:
        """The arm of this name.

        Raises:
            ExperimentError: there is none.
        """
        return _named({arm.name: arm for arm in self.arms}, name, f"{self.name}: arm")

    def preset(self, name: str) -> SettingsT:
        """The settings of this name.

        Raises:
            ExperimentError: there are none.
        """
        return _named(self.presets, name, f"{self.name}: preset")

    def require(self, results: Results) -> None:
        """Raise unless results are of this system, a preset and arms that it has.

        Raises:
            ExperimentError: the message names what is unknown, or what is there twice.
        """
        if results.system != self.name:
            raise ExperimentError(f"these are results of {results.system}, not of {self.name}")
        self.preset(results.preset)
        seen = set()
        for trial in results.trials:
            self.arm(trial.arm)
            if (trial.arm, trial.seed) in seen:
                raise ExperimentError(
                    f"{self.name}: two trials of {trial.arm} with seed {trial.seed}"
                )
            seen.add((trial.arm, trial.seed))


ThingT = TypeVar("ThingT")


def _named(things: Mapping[str, ThingT], name: str, kind: str) -> ThingT:
    if name not in things:
        raise ExperimentError(f"{kind} {short(name)} is unknown; there is {', '.join(things)}")
    return things[name]
