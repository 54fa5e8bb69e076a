"""Base classes: ``Generator``, its ``Head``, and ``LocalGenerator``."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featurewise.core import (
    ArgumentTypeError,
    Layout,
    LayoutError,
    ShapeError,
    Site,
    TaskRepresentation,
    _torch,
)
from featurewise.core.numbers import WANTED, is_float
from featurewise.generators.config import Configured
from featurewise.generators.errors import ConditionError, GeneratorError


class Head(nn.Linear):
    """The last linear map of a generator: F features -> the N parameters of a layout.

    The weight starts at zero and the bias at ``layout.start()``, so that every condition starts as
    the identity. ``parameter_groups`` puts the weights of heads into a weight-decay group of their
    own.

    Args:
        features: width F of the input.
        layout: the sites; N is ``layout.size``.
        device: of the parameters.
        dtype: of the parameters.
    """

    head_weights: ClassVar[tuple[str, ...]] = ("weight",)

    def __init__(
        self,
        features: int,
        layout: Layout,
        *,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.layout = layout  # `reset_parameters` runs inside the constructor below
        super().__init__(features, layout.size, device=device, dtype=dtype)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Reset to the identity; uses no random numbers."""
        self.weight.zero_()
        self.bias.copy_(self.layout.start())


class _Bound(Configured, nn.Module):
    """A module for one layout, which ``bind`` sets after construction."""

    layout: Layout | None

    def __init__(self) -> None:
        super().__init__()
        self.layout = None

    def bind(self, layout: Layout) -> None:
        """Build the parameters for ``layout``; a second call with an equal layout has no effect.

        Raises:
            LayoutError: if already bound to another layout, or if the layout has no parameters.
            ArgumentTypeError: if ``layout`` is not a layout.
        """
        if not isinstance(layout, Layout):
            raise ArgumentTypeError(f"layout must be a Layout, got {type(layout).__name__}")
        if self.layout == layout:
            return
        if self.layout is not None:
            raise LayoutError(
                f"this {type(self).__name__} is bound to sites {', '.join(self.layout.names)} "
                f"and cannot serve {', '.join(layout.names)}; make a new one"
            )
        if layout.size == 0:
            raise LayoutError("the layout has no parameters to generate")
        self._build(layout)
        self.layout = layout

    def _build(self, layout: Layout) -> None:
        """Create the parameters whose shapes depend on the layout."""


class Generator(_Bound):
    """Condition -> flat parameters of a whole network (Perez et al. 2018, eq. 1: f and h).

    An encoder maps the condition to features, and one linear head maps the features to all
    parameters of all sites. ``bind`` builds the head, once the layout is known.

    Args:
        encoder: any module from a condition to features ``(F,)``, ``(B, F)`` or
            ``(B, F, *positions)``; None if the condition already is such features.
        features: width F.

    Attributes:
        head: the linear map; None until bound.
        layout: the sites it generates for; None until bound.

    Raises:
        GeneratorError: if ``features`` is below 1.
        ArgumentTypeError: if ``encoder`` is not a module, or ``features`` not an integer.

    Example:
        >>> from featurewise.core import Affine
        >>> generator = Generator(nn.Tanh(), features=3)
        >>> generator.bind(Layout((Site("conv", 8, Affine()),)))
        >>> generator(torch.randn(5, 3)).shape
        torch.Size([5, 16])
    """

    encoder: nn.Module | None
    head: Head | None

    def __init__(self, encoder: nn.Module | None, features: int) -> None:
        super().__init__()
        if encoder is not None and not isinstance(encoder, nn.Module):
            raise ArgumentTypeError(
                f"encoder must be a module or None, got {type(encoder).__name__}"
            )
        self.features = positive(features, "features")
        self.register_module("encoder", encoder)
        self.register_module("head", None)

    def _build(self, layout: Layout) -> None:
        like = next((p for p in self.parameters() if p.is_floating_point()), None)
        device, dtype = (None, None) if like is None else (like.device, like.dtype)
        self.head = Head(self.features, layout, device=device, dtype=dtype)

    def forward(self, condition: Any) -> Float[Tensor, "..."]:
        """Flat parameters ``(N,)``, ``(B, N)`` or ``(B, N, *positions)``, as for the features.

        Args:
            condition: the input of the encoder.

        Raises:
            LayoutError: if no layout is bound.
            ConditionError: if the condition is None.
            ShapeError: if the features are not F wide.
            ArgumentTypeError: if the features are not a floating-point tensor, or have another
                dtype or device than the head.
        """
        head, encoder = self.head, self.encoder  # once, as a module looks its parts up slowly
        if head is None:
            raise unbound(self)
        if condition is None:
            raise ConditionError(f"{type(self).__name__} needs a condition, got None")
        features = condition if encoder is None else encoder(condition)
        what = "condition" if encoder is None else "features of the encoder"
        check_condition(features, head.weight, what)
        return along_features(head, features)


