"""What a run of a steady case leaves: metrics, VTK and figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from petsc4py import PETSc

from npde_opt import figures
from npde_opt.cases import Case
from npde_opt.ensemble import Ensemble
from npde_opt.grids import Grid
from npde_opt.io.vtk import write_vtk
from npde_opt.nested import Identification
from npde_opt.parameters import ParameterSpace
from npde_opt.reductions import largest, total
from npde_opt.runs.attempts import Attempts
from npde_opt.runs.folder import RunDirectory
from npde_opt.runs.solves import run_measured
from npde_opt.stages import stage
from npde_opt.uncertainty.findings import findings
from npde_opt.uncertainty.intervals import parameter_metrics

METHODS = {"discrepancy": "discrepancy principle", "l-curve": "L-curve"}


def report_steady(case: Case, found: Identification, ensemble: Ensemble, out: RunDirectory | None, plot: bool,
                  attempt: Attempts, weight: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Writes fields and figures; returns metrics. Collective.

    Args:
        out: the run's folder; None in groups that do not write.
        weight: how the regularization weight was chosen, where it was (weight.json).
    """
    objective, m = found.objective, found.result.m
    space, grid = objective.space, objective.space.grid
    at = objective.linearize(m)
    accuracy = run_measured(at)
    metrics: dict[str, Any] = {
        **accuracy, "largest_residual_true": largest_residual(objective),
        "chi_squared": at.chi_squared(), "finest_grid_solves": found.finest_solves,
        "total_solves": found.total_solves, "misfit": at.misfit, "regularization": at.regularization,
        "data": int(objective.data_count)}
    if case.weight_override is not None:
        metrics["regularization_weight"] = case.weight_override
    metrics |= attempt("the error against the truth", lambda: truth_errors(case, space, m)) or {}
    values, _ = attempt("the intervals", lambda: parameter_metrics(space, at, m)) or ({}, None)
    metrics |= values
    metrics |= attempt("bounds and the way from the start", lambda: findings(objective, m, case.start(space))) or {}
    fields = true_and_found(case, space, m)
    predicted = predictions(case, ensemble, grid, at.linearization.data)
    with stage("io"):
        if out is not None:
            lin: Any = at.linearization
            state = {"u": lin.final[0][0]} if lin.final else {}
            shown = {**fields, **state, "active": grid.active.astype(float)}
            # The same ranks as `out`: other groups do not write.
            own = Attempts(grid.comm, attempt.say)
            own("the VTK file", lambda: write_vtk(out.file("parameters"), grid, shown))
            if plot:
                own("drawing", lambda: draw(case, grid, fields, predicted, out, weight))
    at.destroy()
    return metrics


def largest_residual(objective: Any) -> float:
    """Of all state and adjoint solves of the run on the finest grid, |b - A u| / |b|. Collective."""
    return largest(objective.ensemble.across, float(objective.forward.true_residual))


def truth_errors(case: Case, space: ParameterSpace, m: PETSc.Vec) -> dict[str, float]:
    """Errors of the parameters against the truth, relative to those of the start. Collective.

    Raises:
        InputError: for a truth that the unknown's transform does not reach.
    """
    grid, out = space.grid, dict[str, float]()
    values, on = space.at(m).coefficients(), grid.active
    for u, table in zip(space.unknowns, case.table["unknown"], strict=True):
        if table["truth"] is None:
            continue
        given = (case.field(f"unknown.{u.name}.{key}", table[key], grid) for key in ("truth", "initial"))
        true, start = (u.inverse(field[on]) for field in given)
        found = u.inverse(values[u.name][on])
        sums = total(grid.comm, np.array([((found - true) ** 2).sum(), ((start - true) ** 2).sum()]))
        out[f"relative_error_{u.name}"] = float(np.sqrt(sums[0] / max(sums[1], 1e-300)))
    return out


def true_and_found(case: Case, space: ParameterSpace, m: PETSc.Vec) -> dict[str, np.ndarray]:
    """Owned values of the recovered coefficients, and of the true ones as NAME_true."""
    grid, fields = space.grid, dict[str, np.ndarray]()
    values = space.at(m).coefficients()
    for u, table in zip(space.unknowns, case.table["unknown"], strict=True):
        fields[u.name] = values[u.name]
        if table["truth"] is not None:
            true = case.field(f"unknown.{u.name}.truth", table["truth"], grid)
            fields[f"{u.name}_true"] = np.where(grid.active, true, 1.0)
    return fields


def predictions(case: Case, ensemble: Ensemble, grid: Grid, data: list[PETSc.Vec]) -> np.ndarray | None:
    """Predicted data of all experiments [experiment, observation] in the first group. Collective."""
    assert case.data is not None
    predicted = np.zeros(case.data.observed.shape)
    with ensemble.together():
        for k, d in zip(ensemble.own(case.experiment_count), data, strict=True):
            predicted[k] = np.concatenate(grid.comm.allgather(np.array(d.getArray())))
    return ensemble.across.reduce(predicted, root=0)


def draw(case: Case, grid: Grid, fields: Mapping[str, np.ndarray], predicted: np.ndarray | None, out: RunDirectory,
         weight: Mapping[str, Any] | None) -> None:
    """PNG figures: fields, data fit, convergence, choice of the weight. Collective; rank 0 draws."""
    history = out.history()
    whole = {name: grid.to_natural(f) for name, f in fields.items()}
    if grid.comm.rank != 0:
        return
    assert case.data is not None and predicted is not None
    unit = case.table["case"]["length_unit"]
    for table in case.table["unknown"]:
        name = table["name"]
        field = whole[name]
        assert field is not None
        figures.plot_fields(out.file(f"{name}.png"), grid.edges, field, whole.get(f"{name}_true"), name=name,
                            unit=table["unit"], length_unit=unit, active=grid.active_global, points=case.places.markers,
                            log=bool((field > 0).all()))
    data = case.data
    figures.plot_data_fit(out.file("data_fit.png"), data.observed.ravel(), predicted.ravel(),
                          np.broadcast_to(data.sigma, predicted.shape).ravel(), unit=case.table["observations"]["unit"])
    figures.plot_convergence(out.file("convergence.png"), history)
    if weight is not None:
        target = np.isfinite(data.observed).sum() / 2 if weight["method"] == "discrepancy" else None
        figures.plot_weights(out.file("weight.png"), weight["weights"], weight["misfits"], weight["regularizations"],
                             weight["weight"], target=target, method=METHODS[weight["method"]])
