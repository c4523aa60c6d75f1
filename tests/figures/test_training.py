"""Figures of trainings: drawn from arrays, whole; without anything to draw that is said."""

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from npde_opt.errors import InputError
from npde_opt.figures import style
from npde_opt.figures import training as figures

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    monkeypatch.setitem(style.STYLE, "savefig.dpi", 70)


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved, kept open."""
    kept = []
    save = figures.save
    monkeypatch.setattr(
        figures, "save", lambda plt, f, p: kept.append(f) or save(plt, f, p)
    )
    return kept


def test_confusion_tells_the_share_that_is_misread(tmp_path, drawn):
    counts = np.array([[5, 1], [2, 12]])
    path = figures.plot_confusion(tmp_path / "c.png", counts, ["no", "yes"])
    ax = drawn[0].axes[0]
    assert (
        path.stat().st_size > 1000
        and ax.get_title("left") == "3 of 20 misread (15.00%)"
    )
    assert sorted(text.get_text() for text in ax.texts) == ["1", "12", "2", "5"]


def test_many_classes_have_no_numbers(tmp_path, drawn):
    figures.plot_confusion(
        tmp_path / "c.png", np.eye(40, dtype=int), list(map(str, range(40)))
    )
    assert not drawn[0].axes[0].texts


def test_filters_of_several_layers(tmp_path, drawn):
    weights = {
        "W1": RNG.standard_normal((12, 1, 3, 3)),
        "W2": RNG.standard_normal((4, 12, 5, 5)),
    }
    figures.plot_filters(tmp_path / "f.png", weights)
    assert sum(len(ax.images) for ax in drawn[0].axes) == 16
    with pytest.raises(InputError, match="figure of filters"):
        figures.plot_filters(tmp_path / "f.png", {})


def test_pictures_beside_each_other_have_one_scale(tmp_path, drawn):
    rows = [
        [("before", RNG.random((6, 5))), ("after", np.full((6, 5), 0.5))],
        [("one", np.eye(4))],
    ]
    figures.plot_pictures(tmp_path / "p.png", rows)
    shown = [ax for ax in drawn[0].axes if ax.images]
    assert [ax.get_title() for ax in shown] == ["before", "after", "one"]
    assert {ax.images[0].get_clim() for ax in shown} == {(0, 1)}
    with pytest.raises(InputError, match="figure of pictures"):
        figures.plot_pictures(tmp_path / "p.png", [])


def test_misread_samples_are_as_many_as_fit(tmp_path, drawn):
    titles = [f"{n} as 3" for n in range(50)]
    figures.plot_misread(tmp_path / "m.png", RNG.random((50, 6, 5)), titles)
    assert sum(len(ax.images) for ax in drawn[0].axes) == figures.MOST_SHOWN
    with pytest.raises(InputError, match="figure of misread samples"):
        figures.plot_misread(tmp_path / "m.png", np.zeros((0, 6, 5)), [])


def test_the_course_shows_what_was_watched(tmp_path, drawn):
    history = [
        {
            "misfit": 10 / (n + 1),
            "passes": n,
            "validation": 1 + (n - 2) ** 2,
            "validation_error": 0,
        }
        for n in range(5)
    ]
    figures.plot_training(tmp_path / "t.png", history, ["validation_error"], samples=10)
    left, right = drawn[0].axes
    np.testing.assert_allclose(left.lines[0].get_ydata()[:2], [1, 0.5])
    assert left.lines[2].get_xdata() == [2] and right.get_ylabel() == "validation error"
    assert left.get_xlabel() == "passes over the data"
    with pytest.raises(InputError, match="empty history"):
        figures.plot_training(tmp_path / "t.png", [])
