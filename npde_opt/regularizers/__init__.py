"""R(p): what is asked of the unknowns beside the data."""

from npde_opt.regularizers.operator import checked_weights, operator
from npde_opt.regularizers.parts import Parts, Ridge
from npde_opt.regularizers.quadratic import BiLaplacian, Gradient, bilaplacian_scales
from npde_opt.regularizers.roughness import Roughness
from npde_opt.regularizers.small import SmallPrior
from npde_opt.regularizers.total_variation import TotalVariation

REGULARIZERS = {
    "gradient": Gradient,
    "bilaplacian": BiLaplacian,
    "total-variation": TotalVariation,
}

__all__ = [
    "REGULARIZERS",
    "BiLaplacian",
    "Gradient",
    "Parts",
    "Ridge",
    "Roughness",
    "SmallPrior",
    "TotalVariation",
    "bilaplacian_scales",
    "checked_weights",
    "operator",
]
