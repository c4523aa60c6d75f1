"""Chains go on where they were stopped, write what others read, and refuse what cannot be."""

import numpy as np
import pytest
from mpi4py import MPI
from rates import laplace, log_rate, rate

from npde_opt.errors import InputError
from npde_opt.sampling import SamplingSettings, sample


class Stopped(Exception):
    pass


def stop(number, chain):
    """After the second checkpoint of the second chain."""
    if number == 1 and chain.progress.done >= 20:
        raise Stopped


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("method", ["gpcn", "mala"])
def test_a_chain_goes_on_to_the_bit(tmp_path, method):
    out = MPI.COMM_WORLD.bcast(tmp_path)
    J, m = rate()
    settings = SamplingSettings(method, steps=30, burn_in=10, chains=2, checkpoint=10)
    arguments = settings, ["log k"], log_rate(J)
    whole = sample(laplace(J, m), *arguments)
    with pytest.raises(Stopped):
        sample(laplace(J, m), *arguments, out, watch=stop)
    again = sample(laplace(J, m), *arguments, out)
    assert np.array_equal(again.traces, whole.traces)
    assert np.array_equal(again.mean.getArray(), whole.mean.getArray())
    assert np.array_equal(again.variance.getArray(), whole.variance.getArray())
    assert again.steps == whole.steps and again.acceptance == whole.acceptance
    text = (out / "chain-1.csv").read_text().splitlines()
    assert text[2] == "lp__,accept_stat__,log k" and len(text) == 33
    row = [float(v) for v in text[-1].split(",")]
    assert row == [-whole.traces[1, -1, 0], *whole.traces[1, -1, 1:]]


def test_every_second_step_is_kept():
    J, m = rate()
    settings = SamplingSettings(steps=20, burn_in=0, chains=1, every=2)
    found = sample(laplace(J, m), settings, ["log k"], log_rate(J))
    assert found.traces.shape == (1, 10, 3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": "nuts"}, "sampling.method: got nuts; allowed: pcn, gpcn, mala"),
        ({"steps": 0}, "sampling.steps"),
        ({"step": 1.5}, "sampling.step: got 1.5"),
        ({"burn_in": -1}, "sampling.burn_in"),
    ],
)
def test_settings_that_cannot_be(changes, said):
    with pytest.raises(InputError, match=said):
        SamplingSettings(**changes)


def test_another_runs_checkpoint_is_refused(tmp_path):
    J, m = rate()
    settings = SamplingSettings(steps=5, burn_in=0, chains=1)
    arguments = settings, ["log k"], log_rate(J), tmp_path
    sample(laplace(J, m), *arguments, {"case": "a"})
    with pytest.raises(InputError, match="case"):
        sample(laplace(J, m), *arguments, {"case": "b"})


def test_names_are_unique():
    J, m = rate()
    with pytest.raises(InputError, match="each once"):
        sample(laplace(J, m), SamplingSettings(), ["a", "a"], log_rate(J))
