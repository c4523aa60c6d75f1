"""The V-cycle of cycle.py on levels that follow the values: for padding whose cells grow,
couplings of other sizes along other axes, conductors and insulators, and masks of strips, all of
which the plain levels lose.

Which cells of an axis a level keeps is told by the couplings (strength.py), what the others take
from them by the equation (adapted_loops.py), and lines of cells along every axis are solved for at
once (line_sweeps.py): along x, y, z on the way down, z, y, x on the way up. A level that is much
smaller than the one above is visited twice, with sweeps between. Levels are made in double
precision; where they bear it, the cycle runs in single. On several ranks one of them does all of
it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from npde_opt.lazily import loaded_lazily
from npde_opt.linear.planes import strength
from npde_opt.linear.planes.boxes import Box
from npde_opt.linear.planes.gathering import Gathering
from npde_opt.linear.planes.levels import SINGLE, Planes, first_half
from npde_opt.linear.planes.stages import PlaneLevel, inverted
from npde_opt.operators.patterns import Offset

if TYPE_CHECKING:
    from npde_opt.linear.planes import adapted_loops, line_sweeps, rows
else:
    adapted_loops = loaded_lazily("npde_opt.linear.planes.adapted_loops")
    line_sweeps = loaded_lazily("npde_opt.linear.planes.line_sweeps")
    rows = loaded_lazily("npde_opt.linear.planes.rows")

COARSEST = 500
"""Unknowns that are solved for at once."""
MOST = 2000
"""As many where no axis wants to be parted further; more are parted all the same."""
TWICE = 6
"""Times fewer cells from which on a level is visited twice: where cells become three or four times
fewer, second visits cost more than the third or half of the iterations that they save."""

ALIKE = 1e7
"""Couplings of a cell that differ by less are told apart in single precision: iterations are as
many up to 1e7, and three times as many from 1e8 on."""
RANGE = 1e20
"""Couplings of all cells that differ by less are in its range, with what becomes of them."""
HELD = 5e4
"""1 / the least eigenvalue of D^-1/2 A D^-1/2, D the diagonal: beyond, rounding of A is as much as
what holds a state."""
PIVOTS = 1e3
"""A line's entries on its diagonal over its pivots: beyond, a line hangs on next to nothing but
rounding, as on coarse levels under a mask."""
RUN = 256
"""Cells that loops go over at a time where rows are shorter."""


class Cells:
    """A box of cells with a layer of ghosts, in the order of adapted_loops.py.

    Args:
        cells: along x, y, z.
    """

    def __init__(self, cells: Sequence[int], periodic: Sequence[bool]):
        self.cells, self.periodic, self.dim = (
            tuple(int(n) for n in cells),
            tuple(periodic),
            len(cells),
        )
        nx, ny, nz = (*self.cells, 1)[:3]
        pad = self.dim - 2
        self.counts, self.shape = (nx, ny, nz), (nz + 2 * pad, ny + 2, nx + 2)
        self.steps = 1, nx + 2, (nx + 2) * (ny + 2)
        self.numbers = np.array([nx, ny, nz, pad, *self.steps[1:]], np.int64)
        self.together = min(max(RUN // (nx + 2), 1), ny)
        """Rows that loops go over at a time."""
        self.size = int(np.prod(self.shape))
        across = slice(1, -1)
        self._inner = (across if pad else slice(None), across, across)
        firsts = np.arange(self.size).reshape(self.shape)[self._inner]
        self._firsts: np.ndarray = firsts

    def zeros(self, *lead: int) -> np.ndarray:
        found: np.ndarray = np.zeros((*lead, self.size))
        return found

    def view(self, field: np.ndarray) -> np.ndarray:
        """The cells [k, j, i] of a field, without ghosts."""
        whole = field.reshape(self.shape)[self._inner]
        found: np.ndarray = (
            whole.reshape(self.cells[::-1]) if self.dim == 3 else whole[0]
        )
        return found

    def wrap(self, field: np.ndarray) -> None:
        """Ghosts of [..., cell] along periodic axes."""
        whole = field.reshape(*field.shape[:-1], *self.shape)
        for d in range(self.dim):
            if self.periodic[d]:
                line = np.moveaxis(whole, -1 - d, 0)
                line[0], line[-1] = line[-2], line[1]

    def unwrap(self, field: np.ndarray) -> None:
        """Adds what ghosts along periodic axes have to the cells that they are."""
        whole = field.reshape(self.shape)
        for d in range(self.dim):
            if self.periodic[d]:
                line = np.moveaxis(whole, -1 - d, 0)
                line[-2] += line[0]
                line[1] += line[-1]

    def step(self, offset: Sequence[int]) -> int:
        """From a cell to its neighbour."""
        return sum(o * s for o, s in zip(offset, self.steps, strict=False))

    def starts(self, d: int) -> np.ndarray:
        """First cells of lines along axis d."""
        found: np.ndarray = np.take(self._firsts, 0, 2 - d).ravel()
        return found


class AdaptedLevel:
    """A stencil, and the fields that a cycle works on.

    Args:
        A [o, cell]: by offset; ghosts of periodic axes are written.
    """

    def __init__(self, cells: Cells, offsets: Sequence[Offset], A: np.ndarray):
        self.cells, self.A = cells, A
        self.offsets = [tuple(o) for o in offsets]
        self._all = self._steps(range(len(offsets)))
        self.b, self.x, self._r = (cells.zeros() for _ in range(3))
        cells.wrap(A)
        centre = self.offsets.index((0,) * cells.dim)
        self._lines = [self._line(d, centre) for d in range(cells.dim)]

    @property
    def size(self) -> int:
        return int(np.prod(self.cells.cells))

    def planes(self) -> Planes:
        """Values [k, j, i] by offset."""
        return {
            o: self.cells.view(a) for o, a in zip(self.offsets, self.A, strict=True)
        }

    def _steps(self, numbers: Sequence[int] | range) -> np.ndarray:
        """[o, 3]: planes, and how far their values and their neighbours are: of o and -o the same
        plane, which is read once for both."""
        found = []
        for n in numbers:
            o, step = self.offsets[n], self.cells.step(self.offsets[n])
            if first_half(o):
                found.append((n, 0, step))
            else:
                found.append((self.offsets.index(tuple(-s for s in o)), step, step))
        return np.array(found, np.int64).reshape(-1, 3)

    def _line(self, d: int, centre: int) -> tuple[np.ndarray, ...]:
        """What sweeps along axis d need: neighbours out of line, in rows other than the lines'
        and in these, neighbours in line, L and D^-1."""
        cells, dim = self.cells, self.cells.dim
        unit = [int(e == d) for e in range(dim)]
        pair = [self.offsets.index(tuple(s * u for u in unit)) for s in (-1, 1)]
        out = [n for n in range(len(self.offsets)) if n not in (centre, *pair)]
        others = [e for e in range(1, dim) if e != d]
        steady = [n for n in out if any(self.offsets[n][e] for e in others)]
        moving = [n for n in out if n not in steady]
        low, inverse, starts = cells.zeros(), cells.zeros(), cells.starts(d)
        how = centre, pair[0], starts, cells.counts[d], cells.steps[d]
        line_sweeps.factor(self.A, *how, low, inverse)
        ends = np.array(pair, np.int64)
        return self._steps(steady), self._steps(moving), ends, low, inverse

    def _sweep(self, d: int, back: bool) -> None:
        cells = self.cells
        steady, moving, ends, low, inverse = self._lines[d]
        cells.wrap(self.x)
        line, fields = (ends, low, inverse), (self.b, self.x)
        how = cells.numbers, cells.together
        if d == 0:
            steps = np.concatenate([steady, moving])
            line_sweeps.along_rows(self.A, steps, *line, *fields, *how, int(back))
            return
        given = self.A, steady, moving, *line, *fields, self._r
        line_sweeps.across_rows(*given, *how, d, int(back))

    def down(self) -> np.ndarray:
        """The sweeps on the way down; the residual."""
        for d in range(self.cells.dim):
            self._sweep(d, False)
        return self.residual()

    def residual(self) -> np.ndarray:
        """b - A x, with anything in its ghosts; written over by the next sweep."""
        self.cells.wrap(self.x)
        how = self.cells.numbers, self.cells.together
        line_sweeps.residual(self.A, self._all, self.b, self.x, *how, self._r)
        return self._r

    def up(self) -> None:
        """Their transposes."""
        for d in range(self.cells.dim)[::-1]:
            self._sweep(d, True)

    def spread(self) -> tuple[float, float]:
        """By how much the couplings of a cell differ, at most, and those of all cells."""
        planes = self.planes()
        most = np.zeros(next(iter(planes.values())).shape)
        least = np.full(most.shape, np.inf)
        for o, values in planes.items():
            if any(o):
                size = np.abs(values)
                np.maximum(most, size, out=most)
                np.minimum(least, size, out=least, where=size > 0)
        own = float((most / least).max(initial=0.0))
        return own, float(most.max(initial=0.0) / least.min(initial=np.inf))

    def diagonal(self) -> np.ndarray:
        """[k, j, i]."""
        return self.cells.view(self.A[self.offsets.index((0,) * self.cells.dim)])

    def pivots(self) -> float:
        """The diagonal over the pivots of lines, at most."""
        inverses = (self.cells.view(inverse) for *_, inverse in self._lines)
        return max(float((self.diagonal() * inverse).max()) for inverse in inverses)

    def settle(self, precision: type[np.floating]) -> None:
        """Has all that the cycle needs in a precision, once the level below is made."""
        self.A, self.b, self.x, self._r = (
            values.astype(precision, copy=False)
            for values in (self.A, self.b, self.x, self._r)
        )
        self._lines = [
            (
                *steps,
                low.astype(precision, copy=False),
                inverse.astype(precision, copy=False),
            )
            for *steps, low, inverse in self._lines
        ]

    def dense(self) -> np.ndarray:
        """The matrix as an array; 1 on the diagonal of inactive cells."""
        cells = self.cells
        numbers = cells.zeros()
        cells.view(numbers)[...] = 1 + np.arange(self.size).reshape(cells.cells[::-1])
        cells.wrap(numbers)
        inside = cells.zeros()
        cells.view(inside)[...] = 1
        own, found = np.flatnonzero(inside), np.zeros((self.size,) * 2)
        for n, shift, step in self._all:
            to = numbers[own + step].astype(int) - 1
            there = to >= 0
            i = np.arange(self.size)[there]
            np.add.at(found, (i, to[there]), self.A[n][own[there] + shift])
        inactive = np.flatnonzero(np.diagonal(found) == 0)
        found[inactive, inactive] = 1
        return found


class Interpolation:
    """P between two levels.

    Args:
        kept: by axis the numbers of the cells that are kept, 0 among them; never two after each
            other that are not.
    """

    def __init__(self, fine: AdaptedLevel, kept: Mapping[int, np.ndarray]):
        self.fine, cells = fine, fine.cells
        counts = [kept[d].size if d in kept else n for d, n in enumerate(cells.cells)]
        self.coarse = Cells(counts, cells.periodic)
        most = max(cells.counts) + 2
        self._parent = np.ones((3, most), np.int64)
        self._own = np.ones((3, most), np.int64)
        out = np.zeros((3, most), bool)
        for d, n in enumerate(cells.cells):
            keep = np.zeros(n, bool)
            keep[kept[d] if d in kept else slice(None)] = True
            self._parent[d, : n + 2] = [0, *np.cumsum(keep), counts[d] + 1]
            self._own[d, : counts[d] + 2] = np.arange(counts[d] + 2)
            if cells.periodic[d]:
                self._own[d, [0, counts[d] + 1]] = counts[d], 1
            out[d, 1 : n + 1] = ~keep
        self.weights = cells.zeros(2**cells.dim)
        self._offsets = np.zeros((len(fine.offsets), 3), np.int64)
        self._offsets[:, : cells.dim] = fine.offsets
        stencil = fine.A, self._offsets, out, cells.numbers
        for taken in range(len(kept) + 1):
            adapted_loops.interpolation(*stencil, taken, self.weights)
            cells.wrap(self.weights)

    def settle(self, precision: type[np.floating]) -> None:
        """Has weights in a precision, once the coarse level is made."""
        self.weights = self.weights.astype(precision, copy=False)

    @property
    def _between(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.weights, self._parent, self.fine.cells.numbers

    def galerkin(self) -> AdaptedLevel:
        """The level of P^T A P."""
        coarse, dim = self.coarse, self.coarse.dim
        B = coarse.zeros(adapted_loops.AROUND)
        how = self.weights, self._parent, self.fine.cells.numbers
        to = self._own, coarse.numbers
        adapted_loops.coarsen(self.fine.A, self._offsets, *how, *to, B)
        offsets, planes = list[Offset](), list[np.ndarray]()
        for offset in product((-1, 0, 1), repeat=dim):
            number = sum(o * 3**d for d, o in enumerate(offset))
            values = B[adapted_loops.HERE + number]
            if sum(map(abs, offset)) <= 1 or values.any():
                offsets.append(offset)
                planes.append(values)
        return AdaptedLevel(coarse, offsets, np.stack(planes))

    def restrict(self, r: np.ndarray, out: np.ndarray) -> None:
        """out = P^T r."""
        out[:] = 0
        adapted_loops.restrict(r, *self._between, self.coarse.numbers, out)
        self.coarse.unwrap(out)

    def prolong(self, e: np.ndarray, x: np.ndarray) -> None:
        """x += P e."""
        self.coarse.wrap(e)
        adapted_loops.prolong(e, *self._between, self.coarse.numbers, x)


class AdaptedStage:
    """All levels.

    Args:
        box: of the finest level, whose values `take` gets.
        active: its owned active cells [k, j, i]; None for all.

    Collective.
    """

    def __init__(
        self, box: Box, offsets: Sequence[Offset], active: np.ndarray | None = None
    ):
        self.top = PlaneLevel(box, offsets, active, float, skips=False)
        self._gathering = Gathering(box, last=True) if box.is_cut else None
        self.levels = list[AdaptedLevel]()
        self._between = list[Interpolation]()
        self.inverse = np.empty((0, 0))

    def take(self, planes: Planes, scale: float) -> None:
        """Values of one of o and -o with ghosts, 0 towards what is outside, times `scale`.
        Collective."""
        own = {o: scale * v[self.top.box.inner] for o, v in planes.items()}
        if self._gathering is not None:
            offsets = list(own)
            found = self._gathering.gather(np.stack([own[o] for o in offsets]))
            own = {} if found is None else dict(zip(offsets, found, strict=True))
        if own:
            self._build(own)

    def _build(self, half: Planes) -> None:
        self.levels = [_level(half, self.top.box.periodic)]
        self._between = []
        while True:
            level = self.levels[-1]
            kept = _kept(level.planes(), level.cells.dim)
            if not kept:
                break
            self._between.append(Interpolation(level, kept))
            self.levels.append(self._between[-1].galerkin())
        inverse = inverted(self.levels[-1].dense(), np.finfo(float).eps)
        precision = SINGLE if self._bears_single(inverse) else np.float64
        self.inverse = inverse.astype(precision, copy=False)
        for level in self.levels:
            level.settle(precision)
        for between in self._between:
            between.settle(precision)

    def _bears_single(self, inverse: np.ndarray) -> bool:
        """Whether a cycle in single precision is about the one in double."""
        own, everywhere = self.levels[0].spread()
        if not (own < ALIKE and everywhere < RANGE):
            return False
        pivots = max(level.pivots() for level in self.levels)
        return pivots < PIVOTS and self._held(inverse) < HELD

    def _held(self, inverse: np.ndarray) -> float:
        """1 / the least eigenvalue of D^-1/2 A D^-1/2, about: on the coarsest level, with D summed
        there, a bound by rows."""
        diagonal = self.levels[0].diagonal()
        for between in self._between:
            fine, coarse = between.fine.cells, between.coarse
            given, found = fine.zeros(), coarse.zeros()
            fine.view(given)[...] = diagonal
            between.restrict(given, found)
            diagonal = coarse.view(found)
        if not diagonal.min() > 0:
            return np.inf
        root = np.sqrt(diagonal.ravel())
        return float((root * (np.abs(inverse) @ root)).max())

    def cycle(self) -> tuple[float, float]:
        """x of the top from its b; own parts of b^T x and x^T x. Collective."""
        top, given = self.top, self.top.inner(self.top.b)
        own = top.inner(top.x)
        if self._gathering is None:
            own[...] = self._cycle(given)
        else:
            found, solution = self._gathering.gather(given), None
            if found is not None:
                solution = np.ascontiguousarray(self._cycle(found), float)
            values = np.empty(own.shape)
            self._gathering.scatter(solution, values)
            own[...] = values
        # The next direction is formed on a layer of ghosts, too.
        top.exchange(top.x)
        top.shape.wrap(top.x)
        geometry = top.shape.geometry
        both, square = rows.dots(top.b, top.x, geometry, 0, len(geometry[4]))
        return float(both), float(square)

    def _cycle(self, b: np.ndarray) -> np.ndarray:
        """x of the finest level from b, both [k, j, i]."""
        first = self.levels[0]
        first.cells.view(first.b)[...] = b
        self._solve(0)
        return first.cells.view(first.x)

    def _solve(self, n: int) -> None:
        """x of a level from its b, by the cycle from there on."""
        level = self.levels[n]
        if n == len(self._between):
            e, found = self.inverse @ level.cells.view(level.b).ravel(), level.x
            level.cells.view(found)[...] = e.reshape(level.cells.cells[::-1])
            return
        below, between = self.levels[n + 1], self._between[n]
        twice = n + 1 < len(self._between) and TWICE * below.size <= level.size
        level.x[:] = 0
        for _ in range(1 + twice):
            between.restrict(level.down(), below.b)
            self._solve(n + 1)
            between.prolong(below.x, level.x)
            level.up()


def _level(half: Planes, periodic: Sequence[bool]) -> AdaptedLevel:
    """From one of o and -o."""
    like = next(iter(half.values()))
    cells = Cells(like.shape[::-1], periodic)
    offsets, planes = list[Offset](), list[np.ndarray]()
    for o, values in half.items():
        field = cells.zeros()
        cells.view(field)[...] = values
        cells.wrap(field)
        offsets.append(o)
        planes.append(field)
        if any(o):
            offsets.append(tuple(-s for s in o))
            planes.append(np.roll(field, cells.step(o)))
    return AdaptedLevel(cells, offsets, np.stack(planes))


def _kept(planes: Planes, dim: int) -> dict[int, np.ndarray]:
    """Axes that the next level parts, with the cells that it keeps; none where there is no next
    level."""
    diagonal = planes[(0,) * dim]
    if diagonal.size <= COARSEST:
        return {}
    active = diagonal != 0
    shares = strength.weak_shares(strength.strengths(planes, dim), active)
    cells = diagonal.shape[::-1]
    for few in (strength.FEW, 2):
        found = _fewer(strength.kept(shares, few), cells)
        if found:
            return found
    if diagonal.size <= MOST:
        return {}
    return _fewer([np.arange(0, n, 2) for n in cells], cells)


def _fewer(kept: Sequence[np.ndarray], cells: Sequence[int]) -> dict[int, np.ndarray]:
    return {
        d: k for d, (k, n) in enumerate(zip(kept, cells, strict=True)) if k.size < n
    }
