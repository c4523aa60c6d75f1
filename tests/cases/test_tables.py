"""Values of text tables by column and rows."""

import numpy as np
import pytest

from npde_opt.cases.sources import Sources
from npde_opt.cases.tables import read_values
from npde_opt.errors import InputError


def test_columns_and_ranges_of_rows(tmp_path):
    (tmp_path / "a.csv").write_text("t,v\n0,1.5\n1,2.5\n2,\n")
    sources = Sources(tmp_path, None, (None, 0))
    middle = {"file": "a.csv", "column": "v", "where": {"t": [0.5, 1.5]}}
    np.testing.assert_array_equal(read_values("d", middle, sources), [2.5])
    assert np.isnan(read_values("d", {"file": "a.csv", "column": 1}, sources)[2])
    with pytest.raises(InputError, match="column: got 'w'; allowed: t, v"):
        read_values("d", {"file": "a.csv", "column": "w"}, sources)
