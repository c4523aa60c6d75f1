"""`python -m npde_opt check CASE`: reads a case and all that a run would read, and says what is
wrong or needed."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from mpi4py import MPI

from npde_opt import registry
from npde_opt.aliases import Record
from npde_opt.cases import inventory
from npde_opt.cases.case import Case
from npde_opt.cases.data import NOISE, counts
from npde_opt.cases.document import document
from npde_opt.cases.load import load_case, raw_case
from npde_opt.cases.measured import some
from npde_opt.cases.on_grid import OnGrid
from npde_opt.cases.placing import LENGTHS
from npde_opt.cases.rules import simulated
from npde_opt.cases.weighing import check_misfit, check_regularization
from npde_opt.errors import InputError, NpdeError
from npde_opt.forward import Steady
from npde_opt.grids import Grid, check_indices
from npde_opt.io.gridded import box_text
from npde_opt.observations.shares import Share
from npde_opt.optimizers.interface import HEED_BOUNDS, TAKE_BOUNDS
from npde_opt.parameters import ParameterSpace
from npde_opt.restarts import Move

if TYPE_CHECKING:
    from npde_opt.forward import Evolution

Step = Callable[[], object]
DRIVEN = (
    "an unknown that some datum depends on: nothing drives any experiment (no source, boundary "
    "value or initial state), so that all states are 0 and the gradient is 0, whatever it is"
)


def check_main(argv: list[str]) -> int:
    options = _options(argv)
    if options.format:
        print(document())
        return 0
    variables = dict(text.partition("=")[::2] for text in options.set)
    try:
        if options.module is not None:
            registry.load(options.module)
        case = load_case(
            options.case,
            MPI.COMM_SELF,
            cells=options.grid,
            data=options.data,
            variables=variables,
            memory=options.memory,
        )
        on = case.on(case.grid(MPI.COMM_SELF))
    except NpdeError as error:
        print(f"error: {error}")
        return error.exit_code
    needs: list[str] = []
    wrong: dict[str, int] = {}
    for step in steps(case, on, needs):
        try:
            step()
        except NpdeError as error:
            wrong[str(error)] = error.exit_code
    for text in wrong:
        print(f"error: {text}")
    if not wrong:
        raw = raw_case(case.path, variables)
        print(
            "\n".join(
                [f"{options.case} is well formed", *report(case, on.grid, raw, needs)]
            )
        )
    return max(wrong.values(), default=0)


def _options(argv: list[str]) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="python -m npde_opt check", description=__doc__)
    p.add_argument("case", nargs="?", help="a TOML file")
    p.add_argument(
        "--data",
        default=os.environ.get("NPDE_DATA"),
        help="folder with the case's data (or NPDE_DATA)",
    )
    p.add_argument(
        "--grid", type=int, nargs="+", metavar="N", help="cells along each axis"
    )
    p.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable of the case's [variables]",
    )
    p.add_argument(
        "--module", metavar="FILE", help="file that registers classes, as of a run"
    )
    p.add_argument(
        "--memory", help="budget for trajectories, all ranks together, e.g. 4GB"
    )
    p.add_argument(
        "--format", action="store_true", help="print the format of a case instead"
    )
    options = p.parse_args(argv)
    if not options.case and not options.format:
        p.error("a case file is needed")
    return options


# ---- what a run reads ----------------------------------------------------------------------------


def steps(case: Case, on: OnGrid, needs: list[str]) -> Iterator[Step]:
    """All that a run reads and places, without a solve; `needs` get what it needs."""
    sizes: list[tuple[int, int]] = []
    unseen: list[np.ndarray] = []

    def forward() -> None:
        times, storage = case.times(), case.storage(on.grid)
        made = on.forward(range(case.experiment_count), times, storage)
        sizes.extend(made.observed.observer(0).sizes)
        unseen.extend(made.observed.lost().values())
        needs.extend(_needs(case, on, made))
        still = on.space.size > 0 and _stays_zero(made)
        made.destroy()
        if still:
            names = ", ".join(u.name for u in on.space.unknowns)
            raise InputError("unknown", names, DRIVEN)

    yield forward
    yield lambda: on.start().destroy()
    if simulated(case.table.observation):
        yield lambda: on.start("truth").destroy()
        yield lambda: case.times(case.table.simulation.steps)
        yield lambda: check_indices(
            [e.size - 1 for e in case.domain.data_edges()], 1, MPI.COMM_SELF
        )
    if sizes:
        yield lambda: needs.append(_measured(case, sizes, unseen))
    yield partial(check_misfit, case.table.misfit)
    yield case.check_settings
    yield lambda: _check_bounds(case, on.space)
    for move in case.moves():
        yield partial(_move, on, move)
    for u in case.table.unknown:
        if u.truth is not None and u.kind == "field":
            yield partial(on.value, u.name, "truth")
    for i in range(len(case.table.regularization)):
        yield partial(_check_regularization, case, on, i)


def _stays_zero(forward: Steady | Evolution) -> bool:
    """Whether all states are 0 whatever the unknowns are: nothing drives a linear equation."""
    if forward.equation.nonlinear:
        return False
    started = any(start.texts or start.known.any() for start in forward.initials)
    driven = any(d.terms or not d.boundary.zero for d in forward.driving)
    return not driven and (isinstance(forward, Steady) or not started)


def _check_regularization(case: Case, on: OnGrid, i: int) -> None:
    """Raises InputError where it does not fit the unknowns, or these cannot be made."""
    check_regularization(case.table, i, case.domain, on.space)


def _check_bounds(case: Case, space: ParameterSpace) -> None:
    """Raises InputError where the method takes no notice of bounds."""
    method, chosen = case.table.optimizer.method, "tao_type" in case.table.petsc
    bounded = [u.name for u in space.unknowns if np.isfinite(u.box).any()]
    if bounded and method not in TAKE_BOUNDS and not chosen:
        said = f"{method!r} for bounds of {', '.join(bounded)}"
        raise InputError("optimizer.method", said, HEED_BOUNDS)


def _move(on: OnGrid, move: Move) -> None:
    """Reads a further start."""
    m = on.start()
    move(on.space, m)
    m.destroy()


def _measured(
    case: Case, sizes: list[tuple[int, int]], unseen: list[np.ndarray]
) -> str:
    """Reads measured data and their deviations; a line on how many data there are, simulated ones
    too.

    Args:
        sizes: numbers of times and places of the observations.
        unseen: by experiment, whether a datum is of a place that no active cell is seen from.
    """
    reader = case.measurements(Share(MPI.COMM_SELF, tuple(sizes)))
    found = reader.measured()
    for i, o in enumerate(case.table.observation):
        values = [own[i] for own in found]
        if o.data is not None:
            reader.sigma(i, [v for v in values if v is not None])
    if unseen and np.concatenate(unseen).all():
        said = "all places in no active cell"
        raise InputError(
            "observation", said, "some that are seen (grid.outside drops the others)"
        )
    if not simulated(case.table.observation):
        there = [v for own in found for v in own if v is not None]
        some("observation.data", there, MPI.COMM_SELF)
    return _data_line(counts(found, sizes), np.concatenate(unseen))


def _data_line(missing: np.ndarray, unseen: np.ndarray) -> str:
    """How many data there are, and how many of the values are none."""
    none = {
        "missing": int(np.sum(missing & ~unseen)),
        "of places that no active cell is seen from": int(np.sum(unseen)),
    }
    left = missing.size - sum(none.values())
    out = [f"{count:,} {why}" for why, count in none.items() if count]
    said = f": {missing.size:,} values, of which {' and '.join(out)}" if out else ""
    return f"  data          {left:,}{said}"


# ---- what a run works on -------------------------------------------------------------------------


def report(case: Case, grid: Grid, raw: Record, needs: list[str]) -> list[str]:
    """Lines on what a run works on."""
    table, unit = case.table, case.table.case.length_unit
    boundary = [x.boundary for x in table.experiment]
    boundary += [{}] * (case.experiment_count - len(boundary))
    shape = " x ".join(map(str, grid.shape))
    named = f" {unit}" if unit in LENGTHS else ""
    radial = " and ".join(grid.axis_names[: grid.dim]) if grid.radial else ""
    return [
        f"  grid          {shape}, {grid.active_size:,} of {grid.size:,} cells active, "
        f"box {box_text(case.domain.edges)}{named}{' in ' + radial if radial else ''}",
        *needs,
        *(f"  note          {line}" for line in case.domain.notes.values()),
        *inventory.boundaries(case.domain, boundary, list(raw.get("boundaries", {}))),
        *inventory.drives(case),
        *inventory.readings(case.sources.log),
        *inventory.defaults(_defaults(case, raw)),
    ]


def _defaults(case: Case, raw: Record) -> list[str]:
    """What a case leaves open."""
    lines = []
    if not {"extent", "edges"} & set(raw.get("grid", {})) and not case.sources.edges:
        lines.append("grid.extent: 1 along every axis")
    if "terms" not in raw.get("equation", {}):
        lines.append("equation.terms: [{ diffusion = 'D' }]")
    for observed in case.observations:
        o = observed.section
        if o.sigma is None and o.noise is None:
            lines.append(f"{observed.where}.sigma: {NOISE:g} times the rms of the data")
        if observed.everywhere:
            lines.append(f"{observed.where}.points: every cell of the grid")
    if not case.table.regularization and any(
        u.kind == "field" for u in case.table.unknown
    ):
        lines.append("regularization: none")
    return lines


def _needs(case: Case, on: OnGrid, forward: Steady | Evolution) -> list[str]:
    """Sizes of a run."""
    names = ", ".join(f"{u.name} ({u.transform})" for u in on.space.unknowns)
    places = forward.observed.observer(0).size
    sought = f"{names}: {on.space.size:,} values" if names else "none"
    first = [
        f"  unknowns      {sought}",
        f"  experiments   {case.experiment_count}, {places:,} observations each{_made(case)}",
    ]
    if case.restarted:
        first.append(f"  starts        {1 + len(case.moves())}")
    if isinstance(forward, Steady):
        return first + [_peak(case, on.grid)]
    return first + _trajectories(case, forward)


def _made(case: Case) -> str:
    if not simulated(case.table.observation):
        return ""
    shape = " x ".join(str(e.size - 1) for e in case.domain.data_edges())
    return f", simulated on {shape} cells"


def _trajectories(case: Case, forward: Evolution) -> list[str]:
    """Steps, and the memory of states."""
    plan, times = forward.storage, forward.times
    state = "all states kept"
    if not plan.keeps_all:
        state = (
            f"{plan.memory} checkpoints in memory, {plan.disk} on disk, "
            f"recomputation factor {plan.predicted:.2f}"
        )
    kept = plan.steps if plan.keeps_all else plan.memory
    values = len(forward.equation.species) * forward.grid.size * case.experiment_count
    needed = 8 * kept * forward.scheme.stages * values
    dt = np.diff(times)
    equal = dt.max() < dt.min() * (1 + 1e-6)
    sizes = f"{dt.min():.4g}" if equal else f"{dt.min():.4g} to {dt.max():.4g}"
    assert case.table.time is not None
    return [
        f"  steps         {dt.size:,} of {case.table.time.scheme} from {times[0]:g} to "
        f"{times[-1]:g}, of size {sizes}, {state}",
        f"  memory        {size_text(needed)} for states, all ranks together",
    ]


def _peak(case: Case, grid: Grid) -> str:
    made = simulated(case.table.observation)
    finer = math.prod(e.size - 1 for e in case.domain.data_edges()) if made else 0
    peak = peak_bytes(grid.size, finer, grid.dim, case.experiment_count)
    whole = f"about {size_text(peak)} at the peak, all ranks together"
    return f"  memory        {whole}, and 150 MB a rank"


def size_text(count: float) -> str:
    """Bytes in the unit that fits them."""
    units = ((1e9, "GB"), (1e6, "MB"))
    unit, name = next(((u, n) for u, n in units if count >= u), (1e3, "KB"))
    return f"{count / unit:.3g} {name}"


def peak_bytes(cells: int, simulated: int, dim: int, experiments: int) -> float:
    """Of a run of a steady case, roughly, as measured on cases from 0.07 to 4 million cells.

    Operator, hierarchy and regularizer, what CG and the learnt spectrum keep, and six vectors an
    experiment; or the simulation of the data where that takes more.
    """
    matrices = 560 if dim < 3 else 850
    inverted = cells * (matrices + 1300 + 45 * experiments)
    return max(inverted, simulated * (matrices - 100 + 8 * experiments))
