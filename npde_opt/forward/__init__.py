"""Maps from parameters to predicted data, and their Jacobians."""

from npde_opt.forward.steady import Experiment, Linearization, SteadyState

__all__ = ["Experiment", "Linearization", "SteadyState"]
