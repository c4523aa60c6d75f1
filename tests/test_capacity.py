"""What a machine cannot hold is refused with numbers."""

import pytest

from npde_opt import capacity
from npde_opt.errors import InputError


def test_what_fits_is_said_with_the_numbers(monkeypatch):
    monkeypatch.setattr(capacity, "memory_available", lambda: 1e9)
    capacity.fits("n", 1e6, 1000.0)
    message = "n: got 2,000,000 cells, at least 2 GB; allowed: at most 1,000,000 cells"
    with pytest.raises(InputError, match=message):
        capacity.fits("n", 2_000_000, 1000.0, "cells")
