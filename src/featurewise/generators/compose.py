"""Generators for several conditions: a sum, a product, concatenated encoders, or one per site.

All take a mapping from names to conditions. A missing name contributes the identity, so that the
conditions may differ from call to call. With an empty mapping the network is unmodified.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featurewise.core import (
    Affine,
    ArgumentTypeError,
    Layout,
    LayoutError,
    Operation,
    OperationError,
    Scale,
    ShapeError,
    Shift,
)
from featurewise.core.kernels import cast, compute_dtype
from featurewise.core.numbers import FLOAT_TENSOR, is_float
from featurewise.core.patterns import matching
from featurewise.generators.base import (
    Generator,
    bind_part,
    flat_parameters,
    of_all_sites,
    positive,
    unbound,
)
from featurewise.generators.errors import ConditionError, GeneratorError
from featurewise.generators.optional import WithDefault


class _Composed(WithDefault, ABC):
    """Base class: named generators with optional conditions."""

    parts: nn.ModuleDict

    def __init__(self, generators: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.parts = _named(generators, "generators", type(self).__name__)

    def _build(self, layout: Layout) -> None:
        for part in self.parts.values():
            bind_part(part, layout)
        super()._build(layout)

    def forward(self, condition: Any) -> Float[Tensor, "..."]:
        """Flat parameters ``(N,)``, ``(B, N)`` or ``(B, N, *positions)``.

        Args:
            condition: a mapping from names of generators to their conditions; a value of None is
                passed on (``Learned`` needs it).

        Raises:
            LayoutError: if no layout is bound.
            ConditionError: if the condition is None, or holds an unknown name.
            ShapeError: if the generators return different batch sizes or positions.
            ArgumentTypeError: if the condition is not a mapping.
        """
        layout, start = self._bound_start()
        flats = list(self._flats(condition).values())
        if not flats:
            return start.view(-1)
        total = flats[0]
        for flat in flats[1:]:
            total = self._then(layout, start, total, flat)
        return total

    @abstractmethod
    def _then(self, layout: Layout, start: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Combine the parameters of two generators; ``first`` may be a combination already."""

    def _flats(self, condition: Any) -> dict[str, Tensor]:
        """Flat parameters of the generators that have a condition, of equal rank."""
        layout, _ = self._bound_start()
        _check_names(condition, tuple(self.parts), type(self).__name__)
        made = {
            name: flat_parameters(part(condition[name]), layout)
            for name, part in self.parts.items()
            if name in condition
        }
        return _aligned(made)


class Sum(_Composed):
    """The sum of several generators at the same sites: ``start + Σ (raw_i - start)``.

    Raw parameters are offsets from the identity, so contributions of independent conditions add
    up. It supports all operations.

    Args:
        generators: by name; at least one.

    Raises:
        ArgumentTypeError: a generator that is not a module, or is a local generator.
        GeneratorError: no generator, or an invalid name.

    Example:
        >>> from featurewise.core import Site
        >>> from featurewise.generators import Linear, Lookup
        >>> generator = Sum({"text": Linear(8), "user": Lookup(100)})
        >>> generator.bind(Layout((Site("conv", 4, Affine()),)))
        >>> generator({"text": torch.randn(3, 8), "user": torch.tensor([0, 7, 7])}).shape
        torch.Size([3, 8])
        >>> generator({"text": torch.randn(3, 8)}).shape
        torch.Size([3, 8])
    """

    def _build(self, layout: Layout) -> None:
        super()._build(layout)
        self._nonzero_start = any(p.start != 0 for site in layout for p in site.parameters.values())

    def _then(self, layout: Layout, start: Tensor, first: Tensor, second: Tensor) -> Tensor:
        if self._nonzero_start:
            second = second - start.to(second.dtype).reshape(-1, *(1,) * (second.ndim - 2))
        return first + second


