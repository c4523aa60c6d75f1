"""Small fits in one process: a case's text, its answer and what is reported of it."""

from dataclasses import replace

import numpy as np
from mpi4py import MPI

from npde_opt import restarts
from npde_opt.cases import load_case
from npde_opt.ensemble import Ensemble
from npde_opt.runs.attempts import Attempts
from npde_opt.runs.report import report

DIFFUSION = """
[grid]
shape = [16]
extent = [16.0]
[boundaries]
"x+" = "dirichlet"
[equation]
known = {{ well = {{ expression = "where(x<1, 1.0, 0.0)" }} }}
[time]
scheme = "backward-euler"
times = {{ end = 10.0, steps = 20 }}
[[unknown]]
name = "D"
kind = "scalar"
initial = {D}
truth = {truth}
{D_more}
[[unknown]]
name = "w"
kind = "scalar"
initial = {w}
truth = 1.0
{w_more}
[[experiment]]
sources = [{{ shape = "w*well" }}]
[[observation]]
times = {{ start = 0.5, end = 10.0, count = 20 }}
points = [[1.5], [5.5]]
noise = 0.01
[simulation]
refine = 1
steps = 1
"""
"""Diffusion from a source at one end: D and the source's strength w, exact data but for noise."""


def case_of(tmp_path, text):
    """The case of a text, the same on every rank, beside the data that the test wrote on rank 0."""
    path = MPI.COMM_WORLD.bcast(tmp_path / "case.toml", root=0)
    if MPI.COMM_WORLD.rank == 0:
        path.write_text(text)
    MPI.COMM_WORLD.barrier()
    return load_case(path, MPI.COMM_WORLD)


def every(data):
    """The data of a case with all of each experiment's on every rank."""

    def whole(lists):
        found = []
        for own in lists:
            values = np.empty(data.share.total)
            for order, part in data.share.comm.allgather((data.share.order, own)):
                values[order] = part
            found.append(values)
        return found

    parts = {key: whole(getattr(data, key)) for key in ("observed", "sigma", "noise")}
    return replace(data, **parts)


def diffusion(tmp_path, D=4.0, w=1.0, D_more="", w_more="", truth=4.0):
    return case_of(
        tmp_path, DIFFUSION.format(D=D, w=w, D_more=D_more, w_more=w_more, truth=truth)
    )


def identified(case, method="gauss-newton", data=None, **changes):
    """The Identification of a case, from other `data` than its own where they are given."""
    ensemble = Ensemble.split(MPI.COMM_WORLD, 1, case.experiment_count)
    case.prepare(ensemble)
    if data is not None:
        case.data = data
    settings, grid = (
        replace(case.settings(method), **changes),
        case.grid(MPI.COMM_WORLD),
    )
    return restarts.identify(grid, lambda g: case.build(g, ensemble), settings, 1)


def reported(case, found):
    ensemble = Ensemble.split(MPI.COMM_WORLD, 1, case.experiment_count)
    return report(case, found, ensemble, None, False, Attempts(MPI.COMM_WORLD, print))
