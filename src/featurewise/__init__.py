"""featurewise: condition any neural network on anything.

A network is conditioned *at* its sites, *with* an operation, *by* a generator::

    net = fw.condition(resnet, at="layer3.*.bn2", operation=fw.Affine(), generator=fw.Linear(512))
    y = net(images, condition=sentence_embedding)

Names are imported from their rooms when they are first used (PEP 562), so that the command line
shows its help, and completes words, without waiting for torch.
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
    "film",
    "guide",
    "select",
]

_ROOMS = ("core", "generators", "layers", "retrofit", "deploy")

if not TYPE_CHECKING:  # a type checker must see the names above, and no others

    def __getattr__(name: str) -> object:
        """A public name, imported with all others when the first of them is used."""
        if name in __all__:
            for room in (import_module(f"{__name__}.{room}") for room in _ROOMS):
                globals().update({n: vars(room)[n] for n in __all__ if n in room.__all__})
            return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        """Public names too, used or not."""
        return sorted({*globals(), *__all__})
