"""The leading eigenpairs of the data's Hessian against the prior's precision,

    D v = x P v,   V^T P V = 1,

by a block Krylov space of P^-1 D with Rayleigh-Ritz, columns orthonormal in P. It begins with
random directions, or with those that another grid had; each block that follows are the residuals
r = P^-1 (D v - x P v) of pairs that are not there yet, so that pairs converge as those of block
Lanczos do: an eigenvalue's error is the square of its residual's norm. Every column costs a product
with D and a solve with P, which may be a rough one: its errors slow convergence down and change no
pair, since D and P are multiplied with exactly.

Of eigenvalues that lie together such a space sees as many as its random columns are. So it ends
only where P^-1 D of a fresh random block, of which what is known already was taken away, brings
no pair that is wanted.

A product with a mixture of directions carries an error of the size of the largest eigenvalue among
them, which may be more than residuals of small ones are allowed to be: these then stay where they
are, however many directions are added. Pairs whose residuals no longer fall are multiplied with D
again, each by itself; where that does not help the search ends.

Randomized methods with two passes are the first two blocks (Halko, Martinsson, Tropp 2011; Musco,
Musco 2015).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from npde_opt.linear.accuracy import solved_to
from npde_opt.parameters import ParameterSpace
from npde_opt.parameters.draws import child
from npde_opt.posterior.columns import Action, column, dots, gram, mapped, mix, times
from npde_opt.posterior.prior import Prior
from npde_opt.posterior.settings import PosteriorSettings
from npde_opt.seen import Seen

DEPENDENT = 1e-12
"""Square of what is left of a direction beside others, relative to it, that is rounding."""
CLEAR = 1e-4
"""The same, that rounding leaves as it is: directions are as orthonormal as the rest of them."""
ROUGH, ROUGHER = 1e-3, 0.1
"""Relative tolerance of the solves for directions, and where only a norm is asked for."""
SEEN, SHARE = 1e-4, 1e-3
"""Relative tolerance of the solves in products with D: this, or a share of that of eigenvalues."""
FALLEN, IDLE, AGAIN = 0.9, 3, 2
"""Share of what it was, to which a residual falls or it stands still; looks without such a fall
before pairs are multiplied again, and how often that is tried."""
TIGHT = 1e-7
"""Relative tolerance of solves in products that are made again."""
ORIENTATION = 0
"""Seed of the vector that decides on signs."""


@dataclass(frozen=True)
class Pairs:
    """
    Attributes:
        values: (k,), largest modulus first, all at or above the cut.
        vectors: own rows (local, k), orthonormal in P.
        below: eigenvalues below the cut that came with them, not converged.
        products: with D.
        complete: whether all pairs above the cut are there and converged, as far as a random block
            shows; False where settings.most ended the search, or it was stuck.
        stuck: whether residuals stood still above the tolerance: products with D are too rough.
        duals: P V, own rows (local, k), where it is known.
        seen: J V, where it is known: of these vectors, on these ranks.
    """

    values: np.ndarray
    vectors: np.ndarray
    below: np.ndarray
    products: int
    complete: bool
    duals: np.ndarray | None = None
    stuck: bool = False
    seen: Seen | None = None


def leading(
    prior: Prior,
    data: Action,
    settings: PosteriorSettings,
    start: np.ndarray | None = None,
    sure: bool = False,
) -> Pairs:
    """All pairs with |x| >= settings.cut. Collective.

    Args:
        data: a product with D.
        start: own rows (local, any) of directions to begin with; None: random ones.
        sure: nothing is missing among those: the search ends once all that it has above the cut
            have converged, where it has some below.
    """
    search, drawn, before = Search(prior, _rougher(data, settings), settings), 0, -1
    none = np.empty((prior.space.local_size, 0))
    columns, whole = none if start is None else start, False
    # More columns than there are directions would be thrown away.
    block = min(settings.block, settings.most, max(prior.free_count, 1))
    while search.count < settings.most:
        if search.count >= prior.free_count:
            whole = True
            break
        probing = not columns.shape[1]
        if probing:
            columns = _random(prior, block, settings.seed, drawn)
            drawn += block
            if search.count:
                columns = search.seen(search.beside(columns))
        added = search.extend(columns[:, : settings.most - search.count])
        whole = probing and not added
        if whole:
            break
        columns = search.next_block()
        if search.stuck:
            break
        # A space that sees nothing below the cut may not have seen all above it.
        ended = not columns.shape[1] and not search.wanted.all()
        if ended or not added:
            number = int(search.wanted.sum())
            if number == before or sure and ended and start is not None:
                break
            before, columns = number, none
    complete = search.count < settings.most and search.settled == search.wanted.sum()
    return search.pairs(bool(complete) or whole)


def _rougher(data: Action, settings: PosteriorSettings) -> Action:
    """Products as exact as the eigenvalues need them."""
    rtol = min(SEEN, SHARE * settings.rtol)

    def product(x: PETSc.Vec, out: PETSc.Vec) -> None:
        with solved_to(rtol):
            data(x, out)

    return product


def _random(prior: Prior, count: int, seed: int, first: int) -> np.ndarray:
    """P^-1 of white noise: smooth, as what data see. `first` columns were drawn before."""
    columns = np.empty((prior.space.local_size, count), order="F")
    out = prior.space.create_vec()
    for j in range(count):
        white = prior.space.standard_normal(child(seed, first + j))
        prior.mask(white)
        prior.solve(white, out, ROUGH)
        columns[:, j] = out.getArray(readonly=True)
        white.destroy()
    out.destroy()
    return columns


class Search:
    """W with W^T P W = 1, P W, D W and T = W^T D W, with the eigenpairs of T.

    Attributes:
        values, vectors: of T, largest modulus first.
        settled: so many leading pairs are converged.
        products: with D.
        stuck: whether residuals stand still, of products made again, too.
    """

    def __init__(self, prior: Prior, data: Action, settings: PosteriorSettings):
        self.prior, self.space, self.data = prior, prior.space, data
        self.settings = settings
        self._directions, self._images = Growing(self.space), Growing(self.space)
        self._duals = Growing(self.space)
        self.T = self.vectors = np.empty((0, 0))
        self.values = np.empty(0)
        self.settled = self.products = 0
        self.stuck = False
        self._idle = self._again = 0
        self._before = 0, 0, np.inf

    @property
    def count(self) -> int:
        return self._directions.count

    @property
    def wanted(self) -> np.ndarray:
        return np.asarray(np.abs(self.values) >= self.settings.cut)

    def beside(self, columns: np.ndarray) -> np.ndarray:
        """What the columns have beside W: D sees more of the largest pairs in any column than of
        all that are missing, which would be lost in the errors of a solve."""
        along = gram(self.space, self._duals.all, columns)
        return np.asarray(columns - times(self._directions.all, along))

    def seen(self, columns: np.ndarray) -> np.ndarray:
        """P^-1 D of the columns."""
        self.products += columns.shape[1]
        images = mapped(self.space, self.data, columns)
        return mapped(self.space, self._solve, images)

    def extend(self, columns: np.ndarray) -> int:
        """Adds what of the columns is new; how many directions that is."""
        new, duals = self._orthonormal(columns)
        if not new.shape[1]:
            return 0
        images = mapped(self.space, self.data, new)
        self.products += new.shape[1]
        for kept, added in (
            (self._directions, new),
            (self._duals, duals),
            (self._images, images),
        ):
            kept.add(added)
        self.T = _bordered(self.T, gram(self.space, self._directions.all, images))
        self._diagonalize()
        return int(new.shape[1])

    def _room(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(self.settings.rtol * (1 + np.abs(values)))

    def _orthonormal(self, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the columns have beside W, as columns that are orthonormal in P, and P of these."""
        images, dual = self._precision(columns), self._duals.all
        sizes = np.sqrt(np.maximum(dots(self.space, columns, images), 0.0))
        scale = np.where(sizes > 0, 1 / np.where(sizes > 0, sizes, 1.0), 0.0)
        if self.count:
            along = gram(self.space, dual, columns)
            columns = columns - times(self._directions.all, along)
            images = images - times(dual, along)
        # Relative to what they were before: what is left of one may be rounding.
        new, duals, least = self._mixed(columns, images, scale)
        if least > CLEAR:
            return new, duals
        if self.count:
            new -= times(self._directions.all, gram(self.space, dual, new))
        new, duals, _ = self._mixed(new, self._precision(new), np.ones(new.shape[1]))
        return new, duals

    def _mixed(
        self, columns: np.ndarray, images: np.ndarray, scale: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Independent ones of the columns, made orthonormal, their images under P, and the least
        share that one of them had of what it was."""
        left = gram(self.space, columns, images) * np.outer(scale, scale)
        found, vectors = np.linalg.eigh((left + left.T) / 2)
        good = found > DEPENDENT
        mixed = scale[:, None] * vectors[:, good] / np.sqrt(found[good])
        least = float(found.min(initial=1.0))
        return times(columns, mixed), times(images, mixed), least

    def _precision(self, columns: np.ndarray) -> np.ndarray:
        return mapped(self.space, self.prior.precision, columns)

    def next_block(self) -> np.ndarray:
        """P^-1 of residuals (local, any) of the first wanted pairs that are not converged, none
        where all are; counts those that are."""
        which, columns, worst = self._unsettled()
        if self._stands_still(worst):
            self._multiply_again(which)
            _, columns, _ = self._unsettled()
        return columns

    def _unsettled(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Numbers of these pairs, P^-1 of their residuals (local, any), and the largest norm of one
        over what it may be; counts those that are converged."""
        found, count = list[np.ndarray](), int(self.wanted.sum())
        number, prefix, missing = self.settled, True, self.settings.block
        which, worst = list[int](), 0.0
        while number < count and missing > 0:
            some = np.arange(number, min(number + missing, count))
            columns, norms = self._residuals(some)
            shares = norms / self._room(self.values[some])
            left = shares > 1
            worst = max(worst, float(shares.max()))
            if prefix:
                self.settled += int(np.argmax(left)) if left.any() else len(some)
            prefix = prefix and not left.any()
            found.append(columns[:, left])
            which += some[left].tolist()
            missing, number = missing - int(left.sum()), number + len(some)
        none = np.empty((self.space.local_size, 0))
        columns = np.asfortranarray(np.hstack(found)) if found else none
        return np.array(which, int), columns, worst

    def _stands_still(self, worst: float) -> bool:
        """Whether pairs that are left shall be multiplied again, as nothing changed in some looks;
        sets `stuck` where that was tried."""
        settled, wanted, was = self._before
        if self.settled > settled:
            self._again = 0
        now = self.settled, int(self.wanted.sum())
        same = now == (settled, wanted) and worst > FALLEN * was
        self._idle = self._idle + 1 if same and worst > 1 else 0
        self._before = *now, worst
        if self._idle < IDLE:
            return False
        self._idle, self._again = 0, self._again + 1
        self.stuck = self._again > AGAIN
        return not self.stuck

    def _multiply_again(self, which: np.ndarray) -> None:
        """Makes the pairs the directions, and the images of these ones their own."""
        for kept in (self._directions, self._duals, self._images):
            mix(kept.all, self.vectors)
        with solved_to(TIGHT):
            images = mapped(self.space, self.data, self._directions.all[:, which])
        self.products += len(which)
        self._images.all[:, which] = images
        T = gram(self.space, self._directions.all, self._images.all)
        # Of two products that should be the same that of the smaller pair has the smaller error.
        self.T = np.triu(T) + np.triu(T, 1).T
        self._diagonalize()

    def _diagonalize(self) -> None:
        """The pairs of T; those that move more than they may are not settled."""
        before = self.values[: self.settled]
        values, vectors = np.linalg.eigh(self.T)
        order = np.argsort(-np.abs(values), kind="stable")
        self.values, self.vectors = values[order], vectors[:, order]
        moved = np.abs(self.values[: self.settled] - before) > self._room(before)
        if moved.any():
            self.settled = int(np.argmax(moved))

    def _residuals(self, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """P^-1 (D v - x P v) of some pairs, and the norms of these in P."""
        some = self.vectors[:, which]
        dual = times(self._images.all, some)
        dual -= times(self._duals.all, some * self.values[which])
        solved = mapped(self.space, self._solve, dual)
        squares = dots(self.space, dual, solved)
        return solved, np.sqrt(np.maximum(squares, 0.0))

    def _solve(self, r: PETSc.Vec, out: PETSc.Vec) -> None:
        self.prior.solve(r, out, ROUGH)

    def pairs(self, complete: bool) -> Pairs:
        wanted = self.wanted
        mixed = self.vectors[:, wanted]
        vectors = times(self._directions.all, mixed)
        signs = orientation(self.space, vectors)
        duals = times(self._duals.all, mixed * signs)
        vectors *= signs
        below, values = self.values[~wanted], self.values[wanted]
        return Pairs(values, vectors, below, self.products, complete, duals, self.stuck)


def orientation(space: ParameterSpace, vectors: np.ndarray) -> np.ndarray:
    """Signs of the columns by which they have a positive part along a fixed one: rounding decides
    on those of eigenvectors, and traces and figures shall be the same on any number of ranks."""
    fixed = space.standard_normal(ORIENTATION)
    along = gram(space, column(fixed), vectors)[0]
    fixed.destroy()
    return np.where(along < 0, -1.0, 1.0)


class Growing:
    """Columns (local, count) that are added to."""

    def __init__(self, space: ParameterSpace):
        self._room = np.empty((space.local_size, 0), order="F")
        self.count = 0

    @property
    def all(self) -> np.ndarray:
        return self._room[:, : self.count]

    def add(self, columns: np.ndarray) -> None:
        end = self.count + columns.shape[1]
        if not self.count:
            self._room, self.count = columns, end
            return
        if end > self._room.shape[1]:
            larger = np.empty((len(self._room), 2 * end), order="F")
            larger[:, : self.count] = self.all
            self._room = larger
        self._room[:, self.count : end] = columns
        self.count = end


def _bordered(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """The symmetric matrix `old` with new last columns (all, new)."""
    whole, count = np.empty((len(new), len(new))), len(old)
    whole[:count, :count] = old
    whole[:, count:] = new
    whole[count:, :count] = new[:count].T
    last = whole[count:, count:]
    whole[count:, count:] = (last + last.T) / 2
    return whole
