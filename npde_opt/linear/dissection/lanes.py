"""Loops over entries of eight lanes, as vectors of eight doubles: compilers that see single numbers
make vectors of other things of them.

    minus   x[rows[e]] -= L[e] f[j]                         e = begin ... end - 1
    less    x[j] := x[j] d[j] - sum_e L[e] x[rows[e]]

and the same of four dense columns c, `step` entries apart, whose rows are spread over lanes,

    minus_columns   x[xs + v] -= sum_c f[c] F[at + c step + v]      v = begin ... end - 1
    sums            s[c] = sum_v F[at + c step + v] . x[v]

Arrays [., lane] lie one entry after the other; rows are 32-bit numbers.
"""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba.core import cgutils as untyped
from numba.extending import intrinsic

types: Any = numba.types
cgutils: Any = untyped
LANES = 8
VECTOR = ir.VectorType(ir.DoubleType(), LANES)
FAST = ("contract",)


class _Arrays:
    """Of a call that is being made.

    Args:
        kinds, given: types and values of its arguments.
    """

    def __init__(self, context: Any, builder: Any, kinds: Any, given: Any):
        self.builder, self._pointers = builder, list[Any]()
        for kind, value in zip(kinds, given, strict=True):
            is_array = isinstance(kind, types.Array)
            made = (
                context.make_array(kind)(context, builder, value) if is_array else None
            )
            self._pointers.append(value if made is None else made.data)

    def __getitem__(self, k: int) -> Any:
        """A number, or where an array begins."""
        return self._pointers[k]

    def place(self, k: int, at: Any) -> Any:
        """Pointer to the entry of lanes `at` of the k-th array."""
        begin = self.builder.bitcast(self[k], VECTOR.as_pointer())
        return self.builder.gep(begin, [at])

    def load(self, k: int, at: Any) -> Any:
        return self.builder.load(self.place(k, at), align=8)

    def store(self, value: Any, k: int, at: Any) -> None:
        self.builder.store(value, self.place(k, at), align=8)

    def row(self, k: int, e: Any) -> Any:
        """rows[e]."""
        found = self.builder.load(self.builder.gep(self[k], [e]))
        return self.builder.zext(found, ir.IntType(64))


def _minus(
    typed: Any, x: Any, rows: Any, L: Any, begin: Any, end: Any, f: Any, j: Any
) -> Any:
    signature = types.void(x, rows, L, types.intp, types.intp, f, types.intp)

    def made(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        a = _Arrays(context, builder, signature.args, given)
        factor = builder.fneg(a.load(5, a[6]))
        with _over(builder, a[3], a[4]) as (e, _):
            i = a.row(1, e)
            product = builder.fmul(a.load(2, e), factor, flags=FAST)
            a.store(builder.fadd(a.load(0, i), product, flags=FAST), 0, i)
        return context.get_dummy_value()

    return signature, made


def _less(
    typed: Any, x: Any, rows: Any, L: Any, begin: Any, end: Any, d: Any, j: Any
) -> Any:
    signature = types.void(x, rows, L, types.intp, types.intp, d, types.intp)

    def made(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        a = _Arrays(context, builder, signature.args, given)
        found = cgutils.alloca_once(builder, VECTOR)
        first = builder.fmul(a.load(0, a[6]), a.load(5, a[6]))
        builder.store(first, found)
        one = ir.Constant(ir.IntType(64), 1)
        # The rows found last come last, so that the sum begins before they are there.
        last, stop = builder.sub(a[4], one), builder.sub(a[3], one)
        step = ir.Constant(ir.IntType(64), -1)
        with cgutils.for_range_slice(builder, last, stop, step, inc=False) as (e, _):
            product = builder.fmul(a.load(2, e), a.load(0, a.row(1, e)), flags=FAST)
            builder.store(builder.fsub(builder.load(found), product, flags=FAST), found)
        a.store(builder.load(found), 0, a[6])
        return context.get_dummy_value()

    return signature, made


def _minus_columns(
    typed: Any,
    x: Any,
    xs: Any,
    F: Any,
    at: Any,
    step: Any,
    begin: Any,
    end: Any,
    f: Any,
) -> Any:
    number = types.intp
    signature = types.void(x, number, F, number, number, number, number, f)

    def made(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        a = _Arrays(context, builder, signature.args, given)
        columns = _columns(builder, a[3], a[4])
        factors = [
            _spread(builder, builder.fneg(_entry(builder, a[7], c))) for c in range(4)
        ]
        with _over(builder, a[5], a[6]) as (v, _):
            place = builder.add(a[1], v)
            found = a.load(0, place)
            for column, factor in zip(columns, factors, strict=True):
                product = builder.fmul(
                    a.load(2, builder.add(column, v)), factor, flags=FAST
                )
                found = builder.fadd(found, product, flags=FAST)
            a.store(found, 0, place)
        return context.get_dummy_value()

    return signature, made


def _sums(
    typed: Any, x: Any, F: Any, at: Any, step: Any, begin: Any, end: Any, s: Any
) -> Any:
    number = types.intp
    signature = types.void(x, F, number, number, number, number, s)

    def made(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        a = _Arrays(context, builder, signature.args, given)
        columns = _columns(builder, a[2], a[3])
        found = [cgutils.alloca_once(builder, VECTOR) for _ in columns]
        for each in found:
            builder.store(ir.Constant(VECTOR, [0.0] * LANES), each)
        with _over(builder, a[4], a[5]) as (v, _):
            own = a.load(0, v)
            for column, each in zip(columns, found, strict=True):
                product = builder.fmul(
                    a.load(1, builder.add(column, v)), own, flags=FAST
                )
                builder.store(
                    builder.fadd(builder.load(each), product, flags=FAST), each
                )
        for c, each in enumerate(found):
            place = builder.gep(a[6], [ir.Constant(ir.IntType(64), c)])
            builder.store(_total(builder, builder.load(each)), place)
        return context.get_dummy_value()

    return signature, made


def _over(builder: Any, begin: Any, end: Any) -> Any:
    one = ir.Constant(ir.IntType(64), 1)
    return cgutils.for_range_slice(builder, begin, end, one, inc=True)


def _columns(builder: Any, at: Any, step: Any) -> list[Any]:
    """Where four columns begin."""
    found = [at]
    for _ in range(3):
        found.append(builder.add(found[-1], step))
    return found


def _entry(builder: Any, pointer: Any, k: int) -> Any:
    return builder.load(builder.gep(pointer, [ir.Constant(ir.IntType(64), k)]))


def _spread(builder: Any, number: Any) -> Any:
    """In all lanes."""
    none = ir.Constant(VECTOR, ir.Undefined)
    zero = ir.Constant(ir.IntType(32), 0)
    first = builder.insert_element(none, number, zero)
    everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, none, everywhere)


def _total(builder: Any, vector: Any) -> Any:
    """The sum over lanes, in halves."""
    lanes = [
        builder.extract_element(vector, ir.Constant(ir.IntType(32), k))
        for k in range(LANES)
    ]
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [
            builder.fadd(a, b) for a, b in zip(lanes[:half], lanes[half:], strict=True)
        ]
    return lanes[0]


minus: Any = intrinsic(_minus)
less: Any = intrinsic(_less)
minus_columns: Any = intrinsic(_minus_columns)
sums: Any = intrinsic(_sums)
