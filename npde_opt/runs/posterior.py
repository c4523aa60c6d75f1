"""What the data leave open of a run's fields, by `--uncertainty laplace`: standard deviations and
samples as fields, the spectrum of what the data tell against the prior, and numbers.

Deviations are those of the parameter (of logarithms, where it is one) and of the coefficient, the
latter by its slope at the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from npde_opt import figures
from npde_opt.aliases import Coefficient, Record
from npde_opt.cases import Case
from npde_opt.cases.on_grid import OnGrid
from npde_opt.figures.posterior import plot_information
from npde_opt.grids import Grid
from npde_opt.grids.thinned import Thinned
from npde_opt.io.vtk import uniform, write_vtk
from npde_opt.objective import Objective, ObjectiveAt
from npde_opt.posterior import Laplace, PosteriorSettings
from npde_opt.posterior.prior import check_proper
from npde_opt.runs.attempts import Attempts
from npde_opt.runs.folder import RunDirectory
from npde_opt.runs.marked import marks_of, sides_of

KINDS = ("laplace",)
SAMPLES = 4
"""Of the posterior, that are written."""
SLOPE_STEP = 1e-3
"""Of a deviation, for the slope of the coefficient in the parameter."""
SPECTRUM = "information.png"


def fields_of(case: Case) -> list[str]:
    """Unknowns with a value in every cell."""
    table = case.table.unknown
    return [u.name for u in table if u.kind == "field" and u.regions is None]


def names(case: Case, grid: Grid, plot: bool) -> list[str]:
    """The files that are written."""
    found = ["posterior.vti" if uniform(grid) else "posterior.vtr"]
    drawn = [f"{name}_deviation.png" for name in fields_of(case)]
    return found + ([SPECTRUM, *drawn] if plot else [])


def check(build: Callable[[], tuple[Objective, PETSc.Vec]]) -> None:
    """Raises InputError where there will be no posterior, before any work. Collective."""
    objective, m = build()
    check_proper(objective)
    m.destroy()
    objective.destroy()


@dataclass
class Posterior:
    """
    Args:
        out: the run's folder; None in groups that do not write.
    """

    case: Case
    on: OnGrid
    at: ObjectiveAt
    out: RunDirectory | None
    seed: int

    def __post_init__(self) -> None:
        settings = PosteriorSettings(rtol=3e-2, seed=self.seed)
        self.laplace = Laplace(self.at, settings)
        self.space = self.at.objective.space
        # In all groups, as they solve together.
        self.shown = self._deviations() | self._samples()

    def metrics(self) -> Record:
        """For summary.json."""
        found = self.laplace
        told: Record = {
            "information": found.divergence,
            "information_expected": found.expected_information,
            "determined_numbers": found.determined,
            "eigenvalues_above_1": int((found.values > 1).sum()),
            "posterior_products": found.pairs.products,
            "posterior_seconds": found.seconds,
        }
        if not found.pairs.complete:
            told["posterior_note"] = (
                f"the search ended at {found.settings.most} directions, and data tell more: "
                "information and numbers are lower bounds, deviations upper ones"
            )
        return told

    def write(self, attempt: Attempts, plot: bool) -> None:
        """Files and figures, where this group writes. Collective on its ranks."""
        if self.out is None:
            return
        target = self.out.file("posterior")
        attempt("posterior.vti", lambda: write_vtk(target, self.on.grid, self.shown))
        if plot:
            attempt("the figures of the posterior", self._draw)

    def _samples(self) -> dict[str, Coefficient]:
        """Some, by name and number."""
        found: dict[str, Coefficient] = {}
        for k, sample in enumerate(self.laplace.posterior_samples(SAMPLES, self.seed)):
            values = self._values(sample)
            found |= {f"{name}_sample_{k}": v for name, v in values.items()}
            sample.destroy()
        return found

    def _values(self, m: PETSc.Vec) -> dict[str, np.ndarray]:
        """Coefficients in the own cells."""
        found = self.space.at(m).coefficients()
        return {name: np.asarray(found[name]) for name in fields_of(self.case)}

    def _deviations(self) -> dict[str, Coefficient]:
        """Of parameters, prior and posterior, and of coefficients."""
        shown: dict[str, Coefficient] = {}
        change = self.space.create_vec()
        for kind, variance in (
            ("prior_deviation", self.laplace.prior_variance),
            ("deviation", self.laplace.variance),
        ):
            change.setArray(np.sqrt(variance))
            for name in fields_of(self.case):
                shown[f"{name}_parameter_{kind}"] = self.space.look(change, name).copy()
            for name, slope in self._along(change).items():
                shown[f"{name}_{kind}"] = slope
        change.destroy()
        return shown

    def _along(self, change: PETSc.Vec) -> dict[str, np.ndarray]:
        """|dD/dp| of a change of the parameters, by central differences."""
        ends = []
        for sign in (1.0, -1.0):
            m = self.at.m.copy()
            m.axpy(sign * SLOPE_STEP, change)
            ends.append(self._values(m))
            m.destroy()
        return {n: abs(ends[0][n] - v) / (2 * SLOPE_STEP) for n, v in ends[1].items()}

    def _draw(self) -> None:
        assert self.out is not None
        thinned = Thinned(self.on.grid)
        active = thinned.gathered(self.on.grid.active)
        values = self._values(self.at.m)
        units = {u.name: u.unit for u in self.case.table.unknown}
        for name in fields_of(self.case):
            field = thinned.gathered(values[name])
            deviation = thinned.gathered(np.asarray(self.shown[f"{name}_deviation"]))
            if field is None or deviation is None:
                continue
            figures.plot_fields(
                self.out.file(f"{name}_deviation.png"),
                thinned.edges,
                field,
                name=name,
                unit=units[name],
                length_unit=self.case.table.case.length_unit,
                active=active,
                deviation=deviation,
                marks=marks_of(self.case),
                sides=sides_of(self.case),
                axes=self.on.grid.axis_names,
            )
        if self.on.grid.comm.rank == 0:
            plot_information(
                self.out.file(SPECTRUM), self.laplace.values, self.laplace.settings.cut
            )
