"""m* = argmin J(m) by any TAO type, from any start or from the state of an earlier run."""

from __future__ import annotations

from petsc4py import PETSc

from npde_opt.errors import collective
from npde_opt.optimizers.epochs import Epochs
from npde_opt.optimizers.interface import (
    EPOCHS,
    Monitor,
    Objective,
    OptimizerState,
    Result,
    Settings,
)
from npde_opt.optimizers.iterations import Run
from npde_opt.optimizers.point import everyone
from npde_opt.optimizers.spectrum import Spectrum
from npde_opt.reductions import same


def minimize(
    objective: Objective,
    m0: PETSc.Vec,
    settings: Settings,
    monitor: Monitor | None = None,
    resume: OptimizerState | None = None,
    spectrum: Spectrum | None = None,
    origin: PETSc.Vec | None = None,
) -> Result:
    """Minimizes the objective from m0 (left as it is), or from the state of an earlier run.

    `monitor(row, state)` is called after every completed iteration, 0 included; it may return
    'stop:STATUS' and may raise. Collective; what any rank's callback raises is raised on every
    rank. The Newton methods take a `spectrum` learnt on a coarser grid into their preconditioner.
    From `origin` (by default m0) no log parameter may run away: see Result. A trial point at which
    the state cannot be solved for is rejected in favour of a shorter step. Raises InputError for an
    unbounded method where the parameters have bounds and where nothing depends on any unknown,
    NpdeError where the settings differ between ranks, and SolverError where the objective is not
    finite at the start or a solve fails at every trial point from there.
    """
    same(everyone(objective), settings, "what the optimizer is set to")
    same(
        everyone(objective),
        (monitor is None, resume is None),
        "whether there are a monitor and a state to resume from",
    )
    with collective(everyone(objective)):
        kind = Epochs if settings.method in EPOCHS else Run
        run = kind(objective, m0, settings, monitor, resume, spectrum, origin or m0)
    try:
        # A callback may fail on one rank only, between two agreements: the others then wait inside
        # TAO.
        with collective(everyone(objective)):
            return run.finished()
    finally:
        # All ranks are here: what follows is collective.
        run.destroy()
