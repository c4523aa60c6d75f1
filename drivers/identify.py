"""Identifies the parameters of the equation that a case describes.

    mpirun -n 4 python drivers/identify.py --case meshes/brain_slice.toml --out results/brain -state_ksp_rtol 1e-8

Two dashes are this driver's options, one dash goes to PETSc (prefixes state_, reg_, tao_).
"""

import argparse
import json
import os
import sys
import time

import petsc4py
from mpi4py import MPI

WORLD = MPI.COMM_WORLD


class Parser(argparse.ArgumentParser):
    """Speaks on rank 0 only."""

    def _print_message(self, message, file=None):
        if WORLD.rank == 0:
            super()._print_message(message, file)


def read_options() -> argparse.Namespace:
    p = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    p.add_argument("--case", required=True, help="TOML file (format: python -m npde_opt check --format)")
    p.add_argument("--out", help="folder for summary.json, history.csv, VTK, figures, checkpoints")
    p.add_argument("--resume", action="store_true", help="continue the run in --out from its last completed iteration")
    p.add_argument("--overwrite", action="store_true", help="remove an earlier run in --out")
    p.add_argument("--levels", type=int, help="grids of nested iteration; 1 switches it off")
    p.add_argument("--grid", type=int, nargs="+", metavar="N", help="cells along each axis")
    p.add_argument("--optimizer", help="newton, gauss-newton, lbfgs, lmvm, bounded-lbfgs, bqnkls, bntr, ncg")
    p.add_argument("--experiment-groups", type=int, default=1, help="groups of ranks that share the experiments")
    p.add_argument("--seed", type=int, default=0, help="of noise and random points")
    p.add_argument("--data", default=os.environ.get("NPDE_DATA"), help="folder with the case's data (or NPDE_DATA)")
    p.add_argument("--plot", action="store_true", help="write PNG figures")
    p.add_argument("--verify", action="store_true", help="Taylor and dot-product tests of this case's derivatives, then stop")
    p.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a variable of the case's [variables]")
    p.add_argument("--memory", help="budget for the trajectories of evolution equations, all ranks together, e.g. 4GB")
    options, rest = p.parse_known_args()
    wrong = [a for a in rest if a.startswith("--")]
    if wrong:
        p.error(f"unknown option {wrong[0]}; see --help (PETSc's options have one dash)")
    if options.out is None and not options.verify:
        p.error("--out is needed (a folder for the results)")
    if options.resume and options.overwrite:
        p.error("--resume and --overwrite exclude each other")
    if options.levels is not None and options.levels < 1:
        p.error(f"--levels {options.levels}: at least 1")
    options.variables = dict(x.split("=", 1) if "=" in x else p.error(f"--set {x}: NAME=VALUE") for x in options.set)
    options.petsc = rest
    return options


if __name__ == "__main__":
    OPTIONS = read_options()
    petsc4py.init([sys.argv[0], *OPTIONS.petsc])

import numpy as np  # noqa: E402

from npde_opt import errors, nested, weights  # noqa: E402
from npde_opt.cases import Case, EvolutionCase, load_case  # noqa: E402
from npde_opt.cases.evolution_report import report_evolution  # noqa: E402
from npde_opt.ensemble import Ensemble  # noqa: E402
from npde_opt.io import figures  # noqa: E402
from npde_opt.io.checkpoint import find_checkpoint  # noqa: E402
from npde_opt.io.results import RunDirectory, Seconds, Summary, peak_memory_mb  # noqa: E402
from npde_opt.io.vtk import write_vtk  # noqa: E402
from npde_opt.monitor import SPECTRUM, Monitor  # noqa: E402
from npde_opt.optimizers import OptimizerState  # noqa: E402
from npde_opt.runs.verification import verify_case  # noqa: E402
from npde_opt.stages import stage  # noqa: E402

CHOICE_CELLS = 20_000


