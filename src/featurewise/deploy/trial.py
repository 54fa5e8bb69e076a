"""Folding for modules of other types: try each rule on a copy, and use it if it is exact."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from featurewise.core import Site
from featurewise.deploy.fold_types import CannotFold, Fold, Modulation, ModuleParameters, Rule
from featurewise.retrofit.isolated import CannotRun, IsolatedModule, is_vector, shapes
from featurewise.retrofit.module_features import features_of, least_size


def fold_by_trial(
    parameters: ModuleParameters,
    site: Site,
    change: Modulation,
    rules: Sequence[Rule],
    otherwise: str,
) -> Fold:
    """The first fold that is exact when a copy of the module is run; see ``IsolatedModule``.

    Call it within ``Snapshot``.

    Args:
        parameters: the parameters of the module.
        site: the site.
        change: the modulation.
        rules: the rules of the classes from which that of the module derives.
        otherwise: the reason to give if no rule is exact.

    Raises:
        CannotFold: with the reason.
    """
    own: Iterable[Rule] = ()
    inputs = _inputs(parameters.module, site)
    if site.when == "output":
        own = _vector_rules(parameters.module, site, change, inputs)
    reasons = []
    for rule in (*own, *rules):
        try:
            made: Fold = rule(parameters, change)
            _check(parameters.module, site, change, rule, inputs, otherwise)
            return made
        except CannotFold as reason:
            reasons.append(reason)
    raise reasons[-1] if reasons else CannotFold(otherwise)


def _inputs(module: Any, site: Site) -> list[Tensor]:
    """Small random inputs that the module accepts, with its features on axis 1 or the last axis.

    An input is left out if the output has another number of axes: it was broadcast.
    """
    features = features_of(module, "input")
    width = site.width if features is None else features.width
    try:
        isolated = IsolatedModule(module)
    except CannotRun:
        return []
    indices = isinstance(module, (nn.Embedding, nn.EmbeddingBag))
    found = []
    for shape, _ in shapes(width, (2, 3, 4, 5), least_size(module)):
        x = isolated.random(*shape)
        if indices:
            x = (x.abs() * module.num_embeddings).long() % module.num_embeddings
        try:
            if indices or isolated.run(x).ndim == x.ndim:
                found.append(x)
        except CannotRun:
            continue
    return found


# --- modules whose parameters are vectors --------------------------------------------------------


def _vector_rules(
    module: nn.Module, site: Site, change: Modulation, inputs: Sequence[Tensor]
) -> Iterator[Rule]:
    """Candidate rules by which vectors of parameters scale and shift the output."""
    own = dict(module.named_parameters(recurse=False))
    names = [n for n, p in own.items() if is_vector(p) and p.numel() == site.width]
    if not names or not inputs or not all(is_vector(p) for p in module.parameters()):
        return
    shifts = [name for name in names if _adds(IsolatedModule(module), name, inputs[0])]
    if change.scale is None:
        yield _vector_rule(None, False, shifts)
        return
    for name in (n for n in names if n not in shifts):
        for plus_one in (False, True):
            yield _vector_rule(name, plus_one, shifts)


def _adds(isolated: IsolatedModule, name: str, x: Tensor) -> bool:
    """Whether a vector is added to the output: its effect does not depend on the input.

    This only proposes a rule, which is tried afterwards.
    """
    both = (x, x * isolated.random(*x.shape))  # a norm ignores a common factor
    before = [isolated.run(each) for each in both]
    isolated.tensor(name).add_(1)
    one, other = (isolated.run(each) - was for each, was in zip(both, before, strict=True))
    return torch.allclose(one, other, atol=1e-4)


def _vector_rule(scale: str | None, plus_one: bool, shifts: Sequence[str]) -> Rule:
    """``s * (w * x + b) + t``: w becomes s w, or s (1 + w) - 1 if the module uses 1 + w."""

    def rule(parameters: ModuleParameters, change: Modulation) -> Fold:
        if change.matrix is not None:
            raise CannotFold("a full matrix cannot be folded into a norm")
        changed = {name: parameters.required(name) for name in shifts}
        if change.scale is not None and scale is not None:
            changed = {n: v * change.scale.reshape(v.shape) for n, v in changed.items()}
            weight = parameters.required(scale)
            factor = change.scale.reshape(weight.shape)
            changed[scale] = factor * (1 + weight) - 1 if plus_one else factor * weight
        if change.shift is None:
            return Fold(changed)
        if not shifts:
            name = type(parameters.module).__name__
            return Fold(changed, change.shift, f"a {name} has no bias that could absorb a shift")
        first = changed[shifts[0]]
        return Fold({**changed, shifts[0]: first + change.shift.reshape(first.shape)})

    return rule


# --- the trial -----------------------------------------------------------------------------------


def _check(
    module: nn.Module,
    site: Site,
    change: Modulation,
    rule: Rule,
    inputs: Sequence[Tensor],
    otherwise: str,
) -> None:
    """Check that a rule is exact for a modulation of this form, in both modes of the module.

    Raises:
        CannotFold: if it is not, or the module does not run in isolation.
    """
    double = any(p.dtype == torch.float64 for p in module.parameters())
    try:
        for training, x in itertools.product((False, True), inputs):
            error = _error(module, site, change, rule, x, training)
            if error > 1e-5:
                raise CannotFold(otherwise)
            if double and error > 1e-12:
                name = type(module).__name__
                raise CannotFold(
                    f"a {name} computes in lower precision than that of its parameters"
                )
    except CannotRun as error:
        raise CannotFold(otherwise) from error
    if not inputs:
        raise CannotFold(otherwise)


def _error(
    module: nn.Module, site: Site, change: Modulation, rule: Rule, x: Tensor, training: bool
) -> float:
    """Largest error of a folded copy, relative to the largest output."""
    plain, folded = IsolatedModule(module, training), IsolatedModule(module, training)
    random_change = _random_modulation(plain, change, site.width)
    made = rule(ModuleParameters(folded.module, site, frozenset()), random_change)
    for name, value in made.parameters.items():
        setattr(folded.module, name, nn.Parameter(value, requires_grad=False))
    found = folded.run(x)
    if site.when == "input":
        expected = plain.run(_modulated(random_change, x, site))
    else:
        shift = None if made.left is not None else random_change.shift
        expected = _modulated(
            Modulation(random_change.scale, shift, random_change.matrix), plain.run(x), site
        )
    return float((found - expected).abs().max() / expected.abs().max())


def _random_modulation(isolated: IsolatedModule, change: Modulation, width: int) -> Modulation:
    """A random modulation of the same form as ``change``."""
    matrix = torch.eye(width, dtype=torch.float64) + isolated.random(width, width) / width
    return Modulation(
        None if change.scale is None else isolated.random(width),
        None if change.shift is None else isolated.random(width),
        None if change.matrix is None else matrix,
    )


def _modulated(change: Modulation, x: Tensor, site: Site) -> Tensor:
    if not -x.ndim <= site.axis < x.ndim or x.shape[site.axis] != site.width:
        raise CannotFold(f"axis {site.axis} is not known to be the features of the module")
    return change.apply(x.double(), site.axis)
