"""Vectors of processors in compiled loops: sums of products that stay in registers.

numba compiles loops over values, whose sums go to memory and come from there at every term. Here
the instructions for a few cells, results and terms at once are given as LLVM's own, of which numba
makes loops like any other:

    combine   y_r(x) = sum_t W[first + r, t] u(at + o_t + x)          for r < results, x < n,
    gather    G[r, t] += sum_x y_r(x) u(at + o_t + x)                 for r < results, t < TERMS.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

BYTES = 32
"""Of a vector: what most processors work on at once; others do it in parts."""
SUMS = 8
"""In registers at a time, of `combine`: as many as additions that are on their way at once."""
TERMS = 4
"""At a time, of `gather`."""

Value = Any
"""Of LLVM's."""
WHOLE = ir.IntType(64)


class Vectors:
    """Instructions for vectors of so many values.

    Args:
        real: LLVM's type of a value. size: its bytes.
    """

    def __init__(self, builder: Any, real: Any, size: int, lanes: int):
        self.b, self.real, self.size, self.lanes = builder, real, size, lanes
        self.type = ir.VectorType(real, lanes)
        self._none = ir.Constant(self.type, [ir.Constant(real, 0.0)] * lanes)
        self._unknown = ir.Constant(self.type, ir.Undefined)
        index = ir.IntType(32)
        self._first = ir.Constant(index, 0)
        self._zeros = ir.Constant(ir.VectorType(index, lanes), [0] * lanes)

    def sums(self, count: int) -> list[Value]:
        """Places of sums, which are 0."""
        found = [cgutils.alloca_once(self.b, self.type) for _ in range(count)]
        for place in found:
            self.b.store(self._none, place)
        return found

    def _at(self, line: Value, place: Value) -> Value:
        return self.b.bitcast(self.b.gep(line, [place]), self.type.as_pointer())

    def load(self, line: Value, place: Value) -> Value:
        return self.b.load(self._at(line, place), align=self.size)

    def store(self, value: Value, line: Value, place: Value) -> None:
        self.b.store(value, self._at(line, place), align=self.size)

    def everywhere(self, line: Value, place: Value) -> Value:
        """One value in all lanes."""
        one = self.b.load(self.b.gep(line, [place]))
        first = self.b.insert_element(self._unknown, one, self._first)
        return self.b.shuffle_vector(first, self._unknown, self._zeros)

    def of_one(self) -> Vectors:
        """The same for values one by one."""
        return Vectors(self.b, self.real, self.size, 1)

    def from_on(self, value: Value, x: Value, begin: Value) -> Value:
        """0 in the lanes of cells before `begin`; x is the cell of the first lane."""
        if x is begin:
            return value
        skipped = self.b.sub(begin, x)
        index = ir.VectorType(WHOLE, self.lanes)
        first = self.b.insert_element(
            ir.Constant(index, ir.Undefined), skipped, self._first
        )
        skips = self.b.shuffle_vector(first, ir.Constant(index, ir.Undefined), self._zeros)
        lanes = ir.Constant(index, list(range(self.lanes)))
        return self.b.select(
            self.b.icmp_signed(">=", lanes, skips), value, self._none
        )

    def add_product(self, sum_: Value, one: Value, two: Value) -> None:
        """In one instruction where the processor has it."""
        product = self.b.fmul(one, two, flags=("contract",))
        found = self.b.fadd(self.b.load(sum_), product, flags=("contract",))
        self.b.store(found, sum_)

    def total(self, sum_: Value) -> Value:
        """Of all lanes, in double precision."""
        letters = {4: "f32", 8: "f64"}[self.size]
        kind = ir.FunctionType(self.real, [self.real, self.type])
        name = f"llvm.vector.reduce.fadd.v{self.lanes}{letters}"
        add = cgutils.get_or_insert_function(self.b.module, kind, name)
        none = ir.Constant(self.real, 0.0)
        found = self.b.call(add, [none, self.b.load(sum_)], fastmath=("reassoc",))
        return found if self.size == 8 else self.b.fpext(found, ir.DoubleType())


