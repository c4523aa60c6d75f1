"""What a run of an evolution case leaves: metrics with confidence intervals, VTK, figures and an animation."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from petsc4py import PETSc

from npde_opt import figures
from npde_opt.cases.evolution_case import EvolutionCase
from npde_opt.cases.evolution_data import floor
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError
from npde_opt.figures.animation import animate
from npde_opt.figures.waves import animate_wave, plot_course, plot_snapshots
from npde_opt.functions.text import Expressions
from npde_opt.grids import Grid
from npde_opt.io.vtk import write_vtk
from npde_opt.nested import Identification
from npde_opt.objective import ObjectiveAt
from npde_opt.parameters import ParameterSpace
from npde_opt.runs.attempts import Attempts
from npde_opt.runs.folder import RunDirectory
from npde_opt.runs.solves import run_measured
from npde_opt.uncertainty.findings import findings
from npde_opt.uncertainty.intervals import Estimates, parameter_metrics

FRAMES = 40
"""Of an animation."""
ROWS, FEWEST = 400, 16
"""Times of a figure over (t, x), and the fewest that make one, whatever the budget: states of one dimension are small."""


def report_evolution(case: EvolutionCase, found: Identification, ensemble: Ensemble, out: RunDirectory | None,
                     plot: bool, attempt: Attempts) -> dict[str, Any]:
    """Writes fields, figures and the animation; returns metrics. Collective."""
    objective, m = found.objective, found.result.m
    space, grid = objective.space, objective.space.grid
    forward: Any = objective.forward
    at = objective.linearize(m)
    accuracy = run_measured(at)
    lin: Any = at.linearization
    metrics: dict[str, Any] = {
        **accuracy, "chi_squared": at.chi_squared(), "misfit": at.misfit, "regularization": at.regularization,
        "data": int(objective.data_count), "finest_grid_solves": found.finest_solves, "total_solves": found.total_solves,
        "steps": found.result.counters.get("steps", 0),
        "recomputation_predicted": forward.storage.predicted, "recomputation_measured": forward.recomputation}
    values, estimates = attempt("the intervals", lambda: parameter_metrics(space, at, m)) or ({}, None)
    metrics |= values
    metrics |= attempt("the error against the truth", lambda: errors_of(case, space, m)) or {}
    metrics |= attempt("derived figures", lambda: derived(case, space, m, estimates)) or {}
    metrics |= attempt("bounds and the way from the start", lambda: findings(objective, m, case.start(space))) or {}
    predicted = predictions(forward, at, ensemble, case.experiment_count)
    metrics |= data_errors(case, predicted)
    if out is not None:
        fields = {u.name: v for u, v in zip(space.unknowns, space.at(m).coefficients().values(), strict=True) if u.block.cellwise}
        final = dict(zip(forward.equation.species, lin.final[0], strict=True)) if lin.final else {}
        shown = {**fields, **final, "active": grid.active.astype(float)}
        own = Attempts(grid.comm, attempt.say)  # other groups do not write
        own("the VTK file", lambda: write_vtk(out.file("parameters"), grid, shown))
        if plot:
            own("drawing", lambda: draw(case, found, at, predicted, out))
    at.destroy()
    return metrics


def derived(case: EvolutionCase, space: ParameterSpace, m: PETSc.Vec, estimates: Estimates | None) -> dict[str, Any]:
    """The case's own figures of its scalars, with intervals where the scalars have them."""
    table = case.table["evolution"]
    scalars: dict[str, Any] = {u.name: float(u.value(space.values(m, u.name))[0]) for u in space.unknowns if u.block.length == 1}
    scalars |= {n: float(v) for n, v in table["known"].items() if isinstance(v, int | float)}
    out: dict[str, Any] = {}
    for name, text in table["derived"].items():
        e = Expressions([text], (), f"evolution.derived.{name}")
        missing = set(e.parameters) - set(scalars)
        if missing:
            raise InputError(f"evolution.derived.{name}", text, "the scalars " + ", ".join(sorted(scalars)))
        arguments = e.values_of(scalars)
        out[name] = float(e.value(*arguments)[0])
        if estimates is not None:
            slopes = dict(zip(e.parameters, map(float, e.jacobian(*arguments)), strict=True))
            found = estimates.derived(functools.partial(_figure, e, scalars), slopes)
            out[f"{name}_interval"] = None if found is None else list(found)
    return out


