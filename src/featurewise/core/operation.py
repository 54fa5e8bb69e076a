"""Operations on the features of a site, from a shift to a bilinear form.

An ``Operation`` declares the parameters of a site of width C and applies them. All operations are
interchangeable. Parameters are *raw*, as a generator predicts them: for ``Affine()`` the raw γ is
the offset Δγ of the scale from one. Therefore the zero vector leaves a network unchanged, and task
representations form a vector space whose origin is the unmodified network.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import re
import string
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from featurewise.common.text import short
from featurewise.core.broadcast import align, check_parameter, feature_axis, positions
from featurewise.core.errors import ArgumentTypeError, FeaturewiseError, OperationError, ShapeError
from featurewise.core.kernels import cast, compute_dtype, modulate
from featurewise.core.numbers import is_finite, is_number


@dataclass(frozen=True)
class Parameter:
    """One parameter that an operation takes at a site.

    Attributes:
        shape: its own shape, without batch and positions; usually ``(C,)``.
        start: initial raw value.
        neutral: whether the initial value leaves the features exactly unchanged.
        positional: whether it may vary over positions, ``(B, C, *positions)``.
    """

    shape: tuple[int, ...]
    start: float = 0.0
    neutral: bool = True
    positional: bool = True


@dataclass(frozen=True)
class Operation(ABC):
    """Base of all operations. A new one is a frozen dataclass with the two methods below."""

    @abstractmethod
    def parameters(self, width: int, extent: tuple[int, ...] | None = None) -> dict[str, Parameter]:
        """The parameters of a site with ``width`` features, by name, in order.

        Args:
            width: number of features C.
            extent: sizes of the position axes, for operations that need them.
        """

    @abstractmethod
    def apply(
        self, x: Tensor, values: Mapping[str, Tensor], axis: int, batch_axis: int | None
    ) -> Tensor:
        """Modulate ``x`` with checked ``values`` (raw); axes are counted from the front.

        Returns:
            A tensor of the shape and dtype of ``x``.
        """

    def effective(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The effective parameters for raw ``values``: γ as it multiplies, β as it is added."""
        return dict(values)

    def __call__(
        self,
        x: Tensor,
        values: Mapping[str, Tensor],
        *,
        axis: int = 1,
        batch_axis: int | None = 0,
    ) -> Tensor:
        """Check everything, then ``apply``.

        Args:
            x: features, C of them on ``axis`` and B samples on ``batch_axis``.
            values: raw parameters by name; shapes as in ``featurewise.core.broadcast``.
            axis: feature axis of ``x``.
            batch_axis: sample axis of ``x``, or None.

        Raises:
            ShapeError: a shape, an axis or a name that does not fit.
            ArgumentTypeError: an argument of the wrong type, dtype or device.
        """
        where = type(self).__name__
        front = feature_axis(x, axis, batch_axis, where)
        batch = None if batch_axis is None else batch_axis % x.ndim
        expected = self.parameters(x.shape[front], positions(x, front, batch))
        check_values(values, expected, x, front, batch, where)
        return self.apply(x, values, front, batch)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able description; ``from_json`` restores it."""
        return {"kind": type(self).__name__, **dataclasses.asdict(self)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Operation:
        """Restore an operation from ``to_json``; classes, also those of users, are found by name.

        Raises:
            OperationError: if no such operation has been defined or imported, if the name is
                ambiguous, or if the values are invalid.
        """
        if not isinstance(data, Mapping):
            raise OperationError(f"not an operation: {short(data)}")
        fields = {name: _frozen(value) for name, value in data.items()}
        cls = _find(fields.pop("kind", None))
        try:
            return cls(**fields)
        except FeaturewiseError:
            raise
        except Exception as error:  # also of the constructor of a user's operation
            raise OperationError(f"operation '{cls.__name__}': {error}") from error

    def __str__(self) -> str:
        changed = [
            f"{f.name}={getattr(self, f.name)!r}"
            for f in dataclasses.fields(self)
            if getattr(self, f.name) != f.default
        ]
        return f"{type(self).__name__}({', '.join(changed)})"


# --- the family ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Diagonal(Operation):
    """Base of the operations that act on each feature separately: ``scale * x + shift``.

    A subclass computes the scale and the shift from its raw values. Applying the operation, folding
    it into adjacent weights and caching it follow from this form.
    """

    @property
    def plain(self) -> bool:
        """Whether ``apply`` is only scale and shift: a subclass may override it."""
        return type(self).apply is Diagonal.apply

    @abstractmethod
    def scale_shift(self, values: Mapping[str, Tensor]) -> tuple[Tensor | None, Tensor | None]:
        """Scale and shift of each feature, computed in float32 at least.

        Args:
            values: raw parameters by name, in any of the three shapes of the broadcasting rule.

        Returns:
            Scale and shift, with the shapes of the values; None for no scale or no shift.
        """

    def apply(
        self, x: Tensor, values: Mapping[str, Tensor], axis: int, batch_axis: int | None
    ) -> Tensor:
        """``scale * x + shift``."""
        compute = compute_dtype(x)
        scale, shift = self.scale_shift({n: cast(v, compute) for n, v in values.items()})
        return modulate(x, scale, shift, axis, batch_axis)

    def effective(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """γ as it multiplies the features, β as it is added."""
        scale, _ = self.scale_shift(values)
        return dict(values) if scale is None else {**values, "gamma": scale}


@dataclass(frozen=True)
class _Activation:
    function: Callable[[Tensor], Tensor]
    start: float
    neutral: bool


#: Activations of γ (Perez et al. 2018, table 2). Sigmoid and tanh never reach one, so they have
#: no identity and start near it. Softplus has base two, log2(1 + 2^γ), which is one at zero.
_ACTIVATIONS: Final[dict[str, _Activation]] = {
    "identity": _Activation(lambda g: g, 1.0, True),
    "exp": _Activation(torch.exp, 0.0, True),
    "softplus": _Activation(partial(F.softplus, beta=math.log(2.0)), 0.0, True),
    "sigmoid": _Activation(torch.sigmoid, 2.0, False),
    "tanh": _Activation(torch.tanh, 2.0, False),
}


@dataclass(frozen=True)
class Shift(Diagonal):
    """Conditional bias: ``x + beta`` (Dumoulin et al. 2018).

    Concatenating a condition to the input of a linear map equals a shift of its output.
    """

    def parameters(self, width: int, extent: tuple[int, ...] | None = None) -> dict[str, Parameter]:
        """``beta`` of shape (C,)."""
        return {"beta": Parameter((width,))}

    def scale_shift(self, values: Mapping[str, Tensor]) -> tuple[Tensor | None, Tensor | None]:
        """None and β."""
        return None, values["beta"]


@dataclass(frozen=True)
class Scale(Diagonal):
    """Conditional scale: ``γ * x`` (Dumoulin et al. 2018).

    Attributes:
        activation: how the raw γ becomes the scale: "identity", "exp", "softplus", "sigmoid" or
            "tanh". "sigmoid" and "tanh" have no identity; "softplus" has base two,
            ``log2(1 + 2^γ)``, so that zero is the identity.
        raw: with the identity activation, predict γ itself instead of its offset Δγ from one.
    """

    activation: str = "identity"
    raw: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.activation, str) or self.activation not in _ACTIVATIONS:
            raise OperationError(
                f"activation must be one of {', '.join(_ACTIVATIONS)}, got {self.activation!r}"
            )
        if not isinstance(self.raw, bool):
            raise OperationError(f"raw must be True or False, got {self.raw!r}")
        if self.raw and self.activation != "identity":
            raise OperationError(f"raw has no meaning with activation {self.activation!r}")

    def parameters(self, width: int, extent: tuple[int, ...] | None = None) -> dict[str, Parameter]:
        """``gamma`` of shape (C,)."""
        how = _ACTIVATIONS[self.activation]
        offset = self.activation == "identity" and not self.raw
        return {"gamma": Parameter((width,), 0.0 if offset else how.start, how.neutral)}

    def scale(self, gamma: Tensor) -> Tensor:
        """The scale for a raw γ, computed in float32 at least."""
        gamma = gamma.to(compute_dtype(gamma))
        if self.activation == "identity":
            return gamma if self.raw else 1.0 + gamma
        return _ACTIVATIONS[self.activation].function(gamma)

    def scale_shift(self, values: Mapping[str, Tensor]) -> tuple[Tensor | None, Tensor | None]:
        """γ as it multiplies, and None."""
        return self.scale(values["gamma"]), None


@dataclass(frozen=True)
class Affine(Scale):
    """FiLM: ``γ * x + β`` (Perez et al. 2018, eq. 2), γ predicted as its offset from one.

    Attributes:
        activation: as in ``Scale``.
        raw: as in ``Scale``.
    """

    def parameters(self, width: int, extent: tuple[int, ...] | None = None) -> dict[str, Parameter]:
        """``gamma`` and ``beta`` of shape (C,)."""
        return {**super().parameters(width, extent), "beta": Parameter((width,))}

    def scale_shift(self, values: Mapping[str, Tensor]) -> tuple[Tensor | None, Tensor | None]:
        """γ as it multiplies, and β."""
        return self.scale(values["gamma"]), values["beta"]


@dataclass(frozen=True)
class Gate(Diagonal):
    """Feature-wise sigmoid gating: ``ceiling * σ(gamma) * x`` (Dumoulin et al. 2018).

    Attributes:
        ceiling: upper bound of the scale. With 2 the zero vector is the identity, so that a gate
            can be added to a trained network. With 1 it is the gate of the literature
            (squeeze-and-excitation, gated attention), which halves every feature at zero and has
            no identity.
    """

    ceiling: int | float = 2.0

    def __post_init__(self) -> None:
        if not (is_number(self.ceiling) and is_finite(self.ceiling) and self.ceiling > 0):
            raise OperationError(f"ceiling must be a positive number, got {short(self.ceiling)}")

    def parameters(self, width: int, extent: tuple[int, ...] | None = None) -> dict[str, Parameter]:
        """``gamma`` of shape (C,)."""
        return {"gamma": Parameter((width,), 0.0, neutral=self.ceiling == 2.0)}

    def scale(self, gamma: Tensor) -> Tensor:
        """The scale in ``(0, ceiling)`` for a raw γ."""
        return self.ceiling * torch.sigmoid(gamma.to(compute_dtype(gamma)))

    def scale_shift(self, values: Mapping[str, Tensor]) -> tuple[Tensor | None, Tensor | None]:
        """``ceiling * σ(gamma)`` and None."""
        return self.scale(values["gamma"]), None


@dataclass(frozen=True)
class RowColumn(Operation):
    """FiLM with row and column terms: ``(1 + row_h + column_w + γ_c) * x + β_c``.

    For features with two position axes; H + W + 2C parameters. Source: Rupprecht et al. 2018,
    *Guide Me: Interacting with Deep Networks*, eq. 2.
    """

    def parameters(self, width: int, extent: tuple[int, ...] | None = None) -> dict[str, Parameter]:
        """``gamma`` and ``beta`` of shape (C,), ``row`` of (H,), ``column`` of (W,).

        Raises:
            ShapeError: unless the features have exactly two position axes.
        """
        if extent is None or len(extent) != 2:
            raise ShapeError(f"RowColumn needs two position axes (H, W), got extent {extent}")
        return {
            "gamma": Parameter((width,), positional=False),
            "beta": Parameter((width,), positional=False),
            "row": Parameter((extent[0],), positional=False),
            "column": Parameter((extent[1],), positional=False),
        }

    def apply(
        self, x: Tensor, values: Mapping[str, Tensor], axis: int, batch_axis: int | None
    ) -> Tensor:
        """``(1 + row + column + γ) * x + β``.

        Raises:
            ShapeError: if the positions of the features do not match the row and column terms.
        """
        sizes = positions(x, axis, batch_axis)
        made_for = (values["row"].shape[-1], values["column"].shape[-1])
        if sizes != made_for:
            raise ShapeError(f"RowColumn: row and column have sizes {made_for}, x has {sizes}")
        height, width = (i for i in range(x.ndim) if i not in (axis, batch_axis))
        row, column, gamma, beta = (
            align(_cast(values[name], x), x, at, batch_axis)
            for name, at in (("row", height), ("column", width), ("gamma", axis), ("beta", axis))
        )
        scale = 1.0 + (row + column) + gamma
        return (x.to(scale.dtype) * scale + beta).to(x.dtype)

    def effective(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """γ as it multiplies the features, before the row and column terms are added."""
        gamma = values["gamma"]
        return {**values, "gamma": 1.0 + gamma.to(compute_dtype(gamma))}


#: Names of the axes of features in an einsum; a lower-case "r" is the rank.
_LETTERS: Final = string.ascii_uppercase


@dataclass(frozen=True)
class LowRank(Operation):
    """Low-rank bilinear form: ``x + U (E + V) x`` over the features, at every position.

    U is C×r and V is r×C, predicted per condition; E is fixed and has orthonormal rows, so that
    the zero vector is the identity and still has gradients. The scale of FiLM is the diagonal case.
    The general case is the bilinear transform of Tenenbaum & Freeman 2000 with r factors.

    Attributes:
        rank: r, at least 1.
    """

    rank: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.rank, int) or isinstance(self.rank, bool) or self.rank < 1:
            raise OperationError(f"rank must be an integer of at least 1, got {self.rank!r}")

    def parameters(self, width: int, extent: tuple[int, ...] | None = None) -> dict[str, Parameter]:
        """``left`` (U) of shape (C, r) and ``right`` (V) of shape (r, C).

        Raises:
            OperationError: if the rank exceeds the width.
        """
        if self.rank > width:
            raise OperationError(f"rank {self.rank} exceeds the width {width} of the site")
        return {
            "left": Parameter((width, self.rank), positional=False),
            "right": Parameter((self.rank, width), positional=False),
        }

    def apply(
        self, x: Tensor, values: Mapping[str, Tensor], axis: int, batch_axis: int | None
    ) -> Tensor:
        """``x + U (E + V) x``."""
        features = x.to(compute_dtype(x))
        left, right = (_cast(values[name], x) for name in ("left", "right"))
        right = right + _cosine_rows(self.rank, x.shape[axis], right)
        # One letter for each axis of x; the product replaces the feature axis by the rank axis.
        letters = _LETTERS[: x.ndim]
        feature, squeezed = letters[axis], letters.replace(letters[axis], "r")
        batch = "" if batch_axis is None else letters[batch_axis]
        down = f"{batch * (right.ndim - 2)}r{feature},{letters}->{squeezed}"
        up = f"{batch * (left.ndim - 2)}{feature}r,{squeezed}->{letters}"
        delta = torch.einsum(up, left, torch.einsum(down, right, features))
        return (features + delta).to(x.dtype)

    def effective(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The two factors of the low-rank matrix: U, and E + V."""
        right = values["right"].to(compute_dtype(values["right"]))
        return {**values, "right": right + _cosine_rows(self.rank, right.shape[-1], right)}


