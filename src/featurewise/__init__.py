"""featurewise: condition any neural network on anything.

A network is conditioned *at* its sites, *with* an operation, *by* a generator::

    net = fw.condition(resnet, at="layer3.*.bn2", operation=fw.Affine(), generator=fw.Linear(512))
    y = net(images, condition=sentence_embedding)
"""

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
from featurewise.generators import MLP, Linear, Lookup, Recurrent
from featurewise.layers.film import FiLM
from featurewise.retrofit import (
    Bank,
    Conditioned,
    adapt,
    advice,
    bake,
    bank,
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
