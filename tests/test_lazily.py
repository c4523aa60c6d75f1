"""What is loaded late, and how."""

import gc
import sys

import pytest

from npde_opt.lazily import called_lazily, loading


def test_a_module_is_loaded_at_the_first_call(monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    convert = called_lazily("colorsys", "rgb_to_hls")
    assert "colorsys" not in sys.modules
    assert convert(0.0, 0.0, 0.0) == (0.0, 0.0, 0.0)
    assert "colorsys" in sys.modules


def test_garbage_is_looked_for_again_after_loading():
    try:
        with pytest.raises(ZeroDivisionError), loading():
            assert not gc.isenabled()
            raise ZeroDivisionError
        assert gc.isenabled()
    finally:
        gc.unfreeze()
