"""What a run of a case leaves: metrics with confidence intervals, VTK and figures."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from petsc4py import PETSc

from npde_opt.aliases import Coefficient, Plain, Record
from npde_opt.cases import Case
from npde_opt.cases.learned import is_function
from npde_opt.cases.on_grid import OnGrid
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError
from npde_opt.forward import Steady
from npde_opt.functions.text import Expressions
from npde_opt.io.vtk import write_vtk
from npde_opt.objective import Objective, ObjectiveAt
from npde_opt.parameters import ParameterSpace
from npde_opt.reductions import largest, total
from npde_opt.restarts import Found
from npde_opt.runs import noise, starts
from npde_opt.runs.asked import PROFILE, SAMPLES, Asked
from npde_opt.runs.attempts import Attempts
from npde_opt.runs.data_shown import data_shown
from npde_opt.runs.folder import PREDICTED, STARTS_TABLE, RunDirectory
from npde_opt.runs.learned import Table, tables
from npde_opt.runs.predicted import Predicted
from npde_opt.runs.solves import model, run_measured, solved
from npde_opt.runs.states import States
from npde_opt.stages import stage
from npde_opt.uncertainty.findings import findings
from npde_opt.uncertainty.intervals import Estimates, parameter_metrics

if TYPE_CHECKING:
    from npde_opt.forward import Evolution

    # Loaded by those runs that need them.
    from npde_opt.runs.posterior import Posterior


def report(
    case: Case,
    found: Found,
    ensemble: Ensemble,
    out: RunDirectory | None,
    plot: bool,
    attempt: Attempts,
    weight: Mapping[str, Plain] | None = None,
    posterior: Asked | None = None,
) -> Record:
    """Writes fields and figures; returns metrics. Collective.

    Args:
        out: the run's folder; None in groups that do not write.
        weight: how the regularization weight was chosen, where it was (weight.json).
        posterior: where what the data leave open is told, too.
    """
    objective, m = found.objective, found.result.m
    space = objective.space
    on = case.on(space.grid)
    at = objective.linearize(m)
    whole = objective.whole or objective
    # Of all experiments, those that were set aside included.
    everything = at if whole is objective else whole.linearize(m)
    metrics = run_measured(at) | _figures(found, at) | held_out(case, whole, m)
    if case.weight_override is not None:
        metrics["regularization_weight"] = case.weight_override
    told, lines = _sought(case, on, found, at, ensemble, attempt)
    metrics |= told
    assert case.data is not None
    case.data = case.data.of_all(ensemble.world, case.experiment_count)
    predicted = predictions(
        model(objective), everything, ensemble, case.experiment_count
    )
    metrics |= data_errors(case, predicted)
    if case.domain.notes:
        metrics["notes"] = list(case.domain.notes.values())
    forward = model(objective)
    rows = Predicted(case, forward.observed.observer(0).samplings, predicted)
    metrics |= noise.metrics(rows)
    left: Posterior | None = None
    if posterior is not None:
        told, left = what_is_open(case, on, at, out, posterior, rows, plot, attempt)
        metrics |= told
    with stage("io"):
        # All ranks have data, and the first group writes.
        text = attempt("predicted.csv", rows.text)
        data = None
        if plot:
            data = data_shown(case, predicted, rows, attempt)
        if out is not None:
            own = Attempts(space.comm, attempt.say)
            own("the VTK file", lambda: _write_fields(on, space, everything, m, out))
            _write_tables(found, lines, text, out, own)
            if data is not None:
                from npde_opt.runs.drawing import draw, draw_functions

                shown = {} if left is None else left.shown
                seen = metrics, data, out, weight, shown
                draw(case, on, found, *seen, own)
                own("functions", lambda: draw_functions(case, on, lines, out))
        lin = solved(everything)
        states = States(case, on, ensemble, forward, lin, out)
        if states.count > 1:
            attempt("the states", states.write)
        if plot and case.evolves:
            from npde_opt.runs.drawing import Films

            attempt("the animation", lambda: Films(states).draw([0]))
    at.destroy()
    if everything is not at:
        everything.destroy()
    return metrics | starts.metrics(found)


def _sought(
    case: Case,
    on: OnGrid,
    found: Found,
    at: ObjectiveAt,
    ensemble: Ensemble,
    attempt: Attempts,
) -> tuple[Record, list[Table]]:
    """Metrics of what was sought: values with intervals, errors against the truth, functions,
    derived figures and bounds; tables of the functions. Collective."""
    objective, m = found.objective, found.result.m
    space = objective.space
    learned = [u.name for u in case.table.unknown if is_function(u)]
    values, estimates = attempt(
        "the intervals", lambda: parameter_metrics(space, at, m, learned)
    ) or ({}, None)
    # Numbers of functions mean little one by one; their functions have bands.
    metrics = {f"{k}_numbers" if k in learned else k: v for k, v in values.items()}
    metrics |= (
        attempt("the error against the truth", lambda: truth_errors(on, space, m)) or {}
    )
    lines = (
        attempt(
            "the functions",
            lambda: tables(
                case, space, m, model(objective), solved(at), ensemble, estimates
            ),
        )
        or []
    )
    for line in lines:
        metrics |= line.metrics()
    metrics |= (
        attempt("derived figures", lambda: derived(case, space, m, estimates)) or {}
    )
    metrics |= (
        attempt(
            "bounds and the way from the start",
            lambda: findings(objective, m, on.start()),
        )
        or {}
    )
    return metrics, lines


def _write_tables(
    found: Found,
    lines: list[Table],
    predicted: str | None,
    out: RunDirectory,
    attempt: Attempts,
) -> None:
    """The CSV files of a run. Collective over the group that writes."""
    if found.starts:
        attempt(
            "starts.csv", lambda: out.write(STARTS_TABLE, starts.csv_text(found.starts))
        )
    for line in lines:
        name = f"{line.unknown.name}.csv"
        attempt(name, functools.partial(out.write, name, line.csv()))
    if predicted is not None:
        attempt("predicted.csv", lambda: out.write(PREDICTED, predicted))


def what_is_open(
    case: Case,
    on: OnGrid,
    at: ObjectiveAt,
    out: RunDirectory | None,
    asked: Asked,
    rows: Predicted,
    plot: bool,
    attempt: Attempts,
) -> tuple[Record, Posterior | None]:
    """Writes the posterior; its metrics. Collective."""
    from npde_opt.runs import posterior_figures
    from npde_opt.runs.posterior import Posterior

    say = attempt.say
    left = attempt("the posterior", lambda: Posterior(case, on, at, out, asked, say))
    if left is None:
        return {}, None
    if left.numbers.names:
        attempt("quantities of interest", left.tell)
    attempt("bands of the data", lambda: left.predict(rows))
    attempt("the choice of places", left.choose)
    attempt("correlations between places", left.correlate)
    sampled = attempt("the chains", left.sample) if asked.kind == SAMPLES else None
    if asked.kind == PROFILE:
        attempt("profiles", left.profile)
    bands = None
    if plot:
        bands = attempt("bands to draw", lambda: posterior_figures.bands_of(rows))
    if out is not None:
        own = Attempts(at.objective.space.comm, say)
        left.write(own)
        if plot:
            own(
                "figures of the posterior",
                lambda: posterior_figures.draw(left, out, bands, own),
            )
    return left.metrics() | (sampled or {}), left


def _figures(found: Found, at: ObjectiveAt) -> Record:
    """Of the objective, and of the work."""
    objective = found.objective
    forward, across = model(objective), objective.ensemble.across
    steps = found.result.counters.get("steps", 0)
    # Groups did those of their own experiments.
    own = np.array([found.finest_solves, found.total_solves, steps], float)
    finest, every, steps = map(int, total(across, own))
    metrics: Record = {
        "chi_squared": at.chi_squared(),
        "misfit": at.misfit,
        "regularization": at.regularization,
        "data": int(objective.data_count),
        "finest_grid_solves": finest,
        "total_solves": every,
    }
    if not isinstance(forward, Steady):
        return metrics | {
            "steps": steps,
            "recomputation_predicted": forward.storage.predicted,
            "recomputation_measured": forward.recomputation,
        }
    worst = float(forward.true_residual)
    return metrics | {"largest_residual_true": largest(across, worst)}


# ---- against the truth, and derived -------------------------------------------------------------


def truth_errors(on: OnGrid, space: ParameterSpace, m: PETSc.Vec) -> dict[str, float]:
    """Errors against the truth: of numbers relative to it, of fields relative to those of the
    start.

    Collective.

    Raises:
        InputError: for a truth that the unknown's transform does not reach.
    """
    out: dict[str, float] = {}
    for u in on.table.unknown:
        if u.truth is not None and not is_function(u):
            true, start = on.value(u.name, "truth"), on.value(u.name)
            out[f"relative_error_{u.name}"] = space.error(m, u.name, true, start)
    return out


def derived(
    case: Case, space: ParameterSpace, m: PETSc.Vec, estimates: Estimates | None
) -> Record:
    """The case's own figures of its scalars, with intervals where the scalars have them."""
    equation = case.table.equation
    names = [u.name for u in case.table.unknown if u.kind == "scalar"]
    scalars: Record = {
        n: float(space.unknown(n).value(space.values(m, n))[0]) for n in names
    }
    scalars |= {
        n: float(v) for n, v in equation.known.items() if isinstance(v, int | float)
    }
    out: Record = {}
    for name, text in equation.derived.items():
        e = Expressions([text], (), f"equation.derived.{name}")
        missing = set(e.parameters) - set(scalars)
        if missing:
            there = "the scalars " + ", ".join(sorted(scalars))
            raise InputError(f"equation.derived.{name}", text, there)
        arguments = e.values_of(scalars)
        out[name] = float(e.value(*arguments)[0])
        if estimates is not None:
            slopes = dict(
                zip(e.parameters, map(float, e.jacobian(*arguments)), strict=True)
            )
            found = estimates.derived(functools.partial(_figure, e, scalars), slopes)
            out[f"{name}_interval"] = None if found is None else list(found)
    return out


