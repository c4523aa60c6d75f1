"""Networks whose layers are steps of the NPDE with stencils as weights (see layers.py)."""

from npde_opt.networks.activations import (
    ACTIVATIONS,
    EXPANSIONS,
    Activation,
    Identity,
    PiecewiseLinear,
    RadialBasis,
    ReLU,
    Softplus,
    Tanh,
)
from npde_opt.networks.dense import Dense
from npde_opt.networks.interface import Bilinear, Weight
from npde_opt.networks.layers import Part, Step, Transposed
from npde_opt.networks.mixing import Mixing
from npde_opt.networks.network import Inputs, Network, NetworkMap
from npde_opt.networks.place import Place
from npde_opt.networks.stencil import Stencil

__all__ = [
    "ACTIVATIONS",
    "EXPANSIONS",
    "Activation",
    "Bilinear",
    "Dense",
    "Identity",
    "Inputs",
    "Mixing",
    "Network",
    "NetworkMap",
    "Part",
    "PiecewiseLinear",
    "Place",
    "RadialBasis",
    "ReLU",
    "Softplus",
    "Stencil",
    "Step",
    "Tanh",
    "Transposed",
    "Weight",
]
