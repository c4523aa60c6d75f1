"""Chains go on where they were stopped, and only as what they were; groups share one folder."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from gaussians import field
from mpi4py import MPI
from rates import laplace, log_rate, rate

from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError
from npde_opt.io.checkpoint import load_checkpoint, save_checkpoint
from npde_opt.io.zarr_reader import window_of
from npde_opt.posterior import Laplace
from npde_opt.sampling import Kept, SamplingSettings, sample
from npde_opt.sampling.folder import refuse_other_chains

COMM = MPI.COMM_WORLD
SHORT = {"steps": 6, "burn_in": 2, "chains": 1, "checkpoint": 4}


class Stopped(Exception):
    pass


def stop(number, chain):
    """After the second checkpoint of the second chain."""
    if number == 1 and chain.progress.done >= 8:
        raise Stopped


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("method", ["gpcn", "hmc"])
def test_a_chain_goes_on_to_the_bit(tmp_path, method):
    out = COMM.bcast(tmp_path)
    J, m = rate()
    settings = SamplingSettings(method, steps=8, burn_in=4, chains=2, checkpoint=4)
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
    assert text[2] == "lp__,accept_stat__,log k" and len(text) == 11
    row = [float(v) for v in text[-1].split(",")]
    assert row == [-whole.traces[1, -1, 0], *whole.traces[1, -1, 1:]]


@pytest.mark.parallel([1, 2])
def test_more_steps_go_on_and_fewer_are_refused(tmp_path):
    out = COMM.bcast(tmp_path)
    J, m = rate()
    found, rest = laplace(J, m), (["log k"], log_rate(J))
    sample(found, SamplingSettings(**SHORT), *rest, out)
    more = SamplingSettings(**{**SHORT, "steps": 9})
    again = sample(found, more, *rest, out)
    assert np.array_equal(again.traces, sample(found, more, *rest).traces)
    with pytest.raises(InputError, match=r"sampling.steps: got 8; allowed: at least 9"):
        sample(found, SamplingSettings(**{**SHORT, "steps": 8}), *rest, out)


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": "pcn"}, "method: got pcn; allowed: gpcn"),
        ({"seed": 1}, "seed: got 1; allowed: 0, as in"),
        ({"step": 0.4}, r"step: got 0.4; allowed: 0.5"),
        ({"burn_in": 3}, "burn_in: got 3; allowed: 2"),
        ({"every": 2}, "every: got 2; allowed: 1"),
        ({"name": "k"}, "names of the figures: got .*k.*; allowed: .*log k"),
        ({"y": 1.7}, "objective at the minimizer: got .* another folder"),
        ({"identity": None}, "case: got nothing"),
        ({"identity": {"case": "b"}}, "case: got b, other than"),
    ],
)
def test_what_is_another_run_is_refused(tmp_path, changes, said):
    out = COMM.bcast(tmp_path)

    def run(y=1.6, name="log k", identity=(("case", "a"),), **settings):
        J, m = rate(y)
        settings = SamplingSettings(**{**SHORT, **settings})
        words = identity and dict(identity)
        sample(laplace(J, m), settings, [name], log_rate(J), out, words)

    run()
    with pytest.raises(InputError, match=said):
        run(**changes)
    # On other numbers of ranks last digits of the objective are others.
    run(y=1.6 + 1e-8)


def test_a_trace_that_does_not_go_with_its_checkpoint_is_refused(tmp_path):
    J, m = rate()
    arguments = SamplingSettings(**SHORT), ["log k"], log_rate(J), tmp_path
    sample(laplace(J, m), *arguments)
    found, vectors = load_checkpoint(tmp_path / "chain-0", COMM, J.space)
    state, trace = SimpleNamespace(vectors=vectors, meta=found.state), io.BytesIO()
    np.save(trace, np.zeros((6, 2)))
    kept = {"trace.npy": trace.getvalue()}
    where = found.path.parent, COMM, J.space, state, found.number
    save_checkpoint(*where, found.extra, attachments=kept)
    with pytest.raises(InputError, match=r"got \(6, 2\); allowed: \(6, 3\)"):
        sample(laplace(J, m), *arguments)


@pytest.mark.parallel([1, 2])
def test_fields_of_samples_are_kept_where_a_chain_goes_on_too(tmp_path):
    out = COMM.bcast(tmp_path)
    J, m = rate()
    grid, seen = J.space.grid, []

    def of(m):
        value = float(np.ravel(J.space.values(m, "k"))[0])
        seen.append(value)
        return {"k": np.full(grid.local_shape, value)}

    def run(steps, every=2):
        settings = SamplingSettings(**{**SHORT, "steps": steps})
        found, kept = laplace(J, m), Kept(of, every)
        return sample(found, settings, ["log k"], log_rate(J), out, kept=kept)

    run(3)
    traces = run(7).traces[0, :, 2]
    COMM.Barrier()
    cells = slice(0, 4), *(slice(0, n) for n in grid.shape)
    fields = window_of(out / "chain-0.zarr" / "k", cells)
    for own, value in zip(fields, traces[::2], strict=True):
        np.testing.assert_array_equal(own, value)
    numbers = window_of(out / "chain-0.zarr" / "sample", (slice(0, 4),))
    assert numbers.tolist() == [1, 3, 5, 7] and len(seen) == 4
    COMM.Barrier()
    with pytest.raises(InputError, match="chain-0.zarr: sample: got"):
        run(8, every=3)
    with pytest.raises(InputError, match="fields: got 0"):
        Kept(of, 0)


@pytest.mark.parallel([1, 2])
def test_other_chains_are_refused_before_work(tmp_path):
    out = COMM.bcast(tmp_path)
    refuse_other_chains(out, SamplingSettings(**SHORT), COMM)  # none are there
    J, m = rate()
    sample(laplace(J, m), SamplingSettings(**SHORT), ["log k"], log_rate(J), out)
    refuse_other_chains(out, SamplingSettings(**{**SHORT, "chains": 3}), COMM)
    with pytest.raises(InputError, match="sampling: method: got mala; allowed: gpcn"):
        refuse_other_chains(out, SamplingSettings("mala", **SHORT), COMM)


@pytest.mark.parallel([2])
def test_groups_share_the_folder_of_the_first(tmp_path):
    """The second has none that could be written."""
    COMM.Barrier()
    (tmp_path / "file").write_text("")
    out = tmp_path / "samples" if COMM.rank == 0 else tmp_path / "file" / "samples"
    J, m = field("bilaplacian by length", n=5, ensemble=Ensemble.split(COMM, 2, 2))
    found = Laplace(J.linearize(m))
    figures = ["J"], lambda m: J.linearize(m).value
    sample(found, SamplingSettings(**SHORT), *figures, out)
    more = SamplingSettings(**{**SHORT, "steps": 9})
    again, whole = sample(found, more, *figures, out), sample(found, more, *figures)
    assert np.array_equal(again.traces, whole.traces)
    assert np.array_equal(again.mean.getArray(), whole.mean.getArray())
    assert (tmp_path / "samples" / "chain-0.csv").exists() == (COMM.rank == 0)
