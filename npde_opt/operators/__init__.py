"""Sparse matrices of a grid: stencils, rows, interpolation to points, transfer between grids."""

from npde_opt.operators.points import interpolation
from npde_opt.operators.rows import from_rows, mass
from npde_opt.operators.transfer import CellProlongation

__all__ = ["from_rows", "interpolation", "mass", "CellProlongation"]
