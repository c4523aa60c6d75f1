"""What is said of a posterior that is not all that the data tell."""

import functools

import pytest
from mpi4py import MPI

from npde_opt.cases import load_case
from npde_opt.ensemble import Ensemble
from npde_opt.posterior import PosteriorSettings
from npde_opt.runs import posterior

CASE = """
[grid]
shape = [8, 8]
[boundaries]
"x-" = "dirichlet"
"x+" = "dirichlet"
[equation]
terms = [{ diffusion = "D" }, { source = 1.0 }]
[[unknown]]
name = "D"
initial = 1.0
truth = 2.0
[[experiment]]
boundary = { "x+" = 1.0 }
[[observation]]
random = 20
[[regularization]]
"""


@pytest.mark.parametrize("most", [8, 1000])
def test_a_search_that_was_ended_is_told(tmp_path, monkeypatch, most):
    settings = functools.partial(PosteriorSettings, most=most)
    monkeypatch.setattr(posterior, "PosteriorSettings", settings)
    path = tmp_path / "case.toml"
    path.write_text(CASE)
    case, comm = load_case(path, MPI.COMM_WORLD), MPI.COMM_WORLD
    grid = case.grid(comm)
    ensemble = Ensemble.whole(comm)
    case.prepare(ensemble)
    J, m = case.build(grid, ensemble)
    at = J.linearize(m)
    found = posterior.Posterior(case, case.on(grid), at, None, 0)
    note = found.metrics().get("posterior_note", "")
    assert ("8 directions" in note) == (most == 8)
    assert (note == "") == (most == 1000)
    at.destroy()
    J.destroy()
