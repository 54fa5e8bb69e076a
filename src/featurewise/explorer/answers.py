"""What a network answers to task representations that are those of no condition."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeAlias

import torch
from jaxtyping import Float, Float64, Int64
from PIL import Image
from torch import Tensor

from featurewise.analysis import is_feature_parameter
from featurewise.common.images import to_rgb
from featurewise.common.rng import seeded_rng
from featurewise.core import TaskRepresentation
from featurewise.explorer import schema
from featurewise.explorer.bundle import ExplorerError

Respond: TypeAlias = Callable[[TaskRepresentation, int], Tensor | Sequence[Image.Image]]
"""(Task representations, index of a condition) -> what the network answers to each of them.

A tensor (B, K) of K values each, such as probabilities; or one generated image each.
"""

THUMBNAIL: Final = 96
"""Longest side of an image in a bundle, in pixels."""

NEAREST: Final = 5
"""Number of conditions that are named as nearest."""

_EFFECT_CONDITIONS: Final = 16
_GRIDS: Final = 6
_GRID_CONDITIONS: Final = 12
_GRID_QUANTILES: Final = (0.02, 0.26, 0.5, 0.74, 0.98)
_MEAN_OF: Final = 500  # conditions
_STEPS: Final = 21


def distances(
    one: Float[Tensor, "S N"] | Tensor, other: Float[Tensor, "n N"] | Tensor
) -> Float64[Tensor, "S n"]:
    """Distances that are exact for near points far from the origin, too."""
    # The faster way, by a matrix product, is inexact for small distances.
    exact = "donot_use_mm_for_euclid_dist"
    found: Tensor = torch.cdist(one.cpu().double(), other.cpu().double(), compute_mode=exact)
    return found


def mean_distance(points: Float[Tensor, "n N"] | Tensor, seed: int = 0) -> float:
    """The mean distance of two conditions, of a random sample of them; positive."""
    if len(points) < 2:
        return 1.0
    rng = seeded_rng(seed, "conditions of the mean distance")
    some = torch.randperm(len(points), generator=rng)[:_MEAN_OF]
    return max(float(torch.pdist(points.cpu().double()[some]).mean()), 1e-12)


def data_url(image: Image.Image) -> str:
    """A small copy of an image as a ``data:`` URL, in RGB on white.

    Raises:
        ExplorerError: its pixels are floating-point numbers, whose range is not known.
    """
    if image.mode == "F":
        raise ExplorerError("images must have 8 or 16 bits, or RGB; convert floating-point ones")
    small = to_rgb(image)
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    stream = io.BytesIO()
    small.save(stream, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()


@dataclass(frozen=True)
class Answers:
    """Interpolations, sums, grids and effects of one network.

    Attributes:
        task: task representations of all conditions.
        shown: indices of the conditions that the bundle shows.
        respond: what the network answers; None where that is unknown.
        outputs: names of the values that ``respond`` returns.
        unit: of these values.
        seed: of random choices.
        arrays: gets the values.
    """

    task: TaskRepresentation
    shown: Int64[Tensor, "n"]
    respond: Respond | None
    outputs: Sequence[str] | None
    unit: str
    seed: int
    arrays: dict[str, Tensor]

    def interpolation(
        self, start: int, end: int, position: Mapping[int, int]
    ) -> schema.Interpolation:
        """From one condition to another, by index, in 21 steps."""
        weights = torch.linspace(0, 1, _STEPS)
        first, last = (self.task[[index] * _STEPS] for index in (start, end))
        line = first.lerp(last, weights.to(self.task.flat))
        nearest = distances(line.flat, self._points).argmin(1).tolist()
        nearest[0], nearest[-1] = position[start], position[end]  # where several are equal
        return schema.Interpolation(
            start=position[start],
            end=position[end],
            weights=[round(weight, 4) for weight in weights.tolist()],
            nearest=nearest,
            **self._answered(line, start, f"interpolations/{start}-{end}"),
        )

    def arithmetic(
        self, a: int, b: int, c: int, expected: str, position: Mapping[int, int]
    ) -> schema.Arithmetic:
        """A + B - C of conditions, by index."""
        result = self.task[[a]] + self.task[[b]] - self.task[[c]]
        apart = distances(result.flat, self._points)[0]
        apart[[position[index] for index in (a, b, c)]] = torch.inf
        count = min(NEAREST, int(apart.isfinite().sum()))
        values, nearest = apart.topk(count, largest=False)
        return schema.Arithmetic(
            a=position[a],
            b=position[b],
            c=position[c],
            expected=expected,
            nearest=nearest.tolist(),
            distances=(values / self._unit_distance).tolist(),
            **self._answered(result, a, f"arithmetic/{a}-{b}-{c}"),
        )

    def grids(self, separations: Sequence[schema.Separation]) -> list[schema.Grid]:
        """Other values of γ and β of the features that separate best, for one condition each."""
        if self.respond is None:
            return []
        names = {site.name: set(self.task[site.name]) for site in self.task.layout}
        places = dict.fromkeys((each.site, each.feature) for each in separations)
        affine = [place for place in places if names.get(place[0]) == {"gamma", "beta"}]
        return [
            self._grid(self.respond, *place, number) for number, place in enumerate(affine[:_GRIDS])
        ]

    def _grid(self, respond: Respond, site: str, feature: int, number: int) -> schema.Grid:
        """The grid of one feature, of the condition for which the answers differ most."""
        rng = seeded_rng(self.seed, "conditions of a grid", number)
        places = torch.randperm(len(self.shown), generator=rng)[:_GRID_CONDITIONS].tolist()
        if not self._has_values:
            places = places[:1]  # images take long, and differences of pixels say little
        tasks = [self._varied(site, feature, int(self.shown[place])) for place in places]
        answered = [
            self._values(respond, task, int(self.shown[place]))
            for place, task in zip(places, tasks, strict=True)
        ]
        place, task, found = max(zip(places, tasks, answered, strict=True), key=_change)
        side = len(_GRID_QUANTILES)
        shown = {name: values[:, feature] for name, values in task.effective()[site].items()}
        return schema.Grid(
            site=site,
            feature=feature,
            condition=place,
            across="gamma",
            up="beta",
            columns=shown["gamma"][:side].tolist(),
            rows=shown["beta"][::side].tolist(),
            **self._stored(found, f"grids/{site}/{feature}"),
        )

    def _varied(self, site: str, feature: int, condition: int) -> TaskRepresentation:
        """A condition's task representation with γ and β of one feature at all their quantiles."""
        side = len(_GRID_QUANTILES)
        task: TaskRepresentation = self.task[[condition] * side * side].clone()
        gamma, beta = (
            values[:, feature].float().quantile(torch.tensor(_GRID_QUANTILES).to(values.device))
            for values in (self.task[site]["gamma"], self.task[site]["beta"])
        )
        task[site]["gamma"][:, feature] = gamma.repeat(side).to(task.flat)
        task[site]["beta"][:, feature] = beta.flip(0).repeat_interleave(side).to(task.flat)
        return task

    def effects(self, site: schema.SiteValues) -> list[schema.Effect]:
        """How much the answers change where one feature does not depend on the condition.

        Of the parameters that have one value a feature; a network that generates images has none.
        """
        if self.respond is None or not self._has_values or site.name not in self.task.layout.names:
            return []
        own = self.task.layout[site.name]
        names = [name for name in own.parameters if is_feature_parameter(own, name)]
        rng = seeded_rng(self.seed, "conditions of effects")
        order = torch.randperm(len(self.shown), generator=rng)[:_EFFECT_CONDITIONS]
        mean = self.task.mean()
        rows = torch.arange(len(site.numbers))
        changes = []
        for condition in self.shown[order].tolist():
            task = self.task[[condition] * (len(rows) + 1)].clone()
            for name in names:
                frozen = mean[site.name][name][site.numbers]
                task[site.name][name][rows, site.numbers] = frozen
            found = self._values(self.respond, task, condition)
            if isinstance(found, Tensor):
                changes.append((found[:-1] - found[-1:]).abs())
        change = torch.stack(changes).mean(0)
        shares = self.unit == "probability"
        key = f"effects/{site.name}"
        self.arrays[key] = change.sum(1) / 2 if shares else change.mean(1)
        what = "Half the sum" if shares else "The mean"
        return [
            schema.Effect(
                name="change of the answers",
                unit="" if shares else self.unit,
                definition=f"{what} of the absolute changes of all outputs where the feature has "
                "the mean parameters of all conditions; the mean over "
                f"{len(changes)} conditions.",
                array=key,
            )
        ]

    @cached_property
    def _points(self) -> Float[Tensor, "n N"] | Tensor:
        return self.task.flat[self.shown.to(self.task.flat.device)].cpu()

    @cached_property
    def _unit_distance(self) -> float:
        return mean_distance(self._points, self.seed)

    @cached_property
    def _has_values(self) -> bool:
        """Whether the network answers values, not images."""
        first = int(self.shown[0])
        respond = self.respond
        return respond is not None and isinstance(
            self._values(respond, self.task[[first]], first), Tensor
        )

    def _answered(self, task: TaskRepresentation, condition: int, key: str) -> dict[str, Any]:
        """What the network answers, as fields of a record."""
        if self.respond is None:
            return {}
        return self._stored(self._values(self.respond, task, condition), key)

    def _stored(self, found: Tensor | Sequence[Image.Image], key: str) -> dict[str, Any]:
        """Answers as fields of a record; values become an array of the bundle."""
        if not isinstance(found, Tensor):
            return {"images": [data_url(image) for image in found]}
        names = [str(name) for name in self.outputs or range(found.shape[1])]
        self.arrays[key] = found
        return {"outputs": schema.Outputs(names=names, unit=self.unit, array=key)}

    def _values(
        self, respond: Respond, task: TaskRepresentation, condition: int
    ) -> Float[Tensor, "S K"] | Sequence[Image.Image]:
        """What ``respond`` returns, after a check.

        Raises:
            ExplorerError: it is not one row or one image for each task representation.
        """
        with torch.no_grad():
            found: Any = respond(task, condition)
        count, names = len(task), self.outputs
        if not isinstance(found, Tensor):
            images = list(found) if isinstance(found, Sequence) else []
            if len(images) != count or not all(isinstance(i, Image.Image) for i in images):
                raise ExplorerError(
                    f"respond must return a tensor ({count}, K), or {count} PIL images; got "
                    f"{type(found).__name__}"
                )
            return images
        width = found.shape[-1] if names is None and found.ndim else len(names or ())
        if found.shape != (count, width):
            wanted = "K" if names is None else width
            raise ExplorerError(
                f"respond must return ({count}, {wanted}) values, got {tuple(found.shape)}"
            )
        if not found.isfinite().all():
            raise ExplorerError("respond returned values that are not finite")
        return found.float().cpu().contiguous().clone()


def _change(grid: tuple[int, TaskRepresentation, Tensor | Sequence[Image.Image]]) -> float:
    """How much the values of a grid differ; images are not compared."""
    _, _, found = grid
    return float(found.var(0).sum()) if isinstance(found, Tensor) else 0.0
