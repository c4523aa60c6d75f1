"""W = H^+ T: least squares over rows on many ranks, with many targets, of least norm."""

from npde_opt.pseudoinverse.dual import Wide, dual
from npde_opt.pseudoinverse.files import StoredRows
from npde_opt.pseudoinverse.fold import Fold
from npde_opt.pseudoinverse.gram import Gram
from npde_opt.pseudoinverse.iterative import Iterated, iterate
from npde_opt.pseudoinverse.rows import Rows
from npde_opt.pseudoinverse.solution import Solution

METHODS: dict[str, type[Rows]] = {"qr": Fold, "gram": Gram}
"""By name: accurate at every condition and of least norm; three times as fast, up to a
condition."""

__all__ = [
    "METHODS",
    "Fold",
    "Gram",
    "Iterated",
    "Rows",
    "Solution",
    "StoredRows",
    "Wide",
    "dual",
    "iterate",
]
