"""What runs measured: proportions with intervals, tables by type, standard deviation over seeds.

Two kinds of uncertainty are kept apart: that of one accuracy, from the number of independent units
in the test set (Wilson interval), and that of a method, from the number of seeds trained
(Student's t).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from featurewise.common.errors import wrap_errors
from featurewise.common.files import write_bytes
from featurewise.common.json import MAX_BYTES, Node
from featurewise.common.opening import read_bytes
from featurewise.study.metric import Metric
from featurewise.training.errors import ExperimentError
from featurewise.training.facts import (
    MOST,
    facts_text,
    read_facts,
    read_hardware,
    read_names,
    read_path_name,
)

_TRIAL = ("arm", "seed", "steps", "seconds", "parameters", "accuracy", "by_type", "values")
# Not in files of version 0.1, nor where not recorded.
_COSTS = ("flops", "peak_memory", "curve", "hardware")
_APART = " / "
_UNKNOWN = "not recorded"
_NORMAL = 1.959963984540054
# 97.5 % quantiles of Student's t with 1, 2, ... 30 degrees of freedom.
_STUDENT = (
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281),
    *(2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860),
    *(2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423),
)


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its 95 % confidence interval.

    Attributes:
        value: the estimate.
        low: lower end; minus infinity where one seed gives none.
        high: upper end, likewise.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Proportion:
    """So many correct out of so many.

    Attributes:
        correct: how many are.
        total: out of how many.
        effective: the number of independent samples that would leave as much uncertainty, where
            samples come in groups (questions about one image, letters of one typeface); None
            where each is independent of the others.

    Raises:
        ExperimentError: not ``0 <= correct <= total`` or `total` is 0, or the effective number is
            not above 0 or larger than `total`.
    """

    correct: int
    total: int
    effective: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.correct <= self.total or self.total == 0:
            raise ExperimentError(f"{self.correct} right out of {self.total} is no proportion")
        if self.effective is not None and not 0 < self.effective <= self.total:
            raise ExperimentError(f"{self.total} samples cannot count as {self.effective:g}")

    @classmethod
    def of(
        cls, right: Bool[Tensor, "*samples"], groups: Int[Tensor, "*samples"] | None = None
    ) -> Proportion:
        """So many true of so many.

        Args:
            right: of any shape.
            groups: number of the group that each sample belongs to, such as its image; samples of
                one group are not independent. The interval then comes from the differences
                between groups (the linearised variance of a ratio: Cochran 1977, eq. 9A.1).

        Raises:
            ExperimentError: there are none.
        """
        if groups is None:
            return cls(int(right.sum()), right.numel())
        return cls(int(right.sum()), right.numel(), _effective(right.flatten(), groups.flatten()))

    @property
    def value(self) -> float:
        """The proportion, in [0, 1]."""
        return self.correct / self.total

    @property
    def interval(self) -> Interval:
        """Wilson's score interval, 95 % (Wilson 1927); accurate also near 0 and 1."""
        n, p, z = self.effective or self.total, self.value, _NORMAL
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return Interval(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)))

    def __add__(self, other: Proportion) -> Proportion:
        """Both together; their groups count as different ones."""
        total, effective = self.total + other.total, None
        if self.effective is not None or other.effective is not None:
            parts = ((each.total, each.effective or each.total) for each in (self, other))
            effective = total**2 / sum(n * n / count for n, count in parts)
        return Proportion(self.correct + other.correct, total, effective)


def _effective(right: Bool[Tensor, " N"], groups: Int[Tensor, " N"]) -> float | None:
    """The effective number of samples in groups; None where groups make no difference."""
    _, index = torch.unique(groups, return_inverse=True)
    count = int(index.max()) + 1 if len(index) else 0
    p = right.double().mean().item() if len(right) else 0.0
    if count < 2 or p in (0.0, 1.0):  # no difference is seen: each group counts once
        return float(count) if count else None
    residuals = torch.zeros(count, dtype=torch.float64)
    residuals.index_add_(0, index, right.double() - p)
    variance = count / (count - 1) * residuals.square().sum().item() / len(right) ** 2
    if variance == 0:
        return None
    return min(float(len(right)), p * (1 - p) / variance)


def over_seeds(values: Sequence[float]) -> Interval:
    """Mean of independent runs and its 95 % interval by Student's t; infinite for one run.

    Raises:
        ExperimentError: there are no values.
    """
    n = len(values)
    if n == 0:
        raise ExperimentError("an interval over seeds needs at least one run")
    mean = math.fsum(values) / n
    if n == 1:
        return Interval(mean, -math.inf, math.inf)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = _student(n - 1) * deviation / math.sqrt(n)
    return Interval(mean, mean - half, mean + half)


