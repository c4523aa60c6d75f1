"""Maps from parameters to predicted data, and their Jacobians."""

from npde_opt.forward.equation import Equation, On
from npde_opt.forward.evolution import Evolution, Trial
from npde_opt.forward.schemes import SCHEMES, scheme
from npde_opt.forward.steady import Experiment, Linearization, SteadyState
from npde_opt.forward.storage import Storage

__all__ = ["SCHEMES", "Equation", "Evolution", "Experiment", "Linearization", "On", "SteadyState", "Storage", "Trial",
           "scheme"]
