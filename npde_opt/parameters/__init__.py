"""Unknowns: which numbers they are (blocks), how coefficients depend on them (transforms), and the
vector space of all of them."""

from npde_opt.parameters.arrays import MANY, Line, Matrix, Regions, Shared
from npde_opt.parameters.field import Field
from npde_opt.parameters.interface import Block, Lift, Placed
from npde_opt.parameters.per_step import PerStep
from npde_opt.parameters.point import ParametersAt
from npde_opt.parameters.space import FEW, SMALL, ParameterSpace
from npde_opt.parameters.transforms import (
    GAIN,
    RUNAWAY,
    SATURATED,
    TRANSFORMS,
    Transform,
)
from npde_opt.parameters.unknown import Unknown

__all__ = [
    "FEW",
    "GAIN",
    "MANY",
    "RUNAWAY",
    "SATURATED",
    "SMALL",
    "TRANSFORMS",
    "Block",
    "Matrix",
    "Field",
    "Lift",
    "Line",
    "ParameterSpace",
    "ParametersAt",
    "PerStep",
    "Placed",
    "Regions",
    "Shared",
    "Transform",
    "Unknown",
]
