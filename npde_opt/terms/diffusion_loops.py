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
def _exchange_all(
    dim: int,
    shape: tuple[int, int, int],
    x: np.ndarray,
    y: np.ndarray,
    z: np.ndarray,
    u: np.ndarray,
    out: np.ndarray,
) -> None:
    """r of owned cells, from c of the faces normal to each axis; what is given for axes that are
    not there is not read."""
    nz, ny, nx = shape
    row = nx + 2
    layer = row * (ny + 2) if dim > 1 else row
    first = 1 + (row if dim > 1 else 0) + (layer if dim > 2 else 0)
    for k in range(nz):
        for j in range(ny):
            line = k * ny + j
            at = first + k * layer + j * row
            found = out[line * nx : line * nx + nx]
            found[:] = 0.0
            faces = x[line * (nx + 1) :]
            _add_exchange(faces, faces[1:], u[at - 1 :], 1, found, nx)
            if dim > 1:
                faces = y[(k * (ny + 1) + j) * nx :]
                _add_exchange(faces, faces[nx:], u[at - row :], row, found, nx)
            if dim > 2:
                faces = z[line * nx :]
                beyond = faces[nx * ny :]
                _add_exchange(faces, beyond, u[at - layer :], layer, found, nx)


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
    last = len(c) - 1
    _exchange_all(len(c), shape, c[0], c[min(1, last)], c[last], u, out)


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
def _add_all_products(
    dim: int,
    shape: tuple[int, int, int],
    v: np.ndarray,
    u: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    z: np.ndarray,
) -> None:
    """p of the owned cells' faces normal to each axis; what is given for axes that are not there
    is not written."""
    nz, ny, nx = shape
    row = nx + 2
    layer = row * (ny + 2) if dim > 1 else row
    first = 1 + (row if dim > 1 else 0) + (layer if dim > 2 else 0)
    for k in range(nz):
        for j in range(ny):
            line = k * ny + j
            at = first + k * layer + j * row
            _add_product(v[at - 1 :], u[at - 1 :], 1, x[line * (nx + 1) :], nx + 1)
            if dim > 1:
                found = y[(k * (ny + 1) + j) * nx :]
                _add_product(v[at - row :], u[at - row :], row, found, nx)
            if dim > 2:
                found = z[line * nx :]
                _add_product(v[at - layer :], u[at - layer :], layer, found, nx)
        if dim > 1:
            at = first + k * layer + (ny - 1) * row
            found = y[(k * (ny + 1) + ny) * nx :]
            _add_product(v[at:], u[at:], row, found, nx)
    if dim > 2:
        for j in range(ny):
            at = first + (nz - 1) * layer + j * row
            found = z[(nz * ny + j) * nx :]
            _add_product(v[at:], u[at:], layer, found, nx)


@compiled
def add_products(
    v: np.ndarray,
    u: np.ndarray,
    shape: tuple[int, int, int],
    p: tuple[np.ndarray, ...],
) -> None:
    """p of the owned cells' faces, by axis; `shape` as in `exchanges`."""
    last = len(p) - 1
    _add_all_products(len(p), shape, v, u, p[0], p[min(1, last)], p[last])


# What follows takes the faces of all axes in one array, axis by axis, and one number more or two a
# cell along each axis, axis by axis, too: machine_code.py calls functions of arrays.


@compiled
def _first_faces(shape: np.ndarray) -> tuple[int, int]:
    """Where the faces normal to y and to z begin."""
    nx, ny, nz = shape[1], shape[2], shape[3]
    along_x = (nx + 1) * ny * nz
    return along_x, along_x + nx * (ny + 1) * nz


@compiled
def change(
    shape: np.ndarray,
    spans: np.ndarray,
    weights: np.ndarray,
    moved: np.ndarray,
    out: np.ndarray,
) -> None:
    """dg_f = weight_f (span below times the change below + span above times that above).

    Args:
        shape: axes, and owned cells along x, y, z; 1 along axes that are not there.
        spans: by axis, those below all faces along it, and those above.
        moved: changes of cells, with ghosts.
    """
    dim, nx, ny, nz = shape[0], shape[1], shape[2], shape[3]
    row = nx + 2
    layer = row * (ny + 2) if dim > 1 else row
    first = 1 + (row if dim > 1 else 0) + (layer if dim > 2 else 0)
    along_y, along_z = _first_faces(shape)
    of_y = 2 * (nx + 1)
    of_z = of_y + 2 * (ny + 1)
    low, high = spans[: nx + 1], spans[nx + 1 : of_y]
    for k in range(nz):
        for j in range(ny):
            at, line = first + k * layer + j * row, k * ny + j
            found, w = out[line * (nx + 1) :], weights[line * (nx + 1) :]
            m = moved[at - 1 :]
            for i in range(nx + 1):
                found[i] = w[i] * (low[i] * m[i] + high[i] * m[i + 1])
    if dim > 1:
        for k in range(nz):
            for j in range(ny + 1):
                face = along_y + (k * (ny + 1) + j) * nx
                at = first + k * layer + (j - 1) * row
                below, above = spans[of_y + j], spans[of_y + ny + 1 + j]
                _add_change(
                    below, above, moved[at:], row, weights[face:], out[face:], nx
                )
    if dim > 2:
        for k in range(nz + 1):
            for j in range(ny):
                face = along_z + (k * ny + j) * nx
                at = first + (k - 1) * layer + j * row
                below, above = spans[of_z + k], spans[of_z + nz + 1 + k]
                _add_change(
                    below, above, moved[at:], layer, weights[face:], out[face:], nx
                )