def _figure(e: Expressions, scalars: Mapping[str, Any], values: Mapping[str, Any]) -> float:
    """A figure where the unknowns among its scalars have other values."""
    return float(e.value(*e.values_of({**scalars, **values}))[0])


def errors_of(case: EvolutionCase, space: ParameterSpace, m: PETSc.Vec) -> dict[str, float]:
    """Errors of the parameters against the truth: of scalars relative to it, of fields relative to those of the start."""
    out: dict[str, float] = {}
    for u, table in zip(space.unknowns, case.table["unknown"], strict=True):
        if table["truth"] is not None:
            true, start = case.value(table, "truth", space), case.value(table, "initial", space)
            out[f"relative_error_{u.name}"] = space.error(m, u.name, true, start)
    return out


def predictions(forward: Any, at: ObjectiveAt, ensemble: Ensemble, count: int) -> list[np.ndarray]:
    """Predicted data of all experiments, by sampling, time and place, on every rank; NaN where no active cell is seen, as
    in the misfit. Collective."""
    with ensemble.together():
        pairs = zip(forward.observers, at.linearization.data, strict=True)
        own = [np.where(o.unseen() > 0, np.nan, o.gather(d)) for o, d in pairs]
    found: dict[int, np.ndarray] = {}
    for part in ensemble.across.allgather(dict(zip(ensemble.own(count), own, strict=True))):
        found |= part
    return [found[e] for e in range(count)]


def data_errors(case: EvolutionCase, predicted: list[np.ndarray]) -> dict[str, float]:
    assert case.data is not None
    difference = np.concatenate([p - y for p, y in zip(predicted, case.data.observed, strict=True)])
    return {"rmse": float(np.sqrt(np.nanmean(difference**2)))}


def draw(case: EvolutionCase, found: Identification, at: ObjectiveAt, predicted: list[np.ndarray], out: RunDirectory) -> None:
    """Fields, the fit of all data, convergence, and the first experiment's state in time."""
    objective, space = found.objective, found.objective.space
    grid, unit = space.grid, case.table["case"]["length_unit"]
    forward: Any = objective.forward
    coefficients = space.at(found.result.m).coefficients()
    for u, table in zip(space.unknowns, case.table["unknown"], strict=True):
        if not u.block.cellwise:
            continue
        true = None if table["truth"] is None or u.block.listed else grid.to_natural(case.value(table, "truth", space))
        field = grid.to_natural(coefficients[u.name])
        if field is not None:
            figures.plot_fields(out.file(f"{u.name}.png"), grid.edges, field, true, name=u.name, unit=table["unit"],
                                length_unit=unit, active=grid.active_global)
    history = out.history()
    if grid.comm.rank == 0:
        assert case.data is not None
        fitted, sigma = np.concatenate(predicted), np.concatenate(case.data.sigma)
        misfit = case.table["misfit"]
        if misfit["kind"] == "proportional":
            sigma = sigma * np.maximum(np.abs(fitted), floor(case, case.data.observed)) ** misfit["power"]
        figures.plot_data_fit(out.file("data_fit.png"), np.concatenate(case.data.observed), fitted, sigma)
        figures.plot_convergence(out.file("convergence.png"), history)
        snapshots(case, predicted[0], out)
    if at.linearization.data:
        if grid.dim == 1 and forward.equation.complex:
            course(case, forward, at.linearization, grid, out)
        movie(case, forward, at.linearization, grid, out)


