"""Block-centred grids: cells and sides, how they lie on the ranks, active cells, and places in
them."""

from npde_opt.grids.boundary import KINDS, Boundary
from npde_opt.grids.geometry import AXES
from npde_opt.grids.grid import Grid, along, check_indices, of_cells, sums_by_number

__all__ = [
    "AXES",
    "KINDS",
    "Boundary",
    "Grid",
    "along",
    "check_indices",
    "of_cells",
    "sums_by_number",
]
