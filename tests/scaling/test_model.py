import dataclasses

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.scaling.collect import Row
from npde_opt.scaling.counted import HEAD, counted, lines
from npde_opt.scaling.growth import (
    PLANES,
    VALUE,
    Counts,
    Size,
    growth,
    neighbours,
    surface,
    together,
    traffic,
)
from npde_opt.scaling.logs import Stage
from npde_opt.scaling.model import Rates, features, fit, held_out
from npde_opt.scaling.plan import Run
from npde_opt.scaling.predict import Network, curves, nodes

RATES = {
    1: Rates(8e9, 0.0, 0.0, 0.0),
    2: Rates(6e9, 2e-6, 1e-6, 5e9, 1e6),
    4: Rates(4e9, 4e-6, 1e-6, 5e9, 1e6),
    8: Rates(4e9, 6e-6, 1e-6, 5e9, 1e6),
}
START, PASSES, SUMS, SENDS = 0.2, 30.0, 1.5, 2.0
WORK = 1000


BY_PLANES, BY_LEVELS = (3.0, 1.25, 0.0), (3.0, 0.0, 1.25)


def row(side, ranks, noise=0.0, groups=1, rates=RATES, sent=BY_PLANES):
    """A run whose seconds follow from known constants."""
    size = Size(side * side, 2, ranks, groups)
    work = WORK / groups
    reductions = 3 * work
    messages, amount = work * traffic(size) @ sent
    own = rates[ranks]
    moved = work * size.load * VALUE / own.bandwidth
    sent = messages / together(size) * own.latency
    sent += amount / own.link if own.link else 0
    sent += messages / own.message_rate if own.message_rate else 0
    seconds = START + PASSES * moved + SUMS * reductions * own.reduction + SENDS * sent
    seconds *= 1 + noise
    return Row(
        run=Run("strong", ranks, groups, (side, side), 0),
        status="converged",
        unknowns=side * side,
        iterations=5,
        objective=1.0,
        solves=100,
        krylov=10.0,
        seconds=seconds,
        setup=0.0,
        solve=seconds,
        memory=1e8,
        joules=None,
        stages={"forward": Stage(seconds, messages, amount, reductions)},
    )


ROWS = [row(side, p) for side in (64, 128, 256) for p in (1, 2, 4, 8)]


def test_known_constants_are_found():
    found = fit(ROWS, RATES).stages["forward"]
    assert np.allclose(found, [START, PASSES, SUMS, SENDS], rtol=1e-6)


def test_counts_follow_from_the_size():
    grown = growth(ROWS[:6])
    counts = grown.at(Size(256 * 256, 2, 8))
    last = ROWS[-1]
    assert counts.work == WORK
    assert counts.reductions == pytest.approx(last.reductions())
    assert counts.messages == pytest.approx(last.messages())
    assert counts.bytes == pytest.approx(last.bytes())


def test_the_largest_run_is_predicted_from_the_others():
    found = held_out(ROWS, RATES, lambda seen, ranks: seen[ranks])
    assert found.name == "256x256-r8-g1-0"
    assert abs(found.error) < 1e-6


def test_its_rates_are_those_of_smaller_runs():
    """Where 8 ranks share the memory that 4 had, that is not known from fewer ranks."""
    slower = {**RATES, 8: dataclasses.replace(RATES[8], bandwidth=1e9)}
    rows = [row(s, p) for s in (64, 128) for p in (1, 2, 4)] + [
        row(256, 8, rates=slower)
    ]
    found = held_out(rows, slower, Network().rates)
    assert found.error < -0.3


def test_runs_on_one_rank_tell_nothing_of_messages():
    alone = [row(side, 1) for side in (64, 128, 256)]
    with pytest.raises(InputError, match="runs on one rank"):
        curves(alone, RATES, 64, Network())


def test_noise_of_runs_widens_the_band():
    signs = np.random.default_rng(0).choice([-1, 1], len(ROWS))
    disturbed = [
        dataclasses.replace(
            r, stages={n: dataclasses.replace(s, seconds=s.seconds * (1 + 0.05 * k))
                       for n, s in r.stages.items()}
        )
        for r, k in zip(ROWS, signs, strict=True)
    ]  # fmt: skip
    exact, rough = (
        curves(rows, RATES, 64, Network())[1].points[-1] for rows in (ROWS, disturbed)
    )
    assert exact.high - exact.low < 1e-6 * exact.seconds
    assert rough.low < rough.high and rough.high - rough.low > 1e-3 * rough.seconds


def test_a_weak_curve_at_the_largest_load_starts_at_its_run():
    strong, weak = curves(ROWS, RATES, 4096, Network())
    assert [p.size.ranks for p in weak.points][-1] == 4096
    one = row(256, 1)
    assert weak.points[0].seconds == pytest.approx(one.solve, rel=1e-6)
    assert strong.points[0].efficiency == 1 and strong.points[-1].efficiency < 0.5
    assert "below 50 %" in strong.said()
    assert strong.half().size.ranks < strong.points[-1].size.ranks