def main() -> int:
    options, begin = OPTIONS, time.monotonic()
    case = load_case(options.case, WORLD, cells=options.grid, data=options.data, seed=options.seed,
                     variables=options.variables, memory=options.memory)
    evolves = isinstance(case, EvolutionCase)
    case.set_petsc_options()
    settings = case.settings(options.optimizer)
    levels = options.levels or case.table["optimizer"]["levels"] or (1 if evolves else None)
    ensemble = Ensemble.split(WORLD, options.experiment_groups, case.experiment_count)
    leader, comm = ensemble.across.rank == 0, ensemble.space
    mode = "resume" if options.resume else "overwrite" if options.overwrite else "new"
    out = None
    with errors.collective(WORLD):
        if leader and not options.verify:
            out = RunDirectory(options.out, comm, mode)
    grid = case.grid(comm)
    if options.verify:
        return verify_case(case, grid, ensemble, WORLD)
    data = case.prepare(ensemble)
    monitor = Monitor(comm, out, case=case.hash, stream=sys.stdout if WORLD.rank == 0 else None, world=WORLD)
    with monitor:
        monitor.say(f"{case.table['case']['title'] or case.name}: {' x '.join(map(str, grid.shape))} cells, "
                    f"{grid.active_size:,} active, {case.experiment_count} experiments, {WORLD.size} ranks in "
                    f"{ensemble.groups} group{'s' if ensemble.groups > 1 else ''}; {data.origin}")
        if evolves:
            monitor.say(recomputation(case))
        choose_weight(case, grid, ensemble, settings, levels, out, monitor, options.resume)
        resume = find_resume(case, out, monitor, ensemble) if options.resume else None
        ready = time.monotonic()
        found = nested.identify(grid, lambda g: case.build(g, ensemble), settings, levels, monitor, resume)
        solved = time.monotonic()
        metrics = (report_evolution if evolves else report)(case, found, ensemble, out, options.plot and leader)
        result, counts = found.result, found.result.counters
        summary = Summary(
            driver="identify", case=str(options.case), ranks=WORLD.size, grid=grid.shape, unknowns=grid.active_size,
            parameters=found.objective.space.size, status=result.status, iterations=result.iterations,
            objective=result.objective, objective_initial=result.objective_initial, gradient_norm=result.gradient_norm,
            gradient_norm_initial=result.gradient_norm_initial,
            forward_solves=int(ensemble.sum(counts["forward_solves"])),
            adjoint_solves=int(ensemble.sum(counts["adjoint_solves"])),
            krylov_iterations_mean=found.krylov_iterations / max(found.total_solves, 1),
            seconds=Seconds(ready - begin, solved - ready, time.monotonic() - begin),
            peak_memory_mb=peak_memory_mb(WORLD), metrics=metrics | {"reason": result.reason})
        monitor.finish(summary)
    return 0


def recomputation(case: EvolutionCase) -> str:
    """How trajectories are stored, and what that costs."""
    plan = case.plan
    if plan.keeps_all:
        return f"{plan.steps} steps of {case.table['evolution']['scheme']}, all states kept"
    return f"{plan.steps} steps of {case.table['evolution']['scheme']}, {plan.memory} checkpoints in memory and {plan.disk} " \
        f"on disk: a gradient does every step {plan.predicted:.2f} times"


def choose_weight(case: Case, grid, ensemble, settings, levels, out, monitor, resumed: bool) -> None:
    """Sets the regularization weight where the case asks for the discrepancy principle or an L-curve, on the finest grid of
    at most 20,000 cells."""
    rules = [r["weight"] for r in case.table["regularization"] if isinstance(r["weight"], str)]
    if not rules:
        return
    stored = out.file("weight.json") if out is not None else None
    text = stored.read_text() if stored is not None and resumed and stored.is_file() and WORLD.rank == 0 else None
    text = WORLD.bcast(text, root=0)
    if text:
        case.weight_override = json.loads(text)["weight"]
        return
    hierarchy = nested.grids(grid, levels)
    coarse = next((g for g in reversed(hierarchy) if g.active_size <= CHOICE_CELLS), hierarchy[0])

    def build(weight: float):
        case.weight_override = weight
        return case.build(coarse, ensemble)

    monitor.say(f"regularization weight by {rules[0]} on {' x '.join(map(str, coarse.shape))} cells")
    choice = weights.choose(build, rules[0], settings, monitor.say)
    case.weight_override = choice.weight
    monitor.say(f"chosen weight {choice.weight:.3e}" + ("" if choice.reached else
                " (the misfit does not reach the noise on this grid; a smaller weight no longer helps)"))
    if stored is not None and WORLD.rank == 0:
        stored.write_text(json.dumps({"weight": choice.weight, "method": choice.method, "reached": choice.reached,
                                      "weights": choice.weights, "misfits": choice.misfits,
                                      "regularizations": choice.regularizations, "chi_squared": choice.chi_squared}))


