"""Figures: they are drawn from arrays of every dimension, whole, and say what is missing."""

import builtins
import warnings

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from npde_opt import figures
from npde_opt.errors import InputError
from npde_opt.figures import fields, fit, functions, histories
from npde_opt.figures.animation import LARGEST, pixels
from npde_opt.figures.marks import Marks
from npde_opt.figures.spectrum import plot_errors, plot_spectrum

SHAPES = [(30,), (20, 25), (8, 9, 10)]


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    monkeypatch.setitem(figures.style.STYLE, "savefig.dpi", 70)


def is_drawn(path):
    """A PNG of some size with more than a few colours."""
    from matplotlib.image import imread

    image = imread(path)
    return (
        image.shape[0] > 120
        and image.shape[1] > 200
        and len(np.unique(image.reshape(-1, 4), axis=0)) > 50
    )


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_fields_of_every_dimension(tmp_path, shape, log):
    rng = np.random.default_rng(0)
    true, recovered = rng.random(shape) + 0.1, rng.random(shape) + 0.1
    edges = [np.linspace(0, 1, n + 1) ** 2 for n in shape]
    path = figures.plot_fields(
        tmp_path / "k.png",
        edges,
        recovered,
        true,
        active=recovered > 0.2,
        log=log,
        marks=[Marks("wells", rng.random((40, len(shape))))],
        sides={"x-": "u = 1 V", "x+": "outer u = 0 V"},
        unit="m/d",
    )
    assert is_drawn(path)
    assert [p.name for p in tmp_path.iterdir()] == ["k.png"]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved, kept open."""
    kept = []
    save = fields.save
    monkeypatch.setattr(
        fields, "save", lambda plt, f, p: kept.append(f) or save(plt, f, p)
    )
    return kept


def maps(figure):
    """The axes with a map: bars have colours only."""
    return [ax for ax in figure.axes if ax.get_xlabel().startswith(("x", "y"))]


def test_both_panels_share_the_scale_of_active_cells(drawn, tmp_path):
    true = np.full((4, 4), 2.0)
    recovered = np.full((4, 4), 5.0)
    recovered[0, 0] = 99
    active = np.ones((4, 4), bool)
    active[0, 0] = False
    figures.plot_fields(
        tmp_path / "k.png", [np.arange(5)] * 2, recovered, true, active=active
    )
    first, second, error = (ax.collections[0] for ax in maps(drawn[0]))
    assert first.get_clim() == second.get_clim() == (2, 5)
    assert error.get_clim() == (-3, 3) and np.all(error.get_array().compressed() == 3)


def test_of_a_logarithmic_scale_the_error_is_a_ratio(drawn, tmp_path):
    true, found = np.full((4, 3), 2.0), np.full((4, 3), 8.0)
    edges = [np.arange(5), np.arange(4)]
    figures.plot_fields(tmp_path / "k.png", edges, found, true, log=True)
    third = maps(drawn[0])[2]
    assert third.get_title(loc="left") == "recovered / true"
    assert third.collections[0].get_clim() == pytest.approx((1 / 4, 4))


def test_a_deviation_has_a_panel_and_a_scale_of_its_own(drawn, tmp_path):
    found, deviation = np.full((4, 3), 5.0), np.linspace(1, 2, 12).reshape(4, 3)
    edges = [np.arange(5), np.arange(4)]
    figures.plot_fields(tmp_path / "k.png", edges, found, deviation=deviation, unit="m")
    second = maps(drawn[0])[1]
    assert second.get_title(loc="left") == "standard deviation"
    assert second.collections[0].get_clim() == (1, 2)
    assert [ax.get_ylabel() for ax in drawn[0].axes][
        -1
    ] == "standard deviation of parameter [m]"


def test_a_cell_far_off_does_not_set_the_scale(drawn, tmp_path):
    field = np.linspace(0, 1, 400).reshape(20, 20)
    field[3, 3] = 1e6
    figures.plot_fields(tmp_path / "k.png", [np.arange(21)] * 2, field)
    artist = maps(drawn[0])[0].collections[0]
    assert artist.get_clim()[1] < 1
    assert artist.colorbar.extend == "both"


def test_many_points_are_small_and_on_one_map_only(drawn, tmp_path):
    field = np.ones((4, 4))
    places = np.random.default_rng(0).random((6000, 2))
    edges = [np.linspace(0, 1, 5)] * 2
    kinds = [Marks("observations", places), Marks("electrodes", places[:4])]
    figures.plot_fields(tmp_path / "k.png", edges, field, field, marks=kinds)
    first, second, _ = maps(drawn[0])
    dots, squares = first.lines
    assert (
        dots.get_xdata().size == 2000
        and dots.get_markersize() < 2
        and dots.get_alpha() < 1
    )
    assert squares.get_xdata().size == 4
    assert [line.get_xdata().size for line in second.lines] == [4]
    said = [t.get_text() for t in drawn[0].legends[0].get_texts()]
    assert said == ["6,000 observations (1 of 3 drawn)", "electrodes"]


def test_sides_with_the_same_value_share_a_colour(drawn, tmp_path):
    sides = {"x-": "u = 0", "x+": "u = 0", "y+": "u = 1"}
    edges = [np.arange(5), np.arange(4)]
    figures.plot_fields(tmp_path / "k.png", edges, np.ones((4, 3)), sides=sides)
    left, right, top = maps(drawn[0])[0].lines
    assert left.get_color() == right.get_color() != top.get_color()
    said = [t.get_text() for t in drawn[0].legends[0].get_texts()]
    assert said == ["u = 0 (x-, x+)", "u = 1 (y+)"]


def test_slices_without_a_place_near_them_keep_their_size(drawn, tmp_path):
    edges = [np.linspace(0, length, 9) for length in (4600.0, 11200.0, 220.0)]
    wells = Marks("wells", np.array([[100.0, 200.0, 210.0]]))
    field = np.linspace(1, 2, 512).reshape(8, 8, 8)
    with warnings.catch_warnings():
        # Of axes that the layout found no room for.
        warnings.simplefilter("error")
        figures.plot_fields(tmp_path / "k.png", edges, field, marks=[wells])
    (figure,) = drawn
    widths = [ax.get_position().width for ax in maps(figure)]
    assert len(widths) == 3 and max(widths) > 0.25


def test_what_is_constant_but_for_rounding_looks_constant(monkeypatch, tmp_path):
    kept = []
    for module in (functions, histories):
        save = module.save
        monkeypatch.setattr(
            module,
            "save",
            lambda plt, f, p, save=save: kept.append(f) or save(plt, f, p),
        )
    v = np.linspace(0, 1, 20)
    value, none = 0.848 + 1e-8 * v, np.full(20, np.nan)
    seen = np.ones(20, bool)
    functions.plot_function(tmp_path / "f.png", v, value, seen, (none, none))
    ends = np.array([none, none]).T
    histories.plot_history(tmp_path / "h.png", v, value, interval=ends)
    for figure in kept:
        (ax,) = figure.axes
        assert np.ptp(ax.get_ylim()) > 1e-5
        said = [text.get_text() for text in ax.get_legend().get_texts()]
        assert said[0].endswith("not determined")


def test_maps_are_not_transposed(drawn, tmp_path):
    field = np.zeros((3, 2))
    field[2, 0] = 1
    figures.plot_fields(
        tmp_path / "k.png", [np.array([0, 1, 2, 3.0]), np.array([0, 5, 10.0])], field
    )
    ax = maps(drawn[0])[0]
    assert ax.get_xlim() == (0, 3) and ax.get_ylim() == (0, 10)
    assert ax.collections[0].get_array().tolist() == [[0, 0, 1], [0, 0, 0]]


def test_a_length_without_dimension_has_no_unit(drawn, tmp_path):
    edges = [np.arange(4.0), np.arange(3.0)]
    for unit, label in (("1", "x"), ("", "x"), ("cm", "x [cm]")):
        figures.plot_fields(
            tmp_path / "k.png", edges, np.ones((3, 2)), length_unit=unit
        )
        assert maps(drawn[-1])[0].get_xlabel() == label


@pytest.mark.parametrize("more", [0, 1])
def test_a_history_at_times_and_between_them(tmp_path, more):
    values = np.array([1.0, 3.0, 2.0])
    interval = np.array([[0.5, 1.5], [np.nan, np.nan], [1.5, 2.5]])
    path, times = tmp_path / "h.png", np.arange(3.0 + more)
    assert is_drawn(
        figures.plot_history(path, times, values, values + 0.1, interval, unit="m")
    )
    with pytest.raises(InputError, match="3 values at 5 times"):
        figures.plot_history(path, np.arange(5.0), values)


def test_a_field_of_another_shape_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"true field: got shape \(3, 4\)"):
        figures.plot_fields(
            tmp_path / "k.png",
            [np.arange(5), np.arange(4)],
            np.zeros((4, 3)),
            np.zeros((3, 4)),
        )


def test_constant_field(tmp_path):
    assert is_drawn(
        figures.plot_fields(
            tmp_path / "k.png", [np.arange(5), np.arange(4)], np.zeros((4, 3))
        )
    )


@pytest.mark.parametrize("sigma", [None, 0.1, np.linspace(0.1, 0.2, 50)])
def test_data_fit_with_data_that_were_not_observed(tmp_path, sigma):
    rng = np.random.default_rng(1)
    observed = rng.standard_normal(50)
    predicted = observed + 0.1 * rng.standard_normal(50)
    observed[3] = np.nan
    assert is_drawn(
        figures.plot_data_fit(
            tmp_path / "d.png", observed, predicted, sigma, name="head", unit="m"
        )
    )
    with pytest.raises(InputError, match="49 predictions; allowed: 50"):
        figures.plot_data_fit(tmp_path / "d.png", observed, predicted[1:], sigma)


def test_convergence_over_levels(tmp_path):
    history = [
        {
            "level": k,
            "iteration": i,
            "objective": 10.0 ** (2 - i),
            "misfit": 9.0 ** (2 - i),
            "gradient_norm": 10.0 ** (-i),
            "forward_solves": 3 * i,
            "adjoint_solves": 2 * i,
        }
        for k in range(2)
        for i in range(5)
    ]
    path = figures.plot_convergence(
        tmp_path / "c.png", history, gradient_rtol=1e-6, levels=["8 x 8", "16 x 16"]
    )
    assert is_drawn(path)
    assert is_drawn(figures.plot_convergence(tmp_path / "one.png", history[:1]))
    with pytest.raises(InputError, match="empty history"):
        figures.plot_convergence(tmp_path / "c.png", [])


def test_weights(tmp_path):
    w = np.logspace(-3, 1, 5)
    path = figures.plot_weights(
        tmp_path / "w.svg", w, 100 + w, 1 / w, w[2], target=101.0
    )
    assert path.read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize("cut", [0.0, 1e-9])
def test_singular_values_with_their_cut(tmp_path, cut):
    values = np.logspace(2, -12, 60)
    path = plot_spectrum(tmp_path / "s.png", values, cut, ridge=cut)
    assert is_drawn(path)
    assert is_drawn(plot_spectrum(tmp_path / "zeros.png", np.zeros(9), 0.0))
    with pytest.raises(InputError, match="none"):
        plot_spectrum(path, np.zeros(0), cut)


@pytest.mark.parametrize("features", [[100], [100, 200, 400]])
def test_errors_by_features(tmp_path, features):
    errors = np.array([[0.09, 0.1], [0.05, 0.06], [0.03, 0.0]])[: len(features)]
    assert is_drawn(plot_errors(tmp_path / "e.png", np.array(features), errors))


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "matplotlib":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"npde_opt\[plot\]"):
        figures.plot_weights(tmp_path / "w.png", [1.0], [1.0], [1.0], 1.0)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        figures.plot_weights(
            tmp_path / "nowhere" / "w.png", [1.0, 2.0], [1.0, 2.0], [2.0, 1.0], 1.0
        )


def test_pixels_of_stretched_grids_are_to_scale():
    edges = [np.array([0.0, 1.0, 4.0]), np.array([0.0, 2.0, 4.0, 6.0])]
    image = pixels(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), edges)
    assert image.shape == (LARGEST, 3)
    assert (image[:, 0] == 1).mean() == pytest.approx(0.25, abs=0.01) and image[
        -1
    ].tolist() == [
        4,
        5,
        6,
    ]


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_residuals_of_places_close_together_are_told_apart(monkeypatch, tmp_path, dim):
    kept = []
    save = fit.save
    monkeypatch.setattr(
        fit, "save", lambda plt, f, p: kept.append(f) or save(plt, f, p)
    )
    edges = [np.linspace(0, 12000.0, 9)] * dim
    for far, wide in ((90.0, False), (6000.0, True)):
        at = np.array([[30.0] * dim, [far] * dim])
        fit.plot_residuals(tmp_path / "r.png", at, np.ones(2), edges=edges)
        low, high = kept.pop().axes[0].get_xlim()
        assert low <= 30 and high >= far
        assert (high - low == 12000) == wide and (wide or high < 200)
