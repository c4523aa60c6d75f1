"""Identifies the parameters of the equation that a case describes.

    mpirun -n 4 python drivers/identify.py --case meshes/brain_slice.toml --out results/brain -state_ksp_rtol 1e-8

Two dashes are this driver's options, one dash goes to PETSc (prefixes state_, reg_, tao_).
"""

import sys
import time

START = time.monotonic()

if __name__ == "__main__":
    # First of all: what is imported below takes seconds, in which a batch system may end the run.
    from npde_opt import signals

    signals.remember()

import argparse  # noqa: E402
import os  # noqa: E402

import petsc4py  # noqa: E402
from mpi4py import MPI  # noqa: E402

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
    p.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --out; without one, begin")
    p.add_argument("--overwrite", action="store_true", help="remove what an earlier run wrote into --out, then begin")
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
    if options.out is not None and not options.out.strip():
        p.error(f"--out {options.out!r}: the name of a folder")
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

from npde_opt import errors, nested  # noqa: E402
from npde_opt.cases import EvolutionCase, load_case  # noqa: E402
from npde_opt.ensemble import Ensemble  # noqa: E402
from npde_opt.io.results import Seconds, Summary, peak_memory_mb  # noqa: E402
from npde_opt.petsc_options import check_options, unused_text  # noqa: E402
from npde_opt.runs.attempts import Attempts  # noqa: E402
from npde_opt.runs.evolution_report import errors_of, report_evolution  # noqa: E402
from npde_opt.runs.folder import RunDirectory  # noqa: E402
from npde_opt.runs.identity import identity  # noqa: E402
from npde_opt.runs.monitor import Monitor  # noqa: E402
from npde_opt.runs.rehearsal import rehearse  # noqa: E402
from npde_opt.runs.resume import finished, last_checkpoint, refuse_another_run, where_to_go_on  # noqa: E402
from npde_opt.runs.steady_report import report_steady, truth_errors  # noqa: E402
from npde_opt.runs.verification import verify_case  # noqa: E402
from npde_opt.runs.weight import choose_weight  # noqa: E402


def main() -> int:
    errors.act_on_signals(WORLD)
    options = OPTIONS
    case = load_case(options.case, WORLD, cells=options.grid, data=options.data, seed=options.seed,
                     variables=options.variables, memory=options.memory)
    case.set_petsc_options()
    check_options()
    ensemble = Ensemble.split(WORLD, options.experiment_groups, case.experiment_count)
    if options.verify:
        return verify_case(case, case.grid(ensemble.space), ensemble, WORLD)
    mode = "resume" if options.resume else "overwrite" if options.overwrite else "new"
    out = None
    with errors.collective(WORLD):
        if ensemble.across.rank == 0:
            out = RunDirectory(options.out, ensemble.space, mode)
    try:
        return run(case, ensemble, out)
    finally:
        if out is not None:
            out.close()


def run(case, ensemble: Ensemble, out: RunDirectory | None) -> int:
    """From the folder to the summary."""
    options, evolves = OPTIONS, isinstance(case, EvolutionCase)
    settings = case.settings(options.optimizer)
    levels = options.levels or case.table["optimizer"]["levels"] or (1 if evolves else None)
    mine = identity(case, WORLD, settings.method, levels)
    monitor = Monitor(ensemble.space, out, identity=mine, stream=sys.stdout if WORLD.rank == 0 else None, world=WORLD,
                      across=ensemble.across)
    before = last_checkpoint(out, ensemble, WORLD) if options.resume else None
    if options.resume:
        refuse_another_run(before, out, mine, WORLD)
        if finished(before, out, monitor, ensemble, WORLD):
            return 0

    grid = case.grid(ensemble.space)
    data = case.prepare(ensemble)
    monitor.say(f"{case.table['case']['title'] or case.name}: {' x '.join(map(str, grid.shape))} cells, "
                f"{grid.active_size:,} active, {case.experiment_count} experiments, {WORLD.size} ranks in "
                f"{ensemble.groups} group{'s' if ensemble.groups > 1 else ''}; {data.origin}")
    if evolves:
        monitor.say(recomputation(case))
    rehearse(case, grid, errors_of if evolves else truth_errors, out, options.plot)
    # All input is right as far as that can be told: from here on the folder is this run's.
    with errors.collective(WORLD):
        if out is not None:
            out.sign(mine)
    choose_weight(case, grid, ensemble, settings, levels, out, monitor, before, WORLD, options.resume)
    resume = where_to_go_on(before, out, monitor, ensemble, WORLD) if options.resume else None

    ready = time.monotonic()
    with monitor:
        found = nested.identify(grid, lambda g: case.build(g, ensemble), settings, levels, monitor, resume)
        monitor.stop_if_asked()
    solved = time.monotonic()

    attempt = Attempts(WORLD, monitor.say)
    metrics = report_evolution(case, found, ensemble, out, options.plot, attempt) if evolves else \
        report_steady(case, found, ensemble, out, options.plot, attempt, monitor.weight)
    result, counts = found.result, found.result.counters
    monitor.finish(Summary(
        driver="identify", case=str(options.case), ranks=WORLD.size, grid=grid.shape, unknowns=grid.active_size,
        parameters=found.objective.space.size, status=result.status, iterations=result.iterations,
        objective=result.objective, objective_initial=result.objective_initial, gradient_norm=result.gradient_norm,
        gradient_norm_initial=result.gradient_norm_initial,
        forward_solves=int(ensemble.sum(counts["forward_solves"])),
        adjoint_solves=int(ensemble.sum(counts["adjoint_solves"])),
        krylov_iterations_mean=found.krylov_iterations / max(found.total_solves, 1),
        seconds=Seconds(ready - START, solved - ready, time.monotonic() - START),
        peak_memory_mb=peak_memory_mb(WORLD), metrics=metrics | {"reason": result.reason, "decrement": result.decrement}))
    if warning := unused_text():
        monitor.say(warning)
    return 0


def recomputation(case: EvolutionCase) -> str:
    """How trajectories are stored, and what that costs."""
    plan = case.plan
    if plan.keeps_all:
        return f"{plan.steps} steps of {case.table['evolution']['scheme']}, all states kept"
    return f"{plan.steps} steps of {case.table['evolution']['scheme']}, {plan.memory} checkpoints in memory and {plan.disk} " \
        f"on disk: a gradient does every step {plan.predicted:.2f} times"


if __name__ == "__main__":
    errors.run(main, WORLD)