class Product(_Composed):
    """The composition of several generators at the same sites.

    Generators are applied in order: for a, then b, the scale is ``γ_b γ_a`` and the shift
    ``γ_b β_a + β_b``, as for two modulations in that order. The result is raw parameters of the
    same operation. Therefore the operation must be ``Shift``, ``Scale`` or ``Affine`` with the
    activation "identity" or "exp": compositions of other operations have another form.

    Args:
        generators: by name, in the order of application; at least one.

    Raises:
        ArgumentTypeError: a generator that is not a module, or is a local generator.
        GeneratorError: no generator, or an invalid name.
    """

    def _build(self, layout: Layout) -> None:
        for site in layout:
            if not _closed(site.operation):
                raise OperationError(
                    f"site '{site.name}': a composition of two {site.operation} has another form; "
                    "Product needs Shift, Scale or Affine with activation 'identity' or 'exp'"
                )
        super()._build(layout)

    def _then(self, layout: Layout, start: Tensor, first: Tensor, second: Tensor) -> Tensor:
        one, two = (layout.split(cast(f, compute_dtype(f))) for f in (first, second))
        return layout.join({s.name: _chain(s.operation, one[s.name], two[s.name]) for s in layout})


class BySite(WithDefault):
    """Different generators for different sites.

    Args:
        generators: pattern of site names (as in ``condition``) -> its generator. Exactly one
            pattern must match each site. A generator is bound to the sites of its pattern only.

    Attributes:
        layouts: the sites of each pattern; empty until bound.

    Raises:
        ArgumentTypeError: a generator that is not a module, or is a local generator.
        GeneratorError: no generator.

    Example:
        >>> from featurewise.core import Site
        >>> from featurewise.generators import Linear, Lookup
        >>> layout = Layout((Site("stem", 4, Affine()), Site("layer1.bn", 8, Affine())))
        >>> generator = BySite({"stem": Linear(3), "layer*.**": Lookup(10)})
        >>> generator.bind(layout)
        >>> generator({"stem": torch.randn(2, 3), "layer*.**": torch.tensor([0, 7])}).shape
        torch.Size([2, 24])
    """

    parts: nn.ModuleDict

    def __init__(self, generators: Mapping[str, nn.Module]) -> None:
        super().__init__()
        who = type(self).__name__
        if isinstance(generators, Mapping) and not all(isinstance(k, str) for k in generators):
            raise ArgumentTypeError(
                f"{who}: generators must have patterns of site names as their keys"
            )
        # The name of a module must not contain a dot.
        keys = generators if not isinstance(generators, Mapping) else _keys(generators)
        self.parts = _named(keys, "generators", who)
        self.patterns = tuple(generators)
        self.layouts: dict[str, Layout] = {}
        self._runs: list[tuple[int, int, int]] = []

    def _build(self, layout: Layout) -> None:
        owners = self._owners(layout)
        for pattern, part in self._pairs():
            sites = tuple(site for site in layout if owners[site.name] == pattern)
            self.layouts[pattern] = Layout(sites)
            bind_part(part, self.layouts[pattern])
        for site in layout:
            pattern = owners[site.name]
            span = self.layouts[pattern].span(site.name)
            place = self.patterns.index(pattern)
            if self._runs and self._runs[-1][0] == place:  # consecutive sites of one pattern
                self._runs[-1] = (place, self._runs[-1][1], span.stop)
            else:
                self._runs.append((place, span.start, span.stop))
        super()._build(layout)

    def _owners(self, layout: Layout) -> dict[str, str]:
        """Site -> the one pattern that matches it."""
        owners: dict[str, str] = {}
        for pattern in self.patterns:
            for name in matching(pattern, layout.names):
                if name in owners:
                    raise LayoutError(
                        f"site '{name}' is matched by {owners[name]!r} and by {pattern!r}"
                    )
                owners[name] = pattern
        missing = [name for name in layout.names if name not in owners]
        if missing:
            raise LayoutError(
                f"no pattern of {', '.join(map(repr, self.patterns))} matches {', '.join(missing)}"
            )
        return owners

    def _pairs(self) -> Iterator[tuple[str, nn.Module]]:
        yield from zip(self.patterns, self.parts.values(), strict=True)

    def forward(self, condition: Any) -> Float[Tensor, "..."]:
        """Flat parameters ``(N,)``, ``(B, N)`` or ``(B, N, *positions)``.

        Args:
            condition: a mapping from patterns, as in the constructor, to the condition of each
                generator.

        Raises:
            LayoutError: if no layout is bound.
            ConditionError: if the condition is None, or holds an unknown pattern.
            ShapeError: if the generators return different batch sizes or positions.
            ArgumentTypeError: if the condition is not a mapping.
        """
        _, start = self._bound_start()
        _check_names(condition, self.patterns, type(self).__name__)
        if not condition:
            return start.view(-1)
        made: dict[str, Tensor] = {}
        for pattern, part in self._pairs():
            own = self.layouts[pattern]
            if pattern in condition:
                made[pattern] = flat_parameters(part(condition[pattern]), own)
            else:
                made[pattern] = own.start().to(start)
        flats = list(_aligned(made).values())
        axis = min(flats[0].ndim - 1, 1)
        return torch.cat([flats[i].narrow(axis, a, b - a) for i, a, b in self._runs], dim=axis)


