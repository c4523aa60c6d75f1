"""Which entries count as known at a bound."""

import pytest
from rates import COMM, rate

from npde_opt import reductions
from npde_opt.posterior import Laplace, PosteriorSettings
from npde_opt.posterior.bounds import held


def any_held(J, k):
    at = J.linearize(J.space.from_values({"k": k}))
    found = held(at)
    return found is not None and reductions.anywhere(COMM, bool(found.any())), at


@pytest.mark.parallel([1, 2])
def test_only_where_the_objective_falls_beyond_the_bound():
    """The minimum without bounds lies at k = 0.68."""
    J, _ = rate(bounds=(1.0, 3.0))
    assert any_held(J, 1.0)[0]
    assert not any_held(J, 1.5)[0]
    assert not any_held(J, 3.0)[0]
    upper, _ = rate(bounds=(0.1, 0.5))
    assert any_held(upper, 0.5)[0]
    assert not any_held(rate()[0], 1.0)[0]


@pytest.mark.parallel([1, 2])
def test_what_is_held_has_no_variance():
    J, _ = rate(bounds=(1.0, 3.0))
    _, at = any_held(J, 1.0)
    found = Laplace(at, PosteriorSettings(cut=1e-6), fixed=held(at))
    assert (found.variance == 0).all() and len(found.values) == 0
