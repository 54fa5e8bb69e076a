"""Typed tables of task representations and activations, from which figures are plotted."""

from featurewise.analysis.dependence import Dependence, dependence
from featurewise.analysis.localisation import pooled_places, share_inside
from featurewise.analysis.parameters import ParameterTable, parameter_table

__all__ = [
    "Dependence",
    "ParameterTable",
    "dependence",
    "parameter_table",
    "pooled_places",
    "share_inside",
]
