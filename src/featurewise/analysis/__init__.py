"""Typed tables of task representations and activations, from which figures are plotted."""

from featurewise.analysis.calibration import calibration_error
from featurewise.analysis.clusters import (
    BestSeparation,
    Separation,
    axis_angles,
    best_separations,
    explained_by_feature,
    explained_share,
    main_axes,
    monotone_share,
    neighbour_purity,
    permutation_test,
    separations,
)
from featurewise.analysis.dependence import Dependence, dependence
from featurewise.analysis.localisation import pooled_places, share_inside
from featurewise.analysis.parameters import (
    QUANTILES,
    ParameterMatrices,
    ParameterQuantiles,
    ParameterTable,
    is_feature_parameter,
    parameter_matrices,
    parameter_quantiles,
    parameter_table,
)

__all__ = [
    "QUANTILES",
    "BestSeparation",
    "Dependence",
    "ParameterMatrices",
    "ParameterQuantiles",
    "ParameterTable",
    "Separation",
    "axis_angles",
    "best_separations",
    "calibration_error",
    "dependence",
    "explained_by_feature",
    "explained_share",
    "is_feature_parameter",
    "main_axes",
    "monotone_share",
    "neighbour_purity",
    "parameter_matrices",
    "parameter_quantiles",
    "parameter_table",
    "permutation_test",
    "pooled_places",
    "separations",
    "share_inside",
]