def snapshots(case: EvolutionCase, predicted: np.ndarray, out: RunDirectory) -> None:
    """The first experiment's data, where they see every cell, at up to five times, beside what the fit predicts. On one
    rank."""
    edges, o = case.domain.edges, case.table["observation"][0]
    if len(edges) > 2 or o["points"] is not None or o["regions"] is not None or case.data is None:
        return
    times, shape = case.observed_times("observation[0]", o), [len(a) - 1 for a in edges]
    picks = np.unique(np.linspace(0, times.size - 1, min(times.size, 5)).astype(int))
    parts = [values[: times.size * int(np.prod(shape))].reshape(times.size, *shape[::-1]) for values in
             (case.data.observed[0], predicted)]
    measured_there, fitted = [p[picks].transpose(0, *range(len(shape), 0, -1)) for p in parts]
    plot_snapshots(out.file("snapshots.png"), edges, measured_there, fitted, times[picks].tolist(), o["quantity"],
                   case.table["evolution"]["axis"], case.table["case"]["length_unit"], float(case.data.sigma[0][0]) or 1.0)


def course(case: EvolutionCase, forward: Any, lin: Any, grid: Grid, out: RunDirectory) -> None:
    """|u|^2 of complex states in one dimension over (t, x), up to five experiments of this group. Collective."""
    found, picks = [], shown_steps(forward, max(affordable(forward, ROWS), FEWEST))
    for k in range(min(len(lin.data), 5)):
        rows = [grid.to_natural((u**2).sum(axis=0)) for u in some_states(lin, k, picks)]
        found.append([r for r in rows if r is not None])
    if grid.comm.rank == 0:
        marks = case.observed_times("observation[0]", case.table["observation"][0]).tolist()
        plot_course(out.file("course.png"), grid.edges[0], [np.array(f) for f in found], forward.times[picks], "|u|^2",
                    case.table["evolution"]["axis"], case.table["case"]["length_unit"], marks)


def affordable(forward: Any, wanted: int) -> int:
    """How many states a figure may hold: those that the budget for trajectories holds, at least two."""
    plan = forward.storage
    return wanted if plan.keeps_all else max(2, min(wanted, plan.memory))


def shown_steps(forward: Any, count: int) -> np.ndarray:
    """Numbers of at most `count` steps, evenly spaced in time, the first and the last among them."""
    times = forward.times
    return np.unique(np.searchsorted(times, np.linspace(times[0], times[-1], count)).clip(0, times.size - 1))


def some_states(lin: Any, e: int, picks: np.ndarray) -> Iterator[np.ndarray]:
    """The states of an experiment after these steps, one after the other. Collective."""
    wanted = set(picks.tolist())
    for n, u in enumerate(lin.states(e)):
        if n in wanted:
            yield u
        if n == picks[-1]:
            return


def movie(case: EvolutionCase, forward: Any, lin: Any, grid: Grid, out: RunDirectory) -> None:
    times, species = forward.times, forward.equation.species
    picks = shown_steps(forward, affordable(forward, FRAMES))
    states = some_states(lin, 0, picks)
    if forward.equation.complex and grid.dim == 2:
        both = [[grid.to_natural(u[c]) for c in (0, 1)] for u in states]
        if grid.comm.rank == 0:
            waves = [a + 1j * b for a, b in both if a is not None and b is not None]
            animate_wave(out.file("state.gif"), grid.edges, waves, times[picks].tolist(), case.table["evolution"]["axis"],
                         case.table["case"]["length_unit"])
        return
    name = "|u|^2" if forward.equation.complex else species[-1]
    frames = [grid.to_natural((u**2).sum(axis=0) if forward.equation.complex else u[-1]) for u in states]
    if grid.comm.rank:
        return
    first = case.table["observation"][0]
    data = []
    if grid.dim == 1 and first["points"] is None and first["regions"] is None and first["quantity"] == species[-1] \
            and case.data is not None and all(len(a) == len(b) for a, b in zip(grid.edges, case.domain.edges, strict=True)):
        seen = case.observed_times("observation[0]", first)
        data = list(zip(seen, case.data.observed[0][: seen.size * grid.size].reshape(seen.size, -1), strict=True))
    animate(out.file("state.gif"), grid.edges, [f for f in frames if f is not None], times[picks].tolist(), name=name,
            length_unit=case.table["case"]["length_unit"], axis=case.table["evolution"]["axis"], active=grid.active_global,
            data=data)
