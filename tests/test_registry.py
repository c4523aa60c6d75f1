"""Classes of the user's, registered by a file and named in a case."""

import numpy as np
import pytest
from mpi4py import MPI

import npde_opt as nd
from npde_opt import registry
from npde_opt.ensemble import Ensemble

comm = MPI.COMM_WORLD
PARTS = """
import numpy as np
import npde_opt as nd
from npde_opt.misfits.independent import Independent
from npde_opt.terms import Reaction

@nd.register("term", "doubled")
def doubled(grid, species, name):
    return Reaction(grid, f"2*{name}", species)

@nd.register("misfit", "halved")
class Halved(Independent):
    def __init__(self, observed, sigma, layout, factor=1.0):
        super().__init__(observed, np.asarray(sigma) * factor, layout)

@nd.register("misfit", "shared")
class Shared(Independent):
    def __init__(self, observed, sigma, layout, owned=False):
        assert owned and observed.shape == sigma.shape == (layout.order.size, 1)
        super().__init__(observed, 2 * sigma, layout, owned)

nd.register("regularizer", "smooth")(nd.Gradient)
"""
CASE = """
[grid]
shape = [8]
[boundaries]
"x-" = "dirichlet"
[equation]
terms = [{ diffusion = "D" }, %s, { source = 1.0 }]
known = { c = 0.5 }
[[unknown]]
name = "D"
initial = 1.0
truth = 2.0
[[observation]]
[misfit]
%s
[[regularization]]
%s
"""
OWN = (
    '{ registered = "doubled", options = { name = "c" } }',
    'kind = "registered"\nname = "halved"\noptions = { factor = 2.0 }',
    'kind = "registered"\nname = "smooth"\nweight = 3.0',
)
PLAIN = ('{ reaction = "2*c" }', "", "weight = 3.0")


@pytest.fixture
def write(tmp_path):
    """Writes a file on rank 0 of a folder that all ranks share."""
    folder = comm.bcast(tmp_path, root=0)

    def written(name, text):
        if comm.rank == 0:
            (folder / name).write_text(text)
        comm.barrier()
        return folder / name

    return written


def values(path):
    """Misfit and regularization of a case, off its start."""
    case = nd.load_case(path, comm)
    ensemble = Ensemble.whole(comm)
    case.prepare(ensemble)
    objective, m = case.build(case.grid(comm), ensemble)
    m.axpy(0.1, objective.space.standard_normal(0))
    at = objective.linearize(m)
    found = at.misfit, at.regularization
    at.destroy()
    objective.destroy()
    return found


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("own_data", [False, True])
def test_registered_classes_do_what_built_in_ones_do(write, own_data):
    """A misfit with an argument `owned` has a rank's own data, others have all of them."""
    registry.load(str(write("parts.py", PARTS)))
    shared = (OWN[0], 'kind = "registered"\nname = "shared"', OWN[2])
    text = CASE % (shared if own_data else OWN)
    misfit, regularization = values(write("own.toml", text))
    expected = values(write("plain.toml", CASE % PLAIN))
    assert (4 * misfit, regularization) == pytest.approx(expected, rel=1e-9)
    assert np.isfinite(misfit) and misfit > 0


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize(
    ("place", "text", "said"),
    [
        (
            0,
            '{ registered = "doubld" }',
            r"terms\[0\]\.registered.*--module FILE.*did you mean 'doubled'",
        ),
        (
            1,
            'kind = "registered"\nname = "halvd"',
            r"misfit\.name.*did you mean 'halved'",
        ),
        (
            1,
            'kind = "registered"\nname = "shared"\noptions = { owned = true }',
            r"misfit\.options\.owned: got True",
        ),
        (
            2,
            'kind = "registered"\nname = "none"',
            r"regularization\[0\]\.name.*--module",
        ),
        (
            0,
            '{ registered = "doubled", options = { nam = "c" } }',
            r"options\.nam.*name",
        ),
        (1, 'name = "halved"', r"misfit\.name.*the kind registered"),
    ],
)
def test_what_is_not_registered_is_told(write, place, text, said):
    registry.load(str(write("parts.py", PARTS)))
    parts = list(PLAIN)
    parts[place] = text
    said = said.replace("terms[0]", "terms[1]").replace(r"terms\[0\]", r"terms\[1\]")
    with pytest.raises(nd.InputError, match=said):
        values(write("case.toml", CASE % tuple(parts)))


