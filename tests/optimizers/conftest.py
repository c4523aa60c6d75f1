"""Small objectives with known minima, on any number of ranks: J(m) = phi(m) + 1/2 m^T R m."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

COMM = MPI.COMM_WORLD


def tridiagonal(n, below, centre, above):
    """Mat with these constants on its three diagonals."""
    mat = PETSc.Mat().createAIJ((n, n), nnz=3, comm=COMM)
    for row in range(*mat.getOwnershipRange()):
        for column, value in ((row - 1, below), (row, centre), (row + 1, above)):
            if 0 <= column < n:
                mat.setValue(row, column, value)
    mat.assemble()
    return mat


def direct(mat):
    solver = PETSc.KSP().create(COMM)
    solver.setOperators(mat)
    solver.setType("preonly")
    solver.getPC().setType("redundant")
    return solver


class Counters:
    def __init__(self):
        self.forward = self.adjoint = 0

    def snapshot(self):
        return {
            "forward_solves": self.forward,
            "adjoint_solves": self.adjoint,
            "krylov_iterations": 0,
        }


class At:
    """J at m, evaluated when asked. Like real ones it takes writable views of what it is given."""

    def __init__(self, problem, m):
        self.problem, self.m = problem, m
        m.getArray()
        self._value = self._gradient = None
        problem.alive += 1

    @property
    def value(self):
        if self._value is None:
            self.problem.counters.forward += 1
            with np.errstate(over="ignore"):
                self.misfit = self.problem.phi(self.m)
            self.regularization = 0.5 * self.m.dot(self.problem.R * self.m)
            self._value = self.misfit + self.regularization
        return self._value

    def gradient(self):
        if self._gradient is None:
            self.problem.counters.adjoint += 1
            self._gradient = self.problem.slope(self.m) + self.problem.R * self.m
        return self._gradient

    def hessian(self, dm, out, gauss_newton):
        dm.getArray()
        self.problem.R.mult(dm, out)
        out.axpy(1.0, self.problem.curvature(self.m, dm, gauss_newton))

    def regularization_hessian(self, dm, out):
        dm.getArray()
        self.problem.R.mult(dm, out)

    def precondition(self, r, out):
        r.getArray()
        self.problem.inverse.solve(r, out)

    def unseen(self):
        return []

    def destroy(self):
        self.problem.alive -= 1


class Problem:
    """The Objective protocol around `phi`, its `slope` and `curvature`; `solution(i)` is the
    minimum."""

    n, weight, box = 24, 1.0, None
    unknown_count = 1

    def __init__(self):
        self.comm, self.counters, self.alive = COMM, Counters(), 0
        self.space = self
        self.R = tridiagonal(self.n, -self.weight, 2.1 * self.weight, -self.weight)
        self.inverse = direct(self.R)
        self.build()

    def build(self):
        pass

    def vec(self, f):
        v = self.R.createVecLeft()
        v.setArray(f(np.arange(*v.getOwnershipRange(), dtype=float)))
        return v

    def mass(self):
        return self.vec(lambda i: 0 * i + 1.0)

    def start(self):
        return self.vec(lambda i: 0 * i + 0.2)

    def linearize(self, m):
        return At(self, m)

    def gradient_norm(self, g):
        return g.norm()

    def units(self, m):
        return []

    def stretch(self, dm):
        return 0.0

    def runaways(self, dm):
        return []

    def saturated(self, m, g):
        return np.zeros(m.getLocalSize(), bool)

    def bounds(self):
        return None if self.box is None else tuple(self.vec(side) for side in self.box)


class Quadratic(Problem):
    """1/2 (m - d)^T K (m - d) with d such that the minimum is sin(0.7 i) + 1."""

    def build(self):
        self.K = tridiagonal(self.n, -1.0, 3.0, -1.0)
        self.solution = self.vec(lambda i: np.sin(0.7 * i) + 1.0)
        self.b = self.K * self.solution + self.R * self.solution

    def phi(self, m):
        return 0.5 * m.dot(self.K * m) - m.dot(self.b) + 100.0

    def slope(self, m):
        return self.K * m - self.b

    def curvature(self, m, dm, gauss_newton):
        return self.K * dm


class Bounded(Quadratic):
    """The same K, with m <= 1.2 and the multipliers of a third of the cells given."""

    box = (lambda i: 0 * i - 0.5, lambda i: 0 * i + 1.2)

    def build(self):
        super().build()
        active = lambda i: np.mod(i, 3) == 0  # noqa: E731
        self.solution = self.vec(
            lambda i: np.where(active(i), 1.2, np.cos(i)).clip(-0.4, 1.2)
        )
        multipliers = self.vec(lambda i: np.where(active(i), 1.0 + 0.1 * i, 0.0))
        self.b = self.K * self.solution + self.R * self.solution + multipliers


class Exponential(Problem):
    """1/2 |exp(B m) - exp(B m_true)|^2 * 50, B = tridiag(1, 2, 1) / 4: nonlinear least squares that
    can overflow."""

    weight = 0.1

    def build(self):
        self.B = tridiagonal(self.n, 0.25, 0.5, 0.25)
        self.data = self.predict(self.vec(lambda i: np.sin(0.5 * i)))

    def predict(self, m):
        u = self.B * m
        u.exp()
        return u

    def phi(self, m):
        return 25.0 * (self.predict(m) - self.data).norm() ** 2

    def slope(self, m):
        u = self.predict(m)
        return 50.0 * (self.B * (u * (u - self.data)))

    def curvature(self, m, dm, gauss_newton):
        u = self.predict(m)
        weights = u * u if gauss_newton else u * (2.0 * u - self.data)
        return 50.0 * (self.B * (weights * (self.B * dm)))


class Overflowing(Exponential):
    """With so weak a regularization that R^-1 g overflows exp."""

    weight = 1e-5


class Fine(Problem):
    """1/2 |W m - d|^2 / 0.01^2 + 1/2 int |grad m|^2 + m^2 on [0, 1]: twelve averages on a mesh of n
    cells."""

    n = 400

    def build(self):
        h, n = 1.0 / self.n, self.n
        self.R = tridiagonal(n, -1.0 / h, 2.0 / h + h, -1.0 / h)
        self.inverse = direct(self.R)
        self.W = PETSc.Mat().createDense((12, n), comm=COMM)
        self.W.setUp()
        for row in range(*self.W.getOwnershipRange()):
            x = (np.arange(n) + 0.5) * h
            self.W.setValues(
                row,
                np.arange(n, dtype="i4"),
                h * 10.0 * np.exp(-(((x - (row + 0.5) / 12) / 0.05) ** 2)),
            )
        self.W.assemble()
        self.data = self.W * self.vec(lambda i: np.sin(5 * (i + 0.5) * h))

    def mass(self):
        return self.vec(lambda i: 0 * i + 1.0 / self.n)

    def gradient_norm(self, g):
        return g.norm() * self.n**0.5

    def start(self):
        return self.vec(lambda i: 0 * i)

    def phi(self, m):
        return 0.5e4 * (self.W * m - self.data).norm() ** 2

    def transposed(self, residual):
        out = self.R.createVecLeft()
        self.W.multTranspose(residual, out)
        return 1e4 * out

    def slope(self, m):
        return self.transposed(self.W * m - self.data)

    def curvature(self, m, dm, gauss_newton):
        return self.transposed(self.W * dm)


class Rosenbrock(Problem):
    """sum_i 10 (m_{i+1} - m_i^2)^2 + (1 - m_i)^2, i + 1 periodic: minimum 0 at ones, an indefinite
    Hessian."""

    weight = 0.0
    n = 6

    def build(self):
        self.S = PETSc.Mat().createAIJ((self.n, self.n), nnz=1, comm=COMM)
        for row in range(*self.S.getOwnershipRange()):
            self.S.setValue(row, (row + 1) % self.n, 1.0)
        self.S.assemble()
        self.inverse = direct(tridiagonal(self.n, 0.0, 2.0, 0.0))
        self.solution = self.vec(lambda i: 0 * i + 1.0)

    def start(self):
        return self.vec(lambda i: 0.2 + 0.3 * np.mod(i, 3))

    def residuals(self, m):
        return self.S * m - m * m, 1.0 - m

    def phi(self, m):
        a, b = self.residuals(m)
        return 10.0 * a.norm() ** 2 + b.norm() ** 2

    def adjoint(self, m, a, b):
        out = self.S.createVecLeft()
        self.S.multTranspose(a, out)
        return 20.0 * (out - 2.0 * (m * a)) - 2.0 * b

    def slope(self, m):
        return self.adjoint(m, *self.residuals(m))

    def curvature(self, m, dm, gauss_newton):
        product = self.adjoint(m, self.S * dm - 2.0 * (m * dm), -1.0 * dm)
        return product if gauss_newton else product - 40.0 * (dm * self.residuals(m)[0])


PROBLEMS = {
    kind.__name__.lower(): kind
    for kind in (Quadratic, Bounded, Exponential, Overflowing, Fine, Rosenbrock)
}


@pytest.fixture
def problem():
    """A function from a name (and a size) to a new problem."""

    def build(name, n=None):
        kind = PROBLEMS[name]
        return kind() if n is None else type(kind.__name__, (kind,), {"n": n})()

    return build
