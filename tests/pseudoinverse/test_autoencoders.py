"""Pseudoinverse autoencoders: what a layer codes, and how a stack grows."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.errors import InputError
from npde_opt.pseudoinverse import Fold, Gram
from npde_opt.pseudoinverse.autoencoders import MOST, PATIENCE, Stack, encoder, grow
from npde_opt.pseudoinverse.features import flat

WORLD = MPI.COMM_WORLD


def rings(count, seed=0):
    """Which of three rings in a plane, seen in 8 numbers with noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=count)
    angle, turned = (
        2 * np.pi * rng.random(count),
        np.random.default_rng(9).standard_normal((2, 8)),
    )
    plane = (1 + labels[:, None]) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return plane @ turned + 0.02 * rng.standard_normal((count, 8)), labels


def own(*arrays):
    return [a[WORLD.rank :: WORLD.size] for a in arrays]


@pytest.mark.parallel([1, 2, 3])
def test_a_layer_codes_what_varies(seed=3):
    x, _ = rings(400)
    layer = encoder(flat, *own(x), 12, seed, WORLD)
    inside = (x @ layer.A + layer.b).astype(float)
    np.testing.assert_allclose(inside.std(axis=0), 0.5, rtol=1e-3)
    np.testing.assert_allclose(inside.mean(axis=0), 0, atol=1e-3)
    # Samples lie in a plane and so do most of the weights; of random ones 0.87 lie outside.
    plane = np.linalg.svd(x - x.mean(axis=0))[2][:2]
    outside = layer.A - plane.T @ (plane @ layer.A)
    assert np.linalg.norm(outside) < 0.5 * np.linalg.norm(layer.A)
    alone = encoder(flat, x, 12, seed)
    np.testing.assert_allclose(layer.A, alone.A, rtol=1e-3, atol=1e-4)


@pytest.mark.parallel([1, 2])
def test_a_stack_grows_while_that_helps():
    method = Gram if WORLD.size > 1 else Fold
    x, labels = rings(300)
    grown = grow(lambda n: method(n, 3, True, WORLD), flat, *own(x, labels), outputs=8)
    depth = len(grown.stack.layers)
    assert grown.errors[depth - 1] == min(grown.errors) < grown.errors[0]
    # Two more were tried, which did not help, or as many as there may be.
    assert 1 < depth < len(grown.errors) == min(depth + PATIENCE, MOST)
    assert grown.stack.size == 8 * depth == len(grown.readout.solution.W)
    new, wanted = own(*rings(200, 1))
    confusion = grown.readout.confusion(new, wanted, WORLD)
    assert 1 - np.trace(confusion) / 200 < grown.errors[0]


def test_outputs_of_all_layers_are_seen():
    x, _ = rings(50)
    first = encoder(flat, x, 3, 0)
    second = encoder(Stack(flat, (first,)).last, x, 5, 1)
    found = Stack(flat, (first, second))(x)
    np.testing.assert_array_equal(found[:, :3], first(x))
    np.testing.assert_array_equal(found[:, 3:], second(first(x)))


@pytest.mark.parametrize("wrong", [{"outputs": 0}, {"outputs": 3, "most": 0}])
def test_numbers_that_cannot_be_are_told(wrong):
    with pytest.raises(InputError, match="positive"):
        grow(lambda n: Fold(n, 3), flat, *rings(9), **wrong)


@pytest.mark.parallel([2])
def test_a_rank_may_have_no_samples():
    x, _ = rings(50)
    found = encoder(flat, x if WORLD.rank else x[:0], 4, 0, WORLD)
    np.testing.assert_allclose(found.A, encoder(flat, x, 4, 0).A, rtol=1e-4)


def test_no_samples_are_told():
    with pytest.raises(InputError, match="samples"):
        encoder(flat, np.zeros((0, 3)), 2, 0)
