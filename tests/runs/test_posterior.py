"""What is said of a posterior that is not all that the data tell."""

import pytest
from mpi4py import MPI
from steady_case import CASE

from npde_opt.cases import load_case
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError
from npde_opt.runs import chains, posterior
from npde_opt.runs.resume import lacks_uncertainty

ASKED = posterior.Asked("laplace", 0, 1, {})


@pytest.mark.parametrize("most", [8, 1000])
def test_a_search_that_was_ended_is_told(tmp_path, most):
    path = tmp_path / "case.toml"
    path.write_text(f"{CASE}[posterior]\nmost = {most}\n")
    case, comm = load_case(path, MPI.COMM_WORLD), MPI.COMM_WORLD
    grid = case.grid(comm)
    ensemble = Ensemble.whole(comm)
    case.prepare(ensemble)
    J, m = case.build(grid, ensemble)
    at = J.linearize(m)
    found = posterior.Posterior(case, case.on(grid), at, None, ASKED, print)
    note = found.metrics().get("posterior_note", "")
    assert ("8 directions" in note) == (most == 8)
    assert (note == "") == (most == 1000)
    at.destroy()
    J.destroy()


TOLD = {"uncertainty": "samples", "chains": 2, "chain_steps": 9, "chain_method": "pcn"}


@pytest.mark.parametrize(
    ("kind", "wanted", "lacks"),
    [
        ("laplace", {}, False),
        ("samples", {"chains": 2, "chain_steps": 9, "chain_method": "pcn"}, False),
        ("samples", {"chains": 3, "chain_steps": 9, "chain_method": "pcn"}, True),
        ("samples", {"chains": 2, "chain_steps": 10, "chain_method": "pcn"}, True),
        ("samples", {"chains": 2, "chain_steps": 9, "chain_method": "mala"}, True),
        ("profile", {}, True),
    ],
)
def test_a_finished_run_goes_on_where_more_is_asked(kind, wanted, lacks):
    assert lacks_uncertainty(TOLD, kind, wanted) == lacks
    assert lacks_uncertainty({}, kind, wanted)


def test_chains_too_short_for_their_figures_are_refused(tmp_path):
    path = tmp_path / "case.toml"
    sampling = "[posterior.sampling]\nsteps = 8\nevery = 4\n"
    path.write_text(CASE + sampling)
    case = load_case(path, MPI.COMM_SELF)
    ensemble = Ensemble.whole(MPI.COMM_SELF)
    with pytest.raises(InputError, match=r"sampling.every: got 4; allowed: at most 2"):
        chains.check(case, 1, 0, None, ensemble)
