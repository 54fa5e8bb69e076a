"""Core data types: sites, operations, task representations and the broadcasting rule."""

from featurewise.core.delta import DeltaWeight
from featurewise.core.editing import Edit
from featurewise.core.errors import (
    ArgumentTypeError,
    FeaturewiseError,
    LayoutError,
    OperationError,
    ShapeError,
)
from featurewise.core.film import film
from featurewise.core.operation import (
    Affine,
    Diagonal,
    Gate,
    LowRank,
    Operation,
    Parameter,
    RowColumn,
    Scale,
    Shift,
    operation_of,
)
from featurewise.core.representation import TaskRepresentation
from featurewise.core.site import Layout, Site

__all__ = [
    "Affine",
    "ArgumentTypeError",
    "DeltaWeight",
    "Diagonal",
    "Edit",
    "FeaturewiseError",
    "Gate",
    "Layout",
    "LayoutError",
    "LowRank",
    "Operation",
    "OperationError",
    "Parameter",
    "RowColumn",
    "Scale",
    "ShapeError",
    "Shift",
    "Site",
    "TaskRepresentation",
    "film",
    "operation_of",
]
