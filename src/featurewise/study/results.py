"""What runs measured: proportions with intervals, tables by type, spread over seeds.

Two kinds of uncertainty are kept apart: that of one accuracy, from the number of questions
asked (Wilson interval), and that of a method, from the number of seeds trained (Student's t).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from featurewise.common.errors import wrap_errors
from featurewise.common.files import write_bytes
from featurewise.common.json import MAX_BYTES, Node
from featurewise.common.opening import read_bytes
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
_NORMAL = 1.959963984540054
# 97.5 % quantiles of Student's t with 1, 2, ... 30 degrees of freedom.
_STUDENT = (
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281),
    *(2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860),
    *(2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423),
)


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Proportion:
    """So many right out of so many.

    Raises:
        ExperimentError: not ``0 <= correct <= total`` or `total` is 0.
    """

    correct: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.correct <= self.total or self.total == 0:
            raise ExperimentError(f"{self.correct} right out of {self.total} is no proportion")

    @classmethod
    def of(cls, right: Bool[Tensor, "..."]) -> Proportion:
        """So many true of so many.

        Args:
            right: of any shape.

        Raises:
            ExperimentError: there are none.
        """
        return cls(int(right.sum()), right.numel())

    @property
    def value(self) -> float:
        """The proportion, in [0, 1]."""
        return self.correct / self.total

    @property
    def interval(self) -> Interval:
        """Wilson's score interval, 95 % (Wilson 1927); exact enough near 0 and 1."""
        n, p, z = self.total, self.value, _NORMAL
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return Interval(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)))

    def __add__(self, other: Proportion) -> Proportion:
        """Both together."""
        return Proportion(self.correct + other.correct, self.total + other.total)


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
        accuracy: over everything asked; None where right and wrong make no sense.
        by_type: the same, split by kind of question.
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

    def number(self, name: str = "accuracy") -> float:
        """The accuracy (``accuracy``), that of one type, or one of the values, by name.

        Raises:
            ExperimentError: there is no such number; the message lists those there are.
        """
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
    correct, total = (each.integer(0, MOST) for each in pair.items(2))
    try:
        return Proportion(correct, total)
    except ExperimentError as error:
        raise pair.error(str(error)) from error


def _pair(proportion: Proportion) -> list[int]:
    return [proportion.correct, proportion.total]


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
    """

    arm: str
    seed: int
    steps: int
    seconds: float
    parameters: int
    measured: Measurement

    def to_json(self) -> dict[str, Any]:
        """As JSON values, which `from_json` reads back exactly."""
        facts = {
            "arm": self.arm,
            "seed": self.seed,
            "steps": self.steps,
            "seconds": self.seconds,
            "parameters": self.parameters,
        }
        return {**facts, **self.measured.to_json()}

    @classmethod
    def from_json(cls, said: Node) -> Trial:
        """Reads what `to_json` made; raises what the node makes at anything else."""
        said.mapping(_TRIAL)
        return cls(
            read_path_name(said["arm"]),
            said["seed"].integer(0, MOST),
            said["steps"].integer(0, MOST),
            said["seconds"].number(0),
            said["parameters"].integer(0, MOST),
            Measurement.from_json(said),
        )


@dataclass(frozen=True, slots=True)
class Results:
    """All trials of one system at one preset.

    Attributes:
        system: name of the system.
        preset: which settings.
        trials: in the order they were run.
        hardware: what they ran on (see `featurewise.training.hardware.describe`).
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

    def mean(self, arm: str, name: str = "accuracy") -> Interval:
        """A number of one arm, over its seeds."""
        return over_seeds([trial.measured.number(name) for trial in self.of(arm)])

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
