"""Krylov solvers with multigrid preconditioning, behind one table of recipes."""

from npde_opt.linear.recipes import LinearSolver
from npde_opt.linear.table import RECIPES

__all__ = ["RECIPES", "LinearSolver"]
