"""diag P^-1, the prior's variance of every entry: known, from unit vectors where entries are few,
or the mean square of samples,

    s_i^2 = 1/n sum_k x_ki^2,   x_k ~ N(0, P^-1),

whose relative standard error is sqrt(2 / n).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.parameters import ParameterSpace
from npde_opt.posterior.prior import Prior

FEW = 1500
"""Entries of an unknown up to which each has a solve of its own."""


@dataclass(frozen=True)
class Diagonal:
    """
    Attributes:
        own: own entries, as they lie in a Vec of the space; 0 where they are known.
        errors: by unknown, relative standard error.
    """

    own: np.ndarray
    errors: dict[str, float]


def inverse_diagonal(prior: Prior, samples: int, seed: int) -> Diagonal:
    """diag P^-1, from so many samples where it has to be estimated. Collective."""
    space = prior.space
    whole, errors, drawn = space.create_vec(), dict[str, float](), list[str]()
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
        squares = _mean_square(prior, samples, seed)
        for name in drawn:
            own, of = space.own(whole, name), squares[name]
            own[...] = of
    found = np.array(whole.getArray(readonly=True))
    whole.destroy()
    return Diagonal(found, errors)


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


def _mean_square(prior: Prior, samples: int, seed: int) -> dict[str, np.ndarray]:
    """Of samples, by unknown. Collective."""
    space = prior.space
    total = {u.name: space.blocks[u.name].empty() for u in space.unknowns}
    for number in range(samples):
        sample = prior.sample(reductions.same(space.comm, seed, "the seed") + number)
        for name, sums in total.items():
            sums += space.look(sample, name) ** 2
        sample.destroy()
    return {name: sums / samples for name, sums in total.items()}
