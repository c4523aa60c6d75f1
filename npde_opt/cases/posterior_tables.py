"""Keys of [posterior]: what is asked of what the data leave open."""

from typing import Annotated, Literal

from msgspec import Meta, field

from npde_opt.cases.experiment_tables import ObservationSection
from npde_opt.cases.field_tables import Count, Index, Place, Positive
from npde_opt.cases.typed import Table

Few = Annotated[int, Meta(ge=0, le=1000)]
MOST_MODES, MOST_PLACES = 100, 100
"""Of fields in a file, and of rows of a matrix in a summary."""


class SamplingTable(Table, kw_only=True):
    """Markov chains around the Laplace posterior, by `--uncertainty samples`."""

    method: Annotated[
        Literal["pcn", "gpcn", "mala", "hmc"],
        Meta(
            description="steps around the prior, around the Laplace posterior, along the "
            "gradient too, or several of these at once"
        ),
    ] = "gpcn"
    chains: Annotated[Count, Meta(description="how many, with starts of their own")] = 4
    steps: Annotated[
        Annotated[int, Meta(ge=4, le=100_000_000)],
        Meta(description="of every chain after its burn-in"),
    ] = 1000
    burn_in: Annotated[
        Index,
        Meta(description="steps that choose the length of a step and are not kept"),
    ] = 200
    step: Annotated[
        float, Meta(gt=0, le=1, description="length of a step at the beginning")
    ] = 0.5
    every: Annotated[
        Count, Meta(description="a step in so many is a sample; at most steps / 4")
    ] = 1
    checkpoint: Annotated[Count, Meta(description="steps between two checkpoints")] = (
        100
    )
    fields: Annotated[
        Index,
        Meta(
            description="the fields of every N-th sample are kept, in samples/chain-K.zarr; "
            "0: of none"
        ),
    ] = 0
    leaps: Annotated[Count, Meta(description="of a trajectory of hmc at most")] = 5
    temperatures: Annotated[
        Count | list[Annotated[float, Meta(ge=1)]],
        Meta(
            description="copies of every chain at temperatures of the misfit, which exchange their "
            "places: how many, itself included, or [1.0, ...]"
        ),
    ] = 1


class QuantitySection(Table, kw_only=True):
    """A number that is of interest."""

    name: Annotated[str, Meta(description="its name in texts and tables")]
    observation: Annotated[
        ObservationSection | None,
        Meta(
            description="what is seen, with the keys of [[observation]] that say where, when and "
            "of what; several places or times are NAME_1, NAME_2, ..."
        ),
    ] = None
    experiment: Annotated[
        Index,
        Meta(
            description="number of the experiment, from 0",
            extra={"needs": "observation"},
        ),
    ] = 0
    of: Annotated[
        str | None,
        Meta(
            description="an unknown field that is seen in place of the state",
            extra={"needs": "observation"},
        ),
    ] = None
    text: Annotated[
        str | None,
        Meta(
            description="or text in scalars, known numbers, derived figures and quantities above "
            "it"
        ),
    ] = None
    unit: Annotated[str, Meta(description="for tables")] = ""


class DesignTable(Table, kw_only=True):
    """Where to measure next: the best of candidates, one after the other."""

    candidates: Annotated[
        ObservationSection,
        Meta(description="what could be observed, a place each; keys as of quantities"),
    ]
    experiment: Annotated[
        Index, Meta(description="number of the experiment, from 0")
    ] = 0
    sigma: Annotated[Positive, Meta(description="standard deviation of their errors")]
    count: Annotated[Count, Meta(description="how many are chosen")] = 5
    criterion: Annotated[
        Literal["D", "A"],
        Meta(
            description="those that tell most (D, nats), or that take most of the sum of the "
            "parameters' variances (A)"
        ),
    ] = "D"


class ProfileTable(Table, kw_only=True):
    """Intervals by profile likelihood, by `--uncertainty profile`."""

    numbers: Annotated[
        list[str],
        Meta(
            max_length=1000,
            description="names of scalars, of values as `D[0]`, of derived figures and of "
            "quantities; none: all scalars and values",
        ),
    ] = []


class PosteriorSection(Table, kw_only=True):
    """What the data leave open near the answer, by `--uncertainty laplace`, `samples` or
    `profile`."""

    cut: Annotated[
        Positive,
        Meta(
            description="directions are sought of which the data tell at least this share of what "
            "the prior tells"
        ),
    ] = 0.1
    most: Annotated[Count, Meta(description="such directions at most")] = 1000
    oversampling: Annotated[
        Count,
        Meta(
            description="random directions that look for what the search missed, and directions "
            "that are multiplied between two looks"
        ),
    ] = 8
    tolerance: Annotated[
        Positive,
        Meta(description="of eigenvalues: residuals, relative to 1 + an eigenvalue"),
    ] = 3e-2
    gauss_newton: Annotated[
        bool,
        Meta(
            description="the data's Hessian is that of Gauss-Newton; false: the exact one, at a "
            "minimum"
        ),
    ] = True
    variance_samples: Annotated[
        Count,
        Meta(
            description="that the prior's variance is estimated from, where it is not known "
            "otherwise"
        ),
    ] = 400
    samples: Annotated[
        Few, Meta(description="of the Laplace posterior that are written as fields")
    ] = 4
    zarr: Annotated[
        bool, Meta(description="these to posterior.zarr, in place of posterior.vti")
    ] = False
    modes: Annotated[
        Annotated[int, Meta(ge=0, le=MOST_MODES)],
        Meta(
            description="directions that the data tell most of, written as fields `NAME_mode_1`, "
            "...; a change by one is one standard deviation of the prior"
        ),
    ] = 4
    places: Annotated[
        list[Place],
        Meta(
            max_length=MOST_PLACES,
            description="[[x, y], ...]: standard deviations of unknown fields in the cells there, "
            "and correlations between them, in places.csv",
        ),
    ] = []
    quantities: Annotated[
        list[QuantitySection],
        Meta(max_length=1000, description="numbers of interest, one a table"),
    ] = []
    pairs: Annotated[
        Few,
        Meta(
            description="of samples, by which means and deviations of quantities are improved; 0: "
            "to first order only"
        ),
    ] = 16
    bands: Annotated[
        bool,
        Meta(
            description="standard deviations of predicted data, and the coverage: a solve a "
            "direction"
        ),
    ] = True
    design: Annotated[DesignTable | None, Meta(description="where to measure next")] = (
        None
    )
    sampling: Annotated[
        SamplingTable, Meta(description="of `--uncertainty samples`")
    ] = field(default_factory=SamplingTable)
    profile: Annotated[ProfileTable, Meta(description="of `--uncertainty profile`")] = (
        field(default_factory=ProfileTable)
    )