def _student(freedom: int) -> float:
    """The quantile: from the table, beyond it by the first Cornish-Fisher term."""
    if freedom <= len(_STUDENT):
        return _STUDENT[freedom - 1]
    return _NORMAL + (_NORMAL**3 + _NORMAL) / (4 * freedom)


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one evaluation found.

    Attributes:
        accuracy: over the whole test set; None where right and wrong make no sense.
        by_type: other proportions by name, as of a kind of question.
        values: other numbers by name (losses, errors, distances).

    Raises:
        ExperimentError: a value is infinite or NaN.
    """

    accuracy: Proportion | None = None
    by_type: Mapping[str, Proportion] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in self.values.items():
            if not math.isfinite(value):
                raise ExperimentError(f"{name} is {value}: only finite numbers are results")

    @classmethod
    def of(
        cls,
        accuracy: Proportion | None = None,
        numbers: Mapping[Metric, Proportion | float] | None = None,
    ) -> Measurement:
        """What was measured, by metric.

        Args:
            accuracy: over the whole test set.
            numbers: the others. Those of a share that is no `Proportion` lie from 0 to 1.
        """
        found = numbers or {}
        return cls(
            accuracy,
            {m.name: each for m, each in found.items() if isinstance(each, Proportion)},
            {m.name: float(each) for m, each in found.items() if not isinstance(each, Proportion)},
        )

    def number(self, metric: Metric | str = "accuracy") -> float:
        """The accuracy, another proportion (both from 0 to 1), or one of the values.

        Args:
            metric: or its name.

        Raises:
            ExperimentError: there is no such number; the message lists those there are.
        """
        name = metric.name if isinstance(metric, Metric) else metric
        proportions = {**({"accuracy": self.accuracy} if self.accuracy else {}), **self.by_type}
        if name in proportions:
            return proportions[name].value
        if name in self.values:
            return self.values[name]
        known = ", ".join([*proportions, *self.values]) or "nothing"
        raise ExperimentError(f"nothing called {name!r} was measured; there is {known}")

    def to_json(self) -> dict[str, Any]:
        """As JSON values, which `from_json` reads back exactly."""
        return {
            "accuracy": None if self.accuracy is None else _pair(self.accuracy),
            "by_type": {name: _pair(each) for name, each in self.by_type.items()},
            "values": dict(self.values),
        }

    @classmethod
    def from_json(cls, said: Node) -> Measurement:
        """Reads what `to_json` made; raises what the node makes at anything else."""
        accuracy = said["accuracy"]
        return cls(
            None if accuracy.value is None else _proportion(accuracy),
            {name: _proportion(pair) for name, pair in read_names(said["by_type"]).items()},
            {name: value.number() for name, value in read_names(said["values"]).items()},
        )


def _proportion(pair: Node) -> Proportion:
    grouped = isinstance(pair.value, list) and len(pair.value) == 3
    correct, total, *effective = pair.items(3 if grouped else 2)
    numbers = correct.integer(0, MOST), total.integer(0, MOST)
    try:
        return Proportion(*numbers, *(each.number(0) for each in effective))
    except ExperimentError as error:
        raise pair.error(str(error)) from error


def _pair(proportion: Proportion) -> list[int | float]:
    found: list[int | float] = [proportion.correct, proportion.total]
    return found if proportion.effective is None else [*found, proportion.effective]


@dataclass(frozen=True, slots=True)
class Trial:
    """One arm trained with one seed, and what it measured.

    Attributes:
        arm: name of the arm.
        seed: of weights, data order and noise.
        steps: training steps taken.
        seconds: training time.
        parameters: number of trainable parameters.
        measured: what evaluation found.
        flops: floating-point operations of one forward pass over a training batch; None where not
            counted.
        peak_memory: largest memory of the process in bytes, on a GPU what was allocated there;
            None where not recorded.
        curve: step and training loss, at most 50 of them.
        hardware: what it ran on, as far as other trials of the same results ran on something else.
    """

    arm: str
    seed: int
    steps: int
    seconds: float
    parameters: int
    measured: Measurement
    flops: int | None = None
    peak_memory: int | None = None
    curve: tuple[tuple[int, float], ...] = ()
    hardware: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As JSON values, which `from_json` reads back exactly."""
        facts = {
            "arm": self.arm,
            "seed": self.seed,
            "steps": self.steps,
            "seconds": self.seconds,
            "parameters": self.parameters,
        }
        costs = {
            "flops": self.flops,
            "peak_memory": self.peak_memory,
            "curve": [list(point) for point in self.curve] or None,
            "hardware": dict(self.hardware) or None,
        }
        recorded = {name: value for name, value in costs.items() if value is not None}
        return {**facts, **self.measured.to_json(), **recorded}

    @classmethod
    def from_json(cls, said: Node) -> Trial:
        """Reads what `to_json` made; raises what the node makes at anything else."""
        said.mapping(_TRIAL, _COSTS)
        costs = said.entries()
        return cls(
            read_path_name(said["arm"]),
            said["seed"].integer(0, MOST),
            said["steps"].integer(0, MOST),
            said["seconds"].number(0),
            said["parameters"].integer(0, MOST),
            Measurement.from_json(said),
            costs["flops"].integer(0, MOST) if "flops" in costs else None,
            costs["peak_memory"].integer(0, MOST) if "peak_memory" in costs else None,
            tuple(_point(each) for each in costs["curve"].items()) if "curve" in costs else (),
            read_hardware(costs["hardware"]) if "hardware" in costs else {},
        )