def _figure(
    e: Expressions, scalars: Mapping[str, Plain], values: Mapping[str, Plain]
) -> float:
    """A figure where the unknowns among its scalars have other values."""
    return float(e.value(*e.values_of({**scalars, **values}))[0])


# ---- data ---------------------------------------------------------------------------------------


def predictions(
    forward: Steady | Evolution, at: ObjectiveAt, ensemble: Ensemble, count: int
) -> list[np.ndarray]:
    """Predicted data of all experiments, as all ranks share them, by observation, time and place;
    NaN where no active cell is seen, as in the misfit. Collective."""
    with ensemble.together():
        unseen = forward.observed.lost()
        data = forward.observed.by_experiment(at.linearization.data)
        own = [np.where(unseen[k], np.nan, values) for k, values in data.items()]
    share = forward.observed.observer(0).share
    numbered = dict(zip(ensemble.own(count), own, strict=True))
    return share.of_all(numbered, ensemble.world, count)


def held_out(case: Case, whole: Objective, m: PETSc.Vec) -> Record:
    """How well the experiments that were set aside are fitted. Collective."""
    if not case.held_out:
        return {}
    at = whole.over(case.held_out).linearize(m)
    found = {"validation": at.loss, "validation_chi_squared": at.chi_squared()}
    at.destroy()
    return found


