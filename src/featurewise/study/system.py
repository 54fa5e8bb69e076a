"""The record of a published system: all a reader, the loop and the card need to know of it.

A system has a method, an experiment and one `System`, in a file or in a package of several. Its
arms are configurations: `System.config` is the preset with the changes of an arm, and no function
of a system is given an arm's name. Training and studies know systems only through this record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from PIL.Image import Image
from torch import nn

from featurewise.common.dataset import DatasetFacts
from featurewise.common.ranges import Range, require_settings
from featurewise.common.text import short
from featurewise.study.answerer import Answerer
from featurewise.study.claims import Claim
from featurewise.study.exploration import Exploration
from featurewise.study.metric import ACCURACY, Metric
from featurewise.study.prose import Prose, read_prose
from featurewise.study.results import Measurement, Results
from featurewise.study.stylist import Stylist
from featurewise.training.errors import ExperimentError
from featurewise.training.facts import is_path_name
from featurewise.training.loop import Intervals as Intervals
from featurewise.training.source import Source
from featurewise.training.steppers import Stepper

PRESETS = ("tiny", "small", "paper")
"""Seconds, for the tests; all arms and seeds within 45 minutes on two CPU cores; one GPU."""
MOST_WORKERS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings of one network and its training. A system subclasses it, frozen.

    Without more, every integer is at least 1, every other number finite and not negative, and above
    0 where the name of the field ends with "rate"; a tuple has at least one value; a text of a
    ``Literal`` is one of its texts. Another range is written in the type of the field, as in
    ``condition_dropout: Fraction`` (see `featurewise.common.ranges`). The same check holds what is
    nested in tuples and in dataclasses, and whether Python, a file or the command line says it. A
    subclass that has more conditions calls ``system.Config.__post_init__(self)`` first in a
    ``__post_init__`` of its own.

    Attributes:
        steps: training steps.
        intervals: how often to log, evaluate and save.
        workers: processes that prepare batches.
        FORMER_NAMES: name of a field in files of an earlier version -> its name now; a subclass
            adds its own.

    Raises:
        ExperimentError: a value is not of its type or out of its range; the message names the
            field.
    """

    FORMER_NAMES: ClassVar[Mapping[str, str]] = {"every": "intervals"}

    steps: int
    intervals: Intervals = field(default_factory=Intervals)
    workers: Annotated[int, Range(0, MOST_WORKERS)] = 0

    def __post_init__(self) -> None:
        require_settings(self, ExperimentError)


ConfigT = TypeVar("ConfigT", bound=Config)


@dataclass(frozen=True, slots=True)
class Paper:
    """Where a system comes from.

    Attributes:
        citation: authors, year, title, venue.
        url: of the paper.
        where: the equation or figure that the method reads like.
        reports: numbers of the experiment that the system repeats, and the table or figure they
            stand in, beyond those that its claims repeat; empty for none.
    """

    citation: str
    url: str
    where: str
    reports: str = ""


@dataclass(frozen=True, slots=True, init=False)
class Arm:
    """One thing compared: the system, a baseline, or a control; a configuration.

    Args:
        name: short, as in ``shuffled``.
        what: what it does differently, in a sentence; it begins with "control" where the arm is
            one.
        control_of: the arm that a control is compared with; default: the system, the first arm.
        changes: fields of the config that differ from the preset's, by name.

    Attributes:
        name: see above.
        what: see above.
        control_of: see above.
        changes: see above.

    Raises:
        ExperimentError: the name cannot be that of a file.
    """

    name: str
    what: str
    control_of: str
    changes: Mapping[str, Any]

    def __init__(self, name: str, what: str, /, *, control_of: str = "", **changes: Any) -> None:
        if not is_path_name(name):
            raise ExperimentError(f"an arm is called like a file, not {short(name)}")
        for key, value in {
            "name": name,
            "what": what,
            "control_of": control_of,
            "changes": changes,
        }.items():
            object.__setattr__(self, key, value)

    @property
    def is_control(self) -> bool:
        """Whether a claim must compare it with what it controls."""
        return self.what.startswith("control")


