"""What is said of the parameters at the end of a run."""

import pytest
from fits import DIFFUSION, case_of, identified, reported

from npde_opt.runs.progress import advice

REGULARIZED = """
[[regularization]]
unknown = "D"
kind = "gradient"
weight = {weight}
"""


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize(("weight", "said"), [(None, True), (0.0, True), (1.0, False)])
def test_more_values_than_data_are_not_determined_without_a_regularization(
    tmp_path, weight, said
):
    text = DIFFUSION.format(D=4.0, w=1.0, D_more="", w_more="", truth=4.0)
    text = text.replace('kind = "scalar"\n', "", 1).replace("count = 20", "count = 2")
    text += "" if weight is None else REGULARIZED.format(weight=weight)
    case = case_of(tmp_path, text)
    metrics = reported(case, identified(case, max_iterations=2))
    found = [
        t for t in metrics.get("undetermined", []) if "without a regularization" in t
    ]
    assert found == (["D: 16 values without a regularization, 4 data"] if said else [])


@pytest.mark.parametrize(
    ("chi", "count", "word"),
    [
        (1e-7, 1, "below"),
        (1e-7, 2, "below"),
        (0.3, 2, "at the noise"),
        (1.0, 1000, "at the noise"),
        (0.8, 1000, "below"),
        (1.2, 1000, "ABOVE"),
        (1.05, 10**6, "at the noise"),
        (3.0, 4, "at the noise"),
        (30.0, 1, "ABOVE"),
    ],
)
def test_the_fit_is_held_against_chance(chi, count, word):
    assert (
        advice({"chi_squared": chi, "data": count})[-1]
        .split(maxsplit=1)[1]
        .startswith(word)
    )