def _cosine_rows(rank: int, width: int, like: Tensor) -> Tensor:
    """``(rank, width)`` orthonormal rows of the type-II discrete cosine transform."""
    k = torch.arange(rank, dtype=like.dtype, device=like.device).unsqueeze(1)
    n = torch.arange(width, dtype=like.dtype, device=like.device).unsqueeze(0)
    rows = torch.cos(math.pi / width * (n + 0.5) * k) * math.sqrt(2.0 / width)
    return torch.where(k == 0, rows / math.sqrt(2.0), rows)


def _cast(value: Tensor, x: Tensor) -> Tensor:
    return value.to(compute_dtype(x))


def check_values(
    values: Mapping[str, Tensor],
    expected: Mapping[str, Parameter],
    x: Tensor,
    axis: int,
    batch_axis: int | None,
    where: str,
) -> None:
    """Raise unless ``values`` has exactly the ``expected`` names, each of a shape that fits ``x``.

    Raises:
        ShapeError: names or shapes that do not fit.
        ArgumentTypeError: not a mapping of floating-point tensors on the device of ``x``.
    """
    if not isinstance(values, Mapping):
        raise ArgumentTypeError(
            f"{where}: values must be a mapping of parameter names to tensors, "
            f"got {type(values).__name__}"
        )
    if values.keys() != expected.keys():
        raise ShapeError(f"{where}: expected parameters {list(expected)}, got {list(values)}")
    for name, parameter in expected.items():
        shape, positional = parameter.shape, parameter.positional
        check_parameter(values[name], x, shape, positional, axis, batch_axis, name, where)