class ConcatEncoders(Generator):
    """Several encoders, whose features are concatenated, and one head.

    The head is linear, so the contributions of the conditions add up. The difference to ``Sum`` is
    that there is one bias. Features of a missing condition are zeros.

    Args:
        encoders: by name, from a condition to features ``(F,)``, ``(B, F)`` or
            ``(B, F, *positions)``; None if the condition already is such features.
        features: width F of every encoder: a number for all, or by name.

    Raises:
        ArgumentTypeError: an encoder that is not a module, or a width that is not an integer.
        GeneratorError: no encoder, an invalid name, widths of other names or below 1.

    Example:
        >>> from featurewise.core import Site
        >>> generator = ConcatEncoders({"text": None, "age": nn.Tanh()}, {"text": 8, "age": 1})
        >>> generator.bind(Layout((Site("conv", 4, Affine()),)))
        >>> generator({"text": torch.randn(3, 8), "age": torch.rand(3, 1)}).shape
        torch.Size([3, 8])
    """

    def __init__(
        self, encoders: Mapping[str, nn.Module | None], features: int | Mapping[str, int]
    ) -> None:
        joined = _Encoders(encoders, features)
        super().__init__(joined, sum(joined.widths.values()))

    def forward(self, condition: Any) -> Float[Tensor, "..."]:
        """Flat parameters ``(N,)``, ``(B, N)`` or ``(B, N, *positions)``.

        Args:
            condition: a mapping from names of encoders to their conditions. For an empty mapping
                the result is the start values, not the learned bias.

        Raises:
            LayoutError: if no layout is bound.
            ConditionError: if the condition is None, or holds an unknown name.
            ShapeError: features of another width, or of different batch sizes or positions.
            ArgumentTypeError: if the condition is not a mapping, or features are not a
                floating-point tensor.
        """
        if self.head is None:
            raise unbound(self)
        if isinstance(condition, Mapping) and not condition:
            return self.head.layout.start().to(self.head.bias)
        return super().forward(condition)


class _Encoders(nn.Module):
    """A mapping of conditions -> their features, concatenated on axis 1."""

    def __init__(
        self, encoders: Mapping[str, nn.Module | None], features: int | Mapping[str, int]
    ) -> None:
        super().__init__()
        if not isinstance(encoders, Mapping):
            raise ArgumentTypeError(
                "ConcatEncoders: encoders must be a mapping of names, "
                f"got {type(encoders).__name__}"
            )
        filled = {n: nn.Identity() if e is None else e for n, e in encoders.items()}
        self.encoders = _named(filled, "encoders", "ConcatEncoders")
        if not isinstance(features, Mapping):
            features = dict.fromkeys(encoders, features)
        if set(features) != set(encoders):
            raise GeneratorError(
                f"features must name the encoders {', '.join(encoders)}; "
                f"got {', '.join(map(str, features))}"
            )
        self.widths = {n: positive(features[n], f"features of '{n}'") for n in encoders}

    def forward(self, condition: Any) -> Tensor:
        """``(F,)``, ``(B, F)`` or ``(B, F, *positions)``; F is the sum of all widths."""
        _check_names(condition, tuple(self.encoders), "ConcatEncoders")
        made = {n: self._features(n, condition[n]) for n in self.encoders if n in condition}
        like = next(iter(made.values()))
        made = {
            n: made[n] if n in made else like.new_zeros(width) for n, width in self.widths.items()
        }
        parts = list(_aligned(made).values())
        return torch.cat(parts, dim=min(parts[0].ndim - 1, 1))

    def _features(self, name: str, condition: Any) -> Tensor:
        if condition is None:
            raise ConditionError(f"ConcatEncoders: the condition '{name}' is None; omit its name")
        made, width = self.encoders[name](condition), self.widths[name]
        if not is_float(made):
            kind = made.dtype if isinstance(made, Tensor) else type(made).__name__
            raise ArgumentTypeError(f"features of '{name}' must be {FLOAT_TENSOR}, got {kind}")
        if made.ndim == 0 or made.shape[min(1, made.ndim - 1)] != width:
            raise ShapeError(
                f"features of '{name}' must be ({width},), (B, {width}) or "
                f"(B, {width}, *positions), got {tuple(made.shape)}"
            )
        return made


