"""M + alpha_k A of an evolution along a line, with all factors, and all of its steps in one
compiled call (see line_loops.py): of a linear equation one A and a factorization a step size, of
another the derivatives of its steps, with A = r_u at each state.

Unknowns go cell by cell, in a cell species by species: rows [t, unknown] are states of several
times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from npde_opt.distinct import numbered
from npde_opt.errors import SolverError
from npde_opt.forward.equation import joined
from npde_opt.forward.jacobian import Block, terms_by_block
from npde_opt.forward.linear_part import LinearPart, Points
from npde_opt.forward.schemes import Scheme
from npde_opt.linear.banded import is_line
from npde_opt.linear.measured import measuring, note
from npde_opt.linear.residual import DIRECT, ROUNDING, SINGULAR, is_singular, singular
from npde_opt.machine_code import Kept
from npde_opt.operators.patterns import Offset
from npde_opt.terms.interface import TermAt
from npde_opt.terms.state import State

LOOPS = "npde_opt.forward.line_loops"
FACTOR = Kept(LOOPS, "factor", returns=int)
FORWARD, BACKWARD = Kept(LOOPS, "forward"), Kept(LOOPS, "backward")
MEASURES = 5
"""Of a solve: what is left, |b|, |x|, and two energies (see line_loops.py)."""
LEAST = 32
"""Steps from which on loops pay."""
BYTES = 256_000_000
"""Of all factors of a point, and of the states of a trajectory."""
REMEDY = "Take shorter steps, or bound the parameters."


class LineSteps:
    """Sizes and weights of the steps, which all points of the parameters share.

    Args:
        times: t_0 ... t_N.
        nonlinear: whether A is another at each stage.

    Attributes:
        steps: t_{n+1} - t_n. weights [i, j]: a_ij, with an empty row 0.
        alphas: dt a_ii of the matrices to factor, which [k]: the place of their A.
        factors [n, i]: the k of a stage. at [n, j]: the place of A there: that of its state.
        solves: systems of a trajectory. solved: systems so far, of all points.
    """

    def __init__(self, scheme: Scheme, times: np.ndarray, nonlinear: bool):
        self.stages, self.nonlinear = scheme.stages, nonlinear
        self.steps = np.diff(times)
        self.weights = np.zeros((self.stages + 1, self.stages + 1))
        self.weights[1:] = scheme.implicit
        count = self.steps.size
        stages = np.arange(count)[:, None] * self.stages + np.arange(self.stages + 1)
        if nonlinear:
            self.alphas = np.repeat(self.steps * scheme.diagonal, self.stages)
            self.which = 1 + np.arange(self.alphas.size)
            self.at, self.factors = stages, stages - 1
        else:
            sizes = [float(f"{dt * scheme.diagonal:.12g}") for dt in self.steps]
            self.alphas, which = numbered(np.array(sizes))
            self.which = np.zeros(self.alphas.size, np.int64)
            self.at = np.zeros_like(stages)
            self.factors = np.tile(which[:, None], self.stages + 1)
        implicit = np.diagonal(self.weights) != 0
        self.solves, self.solved = int(implicit.sum()) * count, 0


def line_steps(
    part: LinearPart, scheme: Scheme, times: np.ndarray, prefix: str, recipe: str
) -> LineSteps | None:
    """Of an equation that has one matrix at all times, or one at each stage that depends on its
    state alone; None where it is another, or no line (see linear/banded.py), and of few steps."""
    equation, grid = part.equation, part.grid
    if equation.complex or scheme.diagonal == 0 or not equation.columns:
        return None
    nonlinear = bool(equation.nonlinear)
    if nonlinear and not scheme.nonlinear_implicit:
        return None
    if any(t.timed or t.stateless for t in equation.nonlinear):
        return None
    if times.size - 1 < LEAST or not is_line(grid, prefix, recipe):
        return None
    found = LineSteps(scheme, times, nonlinear)
    size = grid.size * len(equation.species)
    numbers = (3 * _band(part) + 1) * found.alphas.size
    states = found.steps.size * found.stages
    return found if 8 * size * max(numbers, states) <= BYTES else None


def _offsets(part: LinearPart) -> dict[Block, tuple[Offset, ...]]:
    """Of the entries at each (row, column) of species."""
    blocks = terms_by_block(part)
    return {block: joined(part.grid, terms) for block, terms in blocks.items()}


def _band(part: LinearPart) -> int:
    """Diagonals on either side."""
    widest = max(abs(o) for offsets in _offsets(part).values() for (o,) in offsets)
    return len(part.equation.species) * (widest + 1) - 1


class LineSystem:
    """The matrices at one point of the parameters.

    Args:
        mass: M of the cells. bands: all A (see line_loops.py).

    Raises:
        SolverError: for a matrix that is singular.
    """

    def __init__(
        self, mass: np.ndarray, bands: np.ndarray, steps: LineSteps, prefix: str
    ):
        self.steps, self.prefix = steps, prefix
        self.mass = np.repeat(mass, bands.shape[1] // mass.size)
        self.bands = bands
        shape = steps.alphas.size, self.mass.size
        band = bands.shape[2] // 2
        self._lu = np.empty((*shape, 3 * band + 1))
        self._pivots = np.empty(shape, np.int64)
        self._largest = np.empty(steps.alphas.size)
        given = self.bands, self.mass, steps.alphas, steps.which
        if FACTOR(*given, self._lu, self._pivots, self._largest) >= 0:
            raise SolverError(prefix, "the matrix of a line is singular", REMEDY)

    def forward(
        self,
        start: np.ndarray,
        rates: np.ndarray,
        place: np.ndarray,
        extra: np.ndarray | None = None,
    ) -> np.ndarray:
        """All stages as rows [n s + i, unknown], the first of them u_0.

        Args:
            rates [row, unknown], place [n, j]: f_j, and its row. extra [n s + i - 1, unknown]: e_i.

        Raises:
            SolverError: where a true residual is not small.
        """
        steps, rows = self.steps, self.steps.steps.size * self.steps.stages
        states = np.empty((rows + 1, self.mass.size))
        states[0] = start
        added = np.empty((0, self.mass.size)) if extra is None else extra
        found = np.zeros((rows, MEASURES))
        sizes = steps.factors, steps.at, steps.steps, steps.weights
        work = np.empty((steps.stages + 2, self.mass.size))
        FORWARD(*self._system, *sizes, rates, place, added, states, found, work)
        self._check(found, "state")
        return states

    def backward(
        self, seen: np.ndarray, extra: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """lambda_0, and all mu as rows [n s + i - 1, unknown].

        Args:
            seen [n, unknown]: J_n. extra [n, i, unknown]: e_i.

        Raises:
            SolverError: where a true residual is not small.
        """
        steps, size = self.steps, self.mass.size
        rows = steps.steps.size * steps.stages
        multipliers, found = np.empty((rows, size)), np.zeros((rows, MEASURES))
        added = np.empty((0, 1, size)) if extra is None else extra
        sizes = steps.factors, steps.at, steps.steps, steps.weights
        first, work = np.empty(size), np.empty((4, size))
        given = *self._system, *sizes, seen, added, multipliers, found
        BACKWARD(*given, first, work)
        self._check(found, "adjoint")
        return first, multipliers

    @property
    def _system(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return self.bands, self.mass, self._lu, self._pivots

    def _check(self, found: np.ndarray, kind: str) -> None:
        """The residuals of all solves; values that are not finite are for others to find."""
        steps = self.steps
        steps.solved += steps.solves
        left, sizes, values, rests, energies = found.T
        rounding = ROUNDING * self._largest[steps.factors[:, 1:].ravel()]
        wrong = left > DIRECT * sizes + rounding * values
        suspect = left > SINGULAR * sizes
        if not (wrong | suspect).any() and not measuring():
            return
        with np.errstate(invalid="ignore"):  # inf / inf of states that overflow
            relative = np.divide(left, sizes, out=np.zeros_like(left), where=left > 0)
        if wrong.any():
            worst = relative[wrong].max()
            said = f"the true residual |b - A x| / |b| of a direct solve is {worst:.2g}"
            raise SolverError(self.prefix, said, REMEDY)
        for of in zip(
            relative[suspect], rests[suspect], energies[suspect], strict=True
        ):
            if is_singular(*of):
                raise singular(self.prefix, of[0])
        implicit = np.diagonal(steps.weights)[1:] != 0
        for residual in relative[np.tile(implicit, steps.steps.size)].tolist():
            note("newton" if steps.nonlinear else kind, residual, 1)


def linear_bands(part: LinearPart, points: Points) -> np.ndarray:
    """Those of the linear terms, alone in their axis r."""
    equation, grid, offsets = part.equation, part.grid, _offsets(part)
    planes = {
        (*block, o): np.zeros((1, grid.size))
        for block, own in offsets.items()
        for o in own
    }
    for operator, at in zip(equation.operators, points, strict=True):
        own = joined(grid, operator.terms)
        values = {o: np.zeros(grid.local_shape, order="F") for o in own}
        for point in at:
            point.add_planes(values)
        for row, column, factor in operator.pattern:
            for o in own:
                planes[row, column, o] += factor * values[o]
    return _in_bands(part, planes)


def jacobian_bands(
    part: LinearPart, points: Points, others: Sequence[TermAt], state: State
) -> np.ndarray:
    """Those of r_u of all terms, at states that are columns [c, r, i]."""
    shape = part.grid.size, state.u.shape[1]
    planes = {
        (*block, o): np.zeros(shape).T
        for block, own in _offsets(part).items()
        for o in own
    }
    for other in others:
        other.add_jacobian(state, planes)
    return _in_bands(part, planes) + linear_bands(part, points)


def _in_bands(
    part: LinearPart, planes: Mapping[tuple[int, int, Offset], np.ndarray]
) -> np.ndarray:
    """[r, unknown, diagonal] from planes [r, i] by row and column of species, and offset."""
    count, cells, band = len(part.equation.species), part.grid.size, _band(part)
    times = len(next(iter(planes.values())))
    found = np.zeros((times, cells, count, 2 * band + 1))
    for (row, column, (o,)), values in planes.items():
        inside = slice(max(0, -o), cells - max(0, o))
        diagonal = o * count + column - row + band
        found[:, inside, row, diagonal] += values[:, inside]
    return found.reshape(times, cells * count, 2 * band + 1)
