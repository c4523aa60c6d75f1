"""Optimizers over TAO: `minimize(objective, m0, settings) -> Result` with one Result for all of
them."""

from npde_opt.optimizers.interface import METHODS, OptimizerState, Result, Settings
from npde_opt.optimizers.minimize import minimize
from npde_opt.optimizers.validation import Validation

__all__ = ["METHODS", "OptimizerState", "Result", "Settings", "Validation", "minimize"]
