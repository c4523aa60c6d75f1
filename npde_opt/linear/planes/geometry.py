"""What loops over the rows of cells of a level (rows.py) know of them.

A field is one array. Row n has its cells at FRONT + n pitch + 1, ...; there is a cell before and
one behind every row, in 3-D a row before and behind every plane, and a row or plane before the
first and behind the last. What lies outside is zero or, where an axis is periodic, what is at the
other end. Neighbours are thus at fixed distances, and loops go over bands of rows and what is
between them, however short rows are.
"""

from __future__ import annotations

import numpy as np

FRONT = 15
"""Cells before the first row, so that the first cell of rows begins a line of the cache."""

NX, PITCH, PLANE, FIRST, END, REACH, BAND, WIDE, WRAPS, LEFT, OWN = range(11)
"""What a geometry's numbers are: cells of a row; cells from a row to the next, and from a plane to
the next (0 in 2-D); the first row that is inside, and the one behind the last; rows that a row's
neighbours are away, and rows of a band; whether the stencil is wide; whether cells outside have
values, since an axis is periodic or they are another rank's; ghosts before the owned cells of a
row, and how many these are."""
Geometry = tuple[
    np.ndarray, np.ndarray, np.ndarray, bool, np.ndarray, np.ndarray, np.ndarray
]
"""Numbers, the rows that are owned, rows outside with those that they are the same as, whether x is
periodic; runs and spans (runs.py), and for every row the first span that ends in it or behind."""

Number = float | np.floating

MOST = 7
"""Pairs of fine cells along an axis that couple a coarse cell and one beside it."""
Along = tuple[bool, int, np.ndarray, np.ndarray]
"""Of x, for P^T A P (galerkin_loops.py): whether it is halved; where in a row, with the cell before
it, that of the first owned coarse cell lies; l_r and u_r from the cell before this on
(halving.py)."""
Couples = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Of y or z: [owned coarse cell, step to the other one, pair] the fine cells i and j, j - i before
cells beyond the ends are the first ones again, and w_i w_j. The last step stands for -1."""