def test_a_slower_network_costs_efficiency():
    fast, slow = (
        curves(ROWS, RATES, 4096, Network(latency=t, link=1e10, bandwidth=4e9))[1]
        for t in (1e-6, 1e-4)
    )
    assert slow.points[-1].efficiency < 0.7 * fast.points[-1].efficiency
    assert slow.cause() in ("reductions", "messages")


def test_faces_of_a_cut_square():
    for ranks, faces in ((1, 0), (2, 64), (4, 64), (16, 64)):
        assert surface(Size(64 * 64, 2, ranks)) == faces
    assert surface(Size(2 * 64 * 16, 2, 4, grid=(64, 16))) == 2 * 2 * 16
    assert surface(Size(64**3, 3, 8)) == pytest.approx(3 * 32**2)


def test_messages_of_an_exchange_wait_for_the_latency_once():
    size, rates = Size(1e6, 2, 16), Rates(1e9, 0.0, 1e-3, 0.0, 1e5)
    assert neighbours(size) == 4 and together(size) == 4
    found = features(size, Counts(1.0, 0.0, 400.0, 0.0), rates)
    assert found[3] == pytest.approx(100 * 1e-3 + 400 / 1e5)
    assert together(Size(1e6, 2, 2)) == 2 and together(Size(1e6, 2, 1)) == 1


def test_groups_share_the_solves():
    grouped = growth(ROWS).at(Size(256 * 256, 2, 8, 4))
    assert grouped.work == WORK / 4
    own = features(Size(256 * 256, 2, 8, 4), grouped, RATES[8])
    alone = features(
        Size(256 * 256, 2, 8), growth(ROWS).at(Size(256 * 256, 2, 8)), RATES[8]
    )
    assert own[1] == pytest.approx(alone[1])
    assert own[2] == pytest.approx(alone[2] / 4)


@pytest.mark.parametrize(
    ("ranks", "axes", "near"), [(1, 2, 0), (2, 2, 1), (3, 1, 2), (12, 2, 4), (27, 3, 6)]
)
def test_ranks_beside_one(ranks, axes, near):
    assert neighbours(Size(60.0**axes, axes, ranks)) == near


def test_levels_of_few_cells_a_rank_send_less():
    """Levels below 2048 cells a rank lie on fewer: a larger grid has more levels on all ranks."""
    messages = [traffic(Size(n * n, 2, 2))[0, PLANES] for n in (64, 128, 256, 512)]
    assert messages == [6, 10, 14, 18]


@pytest.mark.parametrize("sent", [BY_PLANES, BY_LEVELS])
def test_the_cycle_that_was_run_is_told_from_the_other_one(sent):
    few = [row(n, p, sent=sent) for n in (64, 128) for p in (1, 2, 4)]
    np.testing.assert_allclose(growth(few).sent, [sent] * 2, rtol=1e-9, atol=1e-9)
    most = row(256, 64, rates=RATES | {64: RATES[8]}, sent=sent)
    expected = growth(few).at(Size(256 * 256, 2, 64))
    assert expected.messages == pytest.approx(most.messages())
    assert expected.bytes == pytest.approx(most.bytes())


def test_nonsense_is_refused():
    with pytest.raises(InputError, match="2 runs; allowed: at least 3"):
        fit(ROWS[:2], RATES)
    for text in ("12", "0x4", "x", "4x"):
        with pytest.raises(InputError, match="--predict"):
            nodes(text)
    assert nodes("4096x128") == 4096 * 128
    with pytest.raises(InputError, match="--latency: got -1"):
        Network(latency=-1.0).check()


def test_counts_of_a_solve_stand_beside_the_model_of_the_other_runs():
    """Whose constants they follow from, so that it is met whatever the work of a run."""
    more = dataclasses.replace(row(64, 8), krylov=11.0)
    stages = {
        n: dataclasses.replace(
            s,
            messages=1.1 * s.messages,
            bytes=1.1 * s.bytes,
            reductions=1.1 * s.reductions,
        )
        for n, s in more.stages.items()
    }
    more = dataclasses.replace(more, stages=stages)
    found = counted([more, row(64, 4), row(64, 1), row(64, 2), row(32, 2)])
    assert [c.row.run.ranks for c in found] == [1, 2, 4, 8]
    assert [round(c.alone, 6) for c in found] == [1, 1, 1, 1.1]
    assert found[0].expected is None
    for c in found[1:]:
        for name in ("reductions", "messages", "bytes"):
            counts = getattr(c.own, name), getattr(c.expected, name)
            assert counts[0] == pytest.approx(counts[1], rel=1e-9) and counts[0] > 0
    text = lines(found)
    assert len(text) == 5 and text[0].split()[:2] == HEAD[:2]
    assert counted([row(64, 2)]) == []