def _number(value: int) -> Value:
    return ir.Constant(WHOLE, value)


@contextmanager
def _blocks(builder: Any, start: Value, end: Value, width: int) -> Iterator[Value]:
    """A loop over where whole blocks of this width begin."""
    count = builder.sdiv(builder.sub(end, start), _number(width))
    with cgutils.for_range(builder, count, intp=WHOLE) as loop:
        yield builder.add(start, builder.mul(loop.index, _number(width)))


def _rest(builder: Any, start: Value, end: Value, width: int) -> Value:
    """Where such a loop leaves off."""
    return builder.sub(end, builder.srem(builder.sub(end, start), _number(width)))


def _reaches(builder: Any, last: Value) -> Value:
    """Whether a vector from `last` on begins in the row."""
    return builder.icmp_signed(">=", last, _number(0))


def _pointers(context: Any, builder: Any, kinds: Sequence[Any], given: Any) -> list[Value]:
    """Arguments, of arrays where their values are."""
    found = []
    for kind, value in zip(kinds, given, strict=True):
        if isinstance(kind, types.Array):
            value = context.make_array(kind)(context, builder, value).data
        found.append(value)
    return found


def _combiner(results: int) -> Any:
    """combine of so many results; n, at, to, step and first count values."""

    @intrinsic  # type: ignore[untyped-decorator]
    def combine(
        typing: Any, w: Any, terms: Any, first: Any, offsets: Any, u: Any, at: Any,
        add: Any, out: Any, to: Any, step: Any, n: Any,
    ) -> Any:  # fmt: skip
        def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            kind = u.dtype
            real, size = context.get_data_type(kind), kind.bitwidth // 8
            values = _pointers(context, builder, signature.args, given)
            end, bits = values[-1], Vectors(builder, real, size, BYTES // size)
            begin, count = _number(0), SUMS // results
            while count:
                with _blocks(builder, begin, end, bits.lanes * count) as x:
                    _combined(bits, count, results, x, x, *values[:-1])
                begin = _rest(builder, begin, end, bits.lanes * count)
                count //= 2
            one = bits.of_one()
            with builder.if_then(builder.icmp_signed("<", begin, end)):
                last = builder.sub(end, _number(bits.lanes))
                with builder.if_else(_reaches(builder, last)) as (long, short):
                    with long:
                        _combined(bits, 1, results, last, begin, *values[:-1])
                    with short, _blocks(builder, begin, end, 1) as x:
                        _combined(one, 1, results, x, x, *values[:-1])
            return context.get_dummy_value()

        whole = types.int64
        return (
            types.void(w, whole, whole, offsets, u, whole, types.boolean, out, *[whole] * 3),
            code,
        )

    return combine


def _combined(
    v: Vectors, count: int, results: int, x: Value, begin: Value, w: Value, terms: Value, first: Value,
    offsets: Value, u: Value, at: Value, add: Value, out: Value, to: Value, step: Value,
) -> None:  # fmt: skip
    """So many vectors from x on of all results; cells before `begin` have theirs."""
    b = v.b
    sums = [v.sums(count) for _ in range(results)]
    cells = [b.add(x, _number(i * v.lanes)) for i in range(count)]
    with cgutils.for_range(b, terms, intp=WHOLE) as loop:
        offset = b.load(b.gep(offsets, [loop.index]))
        here = b.add(at, offset)
        read = [v.load(u, b.add(here, cell)) for cell in cells]
        for r, row in enumerate(sums):
            place = b.add(b.mul(b.add(first, _number(r)), terms), loop.index)
            weight = v.everywhere(w, place)
            for sum_, value in zip(row, read, strict=True):
                v.add_product(sum_, weight, value)
    for r, row in enumerate(sums):
        line = b.add(to, b.mul(step, _number(r)))
        for sum_, cell in zip(row, cells, strict=True):
            place, found = b.add(line, cell), b.load(sum_)
            with b.if_else(add) as (more, new):
                with more:
                    new_ones = v.from_on(found, cell, begin)
                    v.store(b.fadd(v.load(out, place), new_ones), out, place)
                with new:
                    v.store(found, out, place)


def _gatherer(results: int) -> Any:
    """gather of so many results; total is the part [results, TERMS] of one, in double precision."""

    @intrinsic  # type: ignore[untyped-decorator]
    def gather(
        typing: Any, total: Any, terms: Any, first: Any, offsets: Any, term: Any, u: Any,
        at: Any, y: Any, to: Any, step: Any, samples: Any, u_sample: Any, y_sample: Any,
        rows: Any, u_row: Any, y_row: Any, n: Any,
    ) -> Any:  # fmt: skip
        def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            kind = u.dtype
            real, size = context.get_data_type(kind), kind.bitwidth // 8
            values = _pointers(context, builder, signature.args, given)
            bits = Vectors(builder, real, size, BYTES // size)
            many = builder.icmp_signed(">=", values[-1], _number(bits.lanes))
            with builder.if_else(many) as (long, short):
                with long:
                    _gathered(bits, results, values[-1], *values[:-1])
                with short:
                    _gathered(bits.of_one(), results, values[-1], *values[:-1])
            return context.get_dummy_value()

        whole = types.int64
        return (
            types.void(total, whole, whole, offsets, whole, u, whole, y, *[whole] * 9),
            code,
        )

    return gather


def _gathered(
    v: Vectors, results: int, end: Value, total: Value, terms: Value, first: Value,
    offsets: Value, term: Value, u: Value, at: Value, y: Value, to: Value, step: Value,
    samples: Value, u_sample: Value, y_sample: Value, rows: Value, u_row: Value, y_row: Value,
) -> None:  # fmt: skip
    """Of rows with as many cells as there are lanes, or more."""
    b = v.b
    sums = [v.sums(TERMS) for _ in range(results)]
    numbers = [b.add(term, _number(t)) for t in range(TERMS)]
    starts = [b.add(at, b.load(b.gep(offsets, [t]))) for t in numbers]
    lines = [b.add(to, b.mul(step, _number(r))) for r in range(results)]

    def add(u_at: Value, y_at: Value, x: Value, begin: Value) -> None:
        here, there = b.add(u_at, x), b.add(y_at, x)
        read = [v.load(u, b.add(start, here)) for start in starts]
        for row, line in zip(sums, lines, strict=True):
            value = v.from_on(v.load(y, b.add(line, there)), x, begin)
            for sum_, other in zip(row, read, strict=True):
                v.add_product(sum_, value, other)

    with (
        cgutils.for_range(b, samples, intp=WHOLE) as sample,
        cgutils.for_range(b, rows, intp=WHOLE) as row,
    ):
        u_at = b.add(b.mul(sample.index, u_sample), b.mul(row.index, u_row))
        y_at = b.add(b.mul(sample.index, y_sample), b.mul(row.index, y_row))
        with _blocks(b, _number(0), end, v.lanes) as x:
            add(u_at, y_at, x, x)
        begin = _rest(b, _number(0), end, v.lanes)
        with b.if_then(b.icmp_signed("<", begin, end)):
            add(u_at, y_at, b.sub(end, _number(v.lanes)), begin)
    for r, found in enumerate(sums):
        for t, sum_ in zip(numbers, found, strict=True):
            place = b.add(b.mul(b.add(first, _number(r)), terms), t)
            entry = b.gep(total, [place])
            b.store(b.fadd(b.load(entry), v.total(sum_)), entry)


combine_eight, combine_four = _combiner(8), _combiner(4)
combine_two, combine_one = _combiner(2), _combiner(1)
gather_two, gather_one = _gatherer(2), _gatherer(1)
