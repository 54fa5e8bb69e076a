"""Where a network is modulated: ``Site`` (one location) and ``Layout`` (all sites, in order)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor

from featurewise.common.text import short
from featurewise.core.broadcast import RESAMPLING, check_features, positions, resample, shape_of
from featurewise.core.errors import ArgumentTypeError, LayoutError, ShapeError
from featurewise.core.operation import Operation, Parameter, check_values

#: Most sites that ``Layout.from_json`` accepts: a limit to the work that a file can cause.
MAX_SITES: Final = 10_000
#: Most numbers of all sites of a layout.
MAX_SIZE: Final = 1 << 40


@dataclass(frozen=True)
class Site:
    """A location in a network whose features are modulated.

    Attributes:
        name: name of the module in its network, as ``named_modules`` gives it.
        width: number of features C at the site.
        operation: the operation on the features.
        axis: feature axis; negative counts from the end.
        batch_axis: axis of the samples, or None where the features have none.
        when: "output" modulates what the module returns, "input" what it receives.
        leaf: which tensor, if the module takes or returns several (order of the pytree).
        extent: sizes of the position axes in the dry run; needed by row and column terms.
        module: class name of the module, for display; equality of sites ignores it.
        resize: how parameters per position are resized to the positions of the features:
            "nearest", "linear" or "area" (see ``featurewise.core.broadcast.resample``); with None
            positions of other sizes raise an error.

    Raises:
        ArgumentTypeError: an attribute of the wrong type.
        ShapeError: a width that is not positive, or the same axis for features and samples.
        LayoutError: an invalid value of ``when`` or ``resize``, or a negative ``leaf``.
    """

    name: str
    width: int
    operation: Operation
    axis: int = 1
    batch_axis: int | None = 0
    when: str = "output"
    leaf: int = 0
    extent: tuple[int, ...] | None = None
    module: str = field(default="", compare=False)
    resize: str | None = None

    def __post_init__(self) -> None:
        where = f"site '{self.name}'"
        _check_kinds(self, where)
        if self.width < 1:
            raise ShapeError(f"{where}: width must be positive, got {self.width}")
        if self.axis == self.batch_axis:
            raise ShapeError(f"{where}: axis and batch_axis are both {self.axis}")
        if self.leaf < 0:
            raise LayoutError(f"{where}: leaf must not be negative, got {self.leaf}")
        if self.when not in ("input", "output"):
            raise LayoutError(f"{where}: when must be 'input' or 'output', got {self.when!r}")
        if self.resize is not None and self.resize not in RESAMPLING:
            rules = ", ".join(RESAMPLING)
            raise LayoutError(f"{where}: resize must be one of {rules}, got {self.resize!r}")

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """The parameters of the operation at this site, by name, in order."""
        return self.operation.parameters(self.width, self.extent)

    @cached_property
    def size(self) -> int:
        """Number of modulation parameters of this site."""
        return sum(math.prod(p.shape) for p in self.parameters.values())

    def modulate(self, x: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        """Apply the operation to features ``x`` with raw parameters ``values``, both checked.

        Raises:
            ShapeError: a shape, an axis or a name that does not fit.
            ArgumentTypeError: an argument of the wrong type, dtype or device.
        """
        where = f"site '{self.name}'"
        axis = check_features(x, self.width, self.axis, self.batch_axis, where)
        batch_axis = None if self.batch_axis is None else self.batch_axis % x.ndim
        if self.resize is not None:
            values = self._resized(values, positions(x, axis, batch_axis), self.resize)
        check_values(values, self.parameters, x, axis, batch_axis, where)
        return self.operation.apply(x, values, axis, batch_axis)

    def _resized(
        self, values: Mapping[str, Tensor], sizes: tuple[int, ...], rule: str
    ) -> Mapping[str, Tensor]:
        """``values``, with those per position resized to these ``sizes``."""
        found = dict(values)
        for name, parameter in self.parameters.items():
            value, own = values.get(name), len(parameter.shape)
            per_position = isinstance(value, Tensor) and value.ndim == 1 + own + len(sizes)
            if per_position and parameter.positional and 0 < len(sizes) <= 3:
                found[name] = resample(values[name], own, sizes, rule)
        return found

    def to_json(self) -> dict[str, Any]:
        """A JSON-able description; ``from_json`` restores it."""
        return {
            "name": self.name,
            "width": self.width,
            "operation": self.operation.to_json(),
            "axis": self.axis,
            "batch_axis": self.batch_axis,
            "when": self.when,
            "leaf": self.leaf,
            "extent": None if self.extent is None else list(self.extent),
            "module": self.module,
            # Omitted if None, so that earlier versions can read the file.
            **({} if self.resize is None else {"resize": self.resize}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Site:
        """Restore a site from ``to_json``.

        Raises:
            LayoutError: if a key is missing, unknown or of the wrong type.
            ShapeError: if a value is invalid.
            OperationError: if its operation cannot be restored.
        """
        if not isinstance(data, Mapping):
            raise LayoutError(f"not a site: {short(data)}")
        fields = dict(data)
        try:
            fields["operation"] = Operation.from_json(fields["operation"])
            if fields["extent"] is not None:
                fields["extent"] = tuple(fields["extent"])
            return cls(**fields)
        except KeyError as error:
            raise LayoutError(f"not a site, {error} is missing: {short(data)}") from error
        except TypeError as error:
            raise LayoutError(f"not a site, {error}: {short(data)}") from error


_KINDS: Final = (("name", str), ("operation", Operation), ("when", str), ("module", str))


def _check_kinds(site: Site, where: str) -> None:
    for name, kind in _KINDS:
        value = getattr(site, name)
        if not isinstance(value, kind):
            raise ArgumentTypeError(
                f"{where}: {name} must be of type {kind.__name__}, got {value!r}"
            )
    optional = () if site.batch_axis is None else ("batch_axis",)
    for name in ("width", "axis", "leaf", *optional):
        if not _is_integer(getattr(site, name)):
            raise ArgumentTypeError(
                f"{where}: {name} must be an integer, got {getattr(site, name)!r}"
            )
    extent = site.extent
    if extent is not None and not (isinstance(extent, tuple) and all(map(_is_integer, extent))):
        raise ArgumentTypeError(
            f"{where}: extent must be a tuple of integers or None, got {extent!r}"
        )


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True)
class Layout:
    """The ordered sites of one network: which numbers of a flat vector belong to which site.

    Attributes:
        sites: the sites, in order.
        backbone: number of parameters of the network, if known; equality of layouts ignores it.

    Example:
        >>> from featurewise.core import Affine
        >>> layout = Layout((Site("conv1", 16, Affine()), Site("conv2", 32, Affine())))
        >>> layout.size
        96
    """

    sites: tuple[Site, ...]
    backbone: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.backbone is not None and not (_is_integer(self.backbone) and self.backbone >= 0):
            raise ArgumentTypeError(
                f"backbone must be a number of parameters, got {self.backbone!r}"
            )
        object.__setattr__(self, "sites", tuple(self.sites))
        seen: set[str] = set()
        for site in self.sites:
            if not isinstance(site, Site):
                raise ArgumentTypeError(f"a layout is made of sites, got {type(site).__name__}")
            if site.name in seen:
                raise LayoutError(f"two sites are named '{site.name}'")
            seen.add(site.name)
        _ = self.size, self._slices  # raises if an operation does not support its site

    @cached_property
    def _slices(self) -> dict[str, dict[str, tuple[int, int, tuple[int, ...]]]]:
        # site -> parameter -> (start, stop, shape)
        slices: dict[str, dict[str, tuple[int, int, tuple[int, ...]]]] = {}
        start = 0
        for site in self.sites:
            slices[site.name] = {}
            for name, parameter in site.parameters.items():
                stop = start + math.prod(parameter.shape)
                slices[site.name][name] = (start, stop, parameter.shape)
                start = stop
        return slices

    def __len__(self) -> int:
        return len(self.sites)

    def __iter__(self) -> Iterator[Site]:
        return iter(self.sites)

    def __getitem__(self, name: str) -> Site:
        """The site of that name.

        Raises:
            LayoutError: if there is none; the message lists the names.
        """
        for site in self.sites:
            if site.name == name:
                return site
        raise LayoutError(f"no site {name!r}; the sites are {', '.join(self.names) or 'none'}")

    def __contains__(self, item: object) -> bool:
        """Whether a site, or a site of that name, is among the sites."""
        return any(item in (site, site.name) for site in self.sites)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sites, in order."""
        return tuple(site.name for site in self.sites)

    @cached_property
    def size(self) -> int:
        """Length N of the flat vector, which holds all modulation parameters of the network."""
        return sum(site.size for site in self.sites)

    @property
    def neutral(self) -> bool:
        """Whether the start values leave every feature exactly unchanged."""
        return all(p.neutral for site in self.sites for p in site.parameters.values())

    def start(self) -> Tensor:
        """Initial values of all parameters, ``(N,)``: the identity for operations that have one."""
        parts = [
            torch.full((math.prod(p.shape),), p.start)
            for site in self.sites
            for p in site.parameters.values()
        ]
        return torch.cat(parts) if parts else torch.zeros(0)

    def span(self, site: str) -> slice:
        """Slice of the flat vector that holds the parameters of one site."""
        spans = [(a, b) for a, b, _ in self._slices[self[site].name].values()]
        return slice(spans[0][0], spans[-1][1]) if spans else slice(0, 0)

    def split(self, flat: Tensor) -> dict[str, dict[str, Tensor]]:
        """Split a flat tensor into named parameters (views).

        Args:
            flat: ``(N,)``, ``(B, N)`` or ``(B, N, *positions)``.

        Returns:
            ``{site: {parameter: S | (B, *S) | (B, *S, *positions)}}``.

        Raises:
            ShapeError: if the length of ``flat`` is not that of the layout.
        """
        return {name: self.split_site(flat, name) for name in self._slices}

    def split_site(self, flat: Tensor, site: str) -> dict[str, Tensor]:
        """The named parameters of one site, as in ``split``.

        Raises:
            LayoutError: if there is no such site.
            ShapeError: if the length of ``flat`` is not that of the layout.
        """
        self.check(flat)
        if site not in self._slices:
            self[site]  # raises the error that lists the sites
        axis = min(flat.ndim - 1, 1)
        return {
            name: _shaped(flat.narrow(axis, start, stop - start), shape, axis)
            for name, (start, stop, shape) in self._slices[site].items()
        }

    def join(self, named: Mapping[str, Mapping[str, Tensor]]) -> Tensor:
        """Join named parameters into one flat tensor: the inverse of ``split``.

        Raises:
            LayoutError: if sites or parameters are missing or unknown.
            ArgumentTypeError: if a parameter is not a tensor.
            ShapeError: if a shape is wrong, or the parameters are not all shared, all per sample
                or all per position.
        """
        if set(named) != set(self._slices):
            raise LayoutError(f"expected the sites {list(self._slices)}, got {list(named)}")
        parts: dict[str, Tensor] = {}
        for site, slices in self._slices.items():
            if set(named[site]) != set(slices):
                raise LayoutError(f"site '{site}' takes {list(slices)}, got {list(named[site])}")
            for name, (_, _, shape) in slices.items():
                where = f"{site}.{name}"
                parts[where] = _flatten(named[site][name], shape, where)
        if len({_batch_and_positions(part) for part in parts.values()}) > 1:
            shapes = ", ".join(f"{where}{shape_of(part)}" for where, part in parts.items())
            raise ShapeError(f"parameters of different batches or positions, flat: {shapes}")
        if not parts:
            return torch.zeros(0)
        flat = list(parts.values())
        return torch.cat(flat, dim=min(flat[0].ndim - 1, 1))

    def check(self, flat: Tensor) -> None:
        """Check that ``flat`` is ``(N,)``, ``(B, N)`` or ``(B, N, *positions)``.

        Raises:
            ArgumentTypeError: if it is not a tensor.
            ShapeError: if it has another shape.
        """
        if not isinstance(flat, Tensor):
            raise ArgumentTypeError(f"flat must be a tensor, got {type(flat).__name__}")
        axis = 0 if flat.ndim == 1 else 1
        if flat.ndim == 0 or flat.shape[axis] != self.size:
            raise ShapeError(
                f"expected flat ({self.size},), (B, {self.size}) or (B, {self.size}, *positions) "
                f"for {len(self)} sites, got {shape_of(flat)}"
            )

    def to_json(self) -> dict[str, Any]:
        """A JSON-able description; ``from_json`` restores it."""
        return {"sites": [site.to_json() for site in self.sites], "backbone": self.backbone}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | list[dict[str, Any]]) -> Layout:
        """Restore a layout from ``to_json``, or from a list of sites, an earlier format.

        Raises:
            FeaturewiseError: if there is no list of sites, or more than ``MAX_SITES`` sites or
                ``MAX_SIZE`` numbers; see ``Site.from_json``.
        """
        if isinstance(data, list):
            data = {"sites": data}
        sites = data.get("sites") if isinstance(data, Mapping) else None
        if not isinstance(sites, list) or not set(data) <= {"sites", "backbone"}:
            raise LayoutError(f"not a layout, expected sites and backbone: {short(data)}")
        if len(sites) > MAX_SITES:
            raise LayoutError(f"a layout has at most {MAX_SITES:,} sites, this one {len(sites):,}")
        made = cls(tuple(Site.from_json(site) for site in sites), data.get("backbone"))
        if made.size > MAX_SIZE:
            raise LayoutError(f"a layout has at most {MAX_SIZE:,} numbers, this one {made.size:,}")
        return made

    def __str__(self) -> str:
        """A table of the sites, and the share of their parameters relative to the backbone."""
        head = ("site", "module", "operation", "axis", "width", "parameters")
        rows = [
            (s.name, s.module, str(s.operation), str(s.axis), str(s.width), f"{s.size:,}")
            for s in self.sites
        ]
        total = (f"{len(self)} sites", "", "", "", "", f"{self.size:,}")
        lines = [table([head, *rows, total], left=3)]
        if self.backbone:
            lines.append(
                f"{self.size / self.backbone:.2%} of the backbone, which has {self.backbone:,} "
                "parameters"
            )
        return "\n".join(lines)


