"""From task representations and activations to typed tables, which figures are drawn from."""

from featurewise.analysis.localisation import pooled_places, share_inside
from featurewise.analysis.parameters import ParameterTable, parameter_table

__all__ = ["ParameterTable", "parameter_table", "pooled_places", "share_inside"]
