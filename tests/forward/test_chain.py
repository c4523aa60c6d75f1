"""Chains of layers that know nothing of equations: sizes and channels change from layer to
layer."""

import inspect
import re

import numpy as np
import pytest

from npde_opt.differences import order
from npde_opt.forward import chain, layer, storage
from npde_opt.forward.chain import Chain, Visitors
from npde_opt.forward.storage import Plan, Plans, Storage, plan

SHAPES = [
    (2, 3, 2),
    (1, 4, 3),
    (3, 2, 2),
    (5,),
    (5,),
    (2, 2),
    (4, 3, 1),
    (7,),
    (2, 3, 2),
    (1, 1),
]
LAYERS = len(SHAPES) - 1
STEPS = 2.0 ** -np.arange(4, 13)


class Toy:
    """U_1 = u + a tanh(B u), U_2 = w_n sin(A U_1): a is shared by all layers, w_n is the layer's
    own."""

    def __init__(self, n, k, shapes=SHAPES):
        rng = np.random.default_rng(n)
        size, self.shape, self.before = (
            int(np.prod(shapes[n])),
            shapes[n + 1],
            shapes[n],
        )
        self.name, self.a, self.w = f"w{n}", k["a"], k[f"w{n}"]
        self.A = rng.standard_normal((int(np.prod(self.shape)), size)) / size**0.5
        self.B = rng.standard_normal((size, size)) / size**0.5

    def step(self, u):
        middle = u.ravel() + self.a * np.tanh(self.B @ u.ravel())
        after = self.w * np.sin(self.A @ middle)
        return [u, middle, after.reshape(self.shape)]

    def tangent(self, stages, du, dk, previous):
        t, slope, s = self._parts(stages)
        middle = du.ravel() + dk["a"] * t + self.a * slope * (self.B @ du.ravel())
        after = dk[self.name] * np.sin(s) + self.w * np.cos(s) * (self.A @ middle)
        return [du, middle, after.reshape(self.shape)]

    def _parts(self, stages):
        t = np.tanh(self.B @ stages[0].ravel())
        return t, 1 - t**2, self.A @ stages[1]

    def adjoint(self, stages, adjoint, out, late):
        t, slope, s = self._parts(stages)
        last = adjoint.ravel()
        middle = self.A.T @ (self.w * np.cos(s) * last)
        first = middle + self.B.T @ (self.a * slope * middle)
        if out is not None:
            out[self.name] += np.sin(s) @ last
            out["a"] += t @ middle
        return first.reshape(self.before), [middle, last]

    def second(self, stages, changes, multipliers, dadjoint, dk, out, late):
        t, slope, s = self._parts(stages)
        middle, last = multipliers
        ds, dt = self.A @ changes[1], slope * (self.B @ changes[0].ravel())
        dlast = dadjoint.ravel()
        inner = dk[self.name] * np.cos(s) * last - self.w * np.sin(s) * ds * last
        dmiddle = self.A.T @ (inner + self.w * np.cos(s) * dlast)
        turned = (
            dk["a"] * slope * middle
            - 2 * self.a * t * dt * middle
            + self.a * slope * dmiddle
        )
        out[self.name] += np.cos(s) * ds @ last + np.sin(s) @ dlast
        out["a"] += dt @ middle + t @ dmiddle
        return (dmiddle + self.B.T @ turned).reshape(self.before), [dmiddle, dlast]


class Functional:
    """J = sum_n c_n . sin(u_n), and what its visitors saw."""

    def __init__(self):
        rng = np.random.default_rng(100)
        self.c = [rng.standard_normal(shape) for shape in SHAPES]
        self.value, self.change, self.turns, self.seen = 0.0, 0.0, 0, []

    def after(self, n, stages):
        self.seen.append(n)
        self.value += np.vdot(self.c[n], np.sin(stages[-1]))

    def after_change(self, n, u, du):
        self.seen.append(n)
        self.change += np.vdot(self.c[n], np.cos(u) * du)

    def turn(self):
        self.turns += 1

    def before(self, n, u, adjoint):
        self.seen.append(n)
        adjoint += self.c[n] * np.cos(u)

    def before_change(self, n, u, du, dadjoint):
        dadjoint -= self.c[n] * np.sin(u) * du

    @property
    def visitors(self):
        return Visitors(self.after_change, self.turn, self.before, self.before_change)


def point(seed):
    """(u_0, k), or a direction."""
    rng = np.random.default_rng(seed)
    k = {"a": rng.standard_normal()} | {
        f"w{n}": 1 + rng.random() for n in range(LAYERS)
    }
    return rng.standard_normal(SHAPES[0]), k


