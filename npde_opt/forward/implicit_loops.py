"""What many implicit steps in one call need beside the solves, compiled (see implicit_text.py)."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from npde_opt.compiling import compiled

types: Any = numba.types


def _called(typed: Any, address: Any, table: Any) -> Any:
    """A C function of a table, at an address."""

    def made(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        number = ir.IntType(64)
        kind = ir.FunctionType(ir.VoidType(), [number.as_pointer()]).as_pointer()
        function, place = given
        arguments = [builder.inttoptr(place, number.as_pointer())]
        builder.call(builder.inttoptr(function, kind), arguments)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), made


_call: Any = intrinsic(_called)


@compiled
def solve(table: np.ndarray, where: np.ndarray, b: np.ndarray, x: np.ndarray) -> None:
    """x of S x = b, by machine code that is there: to compile it again, with the loops that call
    it, would take seconds.

    Args:
        table, where: of dissection.factors.BoxFactors.call.
    """
    table[where[1]] = b.ctypes.data
    table[where[2]] = x.ctypes.data
    _call(where[0], table.ctypes.data)


@compiled
def squares(x: np.ndarray) -> float:
    """x^T x."""
    total = 0.0
    for i in range(x.size):
        total += x[i] * x[i]
    return total


@compiled
def _multiply(
    values: np.ndarray, axes: np.ndarray, x: np.ndarray, y: np.ndarray
) -> None:
    """y = S x.

    Args:
        values: of S: its diagonal, and by axis the couplings to the cells after.
        axes: (cells, whether it is periodic) of each, the last one fastest.
    """
    size = x.size
    for i in range(size):
        y[i] = values[i] * x[i]
    stride = size
    for d in range(axes.shape[0]):
        n, begin = axes[d, 0], size * (d + 1)
        stride //= n
        for block in range(0, size, n * stride):
            inner = (n - 1) * stride
            for i in range(inner):
                y[block + i] += values[begin + block + i] * x[block + i + stride]
            for i in range(inner):
                y[block + i + stride] += values[begin + block + i] * x[block + i]
            if axes[d, 1] != 0:
                for i in range(stride):
                    c, last = values[begin + block + inner + i], block + inner + i
                    y[last] += c * x[block + i]
                    y[block + i] += c * x[last]


@compiled
def product(
    values: np.ndarray,
    axes: np.ndarray,
    mass: np.ndarray,
    alpha: float,
    x: np.ndarray,
    y: np.ndarray,
) -> None:
    """y = A x, of S = M + alpha A."""
    _multiply(values, axes, x, y)
    for i in range(x.size):
        y[i] = (y[i] - mass[i] * x[i]) / alpha


@compiled
def left_over(
    values: np.ndarray, axes: np.ndarray, b: np.ndarray, x: np.ndarray, r: np.ndarray
) -> float:
    """|b - S x| / |b|, 0 where that is 0 / 0.

    Args:
        r: work.
    """
    _multiply(values, axes, x, r)
    for i in range(x.size):
        r[i] = b[i] - r[i]
    left = squares(r)
    return math.sqrt(left / squares(b)) if left != 0 else 0.0


@compiled
def add_products(
    x: np.ndarray, y: np.ndarray, axes: np.ndarray, sums: np.ndarray
) -> None:
    """sums += the products of the jumps of x and y at all faces, those normal to the slowest axis
    first; beyond the sides that are not periodic both are 0."""
    size = x.size
    stride, begin = size, 0
    for d in range(axes.shape[0]):
        n, wraps = axes[d, 0], axes[d, 1] != 0
        stride //= n
        for block in range(size // (n * stride)):
            cells, faces = block * n * stride, begin + block * (n + 1) * stride
            if stride == 1:
                for a in range(1, n):
                    here = cells + a
                    jump = (x[here] - x[here - 1]) * (y[here] - y[here - 1])
                    sums[faces + a] += jump
            else:
                for a in range(1, n):
                    here, face = cells + a * stride, faces + a * stride
                    for i in range(stride):
                        at = here + i
                        jump = (x[at] - x[at - stride]) * (y[at] - y[at - stride])
                        sums[face + i] += jump
            first, last = cells, cells + (n - 1) * stride
            for i in range(stride):
                p, q, r, s = x[first + i], y[first + i], x[last + i], y[last + i]
                lower, upper = p * q, r * s
                if wraps:
                    lower = upper = (p - r) * (q - s)
                sums[faces + i] += lower
                sums[faces + n * stride + i] += upper
        begin += size // n * (n + 1)
