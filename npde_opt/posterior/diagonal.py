"""diag P^-1, the prior's variance of every entry: known, from unit vectors where entries are few,
or, as the data take nothing away beside the leading vectors V (V^T P V = 1), of a part beside them
that is estimated and one along them that is known:

    diag (P^-1 - V V^T) ~ 1/n sum_k x_ki^2,   x_k = (1 - V V^T P) s_k,   s_k ~ N(0, P^-1),

whose relative standard error is sqrt(2 / n). What the data leave is not a difference of numbers
with errors, and no error is beyond that part of what is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.parameters import ParameterSpace
from npde_opt.parameters.draws import child
from npde_opt.posterior.prior import Prior

FEW = 1500
"""Entries of an unknown up to which each has a solve of its own."""


@dataclass(frozen=True)
class Diagonal:
    """
    Attributes:
        own: own entries, as they lie in a Vec of the space; 0 where they are known.
        beside: where `own` is the part beside V, estimated; elsewhere it is the whole.
        errors: by unknown, relative standard error of `own`.
    """

    own: np.ndarray
    beside: np.ndarray
    errors: dict[str, float]


def inverse_diagonal(
    prior: Prior, samples: int, seed: int, take: Callable[[PETSc.Vec], None]
) -> Diagonal:
    """diag P^-1, from so many samples where it has to be estimated. Collective.

    Args:
        take: takes away what a vector has along V.
    """
    space = prior.space
    whole, errors, drawn = space.create_vec(), dict[str, float](), list[str]()
    which = space.create_vec()
    for u in space.unknowns:
        block = space.blocks[u.name]
        own = space.own(whole, u.name)
        known = prior.known_variance(u.name)
        errors[u.name] = 0.0
        if known is not None:
            own[...] = np.where(block.free, block.view(known), 0.0)
        elif block.free_count() <= FEW:
            own[...] = _by_units(prior, u.name)
        else:
            drawn.append(u.name)
            errors[u.name] = math.sqrt(2.0 / samples)
    if drawn:
        squares = _mean_square(prior, samples, seed, take)
        for name in drawn:
            own, of = space.own(whole, name), squares[name]
            own[...] = of
            mark = space.own(which, name)
            mark[...] = 1.0
    found = np.array(whole.getArray(readonly=True))
    beside = np.asarray(which.getArray(readonly=True) > 0)
    whole.destroy()
    which.destroy()
    return Diagonal(found, beside, errors)


def _by_units(prior: Prior, name: str) -> np.ndarray:
    """Own entries of an unknown, each from a solve. Collective."""
    space = prior.space
    block, comm = space.blocks[name], space.comm
    found, places = block.empty(), np.argwhere(block.free)
    counts = comm.allgather(len(places))
    unit, image = space.create_vec(), space.create_vec()
    for rank, count in enumerate(counts):
        for number in range(count):
            place = tuple(places[number]) if rank == comm.rank else None
            _fill(space, unit, name, place)
            prior.mask(unit)
            prior.solve(unit, image)
            if place is not None:
                found[place] = space.look(image, name)[place]
    unit.destroy()
    image.destroy()
    return found


def _fill(
    space: ParameterSpace, unit: PETSc.Vec, name: str, place: tuple[int, ...] | None
) -> None:
    """The unit vector of an entry, on a rank that owns it. Collective."""
    unit.set(0.0)
    # PETSc takes no notice of what is written while a view from before is alive.
    own = space.own(unit, name)
    if place is not None:
        own[place] = 1.0


def _mean_square(
    prior: Prior, samples: int, seed: int, take: Callable[[PETSc.Vec], None]
) -> dict[str, np.ndarray]:
    """Of what samples have beside V, by unknown. Collective."""
    space = prior.space
    total = {u.name: space.blocks[u.name].empty() for u in space.unknowns}
    begin = reductions.same(space.comm, seed, "the seed")
    for number in range(samples):
        sample = prior.sample(child(begin, number))
        take(sample)
        for name, sums in total.items():
            sums += space.look(sample, name) ** 2
        sample.destroy()
    return {name: sums / samples for name, sums in total.items()}
