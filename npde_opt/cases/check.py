"""`python -m npde_opt check CASE`: reads a case and all that a run would read, and says what is
wrong or needed."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from mpi4py import MPI

from npde_opt.cases import evolution_data, inventory
from npde_opt.cases.case import OPTIONS, Case, load_case, read_toml
from npde_opt.cases.data import read_data
from npde_opt.cases.evolution_case import EvolutionCase
from npde_opt.cases.evolution_schema import document_evolution
from npde_opt.cases.measured import some
from npde_opt.cases.placing import LENGTHS
from npde_opt.cases.schema import document
from npde_opt.errors import NpdeError
from npde_opt.forward import Evolution
from npde_opt.grids import Grid, check_indices
from npde_opt.io.gridded import box_text
from npde_opt.parameters import ParameterSpace
from npde_opt.regularizers import REGULARIZERS, checked_weights

Step = Callable[[], object]


def check_main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m npde_opt check", description=__doc__)
    parser.add_argument("case", nargs="?", help="a TOML file")
    parser.add_argument("--data", default=os.environ.get("NPDE_DATA"), help="folder with the case's data (or NPDE_DATA)")
    parser.add_argument("--grid", type=int, nargs="+", metavar="N", help="cells along each axis")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a variable of the case's [variables]")
    parser.add_argument("--memory", help="budget for the trajectories of evolution equations, all ranks together, e.g. 4GB")
    parser.add_argument("--format", action="store_true", help="print the format of a case instead")
    options = parser.parse_args(argv)
    if options.format:
        print(document())
        print(document_evolution())
        return 0
    if not options.case:
        parser.error("a case file is needed")
    try:
        case = load_case(options.case, MPI.COMM_SELF, cells=options.grid, data=options.data,
                         variables=dict(text.partition("=")[::2] for text in options.set), memory=options.memory)
        grid = case.grid(MPI.COMM_SELF)
    except NpdeError as error:
        print(f"error: {error}")
        return error.exit_code
    lines: list[str] = []
    wrong: dict[str, int] = {}
    for step in evolution_steps(case, grid, lines) if isinstance(case, EvolutionCase) else steps(case, grid, lines):
        try:
            step()
        except NpdeError as error:
            wrong[str(error)] = error.exit_code
    for text in wrong:
        print(f"error: {text}")
    if not wrong:
        print("\n".join([f"{options.case} is well formed", *report(case, grid, lines)]))
    return max(wrong.values(), default=0)


def evolution_steps(case: EvolutionCase, grid: Grid, lines: list[str]) -> Iterator[Step]:
    """All that a run of an evolution case reads and makes before its first solve; `lines` get what
    it needs."""
    sizes: list[tuple[int, int]] = []
    unseen: list[np.ndarray] = []

    def equation() -> None:
        forward = case.forward(grid, range(case.experiment_count))
        sizes.extend((len(s.times), s.size) for s in forward.observers[0].samplings)
        unseen.extend(observer.unseen() > 0 for observer in forward.observers)
        lines.extend(evolution_needs(case, grid, forward))
        forward.destroy()

    yield equation
    yield lambda: case.start(case.space(grid)).destroy()
    if any(o["data"] is None for o in case.table["observation"]):
        yield lambda: case.start(case.space(grid), "truth").destroy()
        yield partial(case.cut_times, case.table["simulation"]["steps"])
    if sizes:
        yield lambda: measured(case, sizes, unseen, lines)
    for u in case.table["unknown"]:
        if u["truth"] is not None and u["kind"] == "field":
            yield partial(case.field, f"unknown.{u['name']}.truth", u["truth"], grid)
    for i in range(len(case.table["regularization"])):
        yield partial(regularization, case, grid, i)


def regularization(case: Case | EvolutionCase, grid: Grid, i: int) -> None:
    """Reads what a regularizer takes, and makes one of its options, on few cells of the same box."""
    field, r = f"regularization[{i}]", case.table["regularization"][i]
    few = Grid((2,) * grid.dim, edges=[np.linspace(e[0], e[-1], 3) for e in grid.edges], comm=MPI.COMM_SELF)
    REGULARIZERS[r["kind"]](few, 1.0, **{k: r[k] for k in OPTIONS[r["kind"]] if r[k] is not None})
    if r["reference"] is not None:
        name = case.regularized(r) if isinstance(case, Case) else r["unknown"]
        values = case.field(f"{field}.reference", r["reference"], grid)
        case.space(grid).unknown(name).inverse(values[grid.active])
    if r["cell_weights"] is not None:
        checked_weights(grid, case.field(f"{field}.cell_weights", r["cell_weights"], grid))


def measured(case: EvolutionCase, sizes: list[tuple[int, int]], unseen: list[np.ndarray], lines: list[str]) -> None:
    """Reads measured data and their deviations; adds to the lines how many data there are, simulated ones too.

    Args:
        sizes: numbers of times and places of the observations.
        unseen: by experiment, whether a datum is of a place without an active cell.
    """
    found, missing = [], []
    for e in range(case.experiment_count):
        for i, (o, values) in enumerate(zip(case.table["observation"], evolution_data.measured(case, e, sizes), strict=True)):
            if values is not None:
                evolution_data.sigma(case, f"observation[{i}]", o, e, values)
                found.append(values)
            missing.append(np.zeros(math.prod(sizes[i]), bool) if values is None else np.isnan(values))
    if all(o["data"] is not None for o in case.table["observation"]):
        some("observation.data", *found)
    lines.append(data_line(np.concatenate(missing), np.concatenate(unseen)))


def data_line(missing: np.ndarray, unseen: np.ndarray | None = None) -> str:
    """How many data there are, and how many of the values are none."""
    unseen = np.zeros(missing.shape, bool) if unseen is None else unseen
    none = {"missing": int(np.sum(missing & ~unseen)), "of places without an active cell": int(np.sum(unseen))}
    left = missing.size - sum(none.values())
    out = [f"{count:,} {why}" for why, count in none.items() if count]
    return f"  data          {left:,}" + (f": {missing.size:,} values, of which {' and '.join(out)}" if out else "")


def steps(case: Case, grid: Grid, lines: list[str]) -> Iterator[Step]:
    """All that a run reads and places, without a solve; `lines` get how many measured data there are."""
    o = case.table["observations"]

    def data() -> None:
        found = read_data(case, len(case.places.functionals(grid)))
        lines.append(data_line(np.isnan(found.observed)))

    yield lambda: case.start(case.space(grid)).destroy()
    yield lambda: case.forward(grid, range(case.experiment_count)).destroy()
    if o["data"] is not None:
        yield data
    else:
        yield lambda: case.start(case.space(grid), "truth").destroy()
        yield lambda: check_indices([e.size - 1 for e in case.domain.data_edges()], 1, grid.comm)
    for u in case.table["unknown"]:
        if u["truth"] is not None:
            yield partial(case.field, f"unknown.{u['name']}.truth", u["truth"], grid)
    for i in range(len(case.table["regularization"])):
        yield partial(regularization, case, grid, i)


def report(case: Case | EvolutionCase, grid: Grid, needs: list[str]) -> list[str]:
    """Lines on what a run works on."""
    raw = read_toml(case.path, "--case")
    named = list(raw.get("boundaries", {}))
    if isinstance(case, EvolutionCase):
        boundary = [x["boundary"] for x in case.table["experiment"]]
        drives, assumed = inventory.evolution_drives(case.table), evolution_defaults(case)
    else:
        given = case.table["experiments"]["boundary"] or []
        boundary = [given[k] if k < len(given) else {} for k in range(case.experiment_count)]
        drives, assumed = inventory.steady_drives(case.table), steady_defaults(case, raw)
        needs = steady_needs(case, grid) + needs
    if not {"extent", "edges", "file"} & set(raw.get("grid", {})) and not case.sources.edges:
        assumed.insert(0, "grid.extent: 1 along every axis")
    unit = case.table["case"]["length_unit"]
    return [f"  grid          {' x '.join(map(str, grid.shape))}, {grid.active_size:,} of {grid.size:,} cells active, "
            f"box {box_text(case.domain.edges)}" + (f" {unit}" if unit in LENGTHS else ""),
            *needs, *inventory.boundaries(case.domain, boundary, named), *drives,
            *inventory.readings(case.sources.log), *inventory.defaults(assumed)]


def evolution_defaults(case: EvolutionCase) -> list[str]:
    """What the observations of an evolution case leave open."""
    lines = []
    for i, o in enumerate(case.table["observation"]):
        if o["sigma"] is None:
            lines.append(f"observation[{i}].sigma: {o['noise']:g} times the rms of the data")
        if o["points"] is None and o["regions"] is None:
            lines.append(f"observation[{i}].points: every cell of the grid")
    return lines


def steady_defaults(case: Case, raw: dict[str, Any]) -> list[str]:
    """What a steady case leaves open."""
    o, lines = case.table["observations"], []
    if "source" not in raw.get("experiments", {}):
        lines.append("experiments.source: 0")
    if o["sigma"] is None:
        lines.append(f"observations.sigma: {o['noise']:g} times the rms of the data")
    if not case.table["regularization"]:
        lines.append("regularization: none")
    return lines


def evolution_needs(case: EvolutionCase, grid: Grid, forward: Evolution) -> list[str]:
    """Sizes of an evolution case."""
    plan = forward.storage
    state = "all states kept" if plan.keeps_all else f"{plan.memory} checkpoints in memory, {plan.disk} on disk, " \
        f"recomputation factor {plan.predicted:.2f}"
    kept = plan.steps if plan.keeps_all else plan.memory
    needed = 8 * kept * forward.scheme.stages * len(forward.equation.species) * grid.size * case.experiment_count
    times, dt = forward.times, np.diff(forward.times)
    sizes = f"{dt.min():.4g}" if dt.max() < dt.min() * (1 + 1e-6) else f"{dt.min():.4g} to {dt.max():.4g}"
    return [f"  unknowns      {unknowns(forward.space)}",
            f"  experiments   {case.experiment_count}",
            f"  steps         {dt.size:,} of {case.table['evolution']['scheme']} from {times[0]:g} to {times[-1]:g}, "
            f"of size {sizes}, {state}",
            f"  memory        {size_text(needed)} for states, all ranks together"]


def unknowns(space: ParameterSpace) -> str:
    """Names and transforms of the unknowns, and the number of their values."""
    return ", ".join(f"{u.name} ({u.transform})" for u in space.unknowns) + f": {space.size:,} values"


def size_text(count: float) -> str:
    """Bytes in the unit that fits them."""
    unit, name = next(((u, n) for u, n in ((1e9, "GB"), (1e6, "MB")) if count >= u), (1e3, "KB"))
    return f"{count / unit:.3g} {name}"


def steady_needs(case: Case, grid: Grid) -> list[str]:
    """Sizes of a steady case."""
    space, o = case.space(grid), case.table["observations"]
    simulated = 0 if o["data"] is not None else math.prod(e.size - 1 for e in case.domain.data_edges())
    peak = peak_bytes(grid.size, simulated, grid.dim, case.experiment_count)
    data = f"from {o['data']['file']}" if o["data"] is not None else \
        f"simulated on {' x '.join(str(e.size - 1) for e in case.domain.data_edges())} cells"
    return [f"  unknowns      {unknowns(space)}",
            f"  experiments   {case.experiment_count}, {len(case.places.functionals(grid))} observations each, {data}",
            f"  memory        about {size_text(peak)} at the peak, all ranks together, and 150 MB a rank"]


def peak_bytes(cells: int, simulated: int, dim: int, experiments: int) -> float:
    """Of a run, roughly, as measured on cases from 0.07 to 4 million cells: operator, hierarchy and
    regularizer, what CG and the learnt spectrum keep, and six vectors an experiment; or the
    simulation of the data where that takes more."""
    matrices = 560 if dim < 3 else 850
    return max(cells * (matrices + 1300 + 45 * experiments), simulated * (matrices - 100 + 8 * experiments))
