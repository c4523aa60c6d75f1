"""[optimizer] as settings, and [validation]: experiments that are not fitted."""

import numpy as np
import pytest
from fits import case_of, identified, reported

from npde_opt.cases.optimizing import SETTINGS
from npde_opt.errors import InputError

CASE = """
[grid]
shape = [12]
[boundaries]
"x+" = "dirichlet"
[equation]
terms = [{ diffusion = "D" }, { source = "q" }]
known = { q = 1.0 }
[[unknown]]
name = "D"
kind = "scalar"
initial = 2.0
truth = 1.0
[[experiment]]
[[experiment]]
boundary = { "x+" = 0.5 }
[[experiment]]
boundary = { "x+" = 1.0 }
[[observation]]
points = [[0.2], [0.6]]
noise = 0.01
[optimizer]
method = "adamw"
rate = 0.1
schedule = "step"
decay = 0.5
period = 20
betas = [0.8, 0.99]
epsilon = 1e-6
weight_decay = 0.0
batch = 1
clip = 1e6
patience = 15
max_iterations = 40
[validation]
experiments = [1]
"""


@pytest.mark.parallel([1, 2])
def test_adam_by_a_case_with_an_experiment_set_aside(tmp_path):
    case = case_of(tmp_path, CASE)
    found = identified(case, "adamw")
    assert found.result.status in ("stopped_early", "max_iterations"), (
        found.result.reason
    )
    assert found.values("D")[0] == pytest.approx(1.0, rel=0.03)
    rows = found.result.history
    assert rows[1]["evaluations"] - rows[0]["evaluations"] == 2
    assert [row["step"] for row in rows[:22:20]] == [0.0, 0.1]
    losses = [row["validation"] for row in rows]
    assert found.result.best == int(np.argmin(losses))
    metrics = reported(case, found)
    assert metrics["data"] == 4
    assert metrics["validation"] == pytest.approx(min(losses), rel=1e-9)
    assert metrics["validation_chi_squared"] == pytest.approx(2 * min(losses), rel=1e-9)
    found.objective.destroy()


def test_every_key_reaches_the_settings(tmp_path):
    settings = case_of(tmp_path, CASE).settings()
    given = {
        "method": "adamw",
        "rate": 0.1,
        "schedule": "step",
        "decay": 0.5,
        "period": 20,
        "betas": (0.8, 0.99),
        "epsilon": 1e-6,
        "weight_decay": 0.0,
        "batch": 1,
        "clip": 1e6,
        "patience": 15,
        "max_iterations": 40,
    }
    assert {key: getattr(settings, key) for key in given} == given
    assert set(given) <= set(SETTINGS)
    assert settings.columns == ("validation", "validation_chi_squared")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            ("[1]\n", "[3]\n"),
            "validation.experiments: got 3; allowed: numbers of experiments",
        ),
        (("[1]\n", "[1, 1]\n"), "validation.experiments: got 1; allowed: .* each once"),
        (("[1]\n", "[0, 1, 2]\n"), "validation.experiments: got all of them"),
        (
            ("[validation]\nexperiments = [1]\n", ""),
            "patience: got 15 without data set aside",
        ),
        (('"adamw"', '"adam"'), "weight_decay: got 0.0 with method 'adam'"),
        (('"step"', '"linear"'), "optimizer.schedule"),
        (('"adamw"', '"adamm"'), "optimizer.method: got 'adamm'; allowed: newton, "),
        (("batch = 1", "batch = 0"), "optimizer.batch"),
        (("[0.8, 0.99]", "[0.8, 1.0]"), "betas"),
    ],
)
def test_what_is_wrong_is_told_by_its_key(tmp_path, change, text):
    with pytest.raises(InputError, match=text):
        case_of(tmp_path, CASE.replace(*change))


def test_a_method_of_the_command_line_is_told_by_its_option(tmp_path):
    with pytest.raises(InputError, match="--optimizer: got 'adamm'; allowed: newton"):
        case_of(tmp_path, CASE).settings("adamm")
