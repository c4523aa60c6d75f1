"""The examples of docs/networks.md run as they stand, learn what they are made for, and have right
derivatives."""

import re
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI
from nets import check_derivatives

import npde_opt as nd

PAGE = Path(__file__).resolve().parents[2] / "docs" / "networks.md"
FOUND: dict = {}
for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
    exec(block, FOUND)
SAMPLES, CLASSES = 60, 3


def pictures():
    """Noisy pictures of a class, each with a pattern of its own."""
    rng = np.random.default_rng(0)
    labels = np.arange(SAMPLES) % CLASSES
    patterns = rng.standard_normal((CLASSES, 1, 1, 8, 8))
    return patterns[labels] + rng.standard_normal((SAMPLES, 1, 1, 8, 8)), labels


@pytest.mark.parametrize(("name", "size"), [("mlp", 6), ("cnn", 4)])
def test_pictures(name, size):
    network = FOUND[name](nd.Grid((8, 8), comm=MPI.COMM_SELF), size, CLASSES)
    inputs, labels = pictures()
    assert (FOUND["train"](network, inputs, labels) == labels).mean() > 0.98


def test_sequences():
    """Which of three steps had the largest number."""
    inputs = np.random.default_rng(0).standard_normal((SAMPLES, 1, 1, 1, 3))
    labels = inputs[:, 0, 0, 0].argmax(axis=1)
    network = FOUND["rnn"](3, 1, 6, CLASSES)
    assert network.shapes == {
        "W": (6, 6),
        "U": (6, 1),
        "b": (6,),
        "V": (3, 6),
        "c": (3,),
    }
    assert (FOUND["train"](network, inputs, labels, True) == labels).mean() > 0.95


def test_layers():
    grid = nd.Grid((8, 4), comm=MPI.COMM_SELF)
    check_derivatives(nd.Network(grid, FOUND["implicit"](grid, 2, 0.5)), 2)
    check_derivatives(nd.Network(grid, FOUND["cycle"](nd.Place.on(grid, 2), 2)), 2)
    regions = np.random.default_rng(0).uniform(size=(3, 4, 8))
    absorbing = {"x-": 0.2, "x+": 0.2}
    check_derivatives(
        FOUND["optics"](grid, regions, 50.0, [0.5, 1.0, 0.5], absorbing), 2
    )


def test_a_balance():
    grid = nd.Grid((4, 3), comm=MPI.COMM_SELF)
    check_derivatives(nd.Network(grid, [FOUND["balance"](grid)]), 1)


def test_the_figure(tmp_path):
    assert FOUND["sharing"](tmp_path / "sharing.png").stat().st_size > 10_000


def test_the_page_names_all_files():
    folder = Path(nd.__file__).parent / "networks"
    files = {f.name for f in folder.glob("*.py")} - {"__init__.py"}
    assert files == set(
        re.findall(r"`(\w+\.py)`", PAGE.read_text().split("Where it is")[1])
    )
