"""Figures of a run: fields, the fit of the data, convergence, the choice of the weight, and states
in time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from npde_opt import figures
from npde_opt.aliases import Coefficient, Plain, Record
from npde_opt.cases import Case
from npde_opt.cases.histories import drawn_at
from npde_opt.cases.on_grid import OnGrid
from npde_opt.figures.animation import animate
from npde_opt.figures.style import labelled
from npde_opt.figures.waves import animate_wave, plot_course, plot_snapshots
from npde_opt.forward import Evolution
from npde_opt.grids.thinned import Thinned
from npde_opt.nested import shapes
from npde_opt.restarts import Found
from npde_opt.runs.attempts import Attempts
from npde_opt.runs.data_shown import DataShown
from npde_opt.runs.every_cell import EveryCell
from npde_opt.runs.folder import RunDirectory
from npde_opt.runs.learned import Table
from npde_opt.runs.marked import marks_of, sides_of, unit_of
from npde_opt.runs.predicted import LARGEST
from npde_opt.runs.states import States, figure_name

METHODS = {"discrepancy": "discrepancy principle", "l-curve": "L-curve"}
FRAMES = 40
"""Of an animation."""
FRAME = 100_000
"""Cells of one of them at most."""
ROWS, FEWEST = 400, 16
"""Times of a figure over (t, x), and the fewest that make one, whatever the budget: states of one
dimension are small."""
COURSES = 5
"""Experiments of such a figure at most."""


def draw(
    case: Case,
    on: OnGrid,
    found: Found,
    metrics: Record,
    data: DataShown,
    out: RunDirectory,
    weight: Mapping[str, Plain] | None,
    open_ones: Mapping[str, Coefficient],
    attempt: Attempts,
) -> None:
    """All of them, each by itself: where one fails, the others are there.

    `metrics` are those of the report, `open_ones` fields that a posterior has. Collective over the
    group that writes; rank 0 draws.
    """
    attempt("drawing of fields", lambda: _fields(case, on, found, out, open_ones))
    attempt("drawing of histories", lambda: draw_histories(case, on, metrics, out))
    attempt("convergence.png", lambda: _convergence(on, found, out))

    def on_first(what: str, draws: Callable[[], None]) -> None:
        attempt(what, draws if on.grid.comm.rank == 0 else lambda: None)

    axes = on.grid.axis_names
    on_first("data_fit.png", lambda: _fit(case, data, out))
    on_first("residuals.png", lambda: _residuals(case, axes, data, out))
    if weight is not None:
        on_first("weight.png", lambda: _weights(weight, data.count, out))
    on_first("snapshots.png", lambda: _snapshots(case, axes, data, out))


def _convergence(on: OnGrid, found: Found, out: RunDirectory) -> None:
    history = [
        row for row in out.history() if row.get("start", found.best) == found.best
    ]
    levels = _level_names(on, history)
    if on.grid.comm.rank == 0:
        figures.plot_convergence(out.file("convergence.png"), history, levels=levels)


def _fields(
    case: Case,
    on: OnGrid,
    found: Found,
    out: RunDirectory,
    open_ones: Mapping[str, Coefficient],
) -> None:
    """Recovered fields and region constants, beside the true ones and standard deviations."""
    grid, thinned = on.grid, Thinned(on.grid)
    values, active = on_values(found), thinned.gathered(on.grid.active)
    for u in case.table.unknown:
        if u.kind != "field":
            continue
        known = u.truth is not None and u.regions is None
        true = thinned.gathered(on.value(u.name, "truth")) if known else None
        field = thinned.gathered(np.asarray(values[u.name]))
        wide = open_ones.get(f"{u.name}_deviation")
        deviation = None if wide is None else thinned.gathered(np.asarray(wide))
        if field is None:
            continue
        positive = bool((field > 0).all())
        figures.plot_fields(
            out.file(f"{u.name}.png"),
            thinned.edges,
            field,
            true,
            name=u.name,
            unit=u.unit,
            length_unit=case.table.case.length_unit,
            active=active,
            deviation=deviation,
            marks=marks_of(case),
            sides=sides_of(case),
            axes=grid.axis_names,
            log=positive and not case.evolves,
        )


def draw_histories(case: Case, on: OnGrid, metrics: Record, out: RunDirectory) -> None:
    """Recovered histories over time, with their intervals, beside the true ones."""
    time = case.table.time
    for u in case.table.unknown:
        if u.kind != "history" or u.name not in metrics or time is None:
            continue
        true = None if u.truth is None else on.value(u.name, "truth")
        if on.grid.comm.rank > 0:
            continue
        values = np.atleast_1d(metrics[u.name])
        figures.plot_history(
            out.file(f"{u.name}.png"),
            drawn_at(case.table, u.name, values.size),
            values,
            true,
            _intervals(metrics, u.name, values.size),
            name=u.name,
            unit=u.unit,
            axis=time.axis,
        )


def draw_functions(
    case: Case, on: OnGrid, found: list[Table], out: RunDirectory
) -> None:
    """Recovered functions. Rank 0 draws."""
    if on.grid.comm.rank == 0:
        axis = "t" if case.table.time is None else case.table.time.axis
        for table in found:
            table.draw(out.file(f"{table.unknown.name}.png"), axis)


def _intervals(metrics: Record, name: str, count: int) -> np.ndarray | None:
    """(count, 2) with NaN where a value has none; None where none has."""
    given = metrics.get(f"{name}_interval")
    if given is None:
        return None
    each = [given] if count == 1 else given
    missing = [np.nan, np.nan]
    ends = [missing if found is None else found for found in each]
    return np.array(ends, float)


def _level_names(on: OnGrid, history: list[dict[str, float]]) -> list[str]:
    """The cells of the grids of a nested iteration, coarsest first."""
    count = 1 + max((int(row["level"]) for row in history), default=0)
    if count == 1:
        return []
    return [" x ".join(map(str, s)) + " cells" for s in shapes(on.grid.shape, count)]


def on_values(found: Found) -> dict[str, Coefficient]:
    """Recovered coefficients."""
    return found.objective.space.at(found.result.m).coefficients()


def _fit(case: Case, data: DataShown, out: RunDirectory) -> None:
    """Observed against predicted data that are fitted."""
    if data.fit is None:
        return
    observed, predicted, sigma = data.fit.T[:3]
    units = {o.unit for o in case.table.observation}
    unit = units.pop() if len(units) == 1 else ""
    figures.plot_data_fit(
        out.file("data_fit.png"), observed, predicted, sigma, unit=unit
    )


def _residuals(case: Case, axes: str, data: DataShown, out: RunDirectory) -> None:
    """Residuals of data that are fitted, where some of their places are points."""
    if data.fit is None:
        return
    residual, places = data.fit[:, 3], data.fit[:, 4:]
    if np.isfinite(places).all(axis=1).any():
        figures.plot_residuals(
            out.file("residuals.png"),
            places,
            residual,
            edges=case.domain.edges,
            length_unit=case.table.case.length_unit,
            axes=axes,
        )


def _weights(weight: Mapping[str, Plain], count: int | None, out: RunDirectory) -> None:
    target = None
    if weight["method"] == "discrepancy" and count is not None:
        target = count / 2
    figures.plot_weights(
        out.file("weight.png"),
        weight["weights"],
        weight["misfits"],
        weight["regularizations"],
        weight["weight"],
        target=target,
        method=METHODS[weight["method"]],
    )


def _snapshots(case: Case, axes: str, data: DataShown, out: RunDirectory) -> None:
    seen, time, first = data.snapshots, case.table.time, case.observations[0]
    if seen is None:
        return
    assert time is not None
    plot_snapshots(
        out.file("snapshots.png"),
        seen.edges,
        seen.measured,
        seen.fitted,
        seen.times,
        labelled(first.section.quantity or case.species[0], first.section.unit),
        time.axis,
        case.table.case.length_unit,
        seen.sigma,
        axes,
    )


class Films:
    """The states of evolutions: over (t, x), and as animations. Collective over all groups; rank 0
    draws."""

    def __init__(self, states: States):
        self.states, self.case, self.grid = states, states.case, states.grid
        assert isinstance(states.forward, Evolution)
        self.forward, self.out = states.forward, states.out
        time = self.case.table.time
        assert time is not None
        self.axis, self.unit = time.axis, self.case.table.case.length_unit
        self.waves = self.forward.equation.complex
        # Of a whole animation no more comes to one rank than of some figures.
        self.thinned = Thinned(self.grid, FRAME)

    def draw(self, experiments: Iterable[int]) -> None:
        """A figure of the first ones over (t, x) in one dimension, and an animation of each."""
        if self.waves and self.grid.dim == 1:
            self._course()
        for e in experiments:
            if self.waves and self.grid.dim == 2:
                self._wave(e)
            else:
                self._movie(e)

    def _affordable(self, wanted: int) -> int:
        """How many states a figure may hold: those that the budget for trajectories holds, at least
        two."""
        plan = self.forward.storage
        return wanted if plan.keeps_all else max(2, min(wanted, plan.memory))

    def _steps(self, count: int) -> np.ndarray:
        """Numbers of at most `count` steps, evenly spaced in time, the first and the last too."""
        times = self.forward.times
        even = np.linspace(times[0], times[-1], count)
        return np.unique(np.searchsorted(times, even).clip(0, times.size - 1))

    def _frames(
        self, e: int, picks: np.ndarray, of: Callable[[np.ndarray], np.ndarray]
    ) -> list[np.ndarray]:
        """What is drawn of an experiment's states after these steps, on the rank that draws."""
        found = []
        for u in self.states.after(e, picks):
            frame = (
                None if self.out is None or u is None else self.thinned.gathered(of(u))
            )
            if frame is not None:
                found.append(frame)
        return found

    @property
    def _drawn_into(self) -> RunDirectory | None:
        """The folder, on the rank that draws."""
        return self.out if self.grid.comm.rank == 0 else None

    def _course(self) -> None:
        """|u|^2 of complex states in one dimension over (t, x), of some experiments."""
        picks = self._steps(max(self._affordable(ROWS), FEWEST))
        count = min(self.states.count, COURSES)
        found = [self._frames(e, picks, _squared) for e in range(count)]
        if out := self._drawn_into:
            plot_course(
                out.file("course.png"),
                self.thinned.edges[0],
                [np.array(f) for f in found],
                self.forward.times[picks],
                "|u|^2",
                self.axis,
                self.unit,
                list(self.case.observations[0].times) if self.case.observations else [],
            )

    def _wave(self, e: int) -> None:
        """A complex state in the plane."""
        picks = self._steps(self._affordable(FRAMES))
        both = [a + 1j * b for a, b in self._frames(e, picks, lambda u: u[:2])]
        if out := self._drawn_into:
            at = self.forward.times[picks].tolist()
            file = out.file(figure_name(e, "gif"))
            animate_wave(file, self.thinned.edges, both, at, self.axis, self.unit)

    def _movie(self, e: int) -> None:
        """The last species, or |u|^2."""
        picks = self._steps(self._affordable(FRAMES))
        species = self.forward.equation.species
        frames = self._frames(e, picks, _squared if self.waves else lambda u: u[-1])
        active = self.thinned.gathered(self.grid.active) if self.out else None
        data = self._data(e, species[-1])
        if out := self._drawn_into:
            animate(
                out.file(figure_name(e, "gif")),
                self.thinned.edges,
                frames,
                self.forward.times[picks].tolist(),
                name=self._label(species[-1]),
                length_unit=self.unit,
                axis=self.axis,
                active=active,
                data=data,
                marks=marks_of(self.case),
                sides=sides_of(self.case, e),
                axes=self.grid.axis_names,
            )

    def _label(self, shown: str) -> str:
        """Name and unit of what is shown."""
        return "|u|^2" if self.waves else labelled(shown, unit_of(self.case, shown))

    def _data(self, e: int, shown: str) -> list[tuple[float, np.ndarray]]:
        """What was measured of the species that is shown, in every cell of a line: (time, values),
        on rank 0. Collective over all groups, which share the data."""
        case, grid = self.case, self.grid
        if not case.observations or case.data is None:
            return []
        first = case.observations[0]
        quantity = first.section.quantity or case.species[0]
        same = grid.dim == 1 and len(grid.edges[0]) == len(case.domain.edges[0])
        if not same or not first.everywhere or quantity != shown:
            return []
        every = np.arange(len(first.times))
        cells = EveryCell(case.data.share, case.domain.edges, every, LARGEST)
        values = cells.gathered(case.data.observed[e])
        if values is None or values.shape[1] != grid.size:
            return []
        return list(zip(first.times, values, strict=True))


def _squared(u: np.ndarray) -> np.ndarray:
    """|u|^2 of a complex state."""
    return np.asarray((u**2).sum(axis=0))
