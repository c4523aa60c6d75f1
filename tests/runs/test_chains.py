"""Chains of a run that go on have the traces of a run that was never stopped."""

from dataclasses import replace

import numpy as np
import pytest
from mpi4py import MPI
from steady_case import CASE

from npde_opt.cases import load_case
from npde_opt.ensemble import Ensemble
from npde_opt.runs import posterior
from npde_opt.runs.folder import RunDirectory

SAMPLED = f"""{CASE}
[posterior.sampling]
method = "gpcn"
chains = 1
burn_in = 10
checkpoint = 10
steps = STEPS
"""


def ran(folder, out, steps, groups=1, flipped=False):
    """The trace of a chain that goes on in a folder."""
    comm = MPI.COMM_WORLD
    path = folder / "case.toml"
    if comm.rank == 0:
        path.write_text(SAMPLED.replace("STEPS", str(steps)))
    comm.barrier()
    case, ensemble = load_case(path, comm), Ensemble.whole(comm)
    case.prepare(ensemble)
    grid = case.grid(comm)
    J, m = case.build(grid, ensemble)
    at = J.linearize(m)
    run = RunDirectory(out, comm, "resume")
    asked = posterior.Asked("samples", 0, groups, {})
    made = posterior.Posterior(case, case.on(grid), at, run, asked, print)
    if flipped:
        found = made.laplace.pairs
        assert found.duals is not None
        turned = replace(found, vectors=-found.vectors, duals=-found.duals)
        made.laplace.pairs, made.laplace.vectors = turned, turned.vectors
        vars(made.laplace).pop("dual", None)
    made.sample()
    table = None
    if comm.rank == 0:
        rows = (out / "samples" / "chain-0.csv").read_text().splitlines()[2:]
        assert "mode_1" in rows[0]
        table = np.array([row.split(",") for row in rows[1:]], float)
    run.close()
    at.destroy()
    J.destroy()
    return comm.bcast(table)


@pytest.mark.parallel([1, 2])
def test_coordinates_are_along_the_directions_of_the_chains_beginning(tmp_path):
    """Found anew they have other signs, as on another number of ranks: the first steps and the
    later ones of a trace were of different figures."""
    folder = MPI.COMM_WORLD.bcast(tmp_path)
    whole = ran(folder, folder / "whole", 40)
    half = ran(folder, folder / "stopped", 20)
    gone_on = ran(folder, folder / "stopped", 40, flipped=True)
    assert np.ptp(whole[:, -1]) > 0
    np.testing.assert_array_equal(half, whole[:20])
    np.testing.assert_allclose(gone_on, whole, rtol=1e-9, atol=1e-12)