def find_resume(case: Case, out, monitor, ensemble):
    """Where the run's last checkpoint leaves off, or None where it wrote none. The group that writes the run's folder
    reads it, and hands it to the others."""
    found, learnt, rows, comm = None, None, [], ensemble.space
    with errors.collective(WORLD):
        if out is not None:
            found, rows = find_checkpoint(out.path, comm, case.hash), out.history()
            learnt = find_checkpoint(out.file(SPECTRUM), comm, case.hash)
    found, learnt, rows = ensemble.across.bcast((found, learnt, rows), root=0)
    if found is None:
        return None
    monitor.resume(found)
    monitor.say(f"resuming after iteration {found.extra['iteration']} on grid {found.extra['level'] + 1}")

    def load(checkpoint, space):
        with errors.collective(WORLD):
            vectors = {name: space.create_vec() for name in checkpoint.vectors} if out is None else \
                checkpoint.load(space, comm)
        for name in checkpoint.vectors:
            ensemble.across.Bcast(vectors[name].getArray(), root=0)
        return vectors

    return nested.Resume(int(found.extra["level"]), lambda o: OptimizerState(load(found, o.space), dict(found.state)),
                         rows[0]["gradient_norm"] if rows else None,
                         lambda space: None if learnt is None else list(load(learnt, space).values()))


def report(case: Case, found: nested.Identification, ensemble, out, plot: bool) -> dict:
    """Writes fields, figures; returns metrics."""
    objective, m = found.objective, found.result.m
    space, grid = objective.space, objective.space.grid
    at = objective.linearize(m)
    metrics = {"chi_squared": at.chi_squared(), "finest_grid_solves": found.finest_solves,
               "total_solves": found.total_solves, "misfit": at.misfit, "regularization": at.regularization}
    if case.weight_override is not None:
        metrics["regularization_weight"] = case.weight_override
    values, fields = space.at(m).coefficients(), {}
    for u, table in zip(space.unknowns, case.table["unknown"], strict=True):
        fields[u.name] = values[u.name]
        if table["truth"] is not None:
            true = case.field(f"unknown.{u.name}.truth", table["truth"], grid)
            fields[f"{u.name}_true"] = np.where(grid.active, true, 1.0)
            on = grid.active
            parts = (u.inverse(values[u.name][on]), u.inverse(true[on]), u.inverse(
                np.broadcast_to(case.field("initial", table["initial"], grid), grid.local_shape)[on]))
            sums = grid.comm.allreduce(np.array([((parts[0] - parts[1])**2).sum(), ((parts[2] - parts[1])**2).sum()]))
            metrics[f"relative_error_{u.name}"] = float(np.sqrt(sums[0] / max(sums[1], 1e-300)))
    predicted = np.zeros(case.data.observed.shape)
    for k, d in zip(ensemble.own(case.experiment_count), at.linearization.data, strict=True):
        predicted[k] = np.concatenate(grid.comm.allgather(np.array(d.getArray())))
    predicted = ensemble.across.reduce(predicted, root=0)
    with stage("io"):
        if out is not None:
            state = {"u": at.linearization.states[0][(slice(1, -1),) * grid.dim]} if at.linearization.states else {}
            write_vtk(out.file("parameters.vti"), grid, {**fields, **state, "active": grid.active.astype(float)})
        if plot and out is not None:
            history = out.history()
            whole = {name: grid.to_natural(f) for name, f in fields.items()}
            if grid.comm.rank == 0:
                draw(case, grid, whole, predicted, out, history)
    at.destroy()
    return metrics


def draw(case: Case, grid, fields, predicted, out, history) -> None:
    """PNG figures: fields, data fit, convergence, choice of the weight."""
    active = None if grid.active_global is None else grid.active_global
    unit = case.table["case"]["length_unit"]
    for table in case.table["unknown"]:
        name = table["name"]
        figures.plot_fields(out.file(f"{name}.png"), grid.edges, fields[name], fields.get(f"{name}_true"), name=name,
                            unit=table["unit"], length_unit=unit, active=active, points=case.places.markers,
                            log=bool((fields[name] > 0).all()))
    data = case.data
    figures.plot_data_fit(out.file("data_fit.png"), data.observed.ravel(), predicted.ravel(),
                          np.broadcast_to(data.sigma, predicted.shape).ravel(), unit=case.table["observations"]["unit"])
    figures.plot_convergence(out.file("convergence.png"), history)
    if out.file("weight.json").is_file():
        w = json.loads(out.file("weight.json").read_text())
        figures.plot_weights(out.file("weight.png"), w["weights"], w["misfits"], w["regularizations"], w["weight"],
                             target=np.isfinite(data.observed).sum() / 2 if w["method"] == "discrepancy" else None,
                             method={"discrepancy": "discrepancy principle", "l-curve": "L-curve"}[w["method"]])


if __name__ == "__main__":
    errors.run(main, WORLD)