def moved(at, along, e):
    (u, k), (du, dk) = at, along
    return u + e * du, {name: k[name] + e * dk[name] for name in k}


def dot(a, b):
    return np.vdot(a[0], b[0]) + sum(a[1][name] * b[1][name] for name in a[1])


def trajectory(at, plans=None, functional=None):
    layers = [Toy(n, at[1]) for n in range(LAYERS)]
    return Chain(layers, plans).run(at[0], functional.after if functional else None)


def zeros(k):
    return dict.fromkeys(k, 0.0)


def value(at):
    functional = Functional()
    trajectory(at, None, functional)
    return functional.value


def gradient(at, plans=None):
    out = zeros(at[1])
    path = trajectory(at, plans)
    adjoint = path.adjoint(Functional().before, out)
    path.destroy()
    return adjoint.first, out


def hessian(at, along, plans=None, keep=True):
    path, out, functional = trajectory(at, plans), zeros(at[1]), Functional()
    adjoint = path.adjoint(functional.before, None, keep=True) if keep else None
    dfirst, first = path.second(*along, functional.visitors, out, adjoint)
    np.testing.assert_allclose(first, gradient(at)[0], rtol=1e-13)
    assert functional.turns == 1
    path.destroy()
    return dfirst, out


PLANS = {
    "all": None,
    "one checkpoint": Plans(Plan(LAYERS, 1), Plan(LAYERS, 1)),
    "three": Plans(Plan(LAYERS, 3), Plan(LAYERS, 2)),
    "all but one": Plans(Plan(LAYERS, LAYERS - 1), Plan(LAYERS, LAYERS - 1)),
    "states kept": Plans(Plan(LAYERS), Plan(LAYERS, 2), False),
    "disk": Plans(Plan(LAYERS, 1, 2), Plan(LAYERS, 1, 3)),
    "most on disk": Plans(Plan(LAYERS, 1, LAYERS - 2), Plan(LAYERS, 1, LAYERS - 2)),
}


@pytest.mark.parallel([1, 2])
def test_a_gradient_is_the_slope():
    at, along = point(1), point(2)
    slope, here = dot(gradient(at), along), value(at)
    remainders = [abs(value(moved(at, along, e)) - here - e * slope) for e in STEPS]
    assert order(STEPS, remainders, 1e-14 * abs(here)) == pytest.approx(2, abs=0.1)


@pytest.mark.parallel([1, 2])
def test_a_tangent_is_the_adjoint_of_the_adjoint():
    at, along = point(1), point(2)
    functional, kept = Functional(), []
    path = trajectory(at)
    last = path.tangent(*along, functional.after_change, kept)
    assert functional.change == pytest.approx(dot(gradient(at), along), rel=1e-13)
    assert [c[-1].shape for c in kept] == SHAPES[1:] and last is kept[-1][-1]


@pytest.mark.parallel([1, 2])
def test_a_second_derivative_is_the_slope_of_the_gradient_and_symmetric():
    at, a, b = point(1), point(2), point(3)
    product = hessian(at, a)
    remainders = []
    for e in STEPS:
        up, down = gradient(moved(at, a, e)), gradient(moved(at, a, -e))
        differences = [
            (dot(up, along) - dot(down, along)) / (2 * e) for along in (a, b)
        ]
        remainders.append(
            max(
                abs(d - dot(product, x))
                for d, x in zip(differences, (a, b), strict=True)
            )
        )
    assert order(STEPS, remainders, 1e-12 / STEPS) == pytest.approx(2, abs=0.1)
    assert dot(product, b) == pytest.approx(dot(hessian(at, b), a), rel=1e-12)


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("name", PLANS)
def test_every_storage_gives_the_same_to_the_last_bit(name):
    at, along, plans = point(1), point(2), PLANS[name]
    for ours, expected in (
        (gradient(at, plans), gradient(at)),
        (hessian(at, along, plans), hessian(at, along)),
        (hessian(at, along, plans, keep=False), hessian(at, along)),
    ):
        np.testing.assert_array_equal(ours[0], expected[0])
        assert ours[1] == expected[1]


