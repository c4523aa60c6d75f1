"""Terms of a case on a grid."""

from pathlib import Path

import numpy as np
from mpi4py import MPI

from npde_opt.cases import load_case

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
