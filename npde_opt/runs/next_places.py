"""Where to measure next, by [posterior.design]: design.csv and design.png."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from npde_opt.cases import Case
from npde_opt.cases.on_grid import OnGrid
from npde_opt.cases.posterior_tables import DesignTable
from npde_opt.cases.seen import candidates
from npde_opt.errors import InputError
from npde_opt.forward import Storage
from npde_opt.grids import AXES
from npde_opt.posterior import Laplace
from npde_opt.posterior.design import Design, best
from npde_opt.posterior.quantities import OfStates

FILE, FIGURE = "design.csv", "design.png"


@dataclass(frozen=True)
class Places:
    """What is best observed next.

    Attributes:
        at: coordinates (n, dim) of the candidates, NaN where they are no points.
        deviations: of what is predicted there, before any is observed (n,).
    """

    design: Design
    at: np.ndarray
    deviations: np.ndarray
    sigma: float

    def csv(self) -> str:
        """A line a chosen candidate, in order."""
        d, dim = self.design, self.at.shape[1]
        out = io.StringIO()
        gain = "nats" if d.criterion == "D" else "variance_taken"
        head = ["order", "candidate", *AXES[:dim], "predicted_deviation", gain]
        out.write(",".join([*head, "information", "sum_of_variances"]) + "\n")
        rows = zip(d.chosen, d.gains, d.information, d.left[1:], strict=True)
        for number, (j, *told) in enumerate(rows):
            values = [*self.at[j], self.deviations[j], *told]
            cells = [f"{v:.10g}" for v in values]
            out.write(",".join([str(number + 1), str(j), *cells]) + "\n")
        return out.getvalue()


def check(case: Case, on: OnGrid) -> None:
    """Raises InputError for candidates that cannot be, or too few. Collective."""
    seen = candidates(case)
    if seen is None:
        return
    section = case.table.posterior.design
    assert section is not None
    count = seen.functionals(on.grid).size
    if section.count > count:
        allowed = f"1 to {count}, the candidates"
        raise InputError("posterior.design.count", section.count, allowed)


def chosen(
    case: Case, on: OnGrid, laplace: Laplace, section: DesignTable
) -> Places | None:
    """Collective."""
    seen = candidates(case)
    if seen is None:
        return None
    storage = case.storage(on.grid) if case.evolves else Storage()
    forward = on.forward([section.experiment], case.times(), storage, [seen])
    ((times, size),) = forward.observed.observer(0).sizes
    count = times * size
    names = [str(k) for k in range(count)]
    of = OfStates(forward, names, [(0, k) for k in range(count)])
    _, gradients = of.gradients(laplace.at.m)
    wide = np.array([laplace.deviation(g) for g in gradients])
    sigma = [section.sigma] * count
    design = best(laplace, gradients, sigma, section.count, section.criterion)
    for g in gradients:
        g.destroy()
    forward.destroy()
    at = seen.centres
    if len(at) != size:
        at = np.full((size, case.domain.dim), np.nan)
    return Places(design, np.tile(at, (times, 1)), wide, section.sigma)
