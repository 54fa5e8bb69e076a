"""Typed tables of task representations and activations, from which figures are plotted."""

from featurewise.analysis.calibration import calibration_error
from featurewise.analysis.clusters import (
    Separation,
    explained_by_feature,
    main_axes,
    monotone_share,
    neighbour_purity,
    permutation_test,
    separations,
)
from featurewise.analysis.dependence import Dependence, dependence
from featurewise.analysis.localisation import pooled_places, share_inside
from featurewise.analysis.parameters import ParameterTable, parameter_table

__all__ = [
    "Dependence",
    "ParameterTable",
    "Separation",
    "calibration_error",
    "dependence",
    "explained_by_feature",
    "main_axes",
    "monotone_share",
    "neighbour_purity",
    "parameter_table",
    "permutation_test",
    "pooled_places",
    "separations",
    "share_inside",
]
