"""min_m J(m): what the optimizers ask of an objective, what they are told and what they answer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.aliases import Record
from npde_opt.errors import InputError
from npde_opt.optimizers.validation import Validation

METHODS = {
    "newton": "python",
    "gauss-newton": "python",
    "lbfgs": "python",
    "lmvm": "lmvm",
    "bounded-lbfgs": "blmvm",
    "bqnkls": "bqnkls",
    "bntr": "bntr",
    "ncg": "bncg",
}
"""The method names and the TAO types behind them."""
EPOCHS = ("adam", "adamw")
"""Methods without a line search, of which an iteration is an epoch: TAO types in Python."""
TAKE_BOUNDS = ("bounded-lbfgs", "bqnkls", "bntr", "ncg", *EPOCHS)
HEED_BOUNDS = f"{', '.join(TAKE_BOUNDS)}; or any with the transform 'bounded'"
"""What is allowed where parameters have bounds, in error messages."""
SCHEDULES = ("constant", "cosine", "step")
REGISTERED = "registered"
"""The method of a class of the user's, see own.py."""
METHOD_NAMES = (*METHODS, *EPOCHS, REGISTERED)
WEIGHT_DECAY = 0.01
"""Of AdamW, where none is given."""
RTOL = 1e-6
"""The gradient tolerance of those who give none."""


class ObjectiveAt(Protocol):
    """J at one point, evaluated lazily; the optimizer that asked for it destroys it.

    hessian: out = H dm, exact or Gauss-Newton; regularization_hessian: out = R dm;
    regularization_products: R x of all rows x (n, own values), 0 where nothing is unknown, into
    rows of `found`;
    precondition: out = R^-1 r;
    unseen: names of the unknowns on which no datum depends here (J dm = 0 for changes of that
    unknown).

    Where it has a true `ends_together`, gradient, hessian, regularization_hessian and precondition
    end with a block of all ranks (see errors.py), and need none around them.
    """

    @property
    def value(self) -> float: ...
    @property
    def misfit(self) -> float: ...
    @property
    def regularization(self) -> float: ...
    def gradient(self) -> PETSc.Vec: ...
    def hessian(self, dm: PETSc.Vec, out: PETSc.Vec, gauss_newton: bool) -> None: ...
    def regularization_hessian(self, dm: PETSc.Vec, out: PETSc.Vec) -> None: ...
    def regularization_products(self, rows: np.ndarray, found: np.ndarray) -> None: ...
    def precondition(self, r: PETSc.Vec, out: PETSc.Vec) -> None: ...
    def unseen(self) -> list[str]: ...
    def destroy(self) -> None: ...


class Counters(Protocol):
    def snapshot(self) -> dict[str, int]: ...


class Space(Protocol):
    def mass(self) -> PETSc.Vec:
        """The diagonal of the parameters' mass matrix, a new Vec."""
        ...


class Objective(Protocol):
    """J itself. `value` of a point where the state cannot be computed is inf; a failed solve
    raises.

    Where groups of ranks share the experiments, each holding all of m on its `comm`, the objective
    also has `everyone`, the communicator of all groups, on which errors and the monitor's answer
    are agreed.
    """

    @property
    def comm(self) -> MPI.Intracomm: ...
    @property
    def space(self) -> Space: ...
    @property
    def counters(self) -> Counters: ...
    @property
    def unknown_count(self) -> int: ...
    def linearize(self, m: PETSc.Vec) -> ObjectiveAt: ...
    def gradient_norm(self, g: PETSc.Vec) -> float: ...
    def bounds(self) -> tuple[PETSc.Vec, PETSc.Vec] | None: ...
    def units(self, m: PETSc.Vec) -> list[tuple[str, PETSc.Vec, float]]:
        """Name, unit vector (the caller destroys it) and natural size of every small unknown's
        values."""
        ...

    def stretch(self, dm: PETSc.Vec) -> float:
        """Largest change of a parameter with a log or bounded transform along dm, 0 where there is
        none."""
        ...

    def runaways(self, dm: PETSc.Vec) -> list[str]:
        """Names of the unknowns of which dm changes a logarithm by more than RUNAWAY."""
        ...

    def saturated(self, m: PETSc.Vec, g: PETSc.Vec) -> np.ndarray:
        """Own entries (bool) at the end of a bounded transform's range that the descent direction
        -g leaves."""
        ...