@dataclass(frozen=True, kw_only=True)
class System(Generic[ConfigT]):
    """A published system.

    Attributes:
        name: as its file is called.
        doc: the docstring of its file, ``__doc__``; it is the text of the card, see `read_prose`.
        paper: where it comes from.
        world: facts of the data it is trained on.
        presets: ``tiny``, ``small`` and ``paper``, and others by name.
        arms: the system first, then baselines and controls.
        build: config -> network, initialised from the global seed; it takes a batch. One that
            holds several networks in training holds them by name.
        stepper: (network, config) -> what a step does.
        data: (config, seed) -> training batches by index.
        evaluate: (stepper, config) -> what was measured on held-out data.
        claims: what must come out.
        finding: what was found, in one or two sentences in words; empty until it was run.
        departures: how it differs from the paper, a sentence each.
        expected: what to expect, as in "93 to 96 % at small".
        metrics: all that is measured, beside the accuracy, which may be among them where it needs
            a definition of its own.
        score: the number that stands for the system where there is room for one.
        cost: preset -> what it is expected to take, as in "one GPU; never run"; what was measured
            is in the results.
        draw: (stepper, config) -> an image of what a trained arm does (a sheet of samples, a
            figure), shown in the card; None for none.
        caption: of what ``draw`` gives: what is seen, and its axes.
        captions: arm -> caption, where its figure is another.
        tuned_on: the data that learning rates and other settings were chosen on.
        tested_on: the test set, counted in units that are independent of each other.
        limits: what the experiment cannot show, a sentence each.
        remarks: preset -> what a reader of its results has to know, such as data that differ from
            those of other presets; the card prints it above them.
        versions: config -> name and version of all that renders the data.
        data_digests: config -> name and digest of all data that the weights belong to, such as the
            text whose words number the rows of an embedding. They are stored with a run, which is
            neither resumed nor used where one differs. None: the config alone says what inputs
            and outputs stand for.
        answerer: makes what the command line asks, for a system that answers questions; it imports
            that only when called, as training does without it. None for other systems.
        stylist: makes what ``featurewise stylize`` calls, for a system that paints images; None
            for other systems.
        explore: (network in eval mode, config) -> what the explorer shows of it; None: the
            conditions of its batches, see `featurewise.study.recorded`.
        measured_on_gpu: whether ``evaluate`` and ``draw`` move their batches to the device of the
            networks, as those do that take long. By default a network that was trained on a GPU is
            on the processor while it is measured.

    Raises:
        ExperimentError: a part is missing or contradicts another, a figure has no caption, an arm
            changes a field that the config has not, or a control is compared with no other arm;
            the message begins with the name.
    """

    name: str
    doc: str
    paper: Paper
    world: DatasetFacts
    presets: Mapping[str, ConfigT]
    arms: tuple[Arm, ...]
    build: Callable[[ConfigT], nn.Module]
    stepper: Callable[[nn.Module, ConfigT], Stepper]
    data: Callable[[ConfigT, int], Source[Any]]
    evaluate: Callable[[Any, ConfigT], Measurement]
    claims: tuple[Claim, ...]
    finding: str = ""
    departures: tuple[str, ...] = ()
    expected: str = ""
    metrics: tuple[Metric, ...] = ()
    score: Metric = ACCURACY
    cost: Mapping[str, str] = field(default_factory=dict)
    draw: Callable[[Any, ConfigT], Image] | None = None
    caption: str = ""
    captions: Mapping[str, str] = field(default_factory=dict)
    tuned_on: str = ""
    tested_on: str = ""
    limits: tuple[str, ...] = ()
    remarks: Mapping[str, str] = field(default_factory=dict)
    versions: Callable[[ConfigT], Mapping[str, str]] | None = None
    data_digests: Callable[[ConfigT], Mapping[str, str]] | None = None
    answerer: Callable[[], Answerer[ConfigT]] | None = None
    stylist: Callable[[], Stylist[ConfigT]] | None = None
    explore: Callable[[nn.Module, ConfigT], Exploration] | None = None
    measured_on_gpu: bool = False

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ExperimentError(f"{self.name!r}: a system is called like its file: lower_case")
        described = self.cost.keys() | self.remarks.keys()
        if not set(PRESETS) <= self.presets.keys() or not described <= self.presets.keys():
            raise ExperimentError(
                f"{self.name}: needs presets {PRESETS}, and costs and remarks of presets alone"
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
            raise ExperimentError(f"{self.name}: what draw gives needs a caption")
        _ = self.prose
        self._check_changes()
        self._check_metrics()
        self._check_controls()

    def _check_changes(self) -> None:
        known = {each.name for each in fields(next(iter(self.presets.values())))}
        for arm in self.arms:
            if unknown := arm.changes.keys() - known:
                raise ExperimentError(
                    f"{self.name}: {arm.name} changes {min(unknown)}, which is no field of the "
                    f"config; there is {', '.join(sorted(known))}"
                )

    def _check_metrics(self) -> None:
        if len({metric.name for metric in self.metrics}) < len(self.metrics):
            raise ExperimentError(f"{self.name}: two metrics have one name")
        known = {metric.name for metric in (ACCURACY, *self.metrics)}
        used = [metric for claim in self.claims for metric in claim.criterion.metrics]
        if unknown := [each.name for each in (self.score, *used) if each.name not in known]:
            raise ExperimentError(f"{self.name}: {unknown[0]} is not among its metrics")

    def _check_controls(self) -> None:
        """A control that no claim compares with what it controls would control nothing."""
        for arm in self.arms:
            if not arm.is_control:
                continue
            pair = {arm.name, self.arm(arm.control_of or self.arms[0].name).name}
            if not any(pair <= set(claim.arms) for claim in self.claims):
                raise ExperimentError(
                    f"{self.name}: a claim must compare {' with '.join(sorted(pair))}: "
                    f"{arm.name} is a control"
                )

    @property
    def prose(self) -> Prose:
        """Title, reference and text, from the docstring.

        Raises:
            ExperimentError: it is not of that form.
        """
        try:
            return read_prose(self.doc)
        except ExperimentError as error:
            raise ExperimentError(f"{self.name}: {error}") from error

    def arm(self, name: str) -> Arm:
        """The arm of this name.

        Raises:
            ExperimentError: there is none.
        """
        return _named({arm.name: arm for arm in self.arms}, name, f"{self.name}: arm")

    def preset(self, name: str) -> ConfigT:
        """The config of this name, before an arm changes it.

        Raises:
            ExperimentError: there is none.
        """
        return _named(self.presets, name, f"{self.name}: preset")

    def config(self, preset: str | ConfigT, arm: str) -> ConfigT:
        """The config that an arm is built and trained with.

        Args:
            preset: its name, or a config in its place.
            arm: name of the arm, whose changes win.

        Raises:
            ExperimentError: there is no such preset or arm, or what the arm changes does not fit
                the rest.
        """
        chosen = self.preset(preset) if isinstance(preset, str) else preset
        changes = self.arm(arm).changes
        try:
            return replace(chosen, **changes)
        except ValueError as error:
            raise ExperimentError(f"arm {arm}: {error}") from error

    def metric(self, name: str) -> Metric:
        """The metric of this name.

        Raises:
            ExperimentError: there is none.
        """
        known = {metric.name: metric for metric in (ACCURACY, *self.metrics)}
        return _named(known, name, f"{self.name}: metric")

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
