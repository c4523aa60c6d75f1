"""Krylov solvers with multigrid preconditioning, behind one table of recipes."""

from npde_opt.linear.recipes import RECIPES, LinearSolver

__all__ = ["RECIPES", "LinearSolver"]