def _find(kind: object) -> type[Operation]:
    classes = _subclasses(Operation)
    found = [cls for cls in classes if cls.__name__ == kind]
    if not found:
        known = ", ".join(sorted({cls.__name__ for cls in classes}))
        raise OperationError(f"no operation {kind!r} is defined or imported; known are {known}")
    homes = {f"{cls.__module__}.{cls.__qualname__}" for cls in found}
    if len(homes) > 1:
        raise OperationError(f"several operations are named '{kind}': {', '.join(sorted(homes))}")
    return found[-1]  # the newest, if a class was redefined


def operation_of(value: Operation | str, where: str = "operation") -> Operation:
    """The operation itself, or the one of that name with its default attributes.

    A name is the name of a class, in upper or lower case, with or without underscores ("affine",
    "low_rank", "Gate", a class of the user), or a name from the literature: "film" for ``Affine()``
    and "bias" for ``Shift()``.

    Args:
        value: an operation, or the name of one.
        where: name of this argument in error messages.

    Raises:
        OperationError: no operation has that name, or it needs arguments.
        ArgumentTypeError: ``value`` is neither an operation nor a string.

    Example:
        >>> operation_of("film")
        Affine(activation='identity', raw=False)
    """
    if isinstance(value, Operation):
        return value
    if not isinstance(value, str):
        raise ArgumentTypeError(f"{where} must be an Operation or the name of one, got {value!r}")
    kinds = {_key(cls.__name__): cls for cls in _subclasses(Operation) if not _abstract(cls)}
    wanted = _key(value)
    wanted = _key(_SYNONYMS.get(wanted, wanted))
    if wanted not in kinds:
        raise OperationError(f"{where}: {_no_such_operation(value, kinds)}")
    cls = _find(kinds[wanted].__name__)  # raises if two classes have this name
    try:
        return cls()
    except TypeError as error:
        raise OperationError(
            f"{where}: {value!r} needs arguments: pass {cls.__name__}(...) itself ({error})"
        ) from error


#: Names from the literature -> class names.
_SYNONYMS: Final = {"film": "Affine", "bias": "Shift"}


def _key(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def _abstract(cls: type) -> bool:
    return inspect.isabstract(cls) or cls.__name__.startswith("_")


def _no_such_operation(name: str, kinds: Mapping[str, type[Operation]]) -> str:
    names = sorted({_snake_case(cls.__name__) for cls in kinds.values()} | set(_SYNONYMS))
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"no operation is called {name!r}; {hint}the names are {', '.join(names)}"


def _snake_case(name: str) -> str:
    """A class name in snake case: ``LowRank`` -> "low_rank"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _subclasses(cls: type[Operation]) -> list[type[Operation]]:
    direct = cls.__subclasses__()
    return direct + [deep for sub in direct for deep in _subclasses(sub)]


def _frozen(value: Any) -> Any:
    # JSON turns the tuples of a frozen dataclass into lists.
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
