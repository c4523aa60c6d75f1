"""Grey pictures as fields: y upwards, between black and white, over their box."""

import numpy as np
import pytest

from npde_opt.cases.fields import evaluate
from npde_opt.cases.parts import Part
from npde_opt.cases.pictures import picture
from npde_opt.cases.sources import Sources
from npde_opt.errors import InputError


def sources(folder):
    return Sources(folder, None, (None, 0))


def test_pictures_are_files_of_the_case(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    edges = [np.linspace(0, 1, n + 1) for n in (3, 2)]
    brightness = np.array([[0.0, 0.2, 0.4], [0.6, 0.8, 1.0]])
    for mode, white in (("uint8", 255), ("uint16", 65535)):
        Image.fromarray(np.rint(brightness * white).astype(mode)).save(
            tmp_path / "k.png"
        )
        found = picture("k", {"picture": "k.png"}, Part.whole(edges), sources(tmp_path))
        np.testing.assert_allclose(found, brightness[::-1].T, atol=1e-12)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40), "uint8")).save(
        tmp_path / "k.png"
    )
    (tmp_path / "k.png").write_bytes((tmp_path / "k.png").read_bytes()[:600])
    with pytest.raises(InputError, match="k.png, which cannot be read"):
        picture("k", {"picture": "k.png"}, Part.whole(edges), sources(tmp_path))
    with pytest.raises(
        InputError, match="k.picture: got none.png; allowed: an existing file"
    ):
        picture("k", {"picture": "none.png"}, Part.whole(edges), sources(tmp_path))


def test_a_picture_has_a_range_and_a_box_outside_of_which_it_is_black(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    Image.fromarray(np.full((4, 4), 255, "uint8")).save(tmp_path / "k.png")
    edges = [np.linspace(0, 1, 5), np.linspace(0, 1, 3)]
    spec = {"picture": "k.png", "range": [2.0, 4.0], "box": [[0.5, 1.0], [0.0, 1.0]]}
    found = evaluate("k", spec, edges, sources(tmp_path))
    np.testing.assert_allclose(
        found, np.repeat([2.0, 4.0], 2)[:, None] * np.ones(2), atol=1e-12
    )
    with pytest.raises(InputError, match="k.box: got .*increasing"):
        evaluate(
            "k", spec | {"box": [[1.0, 0.5], [0.0, 1.0]]}, edges, sources(tmp_path)
        )
    with pytest.raises(InputError, match="a picture on 1 axes; allowed: 2 axes"):
        evaluate("k", spec, edges[:1], sources(tmp_path))
