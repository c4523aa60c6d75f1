"""Terms of a case on a grid."""

from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.cases import load_case
from npde_opt.errors import InputError
from npde_opt.terms import TimedAdvection

GUIDE = Path(__file__).parents[2] / "meshes" / "graded_index.toml"


def test_two_absorbing_terms_are_the_sum(tmp_path):
    text = GUIDE.read_text()
    both = '{ absorbing = { "x-" = 12.0, "x+" = 12.0 }, speed = 0.06 }'
    assert both in text
    each = [
        f'{{ absorbing = {{ "{side}" = 12.0 }}, speed = 0.06 }}'
        for side in ("x-", "x+")
    ]
    (tmp_path / "two.toml").write_text(text.replace(both, ", ".join(each)))
    rates = []
    for path in (GUIDE, tmp_path / "two.toml"):
        case = load_case(path, MPI.COMM_WORLD, cells=(64,))
        known = case.on(case.grid(MPI.COMM_WORLD)).terms.known
        rates.append(sum(v for k, v in known.items() if k.startswith("absorbing")))
    np.testing.assert_array_equal(*rates)
    assert rates[0][0] > 0 and rates[0][-1] > 0


STEADY = """
[grid]
shape = [12]
[boundaries]
"x-" = "dirichlet"
"x+" = "dirichlet"
[equation]
terms = [{terms}]
known = {{ {known} }}
[[experiment]]
boundary = {{ "x+" = 2.0 }}
"""


def solved(folder, terms, known="D = 0.5, w = 0.2"):
    """The state [i] of a steady case with these terms on a line."""
    path = folder / "case.toml"
    path.write_text(STEADY.format(terms=terms, known=known))
    case = load_case(path, MPI.COMM_SELF)
    on = case.on(case.grid(MPI.COMM_SELF))
    forward = on.forward([0])
    lin = forward.linearize(on.start())
    return lin.final[0][0]


def test_gradient_diffusion_of_a_case(tmp_path):
    """On a line with fixed ends every p-Laplacian has a straight solution."""
    term = '{ gradient-diffusion = "D*(0.01 + q)**((p - 2)/2)" }'
    found = solved(tmp_path, term, "D = 0.5, p = 4.0")
    np.testing.assert_allclose(found, 2 * (np.arange(12) + 0.5) / 12, rtol=1e-8)


def test_a_convolution_of_a_case_is_a_reaction_where_it_has_one_place(tmp_path):
    reaction = solved(tmp_path, '{ diffusion = "D" }, { reaction = "w" }')
    one = '{ convolution = [{ offset = [0], weight = "w" }] }'
    np.testing.assert_allclose(
        solved(tmp_path, f'{{ diffusion = "D" }}, {one}'), reaction, rtol=1e-7
    )


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            "{ offset = [0, 1], weight = 1.0 }",
            r"convolution\[0\].offset: got \[0, 1\]; allowed: 1 int",
        ),
        (
            "{ offset = [1], weight = 1.0 }, { offset = [1], weight = 2.0 }",
            r"convolution\[1\].offset: got \[1\] again",
        ),
        ('{ offset = [1], weight = "k" }', r"convolution\[0\].weight: got 'k'"),
    ],
)
def test_convolutions_that_cannot_be(tmp_path, weights, message):
    with pytest.raises(InputError, match=message):
        terms = f'{{ diffusion = "D" }}, {{ convolution = [{weights}] }}'
        solved(tmp_path, terms, "D = 0.5")


def test_velocities_of_a_case(tmp_path):
    """D u'' = v u' with u from 0 to 2 on a line: numbers, texts and coefficients are one."""
    field = 'v = { expression = "1 + 1" }'
    given = [("2.0", "D = 0.5"), ('"5*w*w*(x + 1 - x)/w"', "D = 0.5, w = 0.4")]
    given += [('"v"', f"D = 0.5, {field}"), ('"v"', "D = 0.5, v = 2.0")]
    each = []
    for v, known in given:
        terms = f'{{ diffusion = "D" }}, {{ advection = [{v}], scheme = "central" }}'
        each.append(solved(tmp_path, terms, known))
    x = (np.arange(12) + 0.5) / 12
    exact = 2 * np.expm1(4 * x) / np.expm1(4)
    np.testing.assert_allclose(each[0], exact, atol=0.04)
    for found in each[1:]:
        np.testing.assert_allclose(found, each[0], rtol=1e-7)


