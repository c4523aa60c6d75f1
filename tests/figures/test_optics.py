"""Figures of masks and of light are drawn; none of nothing."""

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.figures.optics import plot_fields, plot_masks

pytest.importorskip("matplotlib")


def test_they_are_drawn(tmp_path):
    phases = [np.full((6, 5), n) for n in (0.0, 4.0)]
    assert plot_masks(tmp_path / "masks.png", phases).stat().st_size > 5_000
    regions = np.zeros((6, 5))
    regions[1:3, 1], regions[1:3, 3] = 1.0, -1.0
    found = plot_fields(tmp_path / "fields.png", [[p + 1 for p in phases]], regions)
    assert found.stat().st_size > 5_000


def test_of_nothing_there_is_none(tmp_path):
    with pytest.raises(InputError, match="masks"):
        plot_masks(tmp_path / "masks.png", [])
    with pytest.raises(InputError, match="fields"):
        plot_fields(tmp_path / "fields.png", [], np.zeros((2, 2)))
