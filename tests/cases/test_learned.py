"""Cases whose unknowns are functions: keys, starts, truths, priors."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.cases.learned import function, numbers
from npde_opt.errors import InputError
from npde_opt.regularizers import Roughness
from tests.fits import case_of, identified

CASE = """
[grid]
shape = [12]
[boundaries]
"x+" = "dirichlet"
[equation]
terms = [{{ nonlinear-diffusion = "k(u)" }}, {{ kinetics = {{ u = "{rate}" }} }}]
[[unknown]]
name = "k"
kind = "{kind}"
of = ["u"]
{keys}
[[experiment]]
boundary = {{ "x+" = 0.1 }}
[[observation]]
points = [[0.1], [0.3], [0.5], [0.6], [0.7], [0.8], [0.9], [0.95]]
noise = 1e-5
[simulation]
refine = 1
"""
SPLINE = """
range = [0.0, 1.0]
knots = 4
sign = "positive"
initial = 0.5
truth = { expression = "0.3 + u**2" }
"""


def case(tmp_path, keys=SPLINE, kind="spline", rate="2 - u"):
    return case_of(tmp_path, CASE.format(keys=keys, kind=kind, rate=rate))


@pytest.mark.parallel([1, 2])
def test_a_fit_finds_the_true_function(tmp_path):
    """Data are those of the text itself, which no spline is."""
    found = identified(case(tmp_path), "gauss-newton")
    space = found.objective.space
    theta = space.unknown("k").value(space.values(found.result.m, "k"))
    u = np.linspace(0.3, 0.8, 20)
    f = function(case(tmp_path).table.unknown[0])
    np.testing.assert_allclose(f.evaluate(theta, u), 0.3 + u**2, rtol=0.05)
    found.objective.destroy()


@pytest.mark.parallel([1])
@pytest.mark.parametrize("kind, keys", [("spline", SPLINE), ("perceptron", SPLINE.replace(
    "knots = 4", "neurons = 4"))])  # fmt: skip
def test_starts(tmp_path, kind, keys):
    c = case(tmp_path, keys, kind)
    (u,) = c.table.unknown
    f, v = function(u), np.linspace(0, 1, 9)
    np.testing.assert_allclose(
        f.evaluate(numbers(u, u.initial, "initial"), v), 0.5, rtol=1e-6
    )
    near = f.evaluate(numbers(u, u.truth, "truth"), v)
    np.testing.assert_allclose(near, 0.3 + v**2, rtol=0.15)


RISING = SPLINE.replace(
    "initial = 0.5", 'monotone = "rising"\ninitial = {expression = "0.3 + u"}'
)


@pytest.mark.parallel([1])
@pytest.mark.parametrize(
    "keys, kind, said",
    [
        (
            SPLINE.replace("range = [0.0, 1.0]", ""),
            "spline",
            r"unknown.k.range: got nothing",
        ),
        (
            SPLINE.replace("[0.0, 1.0]", "[0.0]"),
            "spline",
            r"k.range: got \[0.0\]; allowed: \[lo",
        ),
        (
            SPLINE.replace("[0.0, 1.0]", "[[0, 1], [0, 1]]"),
            "spline",
            r"k.range: got .*\[lower",
        ),
        (
            SPLINE.replace("[0.0, 1.0]", "[1.0, 0.0]"),
            "spline",
            r"unknown.k.range: got \[1.0, 0.0",
        ),
        (SPLINE.replace("knots = 4", "knots = [4, 4]"), "spline", "unknown.k.knots"),
        (
            SPLINE.replace("0.5", "-0.5"),
            "spline",
            r"unknown.k.initial: got -0.5; allowed: pos",
        ),
        (
            SPLINE.replace("= 0.5", '= { expression = "w" }'),
            "spline",
            r"k.initial.expression: got",
        ),
        (
            SPLINE.replace("= 0.5", "= [1.0, 2.0]"),
            "spline",
            r"k.initial: got a list or field",
        ),
        (RISING.replace('"0.3 + u"', '"1 - u/2"'), "spline", "strictly rising"),
        (SPLINE + "bounds = [0.0, 1.0]", "spline", "bounds: got given beside sign"),
        (
            SPLINE + 'transform = "log"',
            "spline",
            "transform: got given with the kind 'spline'",
        ),
        (SPLINE + "neurons = 3", "spline", "neurons: got given with the kind 'spline'"),
        (SPLINE, "perceptron", "knots: got given with the kind 'perceptron'"),
        ('initial = 0.5\nof = ["u"]', "field", "of: got given with the kind 'field'"),
    ],
)
def test_keys_that_cannot_be(tmp_path, keys, kind, said):
    text = CASE.replace('of = ["u"]\n', "") if kind == "field" else CASE
    with pytest.raises(InputError, match=said):
        c = case_of(tmp_path, text.format(keys=keys, kind=kind, rate="2 - u"))
        c.on(c.grid(MPI.COMM_WORLD)).start()


@pytest.mark.parallel([1])
@pytest.mark.parametrize(
    "rate, said",
    [
        ("2 - u*t", r"kinetics: got a text that reads t"),
        ("2 - k", r"the function 'k' without arguments"),
        ("2 - k(u, u)", r"1 argument of k"),
        ("2 - q(u)", r"'q\(u\)' at character 5.*, k"),
    ],
)
def test_texts_that_cannot_be(tmp_path, rate, said):
    c = case(tmp_path, rate=rate)
    with pytest.raises(InputError, match=said):
        c.on(c.grid(MPI.COMM_WORLD)).equation  # noqa: B018


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize(
    "keys", ["smoothness = 2.0", "deviation = 0.5\nsmoothness = 2.0"]
)
def test_the_prior_of_a_function(tmp_path, keys):
    c = case(tmp_path, SPLINE + keys)
    on = c.on(c.grid(MPI.COMM_WORLD))
    m = on.start()
    prior = Roughness(
        on.grid.comm,
        function(c.table.unknown[0]).differences,
        on.space.values(m, "k"),
        0.5 if "deviation" in keys else None,
        2.0,
    )
    line, p = on.space.block_vec(m, "k"), on.space.block_vec(m, "k")
    assert prior.value(p) == pytest.approx(0.0, abs=1e-12)
    own = line.getArray().size
    p.setArray(p.getArray() + np.arange(own) ** 2)
    line.setArray(line.getArray() + np.arange(own))
    pulled = 0.0 if "deviation" not in keys else 0.5 * 4 * (0 + 1 + 16 + 81)
    assert prior.value(p) == pytest.approx(0.5 * 2 * (4 + 4) + pulled)
    straight = 0.0 if "deviation" not in keys else 0.5 * 4 * (0 + 1 + 4 + 9)
    assert prior.value(line) == pytest.approx(straight)
    # It is quadratic: central differences are exact.
    g, h, r, ahead, behind = (p.duplicate() for _ in range(5))
    prior.gradient(p, g)
    prior.hessian(p, line, h)
    p.copy(ahead)
    p.copy(behind)
    ahead.axpy(1.0, line)
    behind.axpy(-1.0, line)
    slope = (prior.value(ahead) - prior.value(behind)) / 2
    assert g.dot(line) == pytest.approx(slope, rel=1e-10)
    bent = prior.value(ahead) + prior.value(behind) - 2 * prior.value(p)
    assert h.dot(line) == pytest.approx(bent, rel=1e-10, abs=1e-10)
    prior.precondition(p, h, r)
    prior.hessian(p, r, g)
    assert g.dot(p) == pytest.approx(h.dot(p), rel=1e-9, abs=1e-10)
