"""Limits of explicit steps, from what the terms say of their eigenvalues.

For u' = -lambda u an explicit scheme multiplies u by R(-dt lambda), R a polynomial: 1 + z (explicit
and IMEX Euler, IMEX theta), 1 + z + z^2/2 (Heun, ars222). Steps are stable where |R| <= 1 for all
eigenvalues lambda of M^-1 r_u of what is explicit. Where rows have a positive diagonal and the rest
does not exceed it (diffusion, upwind advection, decay) that holds up to 2 / L with Gershgorin's
bound L, for all these R. Central advection has other rows: with the conductances a_d = 2 D/h^2 (+
|v|/h of upwind advection) and the speeds b_d = |v|/h of each axis, the eigenvalues of a cell's
stencil are (von Neumann)

    lambda = c + sum_d (a_d (1 - cos t_d) + i b_d sin t_d):

a sum of ellipses through 0, on which |R| <= 1 is looked for. Both regions |R| <= 1 are convex (a
disk; a Cassini oval), so that the boundary of the sum is enough: its points are those with a common
normal on all ellipses.

What grows (lambda < 0) is physics, and a matter of accuracy; so is an oscillation of kinetics that
takes a dozen steps (six where R is of second order) or more a turn. Sources: Hindmarsh, Gresho,
Griffiths, Int. J. Numer. Meth. Fluids 4 (1984); Hundsdorfer, Verwer, ch. I.3 and IV.1.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from npde_opt.forward.linear_part import LinearPart
from npde_opt.forward.schemes import Scheme
from npde_opt.forward.watch import Rules
from npde_opt.grids import along
from npde_opt.reductions import largest, smallest
from npde_opt.terms.interface import LinearAt, Rates, TermAt
from npde_opt.terms.state import State, sample
from npde_opt.terms.timed_advection import TimedAdvection

ANGLES = np.concatenate([np.geomspace(1e-4, 0.05, 12), np.linspace(0.06, np.pi, 180)])
"""Where ellipses are looked at: dense at 0, where |R| = 1."""

CELLS = 64
"""Cells whose stencils are looked at where coefficients vary."""

MOST = 20_000
"""Cells a rank whose eigenvalues are found where there are more than two species."""

ROUNDING = 1e-6
"""Share of the largest diffusivity that the smallest may be below 0: states undershoot a little."""

LONGEST, LOOKS = 64, 16
"""Steps without a look at the state, where its rates are far from the limit: so many, and a share
of all."""


@functools.cache
def amplification(scheme: Scheme) -> np.ndarray:
    """Coefficients of R(z) - 1 of the explicit tableau, from z^1 on."""
    size = scheme.stages + 1
    stages = [np.eye(1, size)[0]]
    for row in scheme.explicit:
        total = sum(a * np.roll(stages[j], 1) for j, a in enumerate(row[: len(stages)]))
        stages.append(stages[0] + total)
    return stages[-1][1:]


def grows(change: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Whether |R(z)| > 1, beyond rounding."""
    q = np.polyval([*change[::-1], 0.0], z)
    return 2 * q.real + np.abs(q) ** 2 > 1e-15 * np.abs(z) ** 2


def longest_step(change: np.ndarray, eigenvalues: np.ndarray) -> float:
    """The largest dt with |R(-dt lambda)| <= 1 for all eigenvalues; |z| <= 2 holds in both
    regions."""
    sizes = np.abs(eigenvalues)
    eigenvalues = eigenvalues[
        sizes > 1e-9 * sizes.max(initial=0.0)
    ]  # those at 0 are rounding
    if not eigenvalues.size:
        return np.inf
    low, high = 0.0, float(2 / sizes.max())
    if not grows(change, -high * eigenvalues).any():
        return high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (
            (low, middle)
            if grows(change, -middle * eigenvalues).any()
            else (middle, high)
        )
    return low


