"""What the data leave open near a run's answer, by `--uncertainty`: standard deviations and samples
as fields, the spectrum of what the data tell against the prior, numbers, and chains.

Deviations are those of the parameter (of logarithms, where it is one) and of the coefficient, the
latter by its slope at the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from npde_opt import nested
from npde_opt.aliases import Coefficient, Record
from npde_opt.cases import Case
from npde_opt.cases.on_grid import OnGrid
from npde_opt.cases.posterior_tables import PosteriorSection
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError, SolverError
from npde_opt.grids import Grid
from npde_opt.io.vtk import uniform, write_vtk
from npde_opt.io.zarr_writer import ZarrStore
from npde_opt.objective import Objective, ObjectiveAt
from npde_opt.posterior import Laplace, PosteriorSettings
from npde_opt.posterior.bounds import held
from npde_opt.posterior.predictions import coverage, resolution, spread
from npde_opt.posterior.prior import check_proper
from npde_opt.posterior.whole import Whole
from npde_opt.runs import between, chains, next_places, profiles, quantities
from npde_opt.runs.asked import PROFILE, SAMPLES, Asked, digest
from npde_opt.runs.attempts import Attempts
from npde_opt.runs.between import Between
from npde_opt.runs.chains import Chains
from npde_opt.runs.folder import RunDirectory
from npde_opt.runs.next_places import Places, chosen
from npde_opt.runs.numbers import Numbers
from npde_opt.runs.predicted import Predicted
from npde_opt.runs.profiles import Profiles
from npde_opt.runs.quantities import Told
from npde_opt.runs.solves import model
from npde_opt.runs.told import NUMBERS, SECTION
from npde_opt.sampling.run import Sampled

KIND = "uncertainty"
"""Of the metrics: which of them was asked for."""
SLOPE_STEP = 1e-3
"""Of a deviation, for the slope of the coefficient in the parameter."""
ROUNDING = 1e-9
"""Share of a sum that is no error of sampling."""
STORE = "posterior.zarr"
SPECTRUM, BANDS = "information.png", "bands.png"


def settings_of(section: PosteriorSection, seed: int) -> PosteriorSettings:
    """Raises InputError naming the key, for what cannot be."""
    return PosteriorSettings(
        cut=section.cut,
        rtol=section.tolerance,
        block=section.oversampling,
        most=section.most,
        gauss_newton=section.gauss_newton,
        samples=section.variance_samples,
        seed=seed,
    )


def fields_of(case: Case) -> list[str]:
    """Unknowns with a value in every cell."""
    table = case.table.unknown
    return [u.name for u in table if u.kind == "field" and u.regions is None]


def stored(case: Case) -> bool:
    """Whether samples go to a store of their own."""
    section = case.table.posterior
    return section.zarr and section.samples > 0


def names(case: Case, grid: Grid, plot: bool, kind: str) -> list[str]:
    """The files that are written."""
    found = ["posterior.vti" if uniform(grid) else "posterior.vtr", quantities.FILE]
    found += [STORE] if stored(case) else []
    if kind == SAMPLES:
        found += [chains.FOLDER, *([chains.FIGURE] if plot else [])]
    if kind == PROFILE:
        found += [profiles.FILE, *([profiles.FIGURE] if plot else [])]
    if case.table.posterior.places:
        found.append(between.FILE)
    if case.table.posterior.design is not None:
        found += [next_places.FILE, *([next_places.FIGURE] if plot else [])]
    drawn = [f"{name}_coverage.png" for name in fields_of(case)]
    return found + ([SPECTRUM, BANDS, *drawn] if plot else [])


def check(
    case: Case,
    asked: Asked,
    out: RunDirectory | None,
    ensemble: Ensemble,
    build: Callable[[], tuple[Objective, PETSc.Vec]],
) -> None:
    """Raises InputError where there will be no posterior, before any work. Collective."""
    settings_of(case.table.posterior, asked.seed)
    if asked.kind == SAMPLES:
        chains.check(case, asked.groups, asked.seed, out, ensemble)
    objective, m = build()
    check_proper(objective)
    with objective.together():
        on = case.on(objective.space.grid)
        numbers = Numbers(case, on)
        if asked.kind == PROFILE:
            profiles.chosen(case, numbers)
        numbers.destroy()
        next_places.check(case, on)
        between.check(case, on)
    m.destroy()
    objective.destroy()


def _why_incomplete(found: Laplace) -> str:
    """Why some pairs above the cut may be missing, and what that means."""
    if found.pairs.stuck:
        return (
            "residuals of pairs stood still above posterior.tolerance, as products with the data's "
            "Hessian are too rough for it (-state_ksp_rtol, or a larger tolerance): small "
            "eigenvalues and what follows from them are less exact"
        )
    return (
        f"the search ended at {found.settings.most} directions (posterior.most), and data tell "
        "more: information and numbers are lower bounds, deviations upper ones"
    )


@dataclass
class Posterior:
    """
    Args:
        at: the answer; it stays the caller's.
        out: the run's folder; None in groups that do not write.
        say: takes a line.
    """

    case: Case
    on: OnGrid
    at: ObjectiveAt
    out: RunDirectory | None
    asked: Asked
    say: Callable[[str], None]

    def __post_init__(self) -> None:
        self.section, self.seed = self.case.table.posterior, self.asked.seed
        objective = self.at.objective
        if self.asked.kind == SAMPLES:
            # Chains go on around the point that they began around.
            m = chains.minimizer(self.at, self.out, self.asked.identity)
            self.at = objective.linearize(m)
            m.destroy()
        settings = settings_of(self.section, self.seed)
        start = self._start(settings) if self.asked.nested else None
        self.laplace = Laplace(
            self.at, settings, start, held(self.at), sure=start is not None
        )
        self.space, self.whole = objective.space, Whole(self.laplace)
        # In all groups, as they solve together.
        self.shown: dict[str, Coefficient] = self._deviations() | self._modes()
        self.samples = self._samples()
        if not stored(self.case):
            self.shown |= {
                f"{name}_sample_{k}": values
                for k, sample in enumerate(self.samples)
                for name, values in sample.items()
            }
            self.samples = []
        self.numbers = Numbers(self.case, self.on)
        self.sampled: Sampled | None = None
        self.told: Told | None = None
        self.places: Places | None = None
        self.between: Between | None = None
        self.effective: float | None = None
        self.profiles: Profiles | None = None

    def _start(self, settings: PosteriorSettings) -> np.ndarray | None:
        """Directions from a coarser grid; None where that is not to be had."""
        ensemble = self.at.objective.ensemble
        try:
            return nested.directions(
                self.at, lambda grid: self.case.build(grid, ensemble), settings
            )
        except (InputError, SolverError):
            return None

    def tell(self) -> None:
        """Finds intervals of numbers, and quantities of interest. Collective."""
        self.told = Told(self.laplace, self.numbers, self.section.pairs)
        self.shown |= self.told.fields()

    def predict(self, rows: Predicted) -> None:
        """Standard deviations of predicted data, of experiments that were set aside too, and data
        resolution, into their rows, and coverage and resolution of fields. Collective."""
        if not self.section.bands:
            return
        laplace, case = self.laplace, self.case
        objective = self.at.objective.whole or self.at.objective
        parted = objective is not self.at.objective
        at = objective.linearize(self.at.m) if parted else self.at
        found, ensemble = spread(laplace, of=at), objective.ensemble
        numbers, every = ensemble.own(case.experiment_count), []
        share = model(objective).observed.observer(0).share
        for blocks in (found.deviations, found.resolution):
            with ensemble.together():
                own = model(objective).observed.by_experiment(blocks)
            numbered = {e: own[k] for k, e in enumerate(numbers)}
            every.append(share.of_all(numbered, ensemble.world, case.experiment_count))
        rows.spread(*every)
        if parted:
            at.destroy()
        self.effective = rows.effective()
        seen, mass = self.space.create_vec(), self.space.mass()
        seen.setArray(coverage(laplace, self.at.metrics))
        seen.pointwiseDivide(seen, mass)
        for name in fields_of(case):
            self.shown[f"{name}_coverage"] = self.space.look(seen, name).copy()
        seen.setArray(resolution(laplace))
        for name in fields_of(case):
            self.shown[f"{name}_resolution"] = self.space.look(seen, name).copy()
        for vec in (seen, mass):
            vec.destroy()

    def choose(self) -> None:
        """Finds where to measure next, where the case asks. Collective."""
        if (design := self.section.design) is not None:
            self.places = chosen(self.case, self.on, self.laplace, design)

    def correlate(self) -> None:
        """Finds what is left in chosen places, and between them. Collective."""
        if self.section.places:
            self.between = between.between(self.case, self.on, self.laplace)

    def profile(self) -> None:
        """Finds intervals by profile likelihood. Collective."""
        self.profiles = profiles.profiles(self.case, self.laplace, self.numbers)

    def sample(self) -> Record:
        """Runs the chains; their metrics. Collective."""
        asked = self.asked
        run = Chains(
            self.case,
            self.laplace,
            self.numbers,
            self.out,
            asked.groups,
            self.seed,
            asked.identity,
            self.say,
        )
        self.sampled = run.run()
        self.shown |= self._of_chains(self.sampled)
        return chains.metrics(self.sampled, run.settings)

    def _of_chains(self, found: Sampled) -> dict[str, Coefficient]:
        """Means and deviations as fields."""
        shown: dict[str, Coefficient] = {}
        deviation = found.variance.copy()
        deviation.sqrtabs()
        for name in fields_of(self.case):
            mean = self.space.look(found.mean, name)
            shown[f"{name}_parameter_sampled_mean"] = mean.copy()
            wide = self.space.look(deviation, name)
            shown[f"{name}_parameter_sampled_deviation"] = wide.copy()
        deviation.destroy()
        return shown

    def metrics(self) -> Record:
        """For summary.json."""
        found, determined = self.laplace, self.whole.determined
        sampled = {}
        if determined.error > ROUNDING * determined.value:
            sampled["determined_numbers_error"] = determined.error
        told: Record = {
            KIND: self.asked.kind,
            SECTION: digest(self.section),
            "information": found.divergence,
            "information_expected": self.whole.expected_information.told,
            "determined_numbers": determined.told,
            **sampled,
            "determined_along_directions": found.determined,
            "eigenvalues_above_1": int((found.values > 1).sum()),
            "posterior_products": found.pairs.products,
            "posterior_seconds": found.seconds,
        }
        if self.modes:
            told["mode_eigenvalues"] = found.values[: self.modes].tolist()
        if self.effective is not None:
            told["effective_data"] = self.effective
        if self.between is not None:
            told |= self.between.metrics()
        if flat := found.prior.flat:
            # Of a flat prior the data take away infinitely much.
            told |= {"information": None, "information_expected": None}
            told["flat_priors"] = list(flat)
        if not found.pairs.complete:
            told["posterior_note"] = _why_incomplete(found)
        return told | self._of_numbers()

    def _of_numbers(self) -> Record:
        """Of each what was found."""
        told = {} if self.told is None else self.told.metrics()
        if self.profiles is None:
            return told
        rows = dict(told.get(NUMBERS, {}))
        for name, more in self.profiles.metrics().items():
            rows[name] = rows.get(name, {}) | more
        return told | {NUMBERS: rows}

    def write(self, attempt: Attempts) -> None:
        """Files, where this group writes. Collective on its ranks."""
        if self.out is None:
            return
        target = self.out.file("posterior")
        attempt("posterior.vti", lambda: write_vtk(target, self.on.grid, self.shown))
        if self.samples:
            attempt(STORE, self._store)
        if self.told is not None:
            text, out = self.told.csv(), self.out
            attempt(quantities.FILE, lambda: out.write(quantities.FILE, text))
        if self.profiles is not None:
            curves, out = self.profiles.csv(), self.out
            attempt(profiles.FILE, lambda: out.write(profiles.FILE, curves))
        if self.between is not None:
            table, out = self.between.csv(), self.out
            attempt(between.FILE, lambda: out.write(between.FILE, table))
        if self.places is not None:
            design, out = self.places.csv(), self.out
            attempt(next_places.FILE, lambda: out.write(next_places.FILE, design))

    def _samples(self) -> list[dict[str, np.ndarray]]:
        """Some, by number and name."""
        found = []
        for sample in self.laplace.posterior_samples(self.section.samples, self.seed):
            found.append(self._values(sample))
            sample.destroy()
        return found

    def _store(self) -> None:
        """They as a store: axes sample, x, y, z."""
        assert self.out is not None
        unit = self.case.table.case.length_unit
        leading = {"sample": np.arange(len(self.samples))}
        path = self.out.path / STORE
        with ZarrStore(path, self.on.grid, leading, length_unit=unit) as store:
            for k, sample in enumerate(self.samples):
                for name, values in sample.items():
                    store.put(name, values, (k,))

    def _values(self, m: PETSc.Vec) -> dict[str, np.ndarray]:
        return chains.fields(self.case, self.space, m)

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

    @property
    def modes(self) -> int:
        """How many directions are written."""
        return min(self.section.modes, len(self.laplace.values))

    def _modes(self) -> dict[str, Coefficient]:
        """The directions v, v^T P v = 1, that the data tell most of: changes of the parameters."""
        shown: dict[str, Coefficient] = {}
        change = self.space.create_vec()
        for k in range(self.modes):
            change.setArray(self.laplace.vectors[:, k])
            for name in fields_of(self.case):
                mode = self.space.look(change, name)
                shown[f"{name}_mode_{k + 1}"] = mode.copy()
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
