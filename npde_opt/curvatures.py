"""What data tell of unknowns that nobody regularizes, in the units in which CG is preconditioned.

The preconditioner of Newton's CG is R^-1 of the unknowns with a regularizer, on which the data then
weigh as much as their eigenvalues above 1, and M^-1, the inverse mass, of the others, on which they
weigh anything: 1e6 and more for a first state that is observed to a thousandth. With

    M^-1 / c,    c = (q, H q) / (q, M q),    q = M^-1 g,

H being Gauss-Newton's Hessian of the data, both are of one size.
"""

from __future__ import annotations

from petsc4py import PETSc

from npde_opt.objective import Objective


def curvatures(objective: Objective, m: PETSc.Vec) -> dict[str, float]:
    """(q, H q) / (q, M q) of each unknown without a regularizer, q = M^-1 g and H Gauss-Newton's
    Hessian of the data: by so much CG, whose preconditioner knows the regularization and the mass
    M, is off between these unknowns and those that are regularized."""
    space, found = objective.space, {}
    at = objective.linearize(m)
    for name in sorted(set(space.blocks) - set(objective.regularizers)):
        q, Hq, Mq = (objective.create_vec() for _ in range(3))
        at.precondition(at.gradient(), q)
        for other in set(space.blocks) - {name}:
            space.zero_block(q, other)
        at.data_hessian(q, Hq, True)
        mass = space.mass()
        Mq.pointwiseMult(mass, q)
        size, seen = q.dot(Mq), q.dot(Hq)
        if size > 0 and seen > 0:
            found[name] = float(seen / size)
        for vec in (q, Hq, Mq, mass):
            vec.destroy()
    at.destroy()
    return found