def table(rows: Sequence[Sequence[str]], left: int) -> str:
    """A text table with columns two spaces apart; columns that are empty in all rows are omitted.

    Args:
        rows: the header and the rows, of equal length.
        left: number of columns that are left-aligned; the others are right-aligned.
    """
    kept = [i for i in range(len(rows[0])) if any(row[i] for row in rows[1:])]
    widths = {i: max(len(row[i]) for row in rows) for i in kept}
    return "\n".join(
        "  ".join(
            row[i].ljust(widths[i]) if i < left else row[i].rjust(widths[i]) for i in kept
        ).rstrip()
        for row in rows
    )


def _flatten(value: object, shape: tuple[int, ...], where: str) -> Tensor:
    """Merge the axes of ``shape``: ``(n,)``, ``(B, n)`` or ``(B, n, *positions)``."""
    if not isinstance(value, Tensor):
        raise ArgumentTypeError(f"{where} must be a tensor, got {type(value).__name__}")
    if value.shape == shape:
        return value.reshape(-1)
    if value.shape[1 : 1 + len(shape)] == shape:
        return value.reshape(value.shape[0], math.prod(shape), *value.shape[1 + len(shape) :])
    raise ShapeError(
        f"{where}{shape_of(value)} must be {shape}, (B, *{shape}), (B, *{shape}, *positions)"
    )


def _shaped(part: Tensor, shape: tuple[int, ...], axis: int) -> Tensor:
    # Usually the parameter is a vector already: skip the view, which takes time.
    if len(shape) == 1:
        return part
    return part.reshape(part.shape[:axis] + shape + part.shape[axis + 1 :])


def _batch_and_positions(part: Tensor) -> tuple[int, ...]:
    axis = min(part.ndim - 1, 1)
    return (*part.shape[:axis], *part.shape[axis + 1 :])
