"""Keys of [equation] and [time]."""

from typing import Annotated, Literal

from msgspec import Meta, field

from npde_opt.cases.field_tables import (
    Count,
    Field,
    Names,
    Positive,
)
from npde_opt.cases.term_tables import Diffusion, Term
from npde_opt.cases.typed import Table


class EquationSection(Table, kw_only=True):
    """gamma S du/dt + A u = kinetics + sources; without [time] the steady state, 0 in place of
    du/dt."""

    species: Annotated[
        Names,
        Meta(
            description="names of the state's components; ['re', 'im'] for a complex state"
        ),
    ] = field(default_factory=lambda: ["u"])
    gamma: Annotated[
        float | str | None,
        Meta(
            description="of gamma du/dt = ...: a number (default 1), or 'i', or 'i*NUMBER' (2ik of "
            "a paraxial wave): then linear terms act on re + i im, and kinetics, nonlinear "
            "diffusion and sources are rates of re and im themselves, which gamma does not divide"
        ),
    ] = None
    storage: Annotated[
        str | Field | None,
        Meta(
            description="S of gamma S du/dt = ...: a coefficient's name, text in coefficients, or "
            "a field; positive; default 1"
        ),
    ] = None
    mean: Annotated[
        float | None,
        Meta(
            description="without [time]: of a state whose level nothing fixes, as there is no flux "
            "all round and no reaction; sources and fluxes add up to 0"
        ),
    ] = None
    terms: Annotated[
        list[Term], Meta(description="tables, summed: the terms below")
    ] = field(default_factory=lambda: [Diffusion(diffusion="D")])
    known: Annotated[
        dict[str, Field], Meta(description="coefficients that are known: name = field")
    ] = {}
    derived: Annotated[
        dict[str, str],
        Meta(
            description="figures to report: name = text in scalar unknowns and known numbers"
        ),
    ] = {}
    recipe: Annotated[str, Meta(description="of the linear solvers")] = "auto"


class EqualSteps(Table, kw_only=True):
    """Equal steps."""

    steps: Annotated[Count, Meta(description="their number")]
    end: Annotated[float, Meta(description="the last time")]
    start: Annotated[float, Meta(description="the first")] = 0.0


class DoublingSteps(Table, kw_only=True):
    """Steps that double."""

    first: Annotated[Positive, Meta(description="the first step")]
    repeats: Annotated[Count, Meta(description="steps of each size")] = 8
    end: Annotated[float, Meta(description="the last time")]
    start: Annotated[float, Meta(description="the first")] = 0.0


class AccurateSteps(Table, kw_only=True):
    """Equal steps, halved at the initial parameters until the data change by less."""

    tolerance: Annotated[
        Positive, Meta(description="change of the data, times their norm")
    ]
    end: Annotated[float, Meta(description="the last time")]
    start: Annotated[float, Meta(description="the first")] = 0.0


Steps = (
    Annotated[list[float], Meta(min_length=2)]
    | EqualSteps
    | DoublingSteps
    | AccurateSteps
)


class TimeSection(Table, kw_only=True):
    """How the state moves on; a case without this section is about the steady state."""

    times: Annotated[
        Steps,
        Meta(
            description="a list, {end, steps}, {end, first, repeats}: steps that double after so "
            "many, or {end, tolerance}: equal steps, halved at the initial parameters until the "
            "data change by less than this times their norm. Steps also end at the times of all "
            "observations and histories"
        ),
    ]
    scheme: Annotated[
        str,
        Meta(
            description="explicit-euler, heun, imex-euler, imex-theta, ars222, crank-nicolson, "
            "backward-euler"
        ),
    ] = "ars222"
    memory: Annotated[
        str,
        Meta(
            description="budget for trajectories of all ranks, e.g. '4GB'; default: all states are "
            "kept (--memory)"
        ),
    ] = ""
    axis: Annotated[
        str,
        Meta(
            description="name and unit of the variable t for figures, e.g. 't [h]', or 'z [um]' of "
            "a paraxial wave"
        ),
    ] = "t"
    bound: Annotated[
        Positive | None,
        Meta(
            description="a state larger than this is a blow-up; default: 1e30 times its start, "
            "boundary values and what its sources bring"
        ),
    ] = None
    precision: Annotated[
        Literal["double", "single"],
        Meta(
            description="of states, increments and adjoints: single halves their memory, for "
            "explicit-euler and heun with diffusion, D(u), advection and kinetics; derivatives are "
            "then right to six digits"
        ),
    ] = "double"
