"""What is wrong in a case is one clear error, at the latest where the case is put on its grid."""

from pathlib import Path

import pytest
from mpi4py import MPI

from npde_opt.cases import load_case
from npde_opt.errors import InputError, NpdeError

MESHES = Path(__file__).parents[2] / "meshes"
WELLS, SCOTT = "quantum_wells", "gray_scott"
comm = MPI.COMM_WORLD


def changed(folder, name, old, new):
    """A case of meshes/ with a change, on few cells."""
    text = (MESHES / f"{name}.toml").read_text()
    assert old in text
    (folder / "case.toml").write_text(text.replace(old, new, 1))
    return load_case(folder / "case.toml", comm, cells=(16, 14))


WRONG = {
    "term's key": (
        SCOTT,
        '{ diffusion = "Du", species',
        '{ diffusion = "Du", speceis',
        r"terms\[0\]: key 'speceis'.*'species'",
    ),
    "term": (
        SCOTT,
        '{ diffusion = "Du"',
        '{ difusion = "Du"',
        r"equation.terms\[0\].*did you mean 'diffusion'",
    ),
    "coefficient's name": (
        SCOTT,
        '{ diffusion = "Du"',
        "{ diffusion = 0.5",
        r"terms\[0\].diffusion: got 0.5; allowed: a text or a list",
    ),
    "model": (SCOTT, '"gray-scott"', '"gray-scot"', r"terms\[2\].kinetics"),
    "species": (
        SCOTT,
        'species = ["u", "v"]',
        'species = ["u", "w"]',
        "initial: got 'v'; allowed: spec",
    ),
    "a term's species": (
        SCOTT,
        'diffusion = "Du", species = "u"',
        'diffusion = "Du", species = "w"',
        r"equation.terms\[0\].species: got w; allowed: u, v",
    ),
    "scheme": (SCOTT, "explicit-euler", "euler", "scheme"),
    "times": (
        SCOTT,
        "end = 400.0, steps = 1000",
        "end = 400.0, stpes = 1000",
        "time.times.*steps, first, tolerance",
    ),
    "times' key": (
        SCOTT,
        "end = 400.0, steps",
        "end = 400.0, strat = 0, steps",
        "time.times: key 'strat'",
    ),
    "no times": (
        SCOTT,
        "times = [50.0, 100.0, 200.0, 400.0]",
        "times = []",
        r"observation\[0\].times: got 0 values; allowed: a list of at least 1",
    ),
    "count": (
        WELLS,
        "count = 6",
        "cuont = 6",
        r"observation\[0\].times: .*did you mean 'count'",
    ),
    "noise": (WELLS, "noise = 0.05", "noise = 0", r"observation\[0\].noise: got 0"),
    "sigma": (
        WELLS,
        "noise = 0.05",
        "sigma = -1.0",
        r"observation\[0\].sigma: got -1.0",
    ),
    "misfit": (
        WELLS,
        "[optimizer]",
        "[misfit]\nkind = 'correlated'\ncorrelation = 1.5\n[optimizer]",
        "misfit.correlation: got 1.5",
    ),
    "correlated": (
        WELLS,
        "[optimizer]",
        "[[observation]]\ntimes = [1.0]\n[misfit]\nkind = 'correlated'\n[optimizer]",
        "several observations",
    ),
    "refine": (
        WELLS,
        "[optimizer]",
        "[simulation]\nrefine = 0\n[optimizer]",
        "simulation.refine: got 0",
    ),
    "regularization": (
        WELLS,
        'kind = "bilaplacian"',
        'unknown = "E"\nkind = "bilaplacian"',
        r"regularization\[0\].unknown: got 'E'; allowed: an unknown field without regions: V",
    ),
    "known twice": (
        WELLS,
        "known = { D = 0.5 }",
        "known = { D = 0.5, V = 1.0 }",
        "unknown.V: got known too",
    ),
    "unused": (
        SCOTT,
        'name = "k"',
        'name = "q"',
        "unknown.q: got a name that no term, .* value reads; allowed: .*Du, Dv, F, k",
    ),
    "derived": (
        SCOTT,
        "[equation]",
        '[equation]\nderived = { x = "2*DU" }',
        r"equation.derived.x: got 'DU' at character 3 of '2\*DU'; allowed: the scalars .*Du, Dv",
    ),
    "boundary": (
        WELLS,
        "[[observation]]",
        'boundary = { re = { "x-" = "sin(q)" } }\n[[observation]]',
        r"boundary.re.x-: got 'q' at character 5 of 'sin\(q\)'",
    ),
    "points": (
        SCOTT,
        'quantity = "v"',
        'quantity = "v"\npoints = [[0.1, 0.2], [0.1]]',
        r"observation\[0\].points",
    ),
    "start": (
        SCOTT,
        "initial = 1.8e-5",
        "initial = { expression = 'x' }",
        "unknown.Du.initial: got .*; allowed: a number",
    ),
    "history": (
        SCOTT,
        'kind = "scalar"\ninitial = 0.061',
        'kind = "history"\nlength = 3\ninitial = [0.1, 0.2]',
        "unknown.k.initial: got .*; allowed: a number, or 3 numbers",
    ),
    "history's times": (
        WELLS,
        "terms = [",
        'terms = [{ source = 1.0, history = "V", times = [0.0, 1.0, 2.0] }, ',
        r"equation.terms\[0\].history 'V'",
    ),
    "known": (WELLS, "D = 0.5", "D = nan", "known.D: got nan"),
    "recipe": (WELLS, 'recipe = "direct"', 'recipe = "foo"', "state_recipe: got foo"),
    "boundary of a complex state": (
        WELLS,
        "[[observation]]",
        'boundary = { "x-" = 1.0 }\n[[observation]]',
        "boundary: got {'x-': 1.0}",
    ),
    "memory": (
        SCOTT,
        "times = { end",
        'memory = "1KB"\ntimes = { end',
        "memory: got 1000 bytes; allowed: at least .* for one checkpoint",
    ),
}


@pytest.mark.parametrize("what", list(WRONG))
def test_a_wrong_case_is_one_clear_error_before_any_work(what, tmp_path):
    *change, message = WRONG[what]
    with pytest.raises(InputError, match=message):
        case = changed(tmp_path, *change)
        grid = case.grid(comm)
        on = case.on(grid)
        on.forward(range(case.experiment_count), case.times(), case.storage(grid))
        on.start()


def test_negative_diffusivities_are_refused(tmp_path):
    change = ("initial = 1.8e-5", "transform = 'identity'\ninitial = -1.8e-5")
    case = changed(tmp_path, SCOTT, *change)
    on = case.on(case.grid(comm))
    with pytest.raises(
        InputError, match="unknown.Du.initial: got -1.8e-05; allowed: positive"
    ):
        on.start()
    m = on.space.from_values({"Du": -1.8e-5, "Dv": 1e-5, "F": 0.04, "k": 0.06})
    message = "diffusivity Du is not positive in 224 cells, -1.8e-05 at the smallest"
    with pytest.raises(NpdeError, match=message):
        on.forward([0], case.times()).linearize(m)


def test_states_that_are_not_finite_are_refused(tmp_path):
    case = changed(tmp_path, SCOTT, 'u = "1 - 0.5*exp', 'u = "log(x - 9) - 0.5*exp')
    on = case.on(case.grid(comm))
    with pytest.raises(
        NpdeError, match="initial: got a state .* .u is not finite in 224"
    ):
        on.forward([0], case.times()).linearize(on.start())
