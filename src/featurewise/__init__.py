"""featurewise: condition any neural network on anything.

A network is conditioned at sites, with an operation, by a generator::

    net = fw.condition(resnet, at="layer3.*.bn2", operation=fw.Affine(), generator=fw.Linear(512))
    y = net(images, condition=sentence_embedding)

Public names are imported when they are first used (PEP 562), so that help and completion of the
command line do not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featurewise.core import (
        Affine,
        Gate,
        Layout,
        Scale,
        Shift,
        Site,
        TaskRepresentation,
        film,
    )
    from featurewise.deploy import Bank, bake, bank
    from featurewise.explorer import ExplorerBundle, explore
    from featurewise.generators import MLP, Linear, Lookup, Recurrent
    from featurewise.layers.film import FiLM
    from featurewise.retrofit import (
        Conditioned,
        adapt,
        advice,
        condition,
        guide,
        select,
    )

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "Affine",
    "Bank",
    "Conditioned",
    "ExplorerBundle",
    "FiLM",
    "Gate",
    "Layout",
    "Linear",
    "Lookup",
    "Recurrent",
    "Scale",
    "Shift",
    "Site",
    "TaskRepresentation",
    "adapt",
    "advice",
    "bake",
    "bank",
    "condition",
    "explore",
    "film",
    "guide",
    "select",
]

_ROOMS = ("core", "generators", "layers", "retrofit", "deploy", "explorer")

if not TYPE_CHECKING:  # hidden from type checkers, which use the imports above

    def __getattr__(name: str) -> object:
        """Returns a public name; the first access imports all of them."""
        if name in __all__:
            for room in (import_module(f"{__name__}.{room}") for room in _ROOMS):
                globals().update({n: vars(room)[n] for n in __all__ if n in room.__all__})
            return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        """All names, including public ones that are not imported yet."""
        return sorted({*globals(), *__all__})
