"""Cost of one gradient and of one Hessian product in units of the forward solve (assembly, update
and solve).

    python benchmarks/gradient_cost.py [--size 1024] [--profile]

A gradient is the forward solve, the adjoint solve and the contraction; the regularizer is counted
in both ratios of `with_regularizer` and left out of the others.
"""

from __future__ import annotations

import cProfile
import pstats

from common import comm, parser, report, seconds, smooth, synthetic

from npde_opt.forward.interface import Linearization


def main() -> None:
    args = parser("gradient_cost", __doc__)
    args.add_argument("--size", type=int, default=1024)
    args.add_argument("--repeats", type=int, default=5)
    args.add_argument(
        "--profile",
        action="store_true",
        help="show where a gradient and a product spend their time",
    )
    given = args.parse_args()
    objective = synthetic(given.size)
    grid, space = objective.forward.grid, objective.space
    m, other, dm, out = (space.create_vec() for _ in range(4))
    space.own(m, "D")[...] = 0.3 * smooth(grid)
    space.own(dm, "D")[...] = 0.1 * smooth(grid) ** 2
    state = {"even": True}

    def linearization() -> Linearization:
        """At another point every time, so that nothing is kept."""
        state["even"] = not state["even"]
        other.waxpy(1e-3 if state["even"] else 2e-3, dm, m)
        return objective.forward.linearize(other)

    def forward() -> None:
        linearization().destroy()

    def gradient(regularized: bool) -> None:
        if regularized:
            state["even"] = not state["even"]
            other.waxpy(1e-3 if state["even"] else 2e-3, dm, m)
            at = objective.linearize(other)
            at.gradient()
            at.destroy()
            return
        lin = linearization()
        residuals = [
            f.gradient(d) for f, d in zip(objective.misfits, lin.data, strict=True)
        ]
        lin.apply_adjoint((), lin.adjoint_states(residuals)).destroy()
        lin.destroy()

    for warm in (forward, lambda: gradient(True)):
        warm()
    at = objective.linearize(m)
    at.gradient()
    lin = at.linearization
    weights = [
        f.gauss_newton_metric(d)
        for f, d in zip(objective.misfits, lin.data, strict=True)
    ]
    adjoints = at.adjoints

    def product(exact: bool) -> None:
        out.set(0)
        lin.hessian(dm, weights, out, adjoints if exact else None)

    if given.profile:
        for action in (forward, lambda: gradient(False), lambda: product(False)):
            with cProfile.Profile() as profile:
                action()
            if comm.rank == 0:
                pstats.Stats(profile).sort_stats("tottime").print_stats(14)
    unit = seconds(forward, given.repeats)
    costs = {
        "gradient": (seconds(lambda: gradient(False), given.repeats), 2.5),
        "gradient_with_regularizer": (
            seconds(lambda: gradient(True), given.repeats),
            None,
        ),
    }
    product(False)  # puts the operator of this point back
    costs |= {
        "gauss_newton_product": (seconds(lambda: product(False), given.repeats), 2.2),
        "hessian_product": (seconds(lambda: product(True), given.repeats), None),
        "hessian_product_with_regularizer": (
            seconds(lambda: at.hessian(dm, out), given.repeats),
            None,
        ),
    }
    rows = [
        {
            "cells": f"{given.size}^2",
            "what": "forward",
            "seconds": unit,
            "forwards": 1.0,
        }
    ]
    rows += [
        {
            "cells": f"{given.size}^2",
            "what": k,
            "seconds": t,
            "forwards": t / unit,
            "target": target or "",
        }
        for k, (t, target) in costs.items()
    ]
    report("gradient_cost", rows, given.out)


if __name__ == "__main__":
    main()
