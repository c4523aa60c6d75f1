"""Chains keep what they are asked to, and refuse what cannot be."""

import pytest
from mpi4py import MPI
from rates import laplace, log_rate, rate

from npde_opt.errors import InputError, NpdeError
from npde_opt.sampling import SamplingSettings, sample


def test_every_second_step_is_kept():
    J, m = rate()
    settings = SamplingSettings(steps=20, burn_in=0, chains=1, every=2)
    found = sample(laplace(J, m), settings, ["log k"], log_rate(J))
    assert found.traces.shape == (1, 10, 3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"method": "nuts"},
            "sampling.method: got nuts; allowed: pcn, gpcn, mala, hmc",
        ),
        ({"steps": 0}, "sampling.steps"),
        ({"step": 1.5}, "sampling.step: got 1.5"),
        ({"burn_in": -1}, "sampling.burn_in"),
        ({"every": 9, "steps": 8}, "sampling.every: got 9; allowed: at most 8"),
    ],
)
def test_settings_that_cannot_be(changes, said):
    with pytest.raises(InputError, match=said):
        SamplingSettings(**changes)


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a", "a"], "each once"),
        (["a,b"], "'a,b'; allowed: no commas"),
        (["lp__"], "'lp__'; allowed: .* none of lp__"),
        (["a", "b"], r"shape of the figures: got \(1,\); allowed: \(2,\), .* a, b"),
        ([], r"got \(1,\); allowed: \(0,\)"),
    ],
)
def test_names_of_figures_that_cannot_be(names, said):
    J, m = rate()
    with pytest.raises(InputError, match=said):
        sample(laplace(J, m), SamplingSettings(), names, log_rate(J))


@pytest.mark.parallel([2])
def test_figures_are_the_same_on_every_rank():
    J, m = rate()
    with pytest.raises(NpdeError, match="the figure rank differs between ranks"):
        figures = lambda m: MPI.COMM_WORLD.rank  # noqa: E731
        sample(laplace(J, m), SamplingSettings(), ["rank"], figures)
