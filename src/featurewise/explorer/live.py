"""``Live``: a network that computes what its bundle does not hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from featurewise import analysis
from featurewise.common.errors import error_text
from featurewise.common.json import Node
from featurewise.core import Affine, Operation, Scale, Shift, TaskRepresentation
from featurewise.explorer.answers import NEAREST, Respond, data_url, distances, mean_distance
from featurewise.explorer.bundle import ExplorerBundle, ExplorerError

MAX_TEXT: Final = 500
"""Longest text of a condition, in characters."""

MAX_TERMS: Final = 8
"""Most terms of a sum of task representations."""

MAX_WEIGHT: Final = 100.0
"""Largest absolute weight of a term."""

MAX_EDITS: Final = 16
"""Most features that one request sets."""

_MAX_NAME: Final = 1_000  # characters of the name of a site or parameter


class LiveError(ExplorerError):
    """A request that this network cannot answer; the message names the field and what is right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One term of a sum of task representations.

    Attributes:
        condition: position of a condition in the bundle.
        weight: factor of its task representation.
    """

    condition: int
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureEdit:
    """A new value of one parameter of one feature.

    Attributes:
        site: name of the site.
        parameter: its name, as in "gamma".
        feature: index of the feature in the site.
        value: effective, as γ multiplies and β is added.
    """

    site: str
    parameter: str
    feature: int
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a network is to answer; made and checked by `Live.request`.

    The task representation is that of ``text``, or the sum of ``terms``; then ``edits`` set single
    values, and the last of several edits of one value counts.

    Attributes:
        condition: position in the bundle of the condition whose image is used.
        text: of a new condition, such as a question; None where ``terms`` are given.
        terms: of a sum; empty where ``text`` is given.
        edits: values that are set.
    """

    condition: int
    text: str | None = None
    terms: tuple[Term, ...] = ()
    edits: tuple[FeatureEdit, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One value that the network answers.

    Attributes:
        name: of the value, such as an answer.
        value: such as its probability.
    """

    name: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A condition near a task representation.

    Attributes:
        condition: its position in the bundle.
        distance: in multiples of the mean distance of two conditions.
    """

    condition: int
    distance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the network answers.

    Attributes:
        outputs: the greatest first; empty where the network generates images.
        images: ``data:`` URLs of what the network generates; empty where it answers values.
        nearest: the nearest conditions, the nearest first.
        values: site -> parameter -> effective values of the features that the bundle shows.
    """

    outputs: list[Output]
    images: list[str]
    nearest: list[Neighbour]
    values: dict[str, dict[str, list[float]]]


@dataclass(frozen=True, kw_only=True)
class Live:
    """A network behind its bundle, for new texts, sums and values of single features.

    It holds no state of a request: γ and β are an argument of ``respond``. Several threads may call
    `answer` at once, if they may call ``respond`` and ``represent``.

    Attributes:
        bundle: of the network.
        task: task representations (n, N) of the conditions that the bundle shows, in its order.
        respond: (task representations (1, N), index of a condition in the original list) -> what
            the network answers, as in `featurewise.explore`.
        outputs: names of the K values that ``respond`` returns; unused where it returns images.
        represent: a free text -> its task representation (1, N), or a ValueError with a message
            for the reader, as of a text without any known word; None where conditions are no
            texts.
        rows: index in the original list of each condition that the bundle shows; None where it
            shows all of them.

    Raises:
        ExplorerError: task representations, rows and bundle are not of the same conditions.
        LayoutError: the representations are not ``(n, N)``.
    """

    bundle: ExplorerBundle
    task: TaskRepresentation
    respond: Respond
    outputs: Sequence[str] = ()
    represent: Callable[[str], TaskRepresentation] | None = None
    rows: Sequence[int] | None = None

    def __post_init__(self) -> None:
        shown = self.bundle.content.conditions
        if self.rows is None and shown.shown != shown.total:
            raise ExplorerError(
                f"the bundle shows {shown.shown} of {shown.total} conditions; give rows, their "
                "indices in the original list"
            )
        count = shown.shown if self.rows is None else len(self.rows)
        values = self._values(self.task)
        if not shown.shown == len(self.task) == count:
            raise ExplorerError(
                f"the bundle shows {shown.shown} conditions; there are {len(self.task)} task "
                f"representations and {count} rows"
            )
        for site in self.bundle.content.sites:
            for parameter in site.parameters:
                own, stored = values[site.name][parameter.name], self.bundle.arrays[parameter.array]
                if own.shape != stored.shape or not torch.allclose(own, stored, rtol=1e-4):
                    raise ExplorerError(
                        f"{parameter.name} of site '{site.name}' is not that of the bundle; give "
                        "the task representations that it was made of, in the same order"
                    )

    def request(self, value: object) -> Request:
        """A request, of the parsed JSON of a client.

        Args:
            value: an object with the fields of `Request`; ``condition`` and exactly one of
                ``text`` and ``terms`` are needed.

        Raises:
            LiveError: a field is missing, unknown, of another type or out of range, or names what
                this network does not have.
        """
        node = Node(value, "", _error)
        _check_keys(node, ["condition"], ["text", "terms", "edits"])
        count = len(self.task)
        terms = _items(node, "terms", MAX_TERMS)
        text = None
        if "text" in node and node["text"].value is not None:
            text = node["text"].text(MAX_TEXT)
            if self.represent is None:
                raise LiveError("text: this network takes no texts; give terms")
            if not text.strip():
                raise LiveError("text: expected at least one word")
        if (text is None) == (not terms):
            raise LiveError("give either text, or terms with at least one entry")
        return Request(
            condition=node["condition"].integer(0, count - 1),
            text=text,
            terms=tuple(_term(each, count) for each in terms),
            edits=tuple(self._edit(each) for each in _items(node, "edits", MAX_EDITS)),
        )

    def answer(self, request: Request) -> Reply:
        """What the network answers to a request.

        Args:
            request: as `request` makes it.

        Raises:
            LiveError: the text has no task representation, or values are not finite.
            ExplorerError: ``respond`` or ``represent`` returned something of another shape.
        """
        with torch.no_grad():
            task = self._edited(self._task(request), request.edits)
            if not task.flat.isfinite().all():
                raise LiveError(
                    f"the values are too large for {task.flat.dtype}; use smaller weights or edits"
                )
            row = request.condition if self.rows is None else self.rows[request.condition]
            found = self.respond(task, row)
            images = [] if isinstance(found, Tensor) else [data_url(image) for image in found]
            outputs = self._outputs(found) if isinstance(found, Tensor) else []
            shown = self._values(task)
            for parameters in shown.values():  # an activation such as exp may overflow
                if not all(values.isfinite().all() for values in parameters.values()):
                    raise LiveError("effective values are not finite; use smaller weights or edits")
            return Reply(
                outputs=outputs,
                images=images,
                nearest=self._nearest(task),
                values={
                    site: {name: values[0].tolist() for name, values in parameters.items()}
                    for site, parameters in shown.items()
                },
            )

    # --- checks of a request ---------------------------------------------------------------------

    def _edit(self, node: Node) -> FeatureEdit:
        _check_keys(node, ["site", "parameter", "feature", "value"])
        name = node["site"].text(_MAX_NAME)
        if name not in self.task.layout.names:
            raise node["site"].error(f"no such site; the sites are {_list(self.task.layout.names)}")
        site = self.task.layout[name]
        operation = site.operation
        if not editable(operation):
            raise node["site"].error(
                f"its operation is {operation}; values can be set only where it is Affine, Scale "
                "or Shift, with the identity activation"
            )
        parameter = node["parameter"].text(_MAX_NAME)
        if parameter not in site.parameters:
            raise node["parameter"].error(
                f"no such parameter; the site has {_list(site.parameters)}"
            )
        largest = torch.finfo(self.task.flat.dtype).max
        return FeatureEdit(
            site=name,
            parameter=parameter,
            feature=node["feature"].integer(0, site.width - 1),
            value=node["value"].number(-largest, largest),
        )

    # --- computation -----------------------------------------------------------------------------

    def _task(self, request: Request) -> TaskRepresentation:
        """The task representation (1, N) of a text or a sum."""
        if request.text is None or self.represent is None:
            weights = self.task.flat.new_tensor([[term.weight for term in request.terms]])
            rows: TaskRepresentation = self.task[[term.condition for term in request.terms]]
            return rows.mix(weights)
        try:
            task = self.represent(request.text)
        except ValueError as error:
            raise LiveError(f"text: {error_text(error)}") from error
        if task.layout != self.task.layout or task.shape != (1, self.task.layout.size):
            raise ExplorerError(
                f"represent must return one row (1, {self.task.layout.size}) for the sites of the "
                f"bundle, got {task}"
            )
        return task

    def _edited(self, task: TaskRepresentation, edits: Sequence[FeatureEdit]) -> TaskRepresentation:
        """A task representation with other effective values of single features."""
        if not edits:
            return task
        task = task.clone()
        for edit in edits:
            # γ is an offset from one, or γ itself, depending on the operation: its effective value
            # at raw 0 says which. β is effective.
            values = task[edit.site]
            zeros = {name: torch.zeros_like(value) for name, value in values.items()}
            origin = task.layout[edit.site].operation.effective(zeros)[edit.parameter]
            values[edit.parameter][:, edit.feature] = edit.value - origin[:, edit.feature]
        return task

    def _outputs(self, found: Float[Tensor, "1 K"]) -> list[Output]:
        names = [str(name) for name in self.outputs or range(found.shape[-1])]
        if found.shape != (1, len(names)):
            raise ExplorerError(
                f"respond must return (1, {len(names)}) values, got {tuple(found.shape)}"
            )
        if not found.isfinite().all():
            raise LiveError("the network's answers to these values of γ and β are not finite")
        ordered = sorted(zip(names, found[0].tolist(), strict=True), key=lambda each: -each[1])
        return [Output(name=name, value=value) for name, value in ordered]

    def _nearest(self, task: TaskRepresentation) -> list[Neighbour]:
        apart = distances(_points(task), self._conditions)[0]
        count = min(NEAREST, len(apart))
        values, positions = (apart / self._mean_distance).topk(count, largest=False)
        return [
            Neighbour(condition=position, distance=value)
            for position, value in zip(positions.tolist(), values.tolist(), strict=True)
        ]

    @cached_property
    def _conditions(self) -> Float64[Tensor, "n N"]:
        return _points(self.task)

    @cached_property
    def _mean_distance(self) -> float:
        """Of two conditions, as in `featurewise.explore`."""
        return mean_distance(self._conditions, self.bundle.content.seed)

    def _values(self, task: TaskRepresentation) -> dict[str, dict[str, Float[Tensor, "B F"]]]:
        """Site -> parameter -> effective values of the features that the bundle shows.

        Raises:
            ExplorerError: the bundle shows a parameter that the task representations do not have.
        """
        matrices = analysis.parameter_matrices(task)
        found: dict[str, dict[str, Tensor]] = {}
        for shown in self.bundle.content.sites:
            for parameter in shown.parameters:
                # Parameters of another width have a title of their own: "site (parameter)".
                own = shown.name.removesuffix(f" ({parameter.name})")
                site = shown.name if (shown.name, parameter.name) in matrices else own
                values = matrices.get((site, parameter.name))
                if values is None or values.shape[1] != shown.features.total:
                    raise ExplorerError(
                        f"the bundle has {parameter.name} of {shown.features.total} features at "
                        f"site '{shown.name}', the task representations do not"
                    )
                values = values[:, shown.numbers]
                found.setdefault(shown.name, {})[parameter.name] = values
        return found


def _points(task: TaskRepresentation) -> Float64[Tensor, "B N"]:
    """In float64, in which squares of large values of float32 are finite."""
    return task.flat.cpu().double()


def _error(problem: str, where: str) -> LiveError:
    return LiveError(f"{where}: {problem}" if where else f"the request: {problem}")


def _check_keys(node: Node, required: Sequence[str], optional: Sequence[str] = ()) -> None:
    """As `Node.mapping`, but a message repeats no text of the client."""
    known = [*required, *optional]
    if not node.mapping().keys() <= {*known}:
        raise node.error(f"unknown key; the keys are {_list(known)}")
    node.mapping(required, optional)


def _items(node: Node, key: str, most: int) -> list[Node]:
    """The entries of an optional list."""
    entries = node[key].items() if key in node else []
    if len(entries) > most:
        raise node[key].error(f"expected at most {most} entries, found {len(entries)}")
    return entries


def _term(node: Node, count: int) -> Term:
    _check_keys(node, ["condition", "weight"])
    return Term(
        condition=node["condition"].integer(0, count - 1),
        weight=node["weight"].number(-MAX_WEIGHT, MAX_WEIGHT),
    )


def editable(operation: Operation) -> bool:
    """Whether γ and β can be set by their effective values."""
    # A subclass may compute something else from the same parameters, hence the exact types.
    if isinstance(operation, Scale):
        return type(operation) in (Scale, Affine) and operation.activation == "identity"
    return type(operation) is Shift


def _list(names: Iterable[str]) -> str:
    """Names in a sentence, cut where they are many."""
    text = ", ".join(names)
    return text if len(text) <= 300 else f"{text[:297]}..."
