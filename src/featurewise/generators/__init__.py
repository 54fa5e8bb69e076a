"""Generators: modules that predict the modulation parameters of a network from a condition."""

from featurewise.generators.adain import AdaIN
from featurewise.generators.base import Generator, Head, LocalGenerator, flat_parameters
from featurewise.generators.bounded import Bounded
from featurewise.generators.compose import BySite, ConcatEncoders, Product, Sum
from featurewise.generators.config import Configured, from_config
from featurewise.generators.deviation import deviation
from featurewise.generators.dropout import ParameterDropout
from featurewise.generators.errors import ConditionError, GeneratorError
from featurewise.generators.gated import GatedGenerator
from featurewise.generators.groups import parameter_groups
from featurewise.generators.learned import Learned
from featurewise.generators.linear import Linear
from featurewise.generators.lookup import Lookup
from featurewise.generators.mlp import MLP
from featurewise.generators.optional import Masked, Optional
from featurewise.generators.recurrent import Recurrent
from featurewise.generators.spectral import spectral
from featurewise.generators.squeeze_excite import SqueezeExcite

__all__ = [
    "MLP",
    "AdaIN",
    "Bounded",
    "BySite",
    "ConcatEncoders",
    "ConditionError",
    "Configured",
    "GatedGenerator",
    "Generator",
    "GeneratorError",
    "Head",
    "Learned",
    "Linear",
    "LocalGenerator",
    "Lookup",
    "Masked",
    "Optional",
    "ParameterDropout",
    "Product",
    "Recurrent",
    "SqueezeExcite",
    "Sum",
    "deviation",
    "flat_parameters",
    "from_config",
    "parameter_groups",
    "spectral",
]
