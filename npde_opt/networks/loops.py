"""Loops over the values of a box for which numpy needs many passes, compiled by numba.

Boxes of activations are matrices [s, k, c, n] (see strips.matrices).
"""

from __future__ import annotations

import numpy as np

from npde_opt.compiling import compiled


@compiled
def interpolate(
    v: np.ndarray,
    place: np.ndarray,
    values: np.ndarray,
    rises: np.ndarray,
    out: np.ndarray,
) -> None:
    """out = values[c, b] + rises[c, b] (x - b), x = place[0] + place[1] v, b the interval."""
    last = values.dtype.type(values.shape[1] - 1)
    for s in range(v.shape[0]):
        for k in range(v.shape[1]):
            for c in range(v.shape[2]):
                for n in range(v.shape[3]):
                    x = place[0] + place[1] * v[s, k, c, n]
                    b = int(min(max(x, values.dtype.type(0)), last))
                    out[s, k, c, n] = values[c, b] + rises[c, b] * (x - values.dtype.type(b))


@compiled
def pull(
    v: np.ndarray,
    place: np.ndarray,
    rises: np.ndarray,
    eta: np.ndarray,
    below: np.ndarray,
    above: np.ndarray,
) -> None:
    """Adds what eta gives to the knots below and above each value; eta becomes its product with
    the slope there."""
    last = rises.dtype.type(rises.shape[1] - 1)
    for s in range(v.shape[0]):
        for k in range(v.shape[1]):
            for c in range(v.shape[2]):
                for n in range(v.shape[3]):
                    x = place[0] + place[1] * v[s, k, c, n]
                    b = int(min(max(x, rises.dtype.type(0)), last))
                    y = eta[s, k, c, n]
                    part = y * (x - rises.dtype.type(b))
                    below[c, b] += y - part
                    above[c, b] += part
                    eta[s, k, c, n] = y * place[1] * rises[c, b]


@compiled
def laplacian(p: np.ndarray, steps: np.ndarray, out: np.ndarray) -> None:
    """out = lap p of boxes [c, s, k, j, i] whose ghosts p has, one cell on either side of the axes
    whose step is 1."""
    a, b = steps[0], steps[1]
    six = p.dtype.type(6)
    for c in range(out.shape[0]):
        for s in range(out.shape[1]):
            for z in range(out.shape[2]):
                for y in range(out.shape[3]):
                    here = p[c, s, z + a, y + b]
                    below, above = p[c, s, z, y + b], p[c, s, z + 2 * a, y + b]
                    before, behind = p[c, s, z + a, y], p[c, s, z + a, y + 2 * b]
                    line = out[c, s, z, y]
                    for x in range(len(line)):
                        beside = here[x] + here[x + 2] + before[x + 1] + behind[x + 1]
                        all_round = beside + below[x + 1] + above[x + 1]
                        line[x] = all_round - six * here[x + 1]
