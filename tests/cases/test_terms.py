"""Terms of a case on a grid."""

from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.cases import load_case
from npde_opt.errors import InputError

GUIDE = Path(__file__).parents[2] / "meshes" / "graded_index.toml"


def test_two_absorbing_terms_are_the_sum(tmp_path):
    text = GUIDE.read_text()
    both = '{ absorbing = { "x-" = 12.0, "x+" = 12.0 }, speed = 0.06 }'
    assert both in text
    each = [f'{{ absorbing = {{ "{side}" = 12.0 }}, speed = 0.06 }}' for side in ("x-", "x+")]
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
