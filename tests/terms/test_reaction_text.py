"""A reaction whose coefficient is text in unknown fields: exact derivatives, and what is refused;
pictures in a box."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from petsc4py import PETSc

from npde_opt.cases.parts import Part
from npde_opt.cases.pictures import picture
from npde_opt.cases.sources import Sources
from npde_opt.errors import InputError
from npde_opt.forward import SCHEMES, Equation, Evolution, Experiment
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import snapshots
from npde_opt.parameters import ParameterSpace, Unknown
from npde_opt.terms import Diffusion, Reaction
from npde_opt.verify import dot_product_test, taylor_test

HERE = Sources(Path("."), None, (None, 0))


@pytest.fixture
def tight():
    options = PETSc.Options()
    options["state_ksp_rtol"] = "1e-12"
    yield
    options.delValue("state_ksp_rtol")


@pytest.mark.parallel([1, 2])
def test_derivatives_of_a_wave_in_its_index(tight):
    grid = Grid((24,), extent=(6.0,))
    space = ParameterSpace(grid, [Unknown("n")])
    forward = Evolution(
        space,
        Equation(
            grid,
            [Diffusion(grid, "D"), Reaction(grid, "9*(1 - n**2)")],
            ("re", "im"),
            2j,
        ),
        {"D": 1.0},
        [Experiment({"re": "exp(-(x - 3)**2)"})],
        [snapshots(grid, [0.5], "re**2 + im**2")],
        SCHEMES["crank-nicolson"],
        np.linspace(0, 0.5, 6),
    )
    (layout,) = forward.layouts
    objective = Objective(forward, [LeastSquares(np.full(24, 0.3), 0.1, layout)], {})
    x = grid.coordinates()[0]
    m, dm = (
        space.from_values({"n": 1 + 0.1 * np.cos(x)}),
        space.from_values({"n": 0.2 * np.sin(2 * x)}),
    )
    orders = taylor_test(objective, m, dm)
    assert abs(orders.first - 2) < 0.1 and abs(orders.second - 3) < 0.2
    at = objective.linearize(m)
    data = [objective.misfits[0].gradient(at.linearization.data[0])]
    assert dot_product_test(at.linearization, dm, data) < 1e-7


def test_text_that_is_no_expression_is_refused():
    with pytest.raises(InputError, match="reaction"):
        Reaction(Grid((4,)), "n**2 - open(n)")


def test_picture_in_a_box():
    if not (find_spec("PIL") and find_spec("skimage")):
        pytest.skip("needs npde_opt[plot,examples]")
    grid = Grid((32, 32), extent=(4.0, 4.0))
    found = picture(
        "truth",
        {"picture": "camera", "range": [0.5, 2.5], "box": [[1.0, 3.0], [1.0, 3.0]]},
        Part.whole(grid.edges),
        HERE,
    )
    assert (found[:8] == 0.5).all() and (found[:, 24:] == 0.5).all()
    whole = picture(
        "truth",
        {"picture": "camera", "range": [0.5, 2.5]},
        Part.whole(Grid((16, 16)).edges),
        HERE,
    )
    np.testing.assert_allclose(found[8:24, 8:24], whole, rtol=1e-12)
    turned = {"picture": "camera", "box": [[1.0, 0.0], [0.0, 1.0]]}
    with pytest.raises(InputError, match="truth.box"):
        picture("truth", turned, Part.whole(grid.edges), HERE)


def test_a_picture_is_turned_as_its_camera_says(tmp_path):
    image = pytest.importorskip("PIL.Image")
    rows = np.array([[0, 51, 102], [153, 204, 255]], np.uint8)
    turned = image.fromarray(np.rot90(rows))
    exif = turned.getexif()
    exif[0x0112] = 6  # shown after a quarter turn to the right
    turned.save(tmp_path / "k.png", exif=exif)
    found = picture(
        "truth",
        {"picture": "k.png"},
        Part.whole(Grid((3, 2)).edges),
        Sources(tmp_path, None, (None, 0)),
    )
    np.testing.assert_allclose(found, rows[::-1].T / 255, atol=1e-12)
