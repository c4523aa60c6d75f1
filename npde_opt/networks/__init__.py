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
from npde_opt.networks.aperture import Aperture, UnitPower, opposed
from npde_opt.networks.dense import Dense
from npde_opt.networks.diffractive import Detectors, Mask, masks
from npde_opt.networks.diffusion import Diffusion
from npde_opt.networks.equilibrium import Equilibrium
from npde_opt.networks.evolved import Evolved, unitary
from npde_opt.networks.implicit import Diffusing
from npde_opt.networks.implicit_stencil import Smoothing
from npde_opt.networks.interface import Bilinear, Weight
from npde_opt.networks.layers import Step
from npde_opt.networks.linear_layers import Adjoint, Applied, EachChannel, pooling
from npde_opt.networks.lines import Lines, propagation
from npde_opt.networks.mixing import Mixing
from npde_opt.networks.nested import Nested
from npde_opt.networks.network import PATHS, Inputs, Network, NetworkMap
from npde_opt.networks.parts import Part, Transposed
from npde_opt.networks.place import Place
from npde_opt.networks.separable import Separable
from npde_opt.networks.steady_state import SteadyState
from npde_opt.networks.stencil import Stencil
from npde_opt.networks.template import Linear, Template

__all__ = [
    "ACTIVATIONS",
    "EXPANSIONS",
    "PATHS",
    "Activation",
    "Adjoint",
    "Aperture",
    "Applied",
    "Bilinear",
    "Dense",
    "Detectors",
    "Diffusing",
    "Diffusion",
    "EachChannel",
    "Equilibrium",
    "Evolved",
    "Identity",
    "Inputs",
    "Linear",
    "Lines",
    "Mask",
    "Mixing",
    "Nested",
    "Network",
    "NetworkMap",
    "Part",
    "PiecewiseLinear",
    "Place",
    "RadialBasis",
    "ReLU",
    "Separable",
    "Smoothing",
    "Softplus",
    "SteadyState",
    "Stencil",
    "Step",
    "Tanh",
    "Template",
    "Transposed",
    "UnitPower",
    "Weight",
    "masks",
    "opposed",
    "pooling",
    "propagation",
    "unitary",
]