class LocalGenerator(_Bound, ABC):
    """A generator that is called at each site, with the features of that site.

    Examples are self-conditioning (squeeze-and-excitation), statistics (AdaIN) and generators that
    pass a memory from site to site.

    Attributes:
        layout: the sites it generates for; None until bound.
    """

    def index(self, site: Site) -> int:
        """Index of ``site`` in the layout.

        Raises:
            LayoutError: if no layout is bound, or it has no such site.
            ArgumentTypeError: if ``site`` is not a site.
        """
        if self.layout is None:
            raise unbound(self)
        if not isinstance(site, Site):
            raise ArgumentTypeError(f"site must be a Site, got {type(site).__name__}")
        for place, own in enumerate(self.layout):
            if own == site:
                return place
        self.layout[site.name]  # raises an error that lists the sites
        raise LayoutError(f"site '{site.name}' has changed since this generator was bound")

    @abstractmethod
    def forward(
        self, site: Site, x: Tensor, condition: Any, memory: Any
    ) -> tuple[dict[str, Tensor], Any]:
        """Raw parameters of one site, and the memory for the next.

        Args:
            site: the current site.
            x: its features, before modulation.
            condition: the condition of the call; may be None.
            memory: the memory that the previous site returned; None at the first site.
        """


# --- helpers of all generators -------------------------------------------------------------------


def flat_parameters(output: object, layout: Layout) -> Tensor:
    """The flat tensor in the output of a generator, which may be any module.

    Args:
        output: a flat tensor ``(N,)``, ``(B, N)`` or ``(B, N, *positions)``, or a
            ``TaskRepresentation``.
        layout: the layout to which it belongs.

    Raises:
        ArgumentTypeError: if it is neither.
        LayoutError: if the task representation has another layout.
        ShapeError: if the tensor does not fit the layout.
    """
    if isinstance(output, TaskRepresentation):
        if output.layout != layout:
            raise LayoutError(
                f"the generator returned a task representation of {', '.join(output.layout.names)}"
                f", expected one of {', '.join(layout.names)}"
            )
        return output.flat
    if not isinstance(output, Tensor):
        raise ArgumentTypeError(
            f"a generator must return a flat tensor or a TaskRepresentation, "
            f"got {type(output).__name__}"
        )
    layout.check(output)
    return output


def of_all_sites(module: object, name: str, who: str) -> nn.Module:
    """``module``, after a check that it can predict the parameters of all sites at once.

    Raises:
        ArgumentTypeError: if it is not a module, or is a local generator.
    """
    if not isinstance(module, nn.Module):
        raise ArgumentTypeError(f"{name} must be a module, got {type(module).__name__}")
    if isinstance(module, LocalGenerator):
        raise ArgumentTypeError(
            f"{name} is a {type(module).__name__}, which makes its parameters site by site; "
            f"{who} needs all of them at once"
        )
    return module