@dataclass(frozen=True)
class Settings:
    """How to minimize; checked on creation (InputError).

    method: 'newton' (Newton-CG, exact Hessian), 'gauss-newton', 'lbfgs', 'lmvm' (TAO's own L-BFGS),
        'bounded-lbfgs' (blmvm), 'bqnkls', 'bntr', 'ncg' (bncg), of which the last four respect
        bounds; 'adam', 'adamw' (by minibatches, between bounds by projection); 'registered': `own`.
    max_iterations: completed iterations, those of a resumed run included; of 'adam' and 'adamw'
        epochs.
    gradient_rtol, gradient_atol: stop at norm(g) <= max(gradient_atol, gradient_rtol * reference),
        where the reference is gradient_reference or the norm at m0; norms are the objective's
        (mass-weighted).
    decrement: an answer is converged where also 1/2 g^T H^-1 g, by which the Gauss-Newton model
        would still lower the objective, is no larger. The misfit is in units of its noise: at 1e-2
        no parameter, and no combination of parameters, is farther than 0.14 of its standard
        deviation from the minimum. None: the gradient alone decides, as on the coarse grids of a
        nested iteration, of which the answer is only a start.
    insist: go on past the gradient test while the decrement is larger. False: the run ends there,
        as 'stopped_at_tolerance' where the decrement is larger. None: a tolerance that is given is
        obeyed: False where gradient_rtol is another than by default, or gradient_atol is given,
        else True.
    memory: pairs kept by the quasi-Newton methods.
    cg_max, forcing_max: inner CG of the Newton methods stops at cg_max steps or at the relative
        residual min(forcing_max, sqrt(n(g) / n(g_0))) (Eisenstat-Walker), n the norm of the
        preconditioner R^-1.
    gauss_newton: bntr with the Gauss-Newton Hessian.
    reorthogonalize: keep every inner CG direction and its Hessian product (at most 2 cg_max
        vectors) to make each new one conjugate to all: a quarter of the products where the data
        weigh more than the regularization.
    learnt: products with a coarse grid's Hessian that nested iteration may spend on preconditioning
        finer ones.
    rate, schedule, decay, period: learning rate of 'adam' and 'adamw', and how it falls:
        'constant', 'cosine' (from step to step, to 0 at the end), 'step' (times `decay` every
        `period` epochs).
    warm_up: epochs in which the rate rises from step to step, as a fraction of what it is else.
    betas, epsilon: decay of the running means of the gradient and of its square, and what is added
        to the root of the latter.
    weight_decay: 'adamw': share by which parameters shrink towards 0 a step, times the rate.
    batch: experiments a step of 'adam' and 'adamw' at most; None: all.
    clip: longer gradients of 'adam' and 'adamw' are scaled to this 2-norm.
    seed: of the order of minibatches.
    patience: end as 'stopped_early' where the loss of `validation` has not fallen for so many
        iterations.
    level: copied into the rows of the history.
    validation: of data that were set aside, see validation.py.
    own: makes the Descent of an objective (see own.py).
    """

    method: str = "newton"
    max_iterations: int = 50
    gradient_rtol: float = RTOL
    gradient_atol: float = 0.0
    gradient_reference: float | None = None
    decrement: float | None = 1e-2
    insist: bool | None = None
    memory: int = 10
    cg_max: int = 200
    forcing_max: float = 0.5
    gauss_newton: bool = False
    reorthogonalize: bool = True
    learnt: int = 100
    rate: float = 1e-3
    schedule: str = "constant"
    decay: float = 0.1
    period: int = 10
    warm_up: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float | None = None
    batch: int | None = None
    clip: float | None = None
    seed: int = 0
    patience: int | None = None
    level: int = 0
    # Functions have no text that is the same on all ranks.
    validation: Validation | None = field(default=None, repr=False)
    own: Callable[[Objective], object] | None = None

    def __post_init__(self) -> None:
        if self.method not in METHOD_NAMES:
            raise InputError("method", repr(self.method), ", ".join(METHOD_NAMES))
        if (self.method == REGISTERED) != (self.own is not None):
            said = f"{self.method!r} with own = {self.own}"
            raise InputError("method", said, "own with 'registered', and only there")
        for name, least in (
            ("max_iterations", 0),
            ("memory", 1),
            ("cg_max", 1),
            ("learnt", 0),
            ("level", 0),
        ):
            if getattr(self, name) < least:
                raise InputError(name, getattr(self, name), f"an integer >= {least}")
        for name in ("gradient_rtol", "gradient_atol"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(name, getattr(self, name), "a finite number >= 0")
        if self.gradient_reference is not None and not self.gradient_reference > 0:
            raise InputError(
                "gradient_reference", self.gradient_reference, "a number > 0"
            )
        if self.decrement is not None and not self.decrement > 0:
            raise InputError("decrement", self.decrement, "a number > 0, or None")
        if not 0 < self.forcing_max < 1:
            raise InputError(
                "forcing_max", self.forcing_max, "a number between 0 and 1"
            )
        self._check_epochs()

    def _check_epochs(self) -> None:
        """Raises InputError for settings of Adam that cannot be."""
        if self.schedule not in SCHEDULES:
            raise InputError("schedule", repr(self.schedule), ", ".join(SCHEDULES))
        for name in ("rate", "epsilon", "clip"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(name, value, "a finite number > 0")
        if not 0 <= self.warm_up < math.inf:
            raise InputError("warm_up", self.warm_up, "a finite number of epochs >= 0")
        if not 0 < self.decay <= 1:
            raise InputError("decay", self.decay, "a number above 0, at most 1")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise InputError("betas", self.betas, "two numbers from 0 to below 1")
        for name, least in (("period", 1), ("batch", 1), ("seed", 0), ("patience", 1)):
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise InputError(name, value, f"an integer >= {least}")
        if self.weight_decay is not None:
            if self.method == "adam":
                said = f"{self.weight_decay} with method 'adam'"
                raise InputError(
                    "weight_decay", said, "method 'adamw', or a regularizer"
                )
            if not 0 <= self.weight_decay < math.inf:
                raise InputError(
                    "weight_decay", self.weight_decay, "a finite number >= 0"
                )

    def check_patience(self) -> None:
        """Raises InputError where there is nothing to be patient about."""
        if self.patience is not None and self.validation is None:
            said = f"{self.patience} without data set aside"
            raise InputError(
                "patience", said, "none, or a validation that sets some aside"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the history, beside the common ones."""
        return () if self.validation is None else self.validation.columns

    @property
    def shrinkage(self) -> float:
        """AdamW's weight decay."""
        given = WEIGHT_DECAY if self.weight_decay is None else self.weight_decay
        return given if self.method == "adamw" else 0.0

    @property
    def goes_on(self) -> bool:
        """Whether the run goes on past the gradient test while the decrement is large."""
        if self.decrement is None:
            return False
        given = self.gradient_rtol != RTOL or self.gradient_atol > 0
        return not given if self.insist is None else self.insist


@dataclass(frozen=True)
class OptimizerState:
    """All that continues a run: hand it to `minimize(..., resume=state)`.

    vectors: 'm' and, for 'lbfgs', 'step_00', 'change_00', ... (oldest first), for 'adam' and
    'adamw' 'mean' and 'square', with a validation 'best'. They belong to the optimizer and change
    after the monitor returns: write or copy them there. meta can be written as JSON. With the same
    ranks 'newton', 'gauss-newton', 'lbfgs', 'adam' and 'adamw' (these between two batches, too)
    then repeat the uninterrupted run to the last bit; the other methods start afresh from 'm'.
    """

    vectors: dict[str, PETSc.Vec]
    meta: Record


Monitor = Callable[[Record, OptimizerState], str | None]
"""Called after every iteration. One that has a method `between(state)` is called by 'adam' and
'adamw' after every batch, too: see runs/monitor.py."""


@dataclass(frozen=True)
class Result:
    """What every optimizer answers. m belongs to the caller.

    status: 'converged': the gradient test holds and the decrement is within Settings.decrement, or
        the decrement alone tells that no step can help (at the start, or where the line search
        ends in rounding).
        'undetermined': J cannot be lowered, but the data do not see some unknown or a combination
            of unknowns, or a log parameter ran away from the start by more than a factor of
            exp(RUNAWAY).
        'stopped_at_tolerance': the gradient test holds at a tolerance that is obeyed
            (Settings.insist), but the decrement is larger than asked: J may still fall by
            `decrement` or more.
        'stalled': no lower objective was found, though gradient and decrement say that there is
            one.
        'max_iterations': stopped before that.
        'stopped_early': the validation no longer gets better; m is the best point by it.
        what a monitor asked for ('discrepancy').
    reason: an explanation in words, which says what is missing and what to do.
    decrement: 1/2 g^T H^-1 g of the Gauss-Newton Hessian at m, from below; NaN where it was not
    asked for. best: the iteration of m where a validation chose it, else None. evaluations, passes:
    of J at a point, and over the data, a product with the Hessian being one. iterations,
    objective_initial and gradient_norm_initial count from the start of the
    run, also where it was resumed; history has the rows of this call.
    """

    m: PETSc.Vec
    status: str
    reason: str
    iterations: int
    objective: float
    objective_initial: float
    gradient_norm: float
    gradient_norm_initial: float
    decrement: float = math.nan
    best: int | None = None
    evaluations: int = 0
    passes: float = 0.0
    history: list[Record] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
