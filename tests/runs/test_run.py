"""What a run says before it starts."""

import pytest

from npde_opt.runs.run import few_cells


@pytest.mark.parametrize(
    ("cells", "ranks", "said"),
    [
        (64, 1, ""),
        (10_000, 2, ""),
        (9_999, 2, "warning: 4,999 cells a rank; 1 of 2 ranks is likely to be faster"),
        (
            12_000,
            4,
            "warning: 3,000 cells a rank; 2 of 4 ranks are likely to be faster",
        ),
    ],
)
def test_few_cells_a_rank_are_told(cells, ranks, said):
    found = few_cells(cells, ranks)
    assert found.startswith(said) and bool(found) == bool(said)