def test_a_file_that_raises_is_told(tmp_path):
    path = tmp_path / "parts.py"
    path.write_text("raise ValueError('no such thing')")
    with pytest.raises(
        nd.InputError, match="--module.*raises ValueError: no such thing"
    ):
        registry.load(str(path))
    with pytest.raises(nd.InputError, match="existing Python file"):
        registry.load(str(tmp_path / "none.py"))


def test_another_content_of_the_file_is_another_run(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_loaded", [])
    assert registry.loaded() == "none"
    path = tmp_path / "parts.py"
    path.write_text(PARTS)
    registry.load(str(path))
    first = registry.loaded()
    monkeypatch.setattr(registry, "_loaded", [])
    path.write_text(PARTS + "# changed\n")
    registry.load(str(path))
    assert registry.loaded() != first != "none"


SOUGHT = """
import npde_opt as nd

@nd.register("optimizer", "downhill")
class Downhill:
    def __init__(self, objective, factor=1.0):
        self.factor = factor

    def direction(self, at, g, d):
        # Some steps of conjugate gradients with the Gauss-Newton Hessian.
        d.set(0.0)
        r, q = g.copy(), g.duplicate()
        r.scale(-self.factor)
        p = r.copy()
        for _ in range(12):
            size = r.dot(r)
            at.hessian(p, q, True)
            a = size / p.dot(q)
            d.axpy(a, p)
            r.axpy(-a, q)
            if r.norm() < 1e-6 * g.norm():
                break
            p.aypx(r.dot(r) / size, r)
"""
METHOD = '[optimizer]\nmethod = "registered"\nname = "%s"\noptions = { factor = %s }\n'


def sought(case):
    """Result of a case by its own optimizer."""
    ensemble = Ensemble.whole(comm)
    case.prepare(ensemble)
    objective, m = case.build(case.grid(comm), ensemble)
    return nd.minimize(objective, m, case.settings())


@pytest.mark.parallel([1, 2])
def test_an_optimizer_of_ones_own_finds_the_minimum_of_others(write):
    registry.load(str(write("sought.py", SOUGHT)))
    text = CASE % PLAIN
    found = sought(
        nd.load_case(write("own.toml", text + METHOD % ("downhill", 1.0)), comm)
    )
    newton = sought(nd.load_case(write("newton.toml", text), comm))
    assert found.status == newton.status == "converged"
    assert found.objective == pytest.approx(newton.objective, rel=1e-4)


def test_what_is_wrong_with_an_optimizer_is_told(write):
    registry.load(str(write("sought.py", SOUGHT)))
    text = CASE % PLAIN
    with pytest.raises(nd.InputError, match="did you mean 'downhill'"):
        nd.load_case(
            write("near.toml", text + METHOD % ("downhil", 1.0)), comm
        ).settings()
    other = '[optimizer]\nmethod = "registered"\nname = "downhill"\noptions = { faktor = 1.0 }\n'
    with pytest.raises(nd.InputError, match=r"optimizer.options.faktor"):
        nd.load_case(write("option.toml", text + other), comm).settings()
    with pytest.raises(nd.InputError, match=r"optimizer.name"):
        nd.load_case(
            write("unheard.toml", text + '[optimizer]\nname = "downhill"\n'), comm
        )
    with pytest.raises(nd.InputError, match="own"):
        nd.Settings("registered")


def test_a_direction_uphill_ends_the_run(write):
    registry.load(str(write("sought.py", SOUGHT)))
    case = nd.load_case(
        write("uphill.toml", CASE % PLAIN + METHOD % ("downhill", -1.0)), comm
    )
    with pytest.raises(nd.SolverError, match="not downhill"):
        sought(case)
