"""What is raised in a callback of PETSc's ends all ranks as it does elsewhere."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import trials  # noqa: E402


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("SIGTERM", 75, "stopped by SIGTERM"),
        ("SIGINT", 130, "KeyboardInterrupt"),
        ("solver", 3, "solver 'inner_' failed: DIVERGED_MAX_IT"),
        ("input", 2, "k: got nan; allowed: numbers"),
    ],
)
def test_what_a_callback_raises(ranks, what, code, said):
    ended = trials.launch(ranks, "tests/inside_petsc.py", what, str(ranks - 1))
    assert ended.code == code
    assert f"error: {said}" in ended.text
    assert "Error: error code" not in ended.text and "went on" not in ended.text
