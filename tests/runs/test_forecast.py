"""The time left: on a grid, on the finer ones to come, and in further starts."""

import pytest

from npde_opt.runs.forecast import Forecast, Outlook


def test_forecast_from_the_rate_of_the_gradient():
    forecast = Forecast(rtol=1e-6, max_iterations=50)
    for i in range(4):
        assert forecast.seconds_left() == (None, False)
        forecast.add(i, 10.0**-i, 2.0 * i) if i < 2 else None
    for i in range(2, 4):
        forecast.add(i, 10.0**-i, 2.0 * i)
    left, bound = forecast.seconds_left()
    assert left == pytest.approx(3 * 2.0) and not bound


def test_forecast_is_capped_by_the_iterations_and_honest():
    slow = Forecast(rtol=1e-12, max_iterations=10)
    stuck = Forecast(rtol=1e-6, max_iterations=10)
    unknown = Forecast(rtol=1e-6)
    for i in range(5):
        slow.add(i, 0.5**i, 2.0 * i)
        for f in (stuck, unknown):
            f.add(i, 1.0, 2.0 * i)
    assert slow.seconds_left() == (pytest.approx(12.0), False)
    assert stuck.seconds_left() == (pytest.approx(12.0), True)
    assert unknown.seconds_left() == (None, False)


def test_forecast_aims_at_the_reference_of_the_run():
    forecast = Forecast(rtol=1e-6, reference=1e3)
    for i in range(3):
        forecast.add(i, 10.0**-i, 2.0 * i)
    assert forecast.reduction() == pytest.approx(1e-5)
    assert forecast.seconds_left() == (pytest.approx(1 * 2.0), False)


def falling():
    """A grid on which the gradient norm falls tenfold an iteration, to 1e-4."""
    return Forecast(rtol=1e-4, max_iterations=50)


def test_finer_grids_take_as_many_iterations_of_more_cells():
    outlook = Outlook()
    outlook.begin(falling(), 0, [10, 100, 1000])
    for i in range(3):
        outlook.grid.add(i, 10.0**-i, 0.5 * i)
    # Two more of 0.5 s here, then four of 5 s, then four of 50 s.
    assert outlook.seconds_left(1.0) == (pytest.approx(1 + 20 + 200), False)
    for i in (3, 4, 5, 6):
        outlook.grid.add(i, 1e-4, 0.5 * i)
    outlook.begin(falling(), 1, [10, 100, 1000])
    # Six iterations of each before anything is known here.
    outlook.grid.add(0, 1.0, 100.0)
    assert outlook.seconds_left(100.0) == (pytest.approx(6 * 5 + 6 * 50), False)
    # 4 s an iteration here: two more, and five, the mean of six and four, on the finest.
    for i in (1, 2):
        outlook.grid.add(i, 10.0**-i, 100.0 + 4 * i)
    assert outlook.seconds_left(108.0) == (pytest.approx(2 * 4 + 5 * 40), False)


def test_one_grid_is_as_a_forecast():
    outlook = Outlook()
    outlook.begin(falling(), 0, [7])
    for i in range(3):
        assert outlook.seconds_left(0.0) == (None, False)
        outlook.grid.add(i, 10.0**-i, 2.0 * i)
    assert (
        outlook.seconds_left(4.0)
        == outlook.grid.seconds_left()
        == (pytest.approx(4.0), False)
    )


def test_further_starts_take_as_long_as_those_before():
    outlook = Outlook()
    outlook.begin_start(2, 10.0)
    outlook.begin(falling(), 0, [7])
    for i in range(3):
        outlook.grid.add(i, 10.0**-i, 10.0 + 2.0 * i)
    assert outlook.seconds_left(14.0) == (pytest.approx(4 + 2 * 8), False)
    outlook.begin_start(1, 20.0)
    outlook.begin(falling(), 0, [7])
    for i in range(3):
        outlook.grid.add(i, 10.0**-i, 20.0 + i)
    assert outlook.seconds_left(22.0) == (pytest.approx(2 + 10), False)