def data_errors(case: Case, predicted: list[np.ndarray]) -> dict[str, float]:
    """Collective."""
    assert case.data is not None
    pairs = zip(predicted, case.data.observed, strict=True)
    difference = np.concatenate([p - y for p, y in pairs])
    ((total, count),) = case.data.share.sums(difference**2)
    return {"rmse": float(np.sqrt(total / count)) if count else math.nan}


# ---- files --------------------------------------------------------------------------------------


def _write_fields(
    on: OnGrid, space: ParameterSpace, at: ObjectiveAt, m: PETSc.Vec, out: RunDirectory
) -> None:
    """Recovered and true coefficients, the first experiment's (last) state, and the active
    cells."""
    grid = space.grid
    fields: dict[str, Coefficient] = {}
    values = space.at(m).coefficients()
    for u in on.table.unknown:
        if u.kind != "field":
            continue
        fields[u.name] = values[u.name]
        if u.truth is not None and u.regions is None:
            fields[f"{u.name}_true"] = np.where(
                grid.active, on.value(u.name, "truth"), 1.0
            )
    lin = solved(at)
    state = dict(zip(on.species, lin.final[0], strict=True)) if lin.final else {}
    shown = {**fields, **state, "active": grid.active.astype(float)}
    write_vtk(out.file("parameters"), grid, shown)
