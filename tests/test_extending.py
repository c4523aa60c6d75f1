"""The examples of docs/extending.md run as they stand, with right derivatives."""

import re
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

import npde_opt as nd
from npde_opt.posterior import Laplace

PAGE = Path(__file__).resolve().parents[1] / "docs" / "extending.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
comm = MPI.COMM_WORLD


def example(*wanted):
    """What the page's blocks with these classes or functions define."""
    found = {"np": np}
    for block in BLOCKS:
        if any(re.search(rf"(class|def) {name}\b", block) for name in wanted):
            exec(block, found)
    return [found[name] for name in wanted]


def flow(terms=(), space=(("D", "log"),), experiments=2):
    """Diffusion between two sides, seen at points."""
    sides = {"y-": "dirichlet", "y+": "dirichlet"}
    grid = nd.Grid((8, 8), boundaries=sides, comm=comm)
    points = np.random.default_rng(0).uniform(0.1, 0.9, (20, 2))
    unknowns = nd.ParameterSpace(grid, [nd.Unknown(*u) for u in space])
    equation = nd.Equation(grid, [nd.Diffusion(grid, "D"), *(t(grid) for t in terms)])
    driven = [
        nd.Experiment(boundary={"y+": 1.0, "y-": 1.0 + k}) for k in range(experiments)
    ]
    return nd.Steady(unknowns, equation, {}, driven, [nd.at_points(grid, (), points)])


def pieces(forward):
    """A point, a direction, and data that are not fitted."""
    m, dm = forward.space.standard_normal(1), forward.space.standard_normal(2)
    m.scale(3.0)
    dm.scale(3.0)
    at = forward.linearize(m)
    noise = at.data[0].layout.noise(3)
    noise.scale(0.2)
    noise.axpy(1.0, at.data[0])
    measured = noise.gather()
    at.destroy()
    return m, dm, measured


def check(forward, misfit, regularizers=None):
    """Taylor orders, and the dot product of the forward map."""
    m, dm, measured = pieces(forward)
    objective = nd.Objective(
        forward, [misfit(measured, 0.1, forward.layouts[0])], regularizers or {}
    )
    orders = nd.taylor_test(objective, m, dm)
    assert orders.first > 1.9 and orders.second > 2.9
    at = forward.linearize(m)
    assert nd.dot_product_test(at, dm, [forward.layouts[0].noise(5)]) < 1e-9
    at.destroy()
    objective.destroy()


@pytest.mark.parallel([1, 2, 3])
def test_a_term():
    (square,) = example("Square")
    check(flow([square], (("D", "log"), ("s", "identity"))), nd.LeastSquares)


@pytest.mark.parallel([1, 2, 3])
def test_a_misfit():
    (cauchy,) = example("Cauchy")
    check(flow(), cauchy)


@pytest.mark.parallel([1, 2, 3])
def test_a_regularizer():
    (penalty,) = example("LogCosh")
    forward = flow()
    check(forward, nd.LeastSquares, {"D": penalty(forward.grid, 2.0)})


@pytest.mark.parallel([1, 2, 3])
def test_a_prior():
    """P^-1 n of its noise n has the variance that it tells."""
    (pull,) = example("Pull")
    forward = flow()
    check(forward, nd.LeastSquares, {"D": pull(forward.grid, 2.0)})
    forward = flow()
    prior = pull(forward.grid, 2.0)
    _, _, measured = pieces(forward)
    misfit = nd.LeastSquares(measured, 0.1, forward.layouts[0])
    objective = nd.Objective(forward, [misfit], {"D": prior})
    at = objective.linearize(forward.space.create_vec())
    found = Laplace(at)
    squares = [s.getArray() ** 2 for s in found.prior_samples(300)]
    np.testing.assert_allclose(
        np.mean(np.mean(squares, axis=0) / found.prior_variance), 1.0, rtol=0.05
    )
    assert (found.variance <= found.prior_variance).all()


@pytest.mark.parallel([1, 2, 3])
def test_a_forward_map():
    (logarithm,) = example("Logarithm")
    check(logarithm(flow()), nd.LeastSquares)


@pytest.mark.parallel([1, 2, 3])
def test_an_optimizer():
    (descend,) = example("descend")
    forward = flow()
    _, _, measured = pieces(forward)
    misfit = nd.LeastSquares(measured, 0.1, forward.layouts[0])
    prior = nd.BiLaplacian(forward.grid, 1.0, gamma=0.3, delta=1.0)
    objective, m = (
        nd.Objective(forward, [misfit], {"D": prior}),
        forward.space.create_vec(),
    )
    at = objective.linearize(m)
    first = at.value
    at.destroy()
    last = descend(objective, m, 5)
    found = nd.minimize(objective, forward.space.create_vec(), nd.Settings("newton"))
    assert 0 <= last - found.objective < 0.5 * (first - found.objective)
    objective.destroy()


def torch_function():
    """PyTorch, and the page's function of it."""
    torch = pytest.importorskip(
        "torch", reason="PyTorch, an extra of npde_opt, is not installed"
    )
    (predicted,) = example("Predicted")
    return torch, predicted.apply


@pytest.mark.parallel([1])
def test_a_function_of_pytorch():
    torch, predicted = torch_function()
    forward = flow()
    rng = np.random.default_rng(0)
    values = torch.tensor(rng.standard_normal(forward.space.size), requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda v: predicted(v, forward), (values,), rtol=1e-5
    )


@pytest.mark.parallel([1, 2])
def test_the_gradient_of_a_loss_in_pytorch():
    """It is J^T r, and the slope of the loss of all ranks; twice through a graph it is the same."""
    torch, predicted = torch_function()
    forward = flow()
    m, dm, _ = pieces(forward)

    def loss(step):
        moved = torch.tensor(m.getArray() + step * dm.getArray(), requires_grad=True)
        return 0.5 * (predicted(moved, forward) ** 2).sum(), moved

    value, moved = loss(0.0)
    value.backward(retain_graph=True)
    at = forward.linearize(m)
    assert float(value.detach()) == pytest.approx(
        0.5 * (at.data[0].values ** 2).sum(), rel=1e-12
    )
    g = at.apply_adjoint(at.data)
    np.testing.assert_allclose(moved.grad.numpy(), g.getArray(), rtol=1e-9, atol=1e-12)
    value.backward()
    np.testing.assert_allclose(
        moved.grad.numpy(), 2 * g.getArray(), rtol=1e-9, atol=1e-12
    )
    ahead, behind = (comm.allreduce(loss(s)[0].item()) for s in (1e-4, -1e-4))
    assert g.dot(dm) == pytest.approx((ahead - behind) / 2e-4, rel=1e-6)


@pytest.mark.parallel([1])
def test_what_the_function_of_pytorch_does_in_numpy():
    """The two passes by themselves: J^T d along a direction is the derivative of d.F."""
    forward, size = flow(), flow().space.size
    values, step = np.linspace(-0.5, 0.5, size), np.cos(np.arange(size))

    def passed(v):
        m = forward.space.create_vec()
        m.setArray(v)
        return forward.linearize(m)

    at = passed(values)
    d = np.sin(np.arange(at.data[0].values.size)).reshape(at.data[0].values.shape)
    g = at.apply_adjoint([at.data[0].like(d)])
    ahead, behind = (passed(values + s * step).data[0].values for s in (1e-4, -1e-4))
    assert g.getArray() @ step == pytest.approx(
        (d * (ahead - behind)).sum() / 2e-4, rel=1e-5
    )
