"""Networks as forward maps: derivatives of all kinds of layers, losses, ranks and groups."""

from dataclasses import replace

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares, SoftmaxCrossEntropy
from npde_opt.networks import (
    Dense,
    Diffusion,
    Mixing,
    Network,
    Part,
    PiecewiseLinear,
    Place,
    RadialBasis,
    ReLU,
    Softplus,
    Stencil,
    Step,
    Tanh,
    Transposed,
    Weight,
    strips,
)
from npde_opt.objective import Objective
from npde_opt.optimizers import OptimizerState, Settings, minimize
from npde_opt.verify import dot_product_test, taylor_test

COMM = MPI.COMM_WORLD
SAMPLES = 4


class Drawn:
    """Samples that are the same on any number of ranks; part p of sample e."""

    def __init__(self, numbers):
        self.numbers = list(numbers)

    def __len__(self):
        return len(self.numbers)

    def part(self, number, samples, place):
        shape = (place.channels, *place.layout.shape[::-1])
        chosen = [self.numbers[s] for s in samples]
        every = [
            np.random.default_rng([e, number]).standard_normal(shape) for e in chosen
        ]
        return place.own(np.stack(every, axis=1))


def part(operator, name, step=None, sign=1.0):
    return Part(operator, Weight(name, operator.shape, step, operator.inputs), sign)


def cnn(grid):
    """A strided convolution and two dense layers."""
    first = Stencil(Place.on(grid), 3, 3, stride=2)
    second = Dense(first.target, 4)
    third = Dense(second.target, 3)
    return [
        Step(first.source, part(first, "W0"), Tanh(), Weight("b0", (3,))),
        Step(second.source, part(second, "W1"), Softplus(), Weight("b1", (4,))),
        Step(third.source, part(third, "W2"), bias=Weight("b2", (3,))),
    ]


def symmetric(grid):
    """u' = u - dt W^T sigma(W u + b), weights of each layer in one array, and its input again."""
    place, steps = Place.on(grid, 2), []
    for n in range(2):
        W = Stencil(place, 3, 3, mode="replicate")
        B = Mixing(place, 2)
        theta = Weight("theta", (3, 5), n, 1)
        inner, outer = part(W, "W", n), part(Transposed(W), "W", n, -1.0)
        activation = RadialBasis(5, 2.0)
        more = {"driven_outer": part(B, "B"), "reads": 0}
        layer = Step(
            place, inner, activation, Weight("b", (3,), n), theta, outer, **more
        )
        steps.append(Step(**{**vars(layer), "residual": True, "dt": 0.3}))
    return steps


def recurrent(grid):
    """One shared layer with an input at every step."""
    place = Place.on(grid, 2)
    W, U, K = Stencil(place, 2), Mixing(place.with_channels(1), 2), Mixing(place, 2)
    return [
        Step(
            place,
            part(W, "W"),
            Tanh(),
            Weight("b", (2,)),
            driven_inner=part(U, "U"),
            linear=[part(K, "K")],
            reads=n,
        )
        for n in range(3)
    ]


def reaction_diffusion(grid):
    """u' = u + dt (k lap u + V sigma(W u + b)), trained sigma."""
    place, hidden = Place.on(grid, 2), Place.on(grid, 3)
    W, V, K = Mixing(place, 3), Mixing(hidden, 2), Diffusion(place)
    layer = {
        "outer": part(V, "V"),
        "linear": [part(K, "K")],
        "residual": True,
        "dt": 0.2,
    }
    smooth = Step(place, part(W, "W", 0), Tanh(), Weight("b", (3,)), **layer)
    sigma, theta = PiecewiseLinear(5, 2.0), Weight("theta", (3, 5), None, 1)
    return [smooth, Step(place, part(W, "W", 1), sigma, None, theta, **layer)]


KINDS = {
    "cnn": cnn,
    "symmetric": symmetric,
    "recurrent": recurrent,
    "reaction-diffusion": reaction_diffusion,
}


def made(kind, loss="least squares", comm=COMM, numbers=range(SAMPLES), ensemble=None):
    grid = Grid((6, 5), comm=comm)
    network = Network(grid, KINDS[kind](grid), start=None if kind == "recurrent" else 0)
    forward = network.over(Drawn(numbers))
    layout = forward.layouts[0]
    if loss == "softmax":
        misfit = SoftmaxCrossEntropy(np.array([e % 3 for e in numbers]), layout)
    else:
        y = np.random.default_rng(7).standard_normal((layout.size, SAMPLES))
        misfit = LeastSquares(y[:, list(numbers)], 0.5, layout)
    J = Objective(forward, [misfit], {}, ensemble)
    values = network.initial(3)
    changes = network.initial(4)
    for other, own in ((5, values), (6, changes)):
        for name, drawn in network.initial(other).items():
            own[name] = own[name] + 0.3 * drawn
            if not drawn.any():
                own[name] = (
                    0.1 + 0.2 * np.arange(own[name].size).reshape(own[name].shape) % 0.7
                )
    return J, J.space.from_values(values), J.space.from_values(changes)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_derivatives(kind):
    J, m, dm = made(kind)
    orders = taylor_test(J, m, dm)
    assert orders.problems() == [], orders
    lin = J.linearize(m).linearization
    assert dot_product_test(lin, dm, [d.layout.noise(1) for d in lin.data]) <= 1e-12


