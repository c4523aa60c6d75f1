"""Fluxes between cells of a box in compiled loops, of all axes in one pass:

    r_i = sum over faces f of i of c_f (u_i - u_beside),
    p_f += (v_above - v_below) (u_above - u_below).

All arrays are flat, x fastest: cells u and v with one ghost on either side of every axis, faces
with one more than cells along their axis.
"""

from __future__ import annotations

import numpy as np

from npde_opt.compiling import compiled


@compiled
def _add_exchange(
    c: np.ndarray, above: np.ndarray, u: np.ndarray, step: int, out: np.ndarray, n: int
) -> None:
    """Of a line of cells: faces below and above them, and u from the line below on."""
    before, here, after = u[:n], u[step : step + n], u[2 * step : 2 * step + n]
    for i in range(n):
        out[i] += c[i] * (here[i] - before[i]) - above[i] * (after[i] - here[i])


@compiled
def exchanges(
    c: tuple[np.ndarray, ...],
    u: np.ndarray,
    shape: tuple[int, int, int],
    out: np.ndarray,
) -> None:
    """r of owned cells.

    Args:
        c: of faces, by axis.
        shape: owned cells along z, y, x; 1 along axes that are not there.
    """
    nz, ny, nx = shape
    dim = len(c)
    row = nx + 2
    layer = row * (ny + 2) if dim > 1 else row
    first = 1 + (row if dim > 1 else 0) + (layer if dim > 2 else 0)
    for k in range(nz):
        for j in range(ny):
            line = k * ny + j
            at = first + k * layer + j * row
            found = out[line * nx : line * nx + nx]
            found[:] = 0.0
            faces = c[0][line * (nx + 1) :]
            _add_exchange(faces, faces[1:], u[at - 1 :], 1, found, nx)
            if dim > 1:
                faces = c[1][(k * (ny + 1) + j) * nx :]
                _add_exchange(faces, faces[nx:], u[at - row :], row, found, nx)
            if dim > 2:
                faces = c[dim - 1][line * nx :]
                beyond = faces[nx * ny :]
                _add_exchange(faces, beyond, u[at - layer :], layer, found, nx)


@compiled
def _add_product(
    v: np.ndarray, u: np.ndarray, step: int, p: np.ndarray, n: int
) -> None:
    """Of a line of faces: v and u from the line below on."""
    low, high = v[:n], v[step : step + n]
    below, above = u[:n], u[step : step + n]
    for i in range(n):
        p[i] += (high[i] - low[i]) * (above[i] - below[i])


@compiled
def add_products(
    v: np.ndarray,
    u: np.ndarray,
    shape: tuple[int, int, int],
    p: tuple[np.ndarray, ...],
) -> None:
    """p of the owned cells' faces, by axis; `shape` as in `exchanges`."""
    nz, ny, nx = shape
    dim = len(p)
    row = nx + 2
    layer = row * (ny + 2) if dim > 1 else row
    first = 1 + (row if dim > 1 else 0) + (layer if dim > 2 else 0)
    for k in range(nz):
        for j in range(ny):
            line = k * ny + j
            at = first + k * layer + j * row
            _add_product(v[at - 1 :], u[at - 1 :], 1, p[0][line * (nx + 1) :], nx + 1)
            if dim > 1:
                found = p[1][(k * (ny + 1) + j) * nx :]
                _add_product(v[at - row :], u[at - row :], row, found, nx)
            if dim > 2:
                found = p[dim - 1][line * nx :]
                _add_product(v[at - layer :], u[at - layer :], layer, found, nx)
        if dim > 1:
            at = first + k * layer + (ny - 1) * row
            found = p[1][(k * (ny + 1) + ny) * nx :]
            _add_product(v[at:], u[at:], row, found, nx)
    if dim > 2:
        for j in range(ny):
            at = first + (nz - 1) * layer + j * row
            found = p[dim - 1][(nz * ny + j) * nx :]
            _add_product(v[at:], u[at:], layer, found, nx)