@pytest.mark.parametrize(
    ("velocity", "message"),
    [
        (
            "[1.0, 2.0]",
            r"terms\[1\].advection: got \[1.0, 2.0\]; allowed: 1 numbers or texts",
        ),
        (
            '["k"]',
            r"terms\[1\].advection\[0\]: got 'k'; allowed: a coefficient of equation.known",
        ),
        ('["2*k"]', r"terms\[1\].advection\[0\]: got 'k' at character 3"),
        ('["t"]', r"terms\[1\].advection\[0\]: got 't'"),
    ],
)
def test_velocities_that_cannot_be(tmp_path, velocity, message):
    with pytest.raises(InputError, match=message):
        solved(
            tmp_path, f'{{ diffusion = "D" }}, {{ advection = {velocity} }}', "D = 0.5"
        )


def test_velocities_in_time_of_a_case(tmp_path):
    """Text that reads t is another term, upwind only; known and unknown coefficients may be in
    it."""
    time = '[time]\ntimes = { end = 0.1, steps = 4 }\n[[experiment]]\ninitial = { u = "x" }'

    def term(more):
        terms = f'{{ diffusion = "D" }}, {{ advection = ["w*cos(t)"]{more} }}'
        text = STEADY.format(terms=terms, known="D = 0.1, w = 0.5")
        (tmp_path / "case.toml").write_text(text.replace("[[experiment]]", time, 1))
        case = load_case(tmp_path / "case.toml", MPI.COMM_SELF)
        return case.on(case.grid(MPI.COMM_SELF)).terms.terms[1]

    assert isinstance(term(", conservative = true"), TimedAdvection)
    with pytest.raises(
        InputError, match="got central with a velocity that reads t; allowed: upw"
    ):
        term(', scheme = "central"')


PLANE = """
[grid]
shape = [6, 5]
[boundaries]
"x-" = "dirichlet"
[equation]
terms = [{{ {term} }}]
known = {{ {known} }}
[[experiment]]
boundary = {{ "x-" = 2.0, "x+" = 1.0 }}
"""


def in_the_plane(folder, term, known):
    path = folder / "case.toml"
    path.write_text(PLANE.format(term=term, known=known))
    case = load_case(path, MPI.COMM_SELF)
    on = case.on(case.grid(MPI.COMM_SELF))
    return on.forward([0]).linearize(on.start()).final[0][0]


def test_diffusion_tensors_of_a_case(tmp_path):
    tensor = 'diffusion-tensor = [["D", "b*D"], ["b*D", 2]]'
    there = in_the_plane(tmp_path, tensor, "D = 1.5, b = 0.0")
    plain = in_the_plane(tmp_path, 'diffusion = ["D", "E"]', "D = 1.5, E = 2.0")
    np.testing.assert_allclose(there, plain, rtol=1e-7)
    turned = in_the_plane(tmp_path, tensor, 'D = { expression = "1 + x*y" }, b = 0.5')
    assert np.abs(turned - plain).max() > 0.01


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (
            "[[1, 0.5], [0.4, 1]]",
            r"terms\[0\].diffusion-tensor\[1\]\[0\]: got 0.4; allowed: 0.5",
        ),
        (
            "[[1, 0.5]]",
            r"terms\[0\].diffusion-tensor: got .*; allowed: 2 rows of 2 entries",
        ),
        (
            '[[1, "2*x"], ["2*x", 1]]',
            r"terms\[0\].diffusion-tensor: got not positive definite in 15",
        ),
        ('[[1, "k"], ["k", 1]]', r"terms\[0\].diffusion-tensor\[0\]\[1\]: got 'k'"),
    ],
)
def test_diffusion_tensors_that_cannot_be(tmp_path, tensor, message):
    with pytest.raises(InputError, match=message):
        in_the_plane(tmp_path, f"diffusion-tensor = {tensor}", "")
