"""Block-centred grids: cells and sides, how they lie on the ranks, active cells, and places in
them."""

from npde_opt.grids.grid import AXES, KINDS, Boundary, Grid, along, check_indices, sums_by_number

__all__ = ["AXES", "KINDS", "Boundary", "Grid", "along", "check_indices", "sums_by_number"]
