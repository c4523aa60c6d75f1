"""Operations of a point raise on all ranks what they raise on one, and agree no more often than
they must."""

import pytest
from mpi4py import MPI
from sums import COUNT, made

from npde_opt import agreement, reductions
from npde_opt.objective import ObjectiveAt
from npde_opt.optimizers.point import Agreed, Tally
from tests.optimizers.conftest import Quadratic

COMM = MPI.COMM_WORLD
OPERATIONS = ("gradient", "hessian", "regularization_hessian", "precondition")


def applied(at, name, m, out):
    operation = getattr(at, name)
    if name == "gradient":
        return operation()
    return operation(m, out, False) if name == "hessian" else operation(m, out)


class Derived(ObjectiveAt):
    """Of which nothing is known."""


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("derived", [False, True])
def test_only_what_may_fail_after_its_last_agreement_has_another_one(
    monkeypatch, name, derived
):
    objective, m, _ = made("steady")
    if derived:
        monkeypatch.setattr(objective, "linearize", lambda m: Derived(objective, m))
    at, out = Agreed(objective, m, Tally(), COUNT), m.duplicate()
    inner, counts = objective.linearize(m), [0]
    least = agreement.Channel.least

    def counted(*given):
        counts[-1] += 1
        return least(*given)

    monkeypatch.setattr(agreement.Channel, "least", counted)
    for of in (inner, at):
        # Twice, as a state and its adjoint are solved for once.
        applied(of, "gradient", m, out)
        counts.append(0)
        applied(of, name, m, out)
        counts.append(0)
    _, alone, _, agreed, _ = counts
    assert agreed == alone + derived
    assert alone > 0 or name == "gradient"


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("own", [True, False])
def test_what_one_rank_raises_all_do(monkeypatch, name, own):
    def fails(*given):
        if COMM.rank == COMM.size - 1:
            raise ValueError("it failed")

    if own:
        objective, m, _ = made("steady")
        method = name.replace("regularization_", "")
        monkeypatch.setattr(objective.regularizers["D"], method, fails)
    else:
        objective = Quadratic()
        m = objective.start()
    at = Agreed(objective, m, Tally(), COUNT)
    if not own:
        monkeypatch.setattr(at._at, name, fails)
    with pytest.raises(ValueError, match="it failed"):
        applied(at, name, m, m.duplicate())
    assert reductions.total(COMM, 1) == COMM.size
