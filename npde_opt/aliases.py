"""Types that many rooms speak of."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

Coefficient = float | np.ndarray
"""What terms read of a coefficient: a number, owned cell values [i, j, k], or a small array; also a
change of it, and a cotangent."""
Coefficients = Mapping[str, Coefficient]
"""By name."""
FilePath = str | os.PathLike[str]
