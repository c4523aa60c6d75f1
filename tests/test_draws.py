"""Draws by counters: boxes and numbers of one array, whoever draws them."""

import numpy as np
import pytest

from npde_opt import draws
from npde_opt.draws import TILE, normal_box, normal_numbers

SHAPES = [(9000,), (130, 71), (33, 18, 20)]


@pytest.mark.parametrize("shape", SHAPES)
def test_boxes_are_parts_of_the_whole(shape):
    whole = normal_box(3, shape, [slice(0, n) for n in shape])
    box = [slice(n // 3, 2 * n // 3) for n in shape]
    assert (normal_box(3, shape, box) == whole[tuple(box)]).all()
    empty = [slice(n, n) for n in shape]
    assert normal_box(3, shape, empty).size == 0


def test_numbers_in_any_order_are_those_of_the_list():
    whole = normal_numbers([3, 1], np.arange(3 * TILE))
    picks = np.random.default_rng(0).permutation(3 * TILE)[:500]
    assert (normal_numbers([3, 1], picks) == whole[picks]).all()
    assert normal_numbers(0, np.empty(0, int)).size == 0


def test_numbers_are_normal_and_those_of_a_seed():
    z = normal_box(5, (128, 128), [slice(0, 128)] * 2).ravel()
    tiles = z.reshape(2, 64, 2, 64).swapaxes(1, 2).reshape(4, -1)
    assert abs(z.mean()) < 4 / 128
    assert abs(z.var() - 1) < 4 * np.sqrt(2) / 128
    # No two tiles are alike, nor two seeds.
    assert abs(np.corrcoef(tiles) - np.eye(4)).max() < 4 / 64
    assert abs(np.mean(z * normal_box(6, (128, 128), [slice(0, 128)] * 2).ravel())) < (
        4 / 128
    )


def test_only_tiles_of_the_box_are_drawn(monkeypatch):
    drawn = []
    made = draws.Tiles.normal
    monkeypatch.setattr(
        draws.Tiles, "normal", lambda t, k: drawn.append(k) or made(t, k)
    )
    normal_box(0, (10**6, 10**6), [slice(64, 128), slice(0, 65)])
    assert len(drawn) == 2
    normal_numbers(0, np.array([5, 7 * TILE, 10**15]))
    assert len(drawn) == 5
