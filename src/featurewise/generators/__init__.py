"""Generators: what turns a condition into the modulation parameters of a network."""

from featurewise.generators.adain import AdaIN
from featurewise.generators.base import Generator, Head, LocalGenerator, flat_parameters
from featurewise.generators.errors import ConditionError, GeneratorError
from featurewise.generators.groups import parameter_groups
from featurewise.generators.learned import Learned
from featurewise.generators.linear import Linear
from featurewise.generators.lookup import Lookup
from featurewise.generators.mlp import MLP
from featurewise.generators.recurrent import Recurrent
from featurewise.generators.squeeze_excite import SqueezeExcite

__all__ = [
    "MLP",
    "AdaIN",
    "ConditionError",
    "Generator",
    "GeneratorError",
    "Head",
    "Learned",
    "Linear",
    "LocalGenerator",
    "Lookup",
    "Recurrent",
    "SqueezeExcite",
    "flat_parameters",
    "parameter_groups",
]
