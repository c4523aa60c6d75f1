"""Numbers of a report say what they mean."""

from mpi4py import MPI

from npde_opt.cases import load_case
from npde_opt.runs.meanings import OF_NO_MINIMUM, meanings

CASE = """
[grid]
shape = [4]

[boundaries]
"x-" = "dirichlet"

[equation]
terms = [{ diffusion = "D" }, { reaction = "c" }, { source = 1.0 }]

[[unknown]]
name = "D"
initial = 1.0
truth = 2.0

[[unknown]]
name = "c"
kind = "scalar"
initial = 1.0
truth = 2.0

[[observation]]
"""


def test_errors_intervals_and_chi_squared_are_defined(tmp_path):
    path = tmp_path / "case.toml"
    path.write_text(CASE)
    case = load_case(path, MPI.COMM_SELF)
    names = [
        "chi_squared",
        "relative_error_D",
        "relative_error_c",
        "c_interval",
        "data",
    ]
    found = meanings(case, dict.fromkeys(names, 1.0))
    assert list(found) == names[:-1]
    assert "over that of start - true, of logarithms" in found["relative_error_D"]
    assert found["relative_error_c"].endswith("over that of true")
    assert "95 of 100" in found["c_interval"]
    assert "/ sigma" in found["chi_squared"]
    stopped = meanings(case, {"c_interval": [0.5, 1.5]}, "max_iterations")
    assert stopped == {"c_interval": OF_NO_MINIMUM}
    # One that the data do not determine holds nothing.
    assert meanings(case, {"c_interval": None}) == {}
