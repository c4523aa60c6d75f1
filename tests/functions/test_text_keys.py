"""An error in a text of a case says under which key the text stands, where in it, and what is
allowed there."""

import pytest
from mpi4py import MPI

from npde_opt.cases import load_case
from npde_opt.errors import InputError
from npde_opt.terms import Reaction

CASE = """
[grid]
shape = [16]
[equation]
terms = [
    { diffusion = "D" },
    { kinetics = { u = "r*u" } },
    { reaction = "r*2" },
    { source = "x*r", history = [1.0, 2.0], times = [0.0, 1.0] },
    { nonlinear-diffusion = "D*u" },
]
known = { D = 0.01 }
gamma = "1"
derived = { w = "2*r" }
[time]
times = { end = 1.0, steps = 10 }
[[unknown]]
name = "r"
kind = "scalar"
transform = "identity"
initial = 0.2
truth = 0.8
[[experiment]]
initial = { u = "0.1*x" }
sources = [{ shape = "x**2" }]
[[observation]]
times = [1.0]
quantity = "u**2"
"""

TEXTS = {
    "equation.terms[1].kinetics.u": ("r*u", "the names u, D, r, and"),
    "equation.terms[2].reaction": ("r*2", "the names D, r, and"),
    "equation.terms[3].source": ("x*r", "the names x, D, r, and"),
    "equation.terms[4].nonlinear-diffusion": ("D*u", "the names u, g, D, r, and"),
    "equation.gamma": ("1", "the names i, and"),
    "equation.derived.w": ("2*r", "the scalars D, r, and"),
    "experiment[0].initial.u": ("0.1*x", "the names x, D, r, and"),
    "experiment[0].sources[0].shape": ("x**2", "the names x, D, r, and"),
    "observation[0].quantity": ("u**2", "the species u, and"),
    "equation.known.D": ("0.01", "the names x, and"),
}
NAMES = {
    "equation.terms[0].diffusion": ('"D"', "'q'"),
    "equation.terms[2].reaction": ('"r*2"', "'q'"),
    "equation.terms[3].history": ("[1.0, 2.0]", "'q'"),
}


def forward(tmp_path, text):
    """All that reads a text before the first solve."""
    path = tmp_path / "case.toml"
    path.write_text(text)
    case = load_case(path)
    grid = case.grid(MPI.COMM_SELF)
    case.on(grid).forward(range(case.experiment_count), case.times()).destroy()


def changed(key, given, new):
    if key == "equation.known.D":
        return CASE.replace("D = 0.01", f'D = {{ expression = "{new}" }}')
    return CASE.replace(f'"{given}"', f'"{new}"', 1)


@pytest.mark.parametrize("key", TEXTS)
@pytest.mark.parametrize(
    "new, place", [("2 + zz", 5), ("not zz", 5), ("zz*(zz + 1)", 1)]
)
def test_an_unknown_name_is_said_with_key_place_and_the_names_of_that_text(
    tmp_path, key, new, place
):
    given, allowed = TEXTS[key]
    with pytest.raises(InputError) as error:
        forward(tmp_path, changed(key, given, new))
    assert str(error.value).startswith(
        f"{key}: got 'zz' at character {place} of '{new}'; allowed: {allowed} numbers, +"
    )


@pytest.mark.parametrize("key", TEXTS)
@pytest.mark.parametrize(
    "new, said",
    [
        ("1 + f(2)", "'f(2)' at character 5 of '1 + f(2)'; allowed: numbers, names, +"),
        (
            "1 + (2",
            "no expression at character 5 of '1 + (2'; allowed: an expression "
            "('(' was never closed) of numbers, names, +",
        ),
        ("1 + `2`", "'`' at character 5 of '1 + `2`'; allowed: numbers, names, +"),
        (
            "1 + 1e200",
            "1e+200 from '1e200' at character 5 of '1 + 1e200'; allowed: numbers up to",
        ),
        (
            "é + exp",
            "'exp' at character 5 of 'é + exp'; allowed: a name that is no function",
        ),
    ],
)
def test_what_is_not_of_the_language_is_said_with_key_and_place(
    tmp_path, key, new, said
):
    with pytest.raises(InputError) as error:
        forward(tmp_path, changed(key, TEXTS[key][0], new))
    assert str(error.value).startswith(f"{key}: got {said}")


@pytest.mark.parametrize("key", NAMES)
def test_a_coefficient_that_nothing_gives_is_said_with_its_key(tmp_path, key):
    given, name = NAMES[key]
    with pytest.raises(InputError) as error:
        forward(tmp_path, CASE.replace(given, '"q"', 1))
    allowed = "a coefficient of equation.known or an [[unknown]]: D, r"
    assert str(error.value) == f"{key}: got {name}; allowed: {allowed}"


def test_words_with_spaces_are_a_text_and_no_name():
    with pytest.raises(
        InputError,
        match=r"terms\[2\].reaction: got no expression at character 1 of 'import os'",
    ):
        Reaction(None, "import os", field="terms[2].reaction")
    assert Reaction(None, "absorbing rate 0", named=True).coefficients == (
        "absorbing rate 0",
    )