def bind_part(module: nn.Module, layout: Layout) -> None:
    """Bind a module to a layout, if it has a method ``bind``."""
    bind = getattr(module, "bind", None)
    if bind is not None:
        bind(layout)


def needs_condition(generator: nn.Module) -> bool:
    """Whether a generator (any module) cannot be called without an argument."""
    try:
        signature = inspect.signature(generator.forward)
    except (TypeError, ValueError):
        return True
    return any(
        p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        for p in signature.parameters.values()
    )


def along_features(module: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a module of the last axis to ``(F,)``, ``(B, F)`` or ``(B, F, *positions)``."""
    if x.ndim <= 2:
        return module(x)
    return torch.movedim(module(torch.movedim(x, 1, -1)), -1, 1)


def check_condition(x: object, weight: Tensor, name: str) -> None:
    """Raise unless ``x`` is a valid input of a linear map with ``weight`` ``(N, F)``.

    Args:
        x: ``(F,)``, ``(B, F)`` or ``(B, F, *positions)``, of the dtype and device of ``weight``.
        weight: of the linear map.
        name: of ``x`` in error messages.

    Raises:
        ArgumentTypeError: not a floating-point tensor, or of another device or (outside autocast)
            dtype.
        ShapeError: another width.
    """
    width = weight.shape[1]
    if not isinstance(x, Tensor):
        raise ArgumentTypeError(f"{name} must be a tensor, got {type(x).__name__}")
    if not is_float(x):
        raise ArgumentTypeError(f"{name} must be {WANTED}, got {x.dtype}")
    if x.dtype is weight.dtype and x.device == weight.device and x.shape[1:] == (width,):
        return  # nearly always
    if x.device != weight.device:
        raise ArgumentTypeError(f"{name} is on {x.device}, the generator is on {weight.device}")
    if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
        raise ArgumentTypeError(f"{name} is {x.dtype}, the generator is {weight.dtype}")
    if x.ndim == 0 or x.shape[min(1, x.ndim - 1)] != width:
        raise ShapeError(
            f"{name} must be ({width},), (B, {width}) or (B, {width}, *positions), "
            f"got {tuple(x.shape)}"
        )


def check_ids(ids: object, name: str) -> None:
    """Raise ``ArgumentTypeError`` unless ``ids`` is a tensor of int32 or int64."""
    if not isinstance(ids, Tensor):
        raise ArgumentTypeError(f"{name} must be a tensor of integers, got {type(ids).__name__}")
    if ids.dtype not in (torch.int64, torch.int32):
        raise ArgumentTypeError(f"{name} must be int64 or int32, got {ids.dtype}")


def check_range(ids: Tensor, count: int, name: str) -> None:
    """Raise ``ConditionError`` unless all ids lie in [0, count).

    The check reads values. It is skipped in compiled code and for other devices than the CPU, where
    reading would break the graph or synchronise; their own assertion reports such ids.
    """
    unreadable = torch.compiler.is_compiling() or _torch.in_transform()
    if unreadable or ids.device.type != "cpu" or ids.numel() == 0:
        return
    low, high = (int(n) for n in torch.aminmax(ids))
    if low < 0 or high >= count:
        raise ConditionError(f"{name} must lie in 0..{count - 1}, got {low}..{high}")


def positive(value: object, name: str) -> int:
    """``value`` if it is an integer of at least 1.

    Raises:
        ArgumentTypeError: not an integer.
        GeneratorError: less than 1.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise ArgumentTypeError(f"{name} must be an integer, got {type(value).__name__}")
    if value < 1:
        raise GeneratorError(f"{name} must be at least 1, got {value}")
    return value


def unbound(generator: nn.Module) -> LayoutError:
    """The error for a generator that is called before ``bind``."""
    return LayoutError(f"{type(generator).__name__} has no layout yet: call bind(layout) first")
