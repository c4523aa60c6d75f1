"""The Laplace approximation of the posterior at a minimizer m, N(m, C):

    C = (P + D)^-1 ~ P^-1 - V diag(x / (1 + x)) V^T,   D V = P V diag(x),   V^T P V = 1,

with the prior's precision P and the data's Hessian D. With s ~ N(0, P^-1), a sample is

    m + s - V diag(1 - 1 / sqrt(1 + x)) V^T P s.

    KL(posterior, prior) = 1/2 sum (log(1 + x) - x / (1 + x)) + 1/2 (m - q)^T P (m - q)

is the information that these data gave, 1/2 sum log(1 + x) what such data are expected to give, and
sum x / (1 + x) how many numbers they determine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from functools import cached_property

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.objective import ObjectiveAt
from npde_opt.parameters.draws import child
from npde_opt.posterior.columns import (
    column,
    gram,
    less,
    mapped,
    squares_times,
    together,
)
from npde_opt.posterior.diagonal import Diagonal, inverse_diagonal
from npde_opt.posterior.eigenpairs import Pairs, leading
from npde_opt.posterior.prior import Prior
from npde_opt.posterior.ritz import among
from npde_opt.posterior.settings import PosteriorSettings

TOGETHER = 32
"""Samples that are held at once: products with so many columns take two thirds of the time that
those with 16 do."""
SHARED = 16
"""Changes from the prior that are kept for what asks for the same ones: samples and sums."""


class Laplace:
    """The posterior at a point of an objective; what others build on.

    All methods are collective over the objective's ranks. Vecs that are returned or yielded belong
    to the caller; changes are 0 where the parameters are known.

        precision(x, out)      out = (P + D) x, D from the pairs
        apply(r, out)          out = C r
        prior_samples(n, seed), posterior_samples(n, seed)   iterators of Vecs of parameters
        prior_variance, variance   own values of diag P^-1 and diag C, as they lie in a Vec
        covariances(functionals)   P^-1 and C between functionals, given as gradients
        values, vectors        x (k,) and own rows (local, k) of V
        prior                  P: precision, solve, noise, sample, mean

    Args:
        at: the point m. It stays the caller's, and has to live as long as this.
        settings: see PosteriorSettings.
        start: own rows (local, any) of directions to begin with, as those of a coarser grid; None:
            random ones. sure: that nothing is missing among them: where they are near to the pairs
            (`among`), they are overwritten, and products with J find these; otherwise see
            `leading`.
        fixed: own entries that are known beside those of the parameter space (at bounds); None:
            none.
        pairs: found before, as on other ranks; None: they are sought.

    Raises:
        InputError: where the prior is improper; see Prior.
        InputError: where the exact Hessian has a direction along which the objective falls.
    """

    def __init__(
        self,
        at: ObjectiveAt,
        settings: PosteriorSettings | None = None,
        start: np.ndarray | None = None,
        fixed: np.ndarray | None = None,
        pairs: Pairs | None = None,
        sure: bool = False,
    ):
        begin = time.monotonic()
        self.settings = settings or PosteriorSettings()
        self.at, self.objective, self.space = at, at.objective, at.objective.space
        self.fixed = fixed
        self.prior = Prior(at, self.settings.prior_rtol, fixed)
        self.pairs = pairs or self._sought(start, sure)
        self.values, self.vectors = self.pairs.values, self.pairs.vectors
        self._shared: dict[int, np.ndarray] = {}
        self._check_minimum()
        self.seconds = time.monotonic() - begin

    def _sought(self, start: np.ndarray | None, sure: bool) -> Pairs:
        found = None
        if start is not None and sure and self.settings.gauss_newton:
            found = among(self.at, self.prior, self.data, self.settings, start)
        return found or leading(self.prior, self.data, self.settings, start, sure)

    def data(self, x: PETSc.Vec, out: PETSc.Vec) -> None:
        self.at.data_hessian(x, out, self.settings.gauss_newton)
        self.prior.mask(out)

    def _check_minimum(self) -> None:
        least = float(np.min(self.values, initial=0.0))
        if least <= -1:
            raise InputError(
                "posterior.gauss_newton",
                f"the exact Hessian, with an eigenvalue of {least:.3g} against the prior: along "
                "it the objective falls, and this is no minimum",
                "true, or a point nearer to the minimum",
            )

    # ---- products and samples ------------------------------------------------------------------

    @cached_property
    def dual(self) -> np.ndarray:
        """P V, own rows (local, k)."""
        if self.pairs.duals is not None:
            return self.pairs.duals
        return mapped(self.space, self.prior.precision, self.vectors)

    def apply(self, r: PETSc.Vec, out: PETSc.Vec) -> None:
        """out = C r."""
        self.prior.solve(r, out)
        self._shrink(out, self.values / (1 + self.values))

    def _shrink(self, x: PETSc.Vec, parts: np.ndarray) -> None:
        """x -= V diag(parts) V^T P x: of P x, not of what was solved with, whose error is large
        beside what is left along the first directions."""
        x.setArray(self._shrunk(column(x), parts))

    def _shrunk(self, columns: np.ndarray, parts: np.ndarray) -> np.ndarray:
        """The same of columns (local, any)."""
        along = gram(self.space, self.dual, columns)
        return less(columns, self.vectors, parts[:, None] * along)

    def beside(self, columns: np.ndarray) -> np.ndarray:
        """What columns (local, any) have beside V."""
        return self._shrunk(columns, np.ones(len(self.values)))

    def precision(self, x: PETSc.Vec, out: PETSc.Vec) -> None:
        """out = (P + P V diag(x) V^T P) x."""
        self.prior.precision(x, out)
        along = gram(self.space, self.dual, column(x))[:, 0]
        own = out.getArray()
        own += self.dual @ (self.values * along)

    def prior_samples(self, count: int, seed: int = 0) -> Iterator[PETSc.Vec]:
        """Parameters drawn from the prior: the same on any number of ranks, and the same for a
        number and a seed whatever the count."""
        mean = self.prior.mean()
        for number in range(count):
            sample = self.prior.sample(child(seed, number))
            sample.axpy(1.0, mean)
            yield sample
        mean.destroy()

    def posterior_samples(self, count: int, seed: int = 0) -> Iterator[PETSc.Vec]:
        """Parameters drawn from the posterior, of the same noise as those of `prior_samples`."""
        parts, m = 1 - 1 / np.sqrt(1 + self.values), self.at.m.getArray(readonly=True)
        for first in range(0, count, TOGETHER):
            numbers = range(first, min(first + TOGETHER, count))
            columns = self._shrunk(self.changes(numbers, seed), parts)
            for change in columns.T:
                sample = self.space.create_vec()
                sample.setArray(m + change)
                yield sample

    def changes(self, numbers: range, seed: int) -> np.ndarray:
        """Those of `prior_samples` of these numbers, without the mean: own rows (local, any). The
        first ones of the settings' seed are drawn once."""
        shared = seed == self.settings.seed
        columns = np.empty((self.space.local_size, len(numbers)), order="F")
        for own, number in zip(columns.T, numbers, strict=True):
            if shared and number in self._shared:
                own[...] = self._shared[number]
                continue
            change = self.prior.sample(child(seed, number))
            own[...] = change.getArray(readonly=True)
            change.destroy()
            if shared and number < SHARED:
                self._shared[number] = own.copy()
        return columns

    def change(self, seed: int) -> PETSc.Vec:
        """A change ~ N(0, C)."""
        out = self.prior.sample(seed)
        self._shrink(out, 1 - 1 / np.sqrt(1 + self.values))
        return out

    # ---- variances -----------------------------------------------------------------------------

    @cached_property
    def prior_diagonal(self) -> Diagonal:
        """diag P^-1, with its errors."""
        settings, every = self.settings, np.ones(len(self.values))

        def take(x: PETSc.Vec) -> None:
            self._shrink(x, every)

        return inverse_diagonal(self.prior, settings.samples, settings.seed, take)

    @cached_property
    def prior_variance(self) -> np.ndarray:
        """diag P^-1; where it is estimated, of that the part beside V."""
        own, every = self.prior_diagonal.own, np.ones((len(self.values), 1))
        along = squares_times(self.vectors, every)[:, 0]
        return np.asarray(own + np.where(self.prior_diagonal.beside, along, 0.0))

    @cached_property
    def variance(self) -> np.ndarray:
        """diag C: of the prior's variance what the data leave along V, and what is beside V."""
        own, x = self.prior_diagonal.own, self.values
        shares = np.stack([1 / (1 + x), x / (1 + x)], axis=1)
        left, taken = squares_times(self.vectors, shares).T
        known = np.maximum(own - taken, 0.0)
        return np.asarray(np.where(self.prior_diagonal.beside, own + left, known))

    def covariances(
        self, functionals: list[PETSc.Vec]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Prior and posterior covariance, (n, n) each, of linear functionals of the parameters: a
        solve with the prior for each.

        Args:
            functionals: their gradients, as unit vectors of places.
        """
        rows = together(functionals)
        images = mapped(self.space, self.prior.solve, rows)
        after = self._shrunk(images, self.values / (1 + self.values))
        found = [gram(self.space, rows, columns) for columns in (images, after)]
        before, left = (np.asarray((c + c.T) / 2) for c in found)
        return before, left

    def covariance(self, functionals: list[PETSc.Vec]) -> np.ndarray:
        """(n, n) posterior covariance of linear functionals of the parameters, given by their
        gradients."""
        return self.covariances(functionals)[1]

    # ---- information ---------------------------------------------------------------------------

    @cached_property
    def distance(self) -> float:
        """1/2 (m - q)^T P (m - q)."""
        mean, image = self.prior.mean(), self.space.create_vec()
        mean.aypx(-1.0, self.at.m)
        self.prior.precision(mean, image)
        found = 0.5 * float(mean.dot(image))
        mean.destroy()
        image.destroy()
        return found

    @property
    def divergence(self) -> float:
        """KL(posterior, prior), in nats."""
        x = self.values
        return 0.5 * float((np.log1p(x) - x / (1 + x)).sum()) + self.distance

    @property
    def expected_information(self) -> float:
        """Mean of the divergence over data that the prior predicts, in nats."""
        return 0.5 * float(np.log1p(self.values).sum())

    @property
    def determined(self) -> float:
        """How many numbers the data determine."""
        return float((self.values / (1 + self.values)).sum())

    def deviation(self, gradient: PETSc.Vec) -> float:
        """Standard deviation of a functional with this gradient."""
        image = gradient.duplicate()
        self.apply(gradient, image)
        found = math.sqrt(max(float(gradient.dot(image)), 0.0))
        image.destroy()
        return found
