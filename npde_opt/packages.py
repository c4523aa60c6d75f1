"""Modules of others that many of ours name and few runs use: their files are read at the first
use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npde_opt.lazily import loaded_lazily

if TYPE_CHECKING:
    import difflib
    import gzip
    import statistics
    import tempfile

    import scipy
else:
    difflib = loaded_lazily("difflib")
    gzip = loaded_lazily("gzip")
    statistics = loaded_lazily("statistics")
    tempfile = loaded_lazily("tempfile")
    scipy = loaded_lazily("scipy")  # loads its parts when they are used, too

__all__ = ["difflib", "gzip", "scipy", "statistics", "tempfile"]
