"""Figures of operators are drawn of symmetric, unsymmetric and wide matrices."""

import numpy as np
import pytest
import scipy.sparse

from npde_opt.errors import InputError
from npde_opt.figures.operators import plot_operator

pytest.importorskip("matplotlib")
LAPLACIAN = scipy.sparse.diags([-1.0, 2.0, -1.0], [-1, 0, 1], (30, 30))
ROTATION = scipy.sparse.csr_matrix(np.kron(np.eye(5), [[0.6, -0.8], [0.8, 0.6]]))


@pytest.mark.parametrize("matrix", [LAPLACIAN, ROTATION, LAPLACIAN.tocsr()[:9]])
def test_they_are_drawn(tmp_path, matrix):
    found = plot_operator(tmp_path / "operator.png", matrix, "an operator", circle=True)
    assert found.stat().st_size > 10_000


def test_large_ones_are_refused(tmp_path):
    with pytest.raises(InputError, match="at most"):
        plot_operator(tmp_path / "x.png", scipy.sparse.eye(5000))