def outline(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The boundary, from 0 on, of the sum of ellipses a_d (1 - cos t) + i b_d sin t, one an
    axis."""
    normals = []
    for a_d, b_d in zip(a, b, strict=True):
        if b_d > 0:  # the outer normal at t = ANGLES
            normals.append(np.arctan2(a_d * np.sin(ANGLES), -b_d * np.cos(ANGLES)))
    normals.append(np.array([0.0, np.pi / 2, np.pi]))
    angle = np.concatenate(normals)
    x, y = np.zeros_like(angle), np.zeros_like(angle)
    for a_d, b_d in zip(a, b, strict=True):
        size = np.hypot(a_d * np.cos(angle), b_d * np.sin(angle))
        size[size == 0] = np.inf
        x += a_d + a_d**2 * np.cos(angle) / size
        y += b_d**2 * np.sin(angle) / size
    return x + 1j * y


def central_limit(
    scheme: Scheme, part: LinearPart, points: Sequence[LinearAt]
) -> float:
    """The limit of an operator's central advection, over all ranks; infinite where it has none."""
    grid = part.grid
    if not any(point.central for point in points):
        return np.inf
    found = sum_of_rates(part, points)
    a, b, c = found.diffusive, found.velocity, found.decay
    on = grid.active
    table = np.array([np.broadcast_to(x, grid.local_shape)[on] for x in (*a, *b, c)])
    own, change = np.inf, amplification(scheme)
    least = smallest(
        grid.comm, float(table[-1].min(initial=np.inf))
    )  # what damps everywhere
    if table.size:
        picked = np.unique(table[:, _representative(table, grid.dim)], axis=1)
        for column in picked.T:
            edge = outline(column[: grid.dim], column[grid.dim : -1])
            own = min(
                own,
                longest_step(change, np.concatenate([edge + least, edge + column[-1]])),
            )
    return smallest(grid.comm, own)


def _representative(table: np.ndarray, dim: int) -> np.ndarray:
    """Cells of the largest conductances and speeds, and spread over the ratios that Euler's limit
    asks for."""
    a, b = table[:dim], table[dim : 2 * dim]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(b > 0, b**2 / a, 0.0).sum(axis=0)
    order = np.argsort(ratio, kind="stable")
    spread = order[np.unique(np.linspace(0, order.size - 1, CELLS).astype(int))]
    return np.unique(
        [*spread, int(a.sum(axis=0).argmax()), int(b.sum(axis=0).argmax())]
    )


def sum_of_rates(part: LinearPart, points: Sequence[LinearAt]) -> Rates:
    """Of an operator, with |v_d|/h_d in place of the velocity, and decay alone, all in 1/time of
    this gamma."""
    grid, found = part.grid, Rates.none(part.grid.dim)
    for point in points:
        found = found.plus(point.rates())
    unit = part.unit
    h = [
        along(w[s], d, grid.dim)
        for d, (w, s) in enumerate(zip(grid.widths, grid.local_slice, strict=True))
    ]
    speeds = [abs(v) / h[d] / unit for d, v in enumerate(found.velocity)]
    return Rates(
        [a / unit for a in found.diffusive],
        speeds,
        np.maximum(found.decay, 0.0) / unit,
        found.central,
    )


class Moving(NamedTuple):
    """What is known of the terms at a state that depend on it and are not pointwise.

    Args:
        ranges: the smallest and largest diffusivity of each on this rank (see `TermAt.range`).
        rates: of all of them by species (see `TermAt.stiffness`).
    """

    ranges: list[tuple[float, float]]
    rates: np.ndarray


Known = Callable[[np.ndarray, int | None, np.ndarray, float, float], float | None]
"""`fastest` of the kinetics at a state (see stepper.Stepper.fastest)."""

CACHED = 1 << 12
"""Cells whose Jacobians are worked on at once."""


def fastest(
    jacobians: np.ndarray, stiffness: np.ndarray, resolved: float, share: float
) -> float:
    """2 over the longest stable step of kinetics J beside terms of given stiffness by species, on
    this rank.

    Eigenvalues mu of diag(stiffness) - J and of -J ask for steps of 2/mu where real, and of 2
    Re(mu)/|mu|^2 or `resolved`/Im(mu) where complex: an oscillation that takes many steps is a
    matter of accuracy. They are found where a bound of this exceeds `share`; elsewhere the bound is
    taken, Gershgorin's of the Jacobian scaled so that it has sqrt|J_cd J_dc| off the diagonal: the
    units of the species do not matter.
    """
    cells = jacobians.shape[2]
    if len(jacobians) == 1:
        return float((stiffness[0] - jacobians[0, 0]).max(initial=0.0))
    if len(jacobians) > 2:
        return _fastest(jacobians, stiffness, resolved, share)
    # Parts whose arrays stay in the cache; cells do not depend on each other.
    parts = (
        jacobians[:, :, first : first + CACHED] for first in range(0, cells, CACHED)
    )
    return max((_fastest(j, stiffness, resolved, share) for j in parts), default=0.0)


def _fastest(
    jacobians: np.ndarray, stiffness: np.ndarray, resolved: float, share: float
) -> float:
    count = len(jacobians)
    slow, fast = -jacobians, -jacobians
    fast[range(count), range(count)] += stiffness[:, None]
    couplings = np.sqrt(np.abs(jacobians)) * np.sqrt(
        np.abs(jacobians.transpose(1, 0, 2))
    )
    couplings[range(count), range(count)] = 0.0
    beside = couplings.sum(axis=1)
    bounds = np.maximum(
        (fast[range(count), range(count)] + beside).max(axis=0),
        2 / resolved * beside.max(axis=0),
    )
    near = np.nonzero(bounds > share)[0]
    if not near.size:
        return float(bounds.max(initial=0.0))
    if count > 2 and near.size > MOST:
        near = near[np.argpartition(bounds[near], -MOST)[-MOST:]]
    rest = np.minimum(np.delete(bounds, near), share)
    pair = (
        np.concatenate([slow[:, :, near], fast[:, :, near]], axis=2)
        if stiffness.any()
        else slow[:, :, near]
    )
    real, imaginary = _eigenvalues(pair)
    sizes = np.hypot(real, imaginary)
    with np.errstate(divide="ignore", invalid="ignore"):
        damped = np.where(real > 0, sizes * (sizes / real), np.inf)
    turning = np.minimum(damped, 2 / resolved * np.abs(imaginary))
    rates = np.where(imaginary == 0, np.maximum(real, 0.0), turning)
    return float(np.concatenate([rates.ravel(), rest]).max(initial=0.0))


def _eigenvalues(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Real and imaginary parts, of [c, d, cell]."""
    if len(matrices) == 2:
        (a, b), (c, d) = matrices
        half = (a + d) / 2
        square = ((a - d) / 2) ** 2 + np.sign(b) * np.sign(c) * (
            np.sqrt(np.abs(b)) * np.sqrt(np.abs(c))
        ) ** 2
        root = np.sqrt(np.abs(square))
        real = half + np.where(square >= 0, root, 0.0)  # the larger one decides
        return real, np.where(square < 0, root, 0.0)
    found = np.linalg.eigvals(np.moveaxis(matrices, 2, 0))
    return found.real, found.imag


class Limits:
    """The limits at one point of the parameters; `part` holds its operators. Collective."""

    def __init__(self, scheme: Scheme, part: LinearPart, nonlinear: Sequence[TermAt]):
        self.scheme, self.part, self.grid = scheme, part, part.grid
        explicit = not scheme.nonlinear_implicit
        depending = [p for p in nonlinear if not p.term.stateless]
        self.moving = [p for p in depending if not p.term.pointwise]
        self.reacting = [p for p in depending if p.term.pointwise and explicit]
        self.explicit = explicit
        # |R(i y)| is 1.12 there for both polynomials.
        self.resolved = 1.0 if amplification(scheme)[1:].any() else 0.5
        self.stiffness = 0.0 if scheme.linear_implicit else part.stiffness()
        species = range(len(part.equation.species))
        # Implicit diffusion of the same species makes up for as much of D(u).
        implicit = scheme.linear_implicit
        by_species = np.array(
            [part.stiffness(c, own=implicit) if nonlinear else 0.0 for c in species]
        )
        self.relief = by_species if implicit else np.zeros(len(species))
        self.by_species = by_species - self.relief
        self.central = (
            np.inf
            if implicit
            else min(
                (central_limit(scheme, part, points) for points in part.points or ()),
                default=np.inf,
            )
        )

    def linear(self, dt: float) -> str | None:
        """Why steps of dt are unstable for the linear terms, or None."""
        scheme, name = self.scheme, self.scheme.name
        wave = self.part.equation.complex
        if not self.part.equation.operators:
            return None
        if scheme.linear_implicit:
            share = 1 - 2 * scheme.diagonal if scheme.stages == 1 else 0.0
            if share <= 0:
                return None
            if wave:
                what = f"steps of {dt:.4g} by {name} with theta < 1/2 and an imaginary gamma"
                return f"{what} are unstable at any size"
            return self._compared(
                dt,
                2 / (share * self.part.stiffness()),
                "the linear terms with theta < 1/2",
            )
        if wave:
            what = f"explicit steps of {dt:.4g} by {name} with an imaginary gamma"
            return f"{what} are unstable at any size"
        if self.central * self.stiffness < 1e-7:
            what = f"explicit steps of {dt:.4g} by {name} of central advection without diffusion"
            return f"{what} are unstable at any size"
        whole = 2 / self.stiffness if self.stiffness > 0 else np.inf
        what = "central advection" if self.central < whole else self._terms()
        return self._compared(dt, min(whole, self.central), what)

    def _terms(self) -> str:
        kinds = dict.fromkeys(
            type(t).__name__.lower()
            for o in self.part.equation.operators
            for t in o.terms
        )
        return " and ".join(kinds)

    @property
    def _timed(self) -> list[TermAt]:
        return [p for p in (*self.moving, *self.reacting) if p.term.timed]

    def _moving(self) -> str:
        """What the rates of terms that are not pointwise come from."""
        advection = [p for p in self.moving if isinstance(p.term, TimedAdvection)]
        both = (
            ("D(u)", len(advection) < len(self.moving)),
            ("advection", bool(advection)),
        )
        return " and ".join(name for name, there in both if there)

    def _compared(self, dt: float, limit: float, what: str) -> str | None:
        if dt <= limit * (1 + 1e-9):
            return None
        step = f"a step of {dt:.4g} by {self.scheme.name}"
        return f"{step} exceeds the stability limit {limit:.4g} of {what}"

    @property
    def depends_on_state(self) -> bool:
        return bool(self.moving or self.reacting)

    def at(
        self,
        state: State,
        dt: float,
        steps: int,
        start: int,
        whole: bool = False,
        known: Known | None = None,
        moving: Moving | None = None,
    ) -> tuple[str | None, int, float]:
        """Why a step of dt from `state` is unstable or its diffusivity wrong, or None; after how
        many steps to look again at the latest, where the state does not move before (see watch.py);
        and the share of the rates in the limit.

        Args:
            steps: of the whole trajectory.
            start: where the sample begins of cells whose reactions are looked at.
            whole: look at the reactions of all cells.
            known: what may know the rates of the reactions. moving: what is known of the terms that
                are not pointwise.
        """
        problem = self.wrong(state, moving)
        if problem or not self.explicit:
            return problem, 1, 1.0
        at = None if whole else start
        rates, rate = self._rates(state, 2 / dt, at, known, moving)
        what = [
            n
            for n, x in (
                (self._moving(), rates.max() > self.stiffness),
                ("kinetics", rate > rates.max()),
            )
            if x
        ]
        if self.stiffness > 0:
            what.append(self._terms())
        problem = self._compared(
            dt, 2 / rate if rate > 0 else np.inf, " and ".join(what)
        )
        most = 1 if self._timed else 8 if self.moving else LONGEST
        longest = max(min(steps // LOOKS, most), 1)
        moved = max(rate - self.stiffness, 0.0)
        share = moved / max(2 / dt - self.stiffness, moved) if moved > 0 else 0.0
        near = longest * share**4 > 1
        later = max(int(share**-4), 1) if near else longest
        return problem, later, share

    def rules(self, steps: int) -> Rules | None:
        """What decides of explicit steps beside the kinetics' rates, as in `at`; no rate is small
        enough where other terms depend on the state. None where some depend on the time.

        Args:
            steps: of the whole trajectory.
        """
        if self._timed or not self.explicit:
            return None
        if self.moving:
            return Rules(np.full_like(self.by_species, np.inf), np.inf, 1.0, 1)
        longest = max(min(steps // LOOKS, LONGEST), 1)
        return Rules(self.by_species, self.stiffness, self.resolved, longest)

    def _rates(
        self,
        state: State,
        limit: float,
        start: int | None,
        known: Known | None,
        seen: Moving | None,
    ) -> tuple[np.ndarray, float]:
        """Those of diffusion, advection and linear reactions by species, and those of all with the
        kinetics, over all ranks."""
        comm, mass = self.grid.comm, self.part.mass
        rates = self.by_species
        if self.moving:
            moving = np.zeros(len(state.u)) if seen is None else seen.rates
            for p in self.moving if seen is None else ():
                moving += p.stiffness(state, mass)
            moving = largest(comm, np.where(np.isfinite(moving), moving, np.inf))
            rates = rates + np.maximum(moving - self.relief, 0.0)
        if not self.reacting:
            return rates, float(rates.max())
        share = (limit + float(rates.max())) / 2
        given = rates, self.resolved, share
        found = known(state.u, start, *given) if known is not None else None
        if found is None:
            own = np.zeros((len(state.u),) * 2)[..., None]
            for q in self.reacting:
                own = own + q.jacobians(state, start)
            found = fastest(own / self._units(state, start), *given)
        return rates, largest(comm, max(found, float(rates.max())))

    def _units(self, state: State, start: int | None) -> np.ndarray | float:
        """gamma S at the cells of `TermAt.jacobians`."""
        unit, shape = self.part.unit, state.u.shape[1:]
        if np.ndim(unit) == 0:
            return unit
        whole, on = (
            np.broadcast_to(unit, shape),
            np.broadcast_to(self.grid.active, shape),
        )
        if start is None:
            flat, kept = np.ravel(whole, order="F"), np.ravel(on, order="F")
        else:
            flat, kept = sample(whole, start), sample(on, start)
        return flat if self.grid.mask is None else flat[kept]

    def wrong(self, state: State, seen: Moving | None = None) -> str | None:
        """What is wrong with diffusivities D(u) at a state, or at any of its columns: values below
        0 (beyond rounding) make no sense backward in time."""
        for j, point in enumerate(self.moving):
            low, high = point.range(state) if seen is None else seen.ranges[j]
            low, high = smallest(self.grid.comm, low), largest(self.grid.comm, high)
            if not low >= -ROUNDING * max(high, -low, 0.0):
                return f"{point.term.said} falls to {low:.4g}"
        return None
