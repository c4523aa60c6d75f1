"""W = H^+ T: least squares over rows on many ranks, with many targets, of least norm."""

from npde_opt.pseudoinverse.fold import Fold
from npde_opt.pseudoinverse.solution import Solution

__all__ = ["Fold", "Solution"]
