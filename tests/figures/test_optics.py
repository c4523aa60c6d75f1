"""Figures of masks and of light are drawn; none of nothing."""

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.figures import optics
from npde_opt.figures.optics import plot_fields, plot_masks
from npde_opt.figures.style import save

pytest.importorskip("matplotlib")


def test_they_are_drawn(tmp_path):
    phases = [np.full((6, 5), n) for n in (0.0, 4.0)]
    assert plot_masks(tmp_path / "masks.png", phases).stat().st_size > 5_000


def test_light_has_a_scale_and_detectors_their_classes(tmp_path, monkeypatch):
    regions, drawn = np.zeros((2, 6, 5)), []
    regions[0, 1:4, 1], regions[0, 1:4, 3], regions[1, 5, 0:3] = 1.0, -1.0, 1.0

    def kept(plt, figure, path):
        drawn.append(figure)
        return save(plt, figure, path)

    monkeypatch.setattr(optics, "save", kept)
    samples = [[np.full((6, 5), n + m) for m in (0.5, 8.0)] for n in (0.0, 1.0)]
    said = ["one as two", "two as two"]
    plot_fields(tmp_path / "fields.png", samples, regions, ["one", "two"], said)
    (figure,) = drawn
    fields = [ax for ax in figure.axes if ax.images]
    assert [ax.images[0].norm.vmax for ax in fields] == [1.5, 9.0, 1.5, 9.0]
    assert [ax.get_ylabel() for ax in fields[::2]] == said
    for ax in fields[1::2]:
        found = [(text.get_text(), text.get_position()) for text in ax.texts]
        assert found == [("one", (1.0, 2.0)), ("two", (1.0, 5.0))]


def test_of_nothing_there_is_none(tmp_path):
    with pytest.raises(InputError, match="masks"):
        plot_masks(tmp_path / "masks.png", [])
    with pytest.raises(InputError, match="fields"):
        plot_fields(tmp_path / "fields.png", [], np.zeros((2, 2)))