def _point(said: Node) -> tuple[int, float]:
    step, value = said.items(2)
    return step.integer(0, MOST), value.number()


@dataclass(frozen=True, slots=True)
class Results:
    """All trials of one system at one preset.

    Attributes:
        system: name of the system.
        preset: which settings.
        trials: in the order they were run.
        hardware: what they ran on (see `featurewise.training.hardware.describe`); where that is
            not the same of all, the different values joined by " / ", and each trial names its own.
        data_versions: name and version of what rendered the data; empty where not recorded.
        changed: settings that were given in place of the preset's, by name, as JSON values.
    """

    system: str
    preset: str
    trials: tuple[Trial, ...]
    hardware: Mapping[str, str] = field(default_factory=dict)
    data_versions: Mapping[str, str] = field(default_factory=dict)
    changed: Mapping[str, Any] = field(default_factory=dict)

    def arms(self) -> list[str]:
        """Names of the arms that were tried, in order."""
        return list(dict.fromkeys(trial.arm for trial in self.trials))

    def of(self, arm: str) -> list[Trial]:
        """The trials of one arm.

        Raises:
            ExperimentError: it was not tried.
        """
        found = [trial for trial in self.trials if trial.arm == arm]
        if not found:
            raise ExperimentError(f"{self.system}: no trial of arm {arm!r}; there is {self.arms()}")
        return found

    def mean(self, arm: str, metric: Metric | str = "accuracy") -> Interval:
        """A number of one arm as it is stored, over its seeds."""
        return over_seeds([trial.measured.number(metric) for trial in self.of(arm)])

    @classmethod
    def joined(cls, parts: Sequence[Results]) -> Results:
        """All trials in one record, in order, each of which keeps what it alone ran on.

        Args:
            parts: at least one, of one system and preset, with the same changed settings.
        """
        names = dict.fromkeys(name for part in parts for name in part.hardware)
        described = [{name: part.hardware.get(name, _UNKNOWN) for name in names} for part in parts]
        hardware = _union(described)
        trials = []
        for part, found in zip(parts, described, strict=True):
            own = {name: value for name, value in found.items() if value != hardware[name]}
            trials += [replace(each, hardware={**own, **each.hardware}) for each in part.trials]
        return replace(
            parts[0],
            trials=tuple(trials),
            hardware=hardware,
            data_versions=_union([each.data_versions for each in parts]),
        )

    def to_json(self) -> str:
        """As JSON text, which `from_json` reads back exactly."""
        content = {
            "system": self.system,
            "preset": self.preset,
            "hardware": dict(self.hardware),
            **({"data_versions": dict(self.data_versions)} if self.data_versions else {}),
            **({"changed": dict(self.changed)} if self.changed else {}),
            "trials": [trial.to_json() for trial in self.trials],
        }
        return facts_text(content).decode()

    @classmethod
    def from_json(cls, text: str) -> Results:
        """Reads what `to_json` wrote.

        Raises:
            ExperimentError: the text is not JSON, or not of this form.
        """
        with wrap_errors(
            "these are no results", ExperimentError, ExperimentError, what="they are damaged"
        ):
            return _results(text.encode(), "these are no results")

    def save(self, path: Path | str) -> None:
        """Writes `to_json` to a file, which appears whole."""
        write_bytes(path, self.to_json().encode())

    @classmethod
    def load(cls, path: Path | str) -> Results:
        """Reads a file that `save` wrote.

        Raises:
            ExperimentError: it cannot be read; the message begins with the path.
        """
        with wrap_errors(path, ExperimentError, ExperimentError, what="these are no results"):
            return _results(read_bytes(path, limit=MAX_BYTES), path)


def _union(mappings: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Merges mappings; different values of a name are joined by a slash."""
    found: dict[str, list[str]] = {}
    for name, value in (item for mapping in mappings for item in mapping.items()):
        known = found.setdefault(name, [])
        known += [each for each in value.split(_APART) if each not in known]
    return {name: _APART.join(values) for name, values in found.items()}


def _results(raw: bytes, path: Path | str) -> Results:
    said = read_facts(raw, path, first=None)
    said.mapping(("system", "preset", "hardware", "trials"), ("data_versions", "changed"))
    versions = said.entries().get("data_versions")  # not in files of version 0.1
    changed = said.entries().get("changed")
    return Results(
        read_path_name(said["system"]),
        read_path_name(said["preset"]),
        tuple(Trial.from_json(trial) for trial in said["trials"].items()),
        read_hardware(said["hardware"]),
        {} if versions is None else read_hardware(versions),
        {} if changed is None else changed.mapping(),
    )