# --- helpers -------------------------------------------------------------------------------------

#: Operations that are closed under composition.
_CLOSED: Final = (Shift, Scale, Affine)


def _closed(operation: Operation) -> bool:
    if type(operation) not in _CLOSED:
        return False
    return not isinstance(operation, Scale) or operation.activation in ("identity", "exp")


def _chain(
    operation: Operation, first: Mapping[str, Tensor], second: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Raw parameters of the composition of ``first``, then ``second``."""
    if not isinstance(operation, Scale):
        return {"beta": first["beta"] + second["beta"]}
    a, b = first["gamma"], second["gamma"]
    if operation.activation == "exp":
        chained = {"gamma": a + b}
    elif operation.raw:
        chained = {"gamma": b * a}
    else:  # (1 + a)(1 + b) - 1, without cancellation of digits
        chained = {"gamma": a + b + b * a}
    if isinstance(operation, Affine):
        chained["beta"] = operation.scale(b) * first["beta"] + second["beta"]
    return chained


def _named(modules: object, what: str, who: str) -> nn.ModuleDict:
    """Checked modules, by name."""
    if not isinstance(modules, Mapping):
        raise ArgumentTypeError(
            f"{who}: {what} must be a mapping of names, got {type(modules).__name__}"
        )
    if not modules:
        raise GeneratorError(f"{who} needs at least one of its {what}")
    named = nn.ModuleDict()
    for name, module in modules.items():
        if not isinstance(name, str):
            raise ArgumentTypeError(f"{who}: names of {what} must be strings, got {name!r}")
        if not name or "." in name or hasattr(named, name):
            raise GeneratorError(f"{who}: {name!r} cannot be the name of a module; use another")
        named[name] = of_all_sites(module, f"{who}: '{name}'", who)
    return named


def _keys(generators: Mapping[str, Any]) -> dict[str, Any]:
    """Patterns, converted to names of modules."""
    keys = {pattern.replace(".", "/"): part for pattern, part in generators.items()}
    if len(keys) < len(generators):
        raise GeneratorError(
            f"BySite: patterns that differ only in dots and slashes: {', '.join(generators)}"
        )
    return keys


def _check_names(condition: Any, names: tuple[str, ...], who: str) -> None:
    if condition is None:
        raise ConditionError(
            f"{who} needs a mapping of conditions, got None; for no condition pass {{}}"
        )
    if not isinstance(condition, Mapping):
        raise ArgumentTypeError(
            f"{who}: condition must be a mapping from {', '.join(names)} to their conditions, "
            f"got {type(condition).__name__}"
        )
    odd = [name for name in condition if name not in names]
    if odd:
        raise ConditionError(
            f"{who}: no generator for {', '.join(map(repr, odd))}; there are {', '.join(names)}"
        )


def _aligned(made: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All as ``(B, n, *positions)`` with equal batch size and positions, or all as ``(n,)``."""
    full = [part for part in made.values() if part.ndim > 1]
    if not full:
        return dict(made)
    batch_size, rank = full[0].shape[0], max([part.ndim for part in full])
    places = [1] * (rank - 2)
    for part in full:
        for axis, size in enumerate(part.shape[2:]):
            places[axis] = places[axis] if size == 1 else size
    for part in full:
        fits = part.shape[0] == batch_size and part.ndim in (2, rank)
        if not fits or any(n not in (1, p) for n, p in zip(part.shape[2:], places, strict=False)):
            shapes = ", ".join(f"'{name}' {tuple(p.shape)}" for name, p in made.items())
            raise ShapeError(f"conditions of different batch sizes or positions: {shapes}")
    return {name: _expanded(part, batch_size, places) for name, part in made.items()}


def _expanded(part: Tensor, batch_size: int, places: list[int]) -> Tensor:
    if part.ndim == 1:
        part = part[None]
    if part.ndim == 2:
        part = part.reshape(*part.shape, *(1,) * len(places))
    return part.expand(batch_size, -1, *places)
