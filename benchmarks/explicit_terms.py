"""Explicit steps with D(u) and with advection, fused beside assembled ones in alternation:
processor seconds of a forward run, a gradient and a product with the exact Hessian, one thread.

    python benchmarks/explicit_terms.py [--size 256] [--steps 50] [--problems porous square flow]

porous: D u^m, m unknown; square: D u^2; flow: diffusion and advection. All with Fisher's reaction.
"""

from __future__ import annotations

import time

import numpy as np
from common import parser, report

from npde_opt.forward import SCHEMES, Equation, Evolution, Experiment
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import snapshots
from npde_opt.parameters import ParameterSpace, Shared, Unknown
from npde_opt.terms import Advection, Diffusion, Kinetics, NonlinearDiffusion
from npde_opt.terms.interface import Term

PROBLEMS = ("porous", "square", "flow")
START = "0.2 + 0.7*exp(-20*((x - 0.5)**2 + (y - 0.5)**2))"
VALUES = {"m": 2.0, "q": 20.0, "r": 3.0}


def terms(problem: str, grid: Grid) -> tuple[list[Term], str]:
    """And the number that is unknown beside D and r, if any."""
    fisher = Kinetics(grid, ("u",), "fisher-kpp")
    if problem == "flow":
        flow = Advection(grid, ("q*y*(1 - y)", 0.2))
        return [Diffusion(grid, "D"), flow, fisher], "q"
    text = "D*u**m" if problem == "porous" else "D*u**2"
    moving = NonlinearDiffusion(grid, ("u",), "u", text, floor=1e-6)
    return [moving, fisher], "m" if problem == "porous" else ""


def objective(problem: str, n: int, steps: int, fused: bool) -> Objective:
    grid = Grid((n, n))
    own, number = terms(problem, grid)
    shared = [Unknown(name, block=Shared()) for name in ("r", number) if name]
    space = ParameterSpace(grid, [Unknown("D", "log"), *shared])
    times = np.arange(steps + 1) * 0.1 / n**2
    forward = Evolution(
        space,
        Equation(grid, own),
        {"K": 1.0},
        [Experiment({"u": START})],
        [snapshots(grid, [float(times[-1])], "u")],
        SCHEMES["explicit-euler"],
        times,
        fused=fused,
    )
    (layout,) = forward.layouts
    misfit = LeastSquares(np.zeros((layout.size, 1)), 1.0, layout)
    return Objective(forward, [misfit], {})


class Run:
    """One of the two paths."""

    def __init__(self, problem: str, n: int, steps: int, fused: bool):
        self.J = objective(problem, n, steps, fused)
        grid, names = self.J.space.grid, [u.name for u in self.J.space.unknowns]
        given: dict[str, float | np.ndarray] = {
            "D": np.ones(grid.local_shape),
            **VALUES,
        }
        self.m = self.J.space.from_values({name: given[name] for name in names})
        self.product, self.direction = self.J.create_vec(), self.m.copy()

    def seconds(self) -> tuple[list[float], float]:
        """Of the three, and the norm of the product."""
        # New values, so that nothing is found from before.
        self.m.scale(1 + 1e-9)
        at, found = self.J.linearize(self.m), list[float]()
        for action in (
            lambda: at.value,
            at.gradient,
            lambda: at.hessian(self.direction, self.product),
        ):
            start = time.process_time()
            action()
            found.append(time.process_time() - start)
        at.destroy()
        return found, float(self.product.norm())


def compared(problem: str, n: int, steps: int, rounds: int) -> dict[str, object]:
    fused, assembled = (Run(problem, n, steps, kind) for kind in (True, False))
    fused.seconds(), assembled.seconds()
    taken: list[list[list[float]]] = [[], []]
    for _ in range(rounds):
        for own, run in zip(taken, (fused, assembled), strict=True):
            own.append(run.seconds()[0])
    (_, ours), (_, theirs) = fused.seconds(), assembled.seconds()
    row: dict[str, object] = {"problem": problem, "size": n, "steps": steps}
    for i, name in enumerate(("forward", "gradient", "Hessian")):
        new, old = (min(seconds[i] for seconds in own) for own in taken)
        row |= {f"{name}, fused": new, f"{name}, assembled": old}
        row[f"{name}, ratio"] = new / old
    return {**row, "apart": abs(ours - theirs) / abs(theirs)}


def main() -> None:
    args = parser("explicit_terms", __doc__ or "")
    args.add_argument("--size", type=int, default=256)
    args.add_argument("--steps", type=int, default=50)
    args.add_argument("--rounds", type=int, default=3)
    args.add_argument("--problems", nargs="+", choices=PROBLEMS, default=PROBLEMS)
    given = args.parse_args()
    sizes = given.size, given.steps, given.rounds
    rows = [compared(problem, *sizes) for problem in given.problems]
    report("explicit_terms", rows, given.out)


if __name__ == "__main__":
    main()