@pytest.mark.parametrize("name", PLANS)
def test_visitors_see_every_state_once_and_steps_are_counted(name):
    at, along, functional = point(1), point(2), Functional()
    path = trajectory(at, PLANS[name], functional)
    counts, predicted = path.chain.counts, path.plans.states.predicted
    assert counts.steps - counts.recomputed == LAYERS
    path.adjoint(functional.before, zeros(at[1]))
    assert functional.seen == [*range(LAYERS + 1), *range(LAYERS, -1, -1)]
    assert counts.steps == round(LAYERS * predicted) and path.recomputation == predicted
    functional.seen.clear()
    path.tangent(*along, functional.after_change)
    assert functional.seen == list(range(LAYERS + 1))
    functional.seen.clear()
    path.second(*along, functional.visitors, zeros(at[1]))
    assert functional.seen == [*range(LAYERS + 1), *range(LAYERS, -1, -1)]
    assert counts.steps - counts.recomputed == LAYERS
    states = list(path.states())
    assert [u.shape for u in states] == SHAPES and np.array_equal(states[-1], path.last)


@pytest.mark.parametrize("name", PLANS)
def test_a_sweep_that_fails_leaves_nothing_and_can_be_done_again(name, tmp_path):
    at, functional = point(1), Functional()
    plans = PLANS[name]
    if plans is not None:
        states = Plan(LAYERS, plans.states.memory, plans.states.disk, str(tmp_path))
        plans = Plans(states, Plan(LAYERS, 1, 2, str(tmp_path)), plans.multipliers)

    def failing(n, *rest):
        if n == 2:
            raise ArithmeticError("a test")

    with pytest.raises(ArithmeticError):
        Chain([Toy(n, at[1]) for n in range(LAYERS)], plans).run(at[0], failing)
    assert not any(tmp_path.iterdir())
    path, out = trajectory(at, plans), zeros(at[1])
    with pytest.raises(ArithmeticError):
        path.adjoint(failing, zeros(at[1]))
    for visitors in (
        Visitors(failing, functional.turn, functional.before, functional.before_change),
        Visitors(functional.after_change, functional.turn, functional.before, failing),
    ):
        with pytest.raises(ArithmeticError):
            path.second(*point(2), visitors, zeros(at[1]))
    first = path.adjoint(functional.before, out).first
    np.testing.assert_array_equal(first, gradient(at)[0])
    assert out == gradient(at)[1]
    path.destroy()
    assert not any(tmp_path.iterdir())


def test_solves_are_told_what_came_before():
    told = []

    class Told(Toy):
        def tangent(self, stages, du, dk, previous):
            told.append(previous)
            return super().tangent(stages, du, dk, previous)

        def adjoint(self, stages, adjoint, out, late):
            told.append(list(late))
            return super().adjoint(stages, adjoint, out, late)

    at, along, shapes = point(1), point(2), [(3,)] * 5
    path, changes = (
        Chain([Told(n, at[1], shapes) for n in range(4)]).run(np.ones(3)),
        [],
    )
    path.tangent(np.ones(3), along[1], lambda n, u, du: changes.append(du))
    assert told[0] is None and all(told[n] is changes[n - 1] for n in (1, 2, 3))
    told.clear()
    kept = path.adjoint(lambda n, u, adjoint: None, None, keep=True).multipliers
    behind = [[], [kept[3]], [kept[2], kept[3]], [kept[1], kept[2]]]
    for late, expected in zip(told, behind, strict=True):
        assert len(late) == len(expected) and all(
            a is b for a, b in zip(late, expected, strict=True)
        )


def test_a_chain_of_no_layers():
    path = Chain([]).run(np.ones(2))
    adjoint = path.adjoint(lambda n, u, adjoint: adjoint.__iadd__(u), {})
    assert path.last is path.first and np.array_equal(adjoint.first, np.ones(2))


def test_plans_share_a_budget():
    assert Storage().plans(10, 8, 1, 2, 1) == Plans.all(10)
    found = Storage(memory=2 * 4 * 8, disk=2 * 3 * 8).plans(10, 8, 1, 2, 1)
    assert found.states == Plan(10, 4, 3) and not found.multipliers
    assert found.both == plan(10, 16, 24, 32, 24)


def test_chains_know_no_equations():
    allowed = {"layer", "storage", "chain"}
    for module in (chain, layer, storage):
        source = inspect.getsource(module)
        rooms = re.findall(r"from npde_opt\.(\w+)(?:\.(\w+))?", source)
        inner = {name for room, name in rooms if room == "forward"}
        assert inner <= allowed, inner
        assert {room for room, _ in rooms} <= {
            "aliases",
            "forward",
            "errors",
            "io",
            "lazily",
            "capacity",
            "packages",
            "stages",
        }
