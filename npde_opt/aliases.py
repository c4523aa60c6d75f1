"""Types that many rooms speak of."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

Numbers = float | np.ndarray
"""A number, or an array of them."""
Coefficient = Numbers
"""What terms read of a coefficient: a number, owned cell values [i, j, k], or a small array; also a
change of it, and a cotangent."""
Coefficients = Mapping[str, Coefficient]
"""By name."""
FilePath = str | os.PathLike[str]
Plain = Any
"""What JSON and TOML files hold: a number, a text, a list or a table, as it came."""
Record = dict[str, Plain]
"""A table of such values, which goes into a file."""
