"""``explore``: a conditioned network and labelled conditions -> an `ExplorerBundle`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Final

import torch
from jaxtyping import Int64
from PIL import Image
from torch import Tensor

import featurewise
from featurewise import analysis
from featurewise.analysis import ParameterMatrices, ParameterQuantiles
from featurewise.common.files import sha256
from featurewise.common.modes import evaluating
from featurewise.common.rng import seeded_rng
from featurewise.core import TaskRepresentation
from featurewise.explorer import schema
from featurewise.explorer.answers import Answers, Respond, data_url
from featurewise.explorer.bundle import ExplorerBundle, ExplorerError
from featurewise.explorer.labels import Kind, Label, check_contrasts, kinds, label, rows
from featurewise.explorer.parameters import (
    axes,
    check_histories,
    over_training,
    sites,
    statistics,
    titled,
)
from featurewise.explorer.projections import project
from featurewise.retrofit import Conditioned

_PERMUTATIONS: Final = 199


def explore(
    net: Conditioned | TaskRepresentation,
    conditions: Any = None,
    labels: Mapping[str, Iterable[Any]] | None = None,
    *,
    title: str = "Task representations",
    data: str = "",
    images: Sequence[Image.Image | None] | None = None,
    contrasts: Sequence[tuple[str, str]] = (),
    respond: Respond | None = None,
    outputs: Sequence[str] | None = None,
    unit: str = "probability",
    pairs: Iterable[Any] = (),
    triples: Sequence[tuple[int, int, int] | tuple[int, int, int, str]] = (),
    curves: Sequence[schema.Curve] = (),
    histories: Mapping[int, ParameterQuantiles] | None = None,
    most: int = 2_000,
    features: int = 128,
    seed: int = 0,
) -> ExplorerBundle:
    """What a network makes of many conditions, as a page.

    Where there are more than ``most`` conditions or more than ``features`` features at a site, a
    random sample is shown, and the page says so. Statistics of parameters and separations are those
    of all conditions and features.

    Args:
        net: a conditioned network; or its task representations (B, N), of any operation.
        conditions: of B conditions, as the network's generator takes them; None where ``net`` is
            already task representations.
        labels: name -> one value for each condition; None and NaN stand for an unknown value.
            Numbers are a number label if one is not whole, or if there are more than 24 different
            ones that occur fewer than ten times each on average; else a category. Texts are a
            category, too, except for more than 24 different ones of fewer than ten conditions each,
            and for sentences that are mostly different: they are a text label, whose words are
            compared, too. Other values, such as dates, are taken as texts.
        title: of the page, such as the name of the network.
        data: a sentence about the conditions.
        images: one for each condition; the same object may occur several times.
        contrasts: pairs of words of a text label, each with its alternatives, as in ("rubber",
            "metal|shiny"); conditions with a word of one side only are compared.
        respond: what the network answers to task representations; interpolations, sums, grids
            of one feature's parameters and effects of single features show it. It is called with
            the network in eval mode where ``net`` is one.
        outputs: names of the K values that ``respond`` returns.
        unit: of these values; of probabilities, effects are half the sum of absolute changes (the
            total variation), of other values their mean.
        pairs: conditions to interpolate between, by index.
        triples: conditions A, B and C, by index, whose A + B - C is shown; a fourth entry says in
            words what the result should stand for.
        curves: values over training.
        histories: parameters over training: step -> what `analysis.parameter_quantiles` made of
            the network's task representations at that step, recorded by you.
        most: number of conditions to show.
        features: number of features of a site to show.
        seed: of the samples, projections and permutations.

    Raises:
        ExplorerError: labels, images, indices, words or what ``respond`` returns do not fit, or a
            value is not finite.
        LayoutError: the representations are not ``(B, N)``.
        CallError: the network's generator needs the features of a run; record its task
            representations and pass these.

    Example:
        >>> bundle = fw.explore(net, questions, {"question": texts})     # doctest: +SKIP
        >>> bundle.export("questions.html")                              # doctest: +SKIP
    """
    task = _represent(net, conditions)
    matrices = analysis.parameter_matrices(task)
    total = len(task)
    _check_finite(matrices, curves)
    check_histories(matrices, histories or {})
    known = _known(labels)
    if images is not None:
        _check_length("images", images, total)
    for name, values in known.items():
        _check_length(name, values, total)
    lines = [(int(start), int(end)) for start, end in pairs]
    sums = [(int(triple[0]), int(triple[1]), int(triple[2])) for triple in triples]
    needed = {index for group in (*lines, *sums) for index in group}
    _check_indices(total, needed)
    shown = _sample(total, most, needed, seed)
    position = {index: place for place, index in enumerate(shown.tolist())}
    arrays: dict[str, Tensor] = {}
    labelled = [label(name, values) for name, values in known.items()]
    check_contrasts(labelled, contrasts)
    named = titled(task, matrices)
    separated = _separations(named, labelled, contrasts, seed)
    kept = [rows(each, shown) for each in labelled]
    answers = Answers(task, shown, respond, outputs, unit, seed, arrays)
    with evaluating(net) if isinstance(net, Conditioned) else nullcontext():
        content = schema.Content(
            title=title,
            model=schema.Model(name=title, digest=_digest(task), version=featurewise.__version__),
            data=data,
            seed=seed,
            conditions=schema.Count(shown=len(shown), total=total),
            labels=kept,
            thumbnails=None if images is None else _thumbnails(images, shown),
            sites=[
                replace(site, effects=answers.effects(site))
                for site in sites(task, named, shown, features, separated, seed, arrays)
            ],
            projections=project(task[shown.tolist()], matrices, shown, kept, seed, arrays),
            interpolations=[answers.interpolation(start, end, position) for start, end in lines],
            arithmetic=[
                answers.arithmetic(*three, "".join(map(str, triple[3:4])), position)
                for three, triple in zip(sums, triples, strict=True)
            ],
            grids=answers.grids(separated),
            curves=list(curves),
            histories=over_training(task, histories or {}, arrays),
            parameters=statistics(named),
            axes=axes(named),
            separations=separated,
        )
    return ExplorerBundle(content, arrays)


def _represent(net: Conditioned | TaskRepresentation, conditions: Any) -> TaskRepresentation:
    if isinstance(net, TaskRepresentation):
        if conditions is not None:
            raise ExplorerError("task representations are given already; leave out conditions")
        return net.detach()
    if not isinstance(net, Conditioned):
        raise ExplorerError(
            f"net must be a conditioned network (featurewise.condition) or its task "
            f"representations, got {type(net).__name__}"
        )
    if conditions is None:
        raise ExplorerError("give conditions, as the network's generator takes them")
    with evaluating(net), torch.no_grad():
        return net.represent(conditions)


# --- checks --------------------------------------------------------------------------------------


def _check_finite(matrices: ParameterMatrices, curves: Sequence[schema.Curve]) -> None:
    for (site, parameter), values in matrices.items():
        if not values.isfinite().all():
            row = int((~values.isfinite()).any(1).nonzero()[0])
            raise ExplorerError(
                f"{parameter} of site '{site}' is not finite for condition {row}; the network "
                "may have diverged"
            )
    for curve in curves:
        if not all(map(math.isfinite, curve.values)):
            raise ExplorerError(f"curve {curve.name!r} has a value that is not finite")


def _known(labels: Mapping[str, Iterable[Any]] | None) -> dict[str, list[Any]]:
    if labels is not None and not isinstance(labels, Mapping):
        raise ExplorerError(
            f"labels must be a mapping, name -> values, got {type(labels).__name__}"
        )
    return {str(name): list(values) for name, values in (labels or {}).items()}


def _check_length(name: str, values: Sequence[Any], total: int) -> None:
    if len(values) != total:
        raise ExplorerError(f"{name!r} has {len(values)} values for {total} conditions")


def _check_indices(total: int, indices: set[int]) -> None:
    for index in sorted(indices):
        if not 0 <= index < total:
            raise ExplorerError(f"there is no condition {index}; they are 0 to {total - 1}")


def _sample(total: int, most: int, needed: set[int], seed: int) -> Int64[Tensor, "n"]:
    """Indices of the conditions that are shown: those that are needed, and a random sample."""
    if most < 1:
        raise ExplorerError(f"most must be at least 1, got {most}")
    order = torch.randperm(total, generator=seeded_rng(seed, "explored conditions")).tolist()
    others = [index for index in order if index not in needed]
    return torch.tensor(sorted([*needed, *others[: max(0, most - len(needed))]]))


# --- separations and images ----------------------------------------------------------------------


def _separations(
    matrices: ParameterMatrices,
    labels: Sequence[Label],
    contrasts: Sequence[tuple[str, str]],
    seed: int,
) -> list[schema.Separation]:
    """The feature that tells each kind of conditions apart best: contrasts, then the best first.

    Kinds that are compared over the same conditions are permuted together; what remains of the
    correction for many kinds is Bonferroni's, for the number of such groups.
    """
    groups = _compared(labels, contrasts)
    found = []
    for group in groups:
        either = group[0][1].either
        own = {key: values[either] for key, values in matrices.items()}
        columns = torch.stack([kind.kind[either] for _, kind in group], 1)
        best = analysis.best_separations(own, columns, permutations=_PERMUTATIONS, seed=seed)
        for (name, kind), each in zip(group, best, strict=True):
            number = int((kind.kind & either).sum())
            found.append(
                schema.Separation(
                    label=name,
                    level=kind.level,
                    other=kind.other,
                    site=each.separation.site,
                    feature=each.separation.feature,
                    parameter=each.separation.parameter,
                    auc=each.separation.auc,
                    probability=each.probability,
                    corrected=min(1.0, each.corrected * len(groups)),
                    conditions=[number, int(either.sum()) - number],
                )
            )
    return sorted(found, key=lambda each: ((each.level, each.other) not in contrasts, -each.auc))


def _compared(
    labels: Sequence[Label], contrasts: Sequence[tuple[str, str]]
) -> list[list[tuple[str, Kind]]]:
    """Kinds with the name of their label, in groups that are of the same conditions."""
    groups: dict[bytes, list[tuple[str, Kind]]] = {}
    for each in labels:
        for kind in kinds(each, contrasts):
            counts = int((kind.kind & kind.either).sum()), int((~kind.kind & kind.either).sum())
            if min(counts) >= 2:
                groups.setdefault(kind.either.numpy().tobytes(), []).append((each.name, kind))
    return list(groups.values())


def _digest(task: TaskRepresentation) -> str:
    layout = repr(task.layout.to_json()).encode()
    return sha256(layout, task.flat.float().cpu().contiguous().numpy().tobytes())[:16]


def _thumbnails(
    images: Sequence[Image.Image | None], shown: Int64[Tensor, "n"]
) -> schema.Thumbnails:
    """Images of the conditions that are shown, each object once."""
    place: dict[int, int] = {}
    distinct: list[Image.Image] = []  # keeps them, too: an identity may be used again
    codes = []
    for row in shown.tolist():
        image = images[row]
        if image is None:
            codes.append(-1)
            continue
        if not isinstance(image, Image.Image):
            raise ExplorerError(f"images must be PIL images, got {type(image).__name__}")
        if id(image) not in place:
            place[id(image)] = len(distinct)
            distinct.append(image)
        codes.append(place[id(image)])
    alts = [f"image {number + 1}" for number in range(len(distinct))]
    urls = [data_url(image) for image in distinct]
    return schema.Thumbnails(name="image", images=urls, alts=alts, codes=codes)
