"""log D of -div(D grad u) = 0 on n^2 squares with hIPPYlib 3 on legacy FEniCS: the MAP, its Laplace
posterior by the randomized method with two passes, standard deviations and 100 samples, as
posterior.py has them.

    python posterior_hippylib.py n --data DIR [--pairs 71] [--solver lu|amg]

DIR has log_coefficient/observations.npz or observations.npz itself. On Debian 12 an environment is

    apt-get install --no-install-recommends python3-dolfin python3-petsc4py-real python3-scipy \\
        python3-matplotlib gcc g++ python3-venv
    /usr/bin/python3 -m venv --system-site-packages V
    V/bin/pip install hippylib==3.2.0 --no-build-isolation --no-deps

and the first run fills its cache of compiled forms. Prints processor seconds as one JSON object.
Eigenpairs are those of Gauss-Newton, 20 directions more than the pairs that are asked for.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path

import dolfin as dl
import hippylib as hp
import numpy as np
import ufl

GAMMA, DELTA, MORE, SAMPLES = 0.1, 0.5, 20, 100


class Multigrid(hp.PDEVariationalProblem):  # type: ignore[misc]  # no types
    """With CG and hypre for states, in place of factors."""

    def _createLUSolver(self) -> object:
        solver = hp.PETScKrylovSolver(dl.MPI.comm_world, "cg", hp.amg_method())
        solver.parameters["relative_tolerance"] = 1e-10
        solver.parameters["absolute_tolerance"] = 0.0
        solver.parameters["maximum_iterations"] = 500
        return solver


def model(n: int, data: Path, solver: str) -> hp.Model:
    z = np.load(data)
    Vh = dl.FunctionSpace(dl.UnitSquareMesh(n, n), "Lagrange", 1)

    def ends(x: np.ndarray, on: bool) -> bool:
        return bool(on and (x[1] < 1e-12 or x[1] > 1 - 1e-12))

    def form(u: object, m: object, p: object) -> object:
        # Legacy FEniCS assembles no form that has no terms: a load of zero.
        load = dl.Constant(0.0) * p * ufl.dx
        return ufl.exp(m) * ufl.inner(ufl.grad(u), ufl.grad(p)) * ufl.dx - load

    bc = dl.DirichletBC(Vh, dl.Expression("x[1]", degree=1), ends)
    bc0 = dl.DirichletBC(Vh, dl.Constant(0.0), ends)
    kind = hp.PDEVariationalProblem if solver == "lu" else Multigrid
    pde = kind([Vh, Vh, Vh], form, bc, bc0, is_fwd_linear=True)
    B = hp.assemblePointwiseObservation(Vh, z["xy"])
    misfit = hp.DiscreteStateObservation(B)
    misfit.d = dl.Vector()
    B.init_vector(misfit.d, 0)
    misfit.d.set_local(z["data"])
    misfit.noise_variance = float(z["sigma"]) ** 2
    return hp.Model(pde, hp.BiLaplacianPrior(Vh, GAMMA, DELTA), misfit)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("n", type=int)
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--pairs", type=int, default=71)
    p.add_argument("--solver", choices=("lu", "amg"), default="lu")
    o = p.parse_args()
    for name in ("FFC", "UFL"):
        logging.getLogger(name).setLevel(logging.WARNING)
    dl.set_log_active(False)
    inside = o.data / "log_coefficient" / "observations.npz"
    made = model(
        o.n, inside if inside.exists() else o.data / "observations.npz", o.solver
    )
    settings = hp.ReducedSpaceNewtonCG_ParameterList()
    settings["rel_tolerance"], settings["max_iter"] = 1e-6, 50
    settings["globalization"], settings["print_level"] = "LS", -1
    newton = hp.ReducedSpaceNewtonCG(made, settings)
    begin = time.process_time()
    x = newton.solve([made.generate_vector(k) for k in range(3)])
    fitted = time.process_time()
    made.setPointForHessianEvaluations(x, gauss_newton_approx=True)
    H = hp.ReducedHessian(made, misfit_only=True)
    omega = hp.MultiVector(x[hp.PARAMETER], o.pairs + MORE)
    hp.parRandom.normal(1.0, omega)
    prior = made.prior
    values, U = hp.doublePassG(H, prior.R, prior.Rsolver, omega, o.pairs, s=1)
    found = hp.GaussianLRPosterior(prior, values, U)
    # It takes a mean as an argument and does not keep it.
    found.mean = x[hp.PARAMETER]
    paired = time.process_time()
    found.pointwise_variance(method="Randomized", r=200)
    known = time.process_time()
    noise, before, after = dl.Vector(), made.generate_vector(1), made.generate_vector(1)
    prior.init_vector(noise, "noise")
    for _ in range(SAMPLES):
        hp.parRandom.normal(1.0, noise)
        found.sample(noise, before, after)
    ended = time.process_time()
    told = {
        "peer": f"hippylib {hp.__version__}",
        "n": o.n,
        "solver": o.solver,
        "converged": bool(newton.converged),
        "map_s": round(fitted - begin, 3),
        "pairs_s": round(paired - fitted, 3),
        "variance_s": round(known - paired, 3),
        "samples_s": round(ended - known, 3),
        "products": H.ncalls,
        "values": [round(float(values[k - 1]), 4) for k in (1, 5, 10, 20, 30)],
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
