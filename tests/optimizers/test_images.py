"""Products with the Gauss-Newton Hessian that a point keeps."""

import numpy as np
import pytest

from npde_opt.optimizers.gauss_newton import GaussNewton
from npde_opt.optimizers.point import Agreed, Tally
from tests.optimizers.conftest import Quadratic


class Numbers(Quadratic):
    """All of whose parameters are small values."""

    n = 6

    def units(self, m):
        found = []
        for i in range(self.n):
            unit = self.vec(lambda k, i=i: 1.0 * (k == i))
            found.append((str(i), unit, 1.0))
        return found


@pytest.mark.parallel([1, 2, 3])
def test_with_all_units_known_a_product_is_a_sum():
    problem = Numbers()
    m, tally = problem.start(), Tally()
    at = Agreed(problem, m, tally, 1)
    model = GaussNewton(problem, at, m, None)
    assert model.products == problem.n and tally.seen == problem.n
    dm = problem.vec(lambda k: np.cos(k))
    found, wanted = dm.duplicate(), dm.duplicate()
    model.hessian(dm, found)
    problem.linearize(m).hessian(dm, wanted, True)
    wanted.axpy(-1.0, found)
    assert wanted.norm() < 1e-12 * found.norm()
    again = GaussNewton(problem, at, m, None)
    assert again.products == 0 and tally.seen == problem.n
    model.destroy()
    again.destroy()
    at.destroy()