@pytest.mark.parallel([1, 2, 3])
def test_softmax_derivatives():
    J, m, dm = made("cnn", "softmax")
    orders = taylor_test(J, m, dm)
    assert orders.problems() == [], orders


def figures(J, m, dm):
    at, h = J.linearize(m), J.create_vec()
    at.hessian(dm, h)
    found = [at.value, at.gradient().norm(), at.gradient().dot(dm), h.norm(), h.dot(dm)]
    at.destroy()
    return np.array(found)


@pytest.mark.parallel([2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_ranks_agree(kind):
    assert np.allclose(
        figures(*made(kind)), figures(*made(kind, comm=MPI.COMM_SELF)), rtol=1e-11
    )


@pytest.mark.parallel([2, 4])
def test_groups_agree():
    """Of one rank each, or of two that share the cells."""
    ensemble = Ensemble.split(COMM, 2, SAMPLES)
    own = ensemble.own(SAMPLES)
    split = made("cnn", comm=ensemble.space, numbers=own, ensemble=ensemble)
    assert np.allclose(
        figures(*split), figures(*made("cnn", comm=MPI.COMM_SELF)), rtol=1e-11
    )


def test_batches_are_the_whole():
    J, m, _ = made("cnn", "softmax")
    parts = [J.over(columns, scale=False).linearize(m) for columns in ([0, 2], [1, 3])]
    whole = J.linearize(m)
    assert np.isclose(sum(p.value for p in parts), whole.value, rtol=1e-13)
    g = sum(p.gradient().getArray() for p in parts)
    assert np.allclose(g, whole.gradient().getArray(), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    ("activation", "smooth"),
    [
        (Tanh(), True),
        (Softplus(), True),
        (ReLU(), False),
        (PiecewiseLinear(7, 2.0), False),
        (RadialBasis(7, 2.0), True),
    ],
)
def test_slopes(activation, smooth):
    rng = np.random.default_rng(0)
    v, theta = (
        1.5 * rng.standard_normal((2, 50)),
        rng.standard_normal((2, max(activation.count, 1))),
    )
    h = 1e-6
    above, below = activation.value(v + h, theta), activation.value(v - h, theta)
    difference = (above - below) / (2 * h)
    assert np.allclose(activation.slope(v, theta), difference, rtol=1e-7, atol=1e-8)
    above, below = activation.slope(v + h, theta), activation.slope(v - h, theta)
    if smooth:
        difference = (above - below) / (2 * h)
        assert np.allclose(
            activation.curvature(v, theta), difference, rtol=1e-6, atol=1e-7
        )
    if activation.count:
        y = rng.standard_normal(v.shape)
        for order, of in enumerate((activation.value, activation.slope)):
            along = np.vdot(activation.moments(v, y, order), theta)
            assert np.isclose(along, np.vdot(y, of(v, theta)), rtol=1e-12)


def test_layers_that_do_not_fit_are_told():
    grid = Grid((6, 5), comm=COMM)
    steps = cnn(grid)
    with pytest.raises(InputError, match="layer 1"):
        Network(grid, [steps[0], steps[2]])
    with pytest.raises(InputError, match="layers"):
        Network(grid, [])


class DrawnAnew(Drawn):
    """Other noise in every epoch."""

    def __init__(self, numbers, epoch=-1):
        super().__init__(numbers)
        self.epoch = epoch

    def of_epoch(self, epoch):
        return DrawnAnew(self.numbers, epoch)

    def part(self, number, samples, place):
        found = super().part(number, samples, place)
        noise = DrawnAnew.noise(self, samples, place)
        return found + noise

    def noise(self, samples, place):
        shape = (place.channels, *place.layout.shape[::-1])
        seeds = [[self.numbers[s], self.epoch + 1] for s in samples]
        every = [np.random.default_rng(seed).standard_normal(shape) for seed in seeds]
        return 0.1 * place.own(np.stack(every, axis=1))


@pytest.mark.parallel([1, 2])
def test_noise_is_fresh_in_every_epoch_and_the_same_in_a_resumed_one():
    """Adam's rows are those of the data of each epoch, and a run goes on to the bit."""
    grid = Grid((4, 4))
    network = Network(grid, cnn(grid))
    forward = network.over(DrawnAnew(range(SAMPLES)))
    labels = np.arange(SAMPLES) % 3
    J = Objective(
        forward, [SoftmaxCrossEntropy(labels, forward.layouts[0])], {}, at_once=1
    )
    m = forward.space.from_values(network.initial(0))
    settings = Settings("adam", rate=1e-3, batch=2, max_iterations=2, decrement=None)
    kept = []

    def monitor(row, state):
        if row["iteration"] == 1:
            kept.append(
                OptimizerState(
                    {n: v.copy() for n, v in state.vectors.items()}, state.meta
                )
            )

    found = minimize(J, m, replace(settings, rate=1e-12))
    for epoch, row in enumerate(found.history[1:]):
        drawn = J.of_epoch(epoch)
        assert row["objective"] == pytest.approx(drawn.linearize(m).value, rel=1e-9)
        part = J.over([1, 3]).of_epoch(epoch).linearize(m)
        assert part.value == pytest.approx(
            drawn.over([1, 3]).linearize(m).value, rel=1e-14
        )
    assert found.history[1]["objective"] != pytest.approx(
        found.history[2]["objective"], rel=1e-6
    )
    assert J.counters.forward_solves > 0 and J.of_epoch(0).counters is J.counters
    expected = minimize(J, m, settings, monitor)
    resumed = minimize(J, m, settings, resume=kept[0])
    assert (resumed.m.getArray() == expected.m.getArray()).all()


@pytest.fixture
def small_boxes(monkeypatch):
    """Every row of every sample is worked on alone, once this is called."""

    def begin():
        monkeypatch.setattr(strips, "CACHE", 1)
        strips.boxes.cache_clear()

    yield begin
    monkeypatch.undo()
    strips.boxes.cache_clear()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("symmetric", (6, 5)),
        ("symmetric", (4, 7, 5)),
        ("reaction-diffusion", (6, 5)),
        ("reaction-diffusion", (4, 7, 5)),
        ("reaction-diffusion", (9,)),
    ],
)
def test_gradients_do_not_depend_on_boxes(small_boxes, kind, shape):
    grid = Grid(shape, comm=COMM)
    network = Network(grid, KINDS[kind](grid))
    forward = network.over(Drawn(range(3)))
    m = forward.space.from_values(network.initial(3))
    found = []
    for begin in (lambda: None, small_boxes):
        begin()
        at = forward.linearize(m)
        before = at.data[0].values.copy()
        found += [at.apply_adjoint(at.data), at.apply_adjoint(at.data)]
        assert np.array_equal(at.data[0].values, before)
        at.destroy()
    scale = found[0].norm()
    for g in found[1:]:
        g.axpy(-1.0, found[0])
        assert g.norm() < 1e-13 * scale
    for vec in (*found, m):
        vec.destroy()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_in_single_precision_is_that_in_double(kind):
    grid, found = Grid((40, 30), comm=COMM), []
    for dtype in (np.float32, np.float64):
        network = Network(
            grid,
            KINDS[kind](grid),
            dtype=dtype,
            start=None if kind == "recurrent" else 0,
        )
        forward = network.over(Drawn(range(2)))
        # Numbers that single precision has: both are of one network.
        values = {
            n: w.astype("f4").astype(float) for n, w in network.initial(3).items()
        }
        m = forward.space.from_values(values)
        at = forward.linearize(m)
        found.append(at.apply_adjoint(at.data))
        at.destroy()
        m.destroy()
    scale = found[1].norm()
    found[0].axpy(-1.0, found[1])
    assert 0 < found[0].norm() < 1e-6 * scale
    for vec in found:
        vec.destroy()


class Counted(MPI.Intracomm):
    """Counts messages that are sent."""

    sent = 0

    def Isend(self, *given, **named):
        Counted.sent += 1
        return super().Isend(*given, **named)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("kind", ["symmetric", "reaction-diffusion"])
def test_messages_of_a_gradient_do_not_depend_on_the_number_of_samples(
    kind, monkeypatch
):
    on = Place.on

    def counted(grid, channels=1):
        return replace(on(grid, channels), comm=Counted(grid.comm))

    monkeypatch.setattr(Place, "on", counted)
    sent, grid = [], Grid((6, 9), comm=COMM)
    for samples in (1, 5):
        network = Network(grid, KINDS[kind](grid))
        forward = network.over(Drawn(range(samples)))
        m = forward.space.from_values(network.initial(3))
        before = Counted.sent
        at = forward.linearize(m)
        at.apply_adjoint(at.data).destroy()
        sent.append(Counted.sent - before)
        at.destroy()
        m.destroy()
    # At most two products with ghosts a layer forward, three back, to a rank on either side.
    assert sent[0] == sent[1] <= 2 * 5 * len(network.steps)
    assert (sent[0] > 0) == (COMM.size > 1)
