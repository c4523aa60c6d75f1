"""Maps from parameters to predicted data, and their Jacobians."""

from npde_opt.forward.equation import Equation
from npde_opt.forward.evolution import Evolution
from npde_opt.forward.experiment import Experiment
from npde_opt.forward.schemes import SCHEMES, scheme
from npde_opt.forward.steady import Linearization, Steady
from npde_opt.forward.storage import Storage

__all__ = [
    "SCHEMES",
    "Equation",
    "Evolution",
    "Experiment",
    "Linearization",
    "Steady",
    "Storage",
    "scheme",
]
