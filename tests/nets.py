"""Small networks under an objective, and what is checked of each of them."""

import numpy as np
from mpi4py import MPI

from npde_opt.misfits import LeastSquares
from npde_opt.networks import Part, Weight
from npde_opt.objective import Objective
from npde_opt.verify import dot_product_test, taylor_test


class Drawn:
    """Samples that are the same on any number of ranks; part p of sample e."""

    def __init__(self, numbers):
        self.numbers = list(numbers)

    def __len__(self):
        return len(self.numbers)

    def part(self, number, samples, place):
        shape = (place.channels, *place.layout.shape[::-1])
        chosen = [self.numbers[s] for s in samples]
        every = [
            np.random.default_rng([e, number]).standard_normal(shape) for e in chosen
        ]
        return place.own(np.stack(every, axis=1))


def part(operator, name, step=None, sign=1.0):
    return Part(operator, Weight(name, operator.shape, step, operator.inputs), sign)


def drawn(where, samples, seed):
    """A state that is the same on any number of ranks."""
    shape = (where.channels, samples, *where.layout.shape[::-1])
    return where.own(np.random.default_rng(seed).standard_normal(shape)).copy()


def objective(network, samples=3):
    """Least squares of drawn data, with weights and a change of them that are none of 0."""
    forward = network.over(Drawn(range(samples)))
    layout = forward.layouts[0]
    y = np.random.default_rng(7).standard_normal((layout.size, samples))
    J = Objective(forward, [LeastSquares(y, 0.5, layout)], {})
    values, changes = network.initial(3), network.initial(4)
    for n, name in enumerate(values):
        # Away from where weights begin at 0, or at one value.
        draws = np.random.default_rng([n, 9]).uniform(
            0.5, 1.5, (2, *values[name].shape)
        )
        if not np.ptp(values[name]):
            values[name] = draws[0] * (values[name] if values[name].any() else 0.3)
            changes[name] = draws[1] * (changes[name] if changes[name].any() else 0.2)
    return J, J.space.from_values(values), J.space.from_values(changes)


def check_derivatives(network, samples=3):
    J, m, dm = objective(network, samples)
    orders = taylor_test(J, m, dm)
    assert orders.problems() == [], orders
    lin = J.linearize(m).linearization
    assert dot_product_test(lin, dm, [d.layout.noise(1) for d in lin.data]) <= 1e-12


def figures(network, samples=3):
    """J, its gradient and a Hessian product, in numbers that are the same on any ranks."""
    J, m, dm = objective(network, samples)
    at, h = J.linearize(m), J.create_vec()
    at.hessian(dm, h)
    g = at.gradient()
    found = [at.value, g.norm(), g.dot(dm), h.norm(), h.dot(dm)]
    at.destroy()
    return np.array(found)


def total(value):
    return MPI.COMM_WORLD.allreduce(float(value))
