"""What is said of a posterior that is not all that the data tell."""

import numpy as np
import pytest
from mpi4py import MPI
from steady_case import CASE

from npde_opt.cases import load_case
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError
from npde_opt.runs import between, chains, posterior
from npde_opt.runs.asked import digest
from npde_opt.runs.predicted import Predicted
from npde_opt.runs.resume import lacks_uncertainty
from npde_opt.runs.solves import model

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


TWO = """
[[unknown]]
name = "f"
initial = 1.0
truth = 1.0
[[regularization]]
unknown = "f"
"""
"""A source beside the coefficient."""


def opened(path, text, comm):
    """(case, on, at) of a case that is fitted nowhere."""
    if comm.rank == 0:
        path.write_text(text)
    comm.barrier()
    case = load_case(path, comm)
    grid, ensemble = case.grid(comm), Ensemble.whole(comm)
    case.prepare(ensemble)
    J, m = case.build(grid, ensemble)
    return case, case.on(grid), J.linearize(m)


@pytest.mark.parallel([1, 2, 3])
def test_places_have_the_deviations_of_their_cells(tmp_path):
    """And modes are the posterior's: of two fields, under a mask."""
    comm = MPI.COMM_WORLD
    path = comm.bcast(tmp_path, root=0) / "case.toml"
    text = CASE.replace("{ source = 1.0 }", '{ source = "f" }') + TWO
    text = text.replace('"x+" = 1.0', '"x+" = 2.0')
    text = text.replace(
        "shape = [8, 8]", 'shape = [6, 5]\nactive = { expression = "x + y > 0.4" }'
    )
    text += "[posterior]\nmodes = 2\nplaces = [[0.9, 0.1], [0.1, 0.7], [1.0, 1.0]]\n"
    case, on, at = opened(path, text, comm)
    found = posterior.Posterior(case, on, at, None, ASKED, print)
    found.correlate()
    laplace, space, grid = found.laplace, found.laplace.space, on.grid
    rows = found.between
    assert rows.unknowns == ("D",) * 3 + ("f",) * 3
    for kind, variance, matrix in (
        ("deviation", laplace.variance, rows.after),
        ("prior_deviation", laplace.prior_variance, rows.before),
    ):
        vec = space.create_vec()
        vec.setArray(np.sqrt(variance))
        told = [row[kind] for row in rows.metrics()["places"]["rows"]]
        for k, name in enumerate(("D", "f")):
            whole = np.concatenate(
                comm.allgather(space.look(vec, name)[grid.active].ravel())
            )
            part = told[3 * k : 3 * k + 3]
            assert all(np.abs(whole / one - 1).min() < 1e-4 for one in part)
        assert (np.linalg.eigvalsh(matrix) > 0).all()
    together = between.correlation(rows.after)
    np.testing.assert_allclose(np.diag(together), 1)
    assert 0.01 < np.abs(together - np.eye(6)).max() < 1
    lines = rows.csv().splitlines()
    assert lines[0].startswith("unknown,place,x,y,value,value_deviation")
    assert len(lines) == 7 and lines[4].startswith("f,0,0.9,0.1,1,")
    for k in range(2):
        mode = space.create_vec()
        for name in ("D", "f"):
            space.own(mode, name)[...] = found.shown[f"{name}_mode_{k + 1}"]
        np.testing.assert_array_equal(mode.getArray(), laplace.vectors[:, k])
    assert "D_mode_3" not in found.shown
    assert found.metrics()["mode_eigenvalues"] == list(laplace.values[:2])
    at.destroy()


@pytest.mark.parallel([1, 2])
def test_data_of_experiments_that_are_set_aside_have_bands_and_decide_nothing(tmp_path):
    comm = MPI.COMM_WORLD
    path = comm.bcast(tmp_path, root=0) / "case.toml"
    text = CASE + '[[experiment]]\nboundary = { "x+" = 2.0 }\n'
    text = text.replace("random = 20", "random = 20\nnoise = 0.05")
    case, on, whole = opened(path, text + "[validation]\nexperiments = [0]\n", comm)
    at = whole.objective.over([1]).linearize(whole.m)
    found = posterior.Posterior(case, on, at, None, ASKED, print)
    forward = model(at.objective)
    predicted = [np.zeros_like(y) for y in case.data.observed]
    rows = Predicted(case, forward.observed.observer(0).samplings, predicted)
    found.predict(rows)
    aside = rows.experiment == 0
    assert (rows.deviation > 0).all()
    everything = at.objective.whole.linearize(whole.m)
    one = [d.like(np.zeros_like(d.values)) for d in everything.data]
    first = next(d for d in one if 0 in d.layout.members)
    if comm.rank == 0:
        first.values[0, first.layout.members.index(0)] = 1.0
    exact = found.laplace.deviation(everything.linearization.apply_adjoint(one))
    if comm.rank == 0:
        assert rows.deviation[aside][0] == pytest.approx(exact, rel=0.1)
    everything.destroy()
    assert (rows.resolution[aside] == 0).all() and (rows.resolution[~aside] > 0).all()
    assert 0 < found.metrics()["effective_data"] < 20
    assert "D_coverage" in found.shown
    at.destroy()


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ("[[0.5, 0.5], [0.1, 0.1]]", r"places\[1\]: .*0.1, 0.1.* a point in an active"),
        ("[[0.5, 1.5]]", r"places\[0\]: .*1.5"),
        ("[[0.5]]", r"places\[0\]: got \[0.5\]; allowed: 2 coordinates"),
    ],
)
def test_places_that_are_none_are_refused(tmp_path, places, said):
    text = CASE.replace(
        "shape = [8, 8]", 'shape = [8, 8]\nactive = { expression = "x + y > 0.4" }'
    )
    text += f"[posterior]\nplaces = {places}\n"
    case, on, at = opened(tmp_path / "case.toml", text, MPI.COMM_SELF)
    with pytest.raises(InputError, match=rf"posterior\.{said}"):
        between.check(case, on)
    at.destroy()


TOLD = {"uncertainty": "samples", "posterior_asked": "a", "chains": 2}
TOLD |= {"chain_steps": 9, "chain_method": "pcn"}


@pytest.mark.parametrize(
    ("kind", "wanted", "lacks"),
    [
        ("laplace", {}, False),
        ("laplace", {"posterior_asked": "a"}, False),
        ("laplace", {"posterior_asked": "b"}, True),
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


def test_sections_differ_by_all_keys_but_those_of_chains(tmp_path):
    path, found = tmp_path / "case.toml", []
    for text in ("", "[posterior]\nmodes = 3\n", "[posterior.sampling]\nsteps = 9\n"):
        path.write_text(CASE + text)
        found.append(digest(load_case(path, MPI.COMM_SELF).table.posterior))
    assert found[0] != found[1] and found[0] == found[2]


def test_chains_too_short_for_their_figures_are_refused(tmp_path):
    path = tmp_path / "case.toml"
    sampling = "[posterior.sampling]\nsteps = 8\nevery = 4\n"
    path.write_text(CASE + sampling)
    case = load_case(path, MPI.COMM_SELF)
    ensemble = Ensemble.whole(MPI.COMM_SELF)
    with pytest.raises(InputError, match=r"sampling.every: got 4; allowed: at most 2"):
        chains.check(case, 1, 0, None, ensemble)