@compiled
def _add_change(
    below: float,
    above: float,
    moved: np.ndarray,
    step: int,
    w: np.ndarray,
    out: np.ndarray,
    n: int,
) -> None:
    """Of a line of faces across it: `moved` from the line below on."""
    m, after = moved[:n], moved[step : step + n]
    for i in range(n):
        out[i] = w[i] * (below * m[i] + above * after[i])


@compiled
def exchange(shape: np.ndarray, c: np.ndarray, u: np.ndarray, out: np.ndarray) -> None:
    """As `exchanges`; `shape` as in `change`."""
    along_y, along_z = _first_faces(shape)
    cells = shape[3], shape[2], shape[1]
    _exchange_all(shape[0], cells, c, c[along_y:], c[along_z:], u, out)


@compiled
def add_product(shape: np.ndarray, v: np.ndarray, u: np.ndarray, p: np.ndarray) -> None:
    """As `add_products`; `shape` as in `change`."""
    along_y, along_z = _first_faces(shape)
    cells = shape[3], shape[2], shape[1]
    _add_all_products(shape[0], cells, v, u, p, p[along_y:], p[along_z:])


@compiled
def _add_weighted(
    below: float,
    above: float,
    w: np.ndarray,
    p: np.ndarray,
    step: int,
    out: np.ndarray,
    n: int,
) -> None:
    """Of a line of cells, `step` faces apart."""
    w_after, p_after = w[step : step + n], p[step : step + n]
    for i in range(n):
        out[i] += below * w[i] * p[i] + above * w_after[i] * p_after[i]


@compiled
def contracted(
    shape: np.ndarray,
    halves: np.ndarray,
    weights: np.ndarray,
    slopes: np.ndarray,
    p: np.ndarray,
    out: np.ndarray,
) -> None:
    """slope times the sum over a cell's faces of half length times weight times p.

    Args:
        shape: as in `change`.
        halves: by axis, the half lengths of all cells along it towards below, and towards above.
    """
    dim, nx, ny, nz = shape[0], shape[1], shape[2], shape[3]
    along_y, along_z = _first_faces(shape)
    below, above = halves[:nx], halves[nx : 2 * nx]
    of_y = 2 * nx
    of_z = of_y + 2 * ny
    for k in range(nz):
        for j in range(ny):
            line = k * ny + j
            o, face = out[line * nx : line * nx + nx], line * (nx + 1)
            w, q = weights[face:], p[face:]
            for i in range(nx):
                o[i] = below[i] * w[i] * q[i] + above[i] * w[i + 1] * q[i + 1]
            if dim > 1:
                b, a = halves[of_y + j], halves[of_y + ny + j]
                face = along_y + (k * (ny + 1) + j) * nx
                _add_weighted(b, a, weights[face:], p[face:], nx, o, nx)
            if dim > 2:
                b, a = halves[of_z + k], halves[of_z + nz + k]
                face = along_z + line * nx
                _add_weighted(b, a, weights[face:], p[face:], nx * ny, o, nx)
            s = slopes[line * nx : line * nx + nx]
            for i in range(nx):
                o[i] *= s[i]


@compiled
def bend(
    weights: np.ndarray,
    inverse: np.ndarray,
    dg: np.ndarray,
    p: np.ndarray,
    q: np.ndarray,
) -> None:
    """Of all faces q = p dg / S and p := weight p, from inverse = 1 / S."""
    for f in range(p.size):
        q[f] = p[f] * dg[f] * inverse[f]
        p[f] *= weights[f]


@compiled
def _add_bent(
    below: float,
    above: float,
    r: np.ndarray,
    p: np.ndarray,
    q: np.ndarray,
    step: int,
    out: np.ndarray,
    n: int,
) -> None:
    """Of a line of cells, `step` faces apart."""
    p_after, q_after = p[step : step + n], q[step : step + n]
    for i in range(n):
        out[i] += below * (r[i] * p[i] - q[i]) + above * (
            r[i] * p_after[i] - q_after[i]
        )


@compiled
def curved(
    shape: np.ndarray,
    halves: np.ndarray,
    slopes: np.ndarray,
    ratio: np.ndarray,
    p: np.ndarray,
    q: np.ndarray,
    out: np.ndarray,
) -> None:
    """-2 slope times the sum over a cell's faces of half length times (ratio p - q).

    Args:
        shape, halves: as in `contracted`.
        ratio: dk / k of cells. p, q: as `bend` leaves them.
    """
    dim, nx, ny, nz = shape[0], shape[1], shape[2], shape[3]
    along_y, along_z = _first_faces(shape)
    below, above = halves[:nx], halves[nx : 2 * nx]
    of_y = 2 * nx
    of_z = of_y + 2 * ny
    for k in range(nz):
        for j in range(ny):
            line = k * ny + j
            cells = slice(line * nx, line * nx + nx)
            o, r, face = out[cells], ratio[cells], line * (nx + 1)
            x, y = p[face:], q[face:]
            for i in range(nx):
                before = below[i] * (r[i] * x[i] - y[i])
                o[i] = before + above[i] * (r[i] * x[i + 1] - y[i + 1])
            if dim > 1:
                b, a = halves[of_y + j], halves[of_y + ny + j]
                face = along_y + (k * (ny + 1) + j) * nx
                _add_bent(b, a, r, p[face:], q[face:], nx, o, nx)
            if dim > 2:
                b, a = halves[of_z + k], halves[of_z + nz + k]
                face = along_z + line * nx
                _add_bent(b, a, r, p[face:], q[face:], nx * ny, o, nx)
            s = slopes[cells]
            for i in range(nx):
                o[i] *= -2.0 * s[i]
