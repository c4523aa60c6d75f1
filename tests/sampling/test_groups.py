"""Chains over groups of ranks are those of one group, and meet in one folder."""

import numpy as np
import pytest
from gaussians import field
from mpi4py import MPI
from rates import laplace, log_rate, rate

from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError
from npde_opt.posterior import Laplace
from npde_opt.sampling import SamplingSettings, sample
from npde_opt.sampling.groups import There, moved, sample_in_groups

COMM = MPI.COMM_WORLD


def there(own):
    J, m = rate(comm=own)
    return There(laplace(J, m), ("log k",), log_rate(J), lambda: None)


@pytest.mark.parallel([2, 3])
def test_groups_find_what_one_finds(tmp_path):
    out = COMM.bcast(tmp_path)
    J, m = rate()
    settings = SamplingSettings(steps=12, burn_in=4, chains=3, checkpoint=5)
    found = laplace(J, m)
    whole = sample(found, settings, ["log k"], log_rate(J))
    parts = sample_in_groups(found, COMM.size, there, settings, out)
    np.testing.assert_allclose(parts.traces, whole.traces, rtol=1e-8)
    for a, b in ((parts.mean, whole.mean), (parts.variance, whole.variance)):
        np.testing.assert_allclose(a.getArray(), b.getArray(), rtol=1e-8)
    assert sorted(p.name for p in out.glob("*.csv")) == [
        f"chain-{k}.csv" for k in range(3)
    ]
    # Groups go on where one was, and in any number.
    again = sample(found, settings, ["log k"], log_rate(J), out)
    assert np.array_equal(again.traces, parts.traces)


@pytest.mark.parallel([1, 2])
def test_wrong_numbers_of_groups_are_refused():
    J, m = rate()
    settings = SamplingSettings(steps=6, chains=1)
    for groups in (0, COMM.size + 1):
        with pytest.raises(InputError, match=rf"--chain-groups: got {groups}"):
            sample_in_groups(laplace(J, m), groups, there, settings)


@pytest.mark.parallel([2])
@pytest.mark.parametrize("split", [1, 2])
def test_a_posterior_moves_to_other_ranks(split):
    """Pairs, point and known entries: products with C are the same."""
    J, m = field(n=6, fixed=True, small=True, ensemble=Ensemble.split(COMM, split, 2))
    space = J.space
    fixed = space.create_vec()
    space.own(fixed, "D")[:1] = 1.0
    known = fixed.getArray(readonly=True) > 0
    here = Laplace(J.linearize(m), fixed=known)
    alone, _ = field(
        n=6, fixed=True, small=True, ensemble=Ensemble.whole(MPI.COMM_SELF)
    )
    there = moved(here, alone)
    for laplace_ in (here, there):
        r, out = laplace_.space.standard_normal(3), laplace_.space.create_vec()
        laplace_.apply(r, out)
        laplace_.told = float(r.dot(out))
    assert here.told == pytest.approx(there.told, rel=1e-6)
