"""Terms of an equation, sources and their histories, as tables of a case."""

from typing import Annotated, Literal

from msgspec import Meta, field

from npde_opt.aliases import Record
from npde_opt.cases.field_tables import File, Names, NotNegative, Place, Positive, Side
from npde_opt.cases.typed import Table

Row = Annotated[list[float | str], Meta(min_length=1, max_length=3)]
Numbers = Annotated[list[float], Meta(min_length=1)]
Species = Annotated[str | None, Meta(description="which, where there are several")]
History = Annotated[
    str | Numbers | File | None,
    Meta(
        description="an unknown history, or values at `times`: factors of the shape; default: "
        "constant"
    ),
]
HistoryTimes = Annotated[
    list[float] | File,
    Meta(
        description="of the history, increasing; some of them within those of the steps",
        extra={"needs": "history"},
    ),
]
Interpolation = Annotated[
    Literal["linear", "steps"],
    Meta(
        description="linear: between the times; before the first the first value holds, after the "
        "last "
        "the last one. steps: each value holds until the next time, the first one before its time "
        "too, "
        "the last one to the end; n values and n + 1 times: each holds between two times, and "
        "outside of them it is 0",
        extra={"needs": "history"},
    ),
]


class Diffusion(Table, kw_only=True):
    """-div(D grad u)."""

    diffusion: Annotated[
        str | Names,
        Meta(description="a coefficient's name, or one a direction: ['D_x', 'D_y']"),
    ]
    species: Species = None


class TensorDiffusion(Table, kw_only=True):
    """-div(D grad u) with a full tensor D."""

    tensor: Annotated[
        Annotated[list[Row], Meta(min_length=1, max_length=3)],
        Meta(
            description="rows of D, symmetric and positive definite: numbers, names of "
            "coefficients, or text in x, y, z and coefficients: [['D_x', 'D_xy'], ['D_xy', 2.0]]"
        ),
    ] = field(name="diffusion-tensor")
    species: Species = None


class NonlinearDiffusion(Table, kw_only=True):
    """-div(D(u, g) grad u), g = |grad u|."""

    text: Annotated[
        str,
        Meta(
            description="D in the species u, g, other species and t, e.g. 'D*(1 + u*v)'; or "
            "porous-fisher, perona-malik"
        ),
    ] = field(name="nonlinear-diffusion")
    floor: Annotated[
        float | None, Meta(description="species in D are not taken smaller than this")
    ] = None
    species: Species = None


class GradientDiffusion(Table, kw_only=True):
    """-div(D(q) grad u), q = |grad u|^2 of all directions: symmetric."""

    text: Annotated[
        str,
        Meta(
            description="D(q) in coefficients; of the p-Laplacian '(e**2 + q)**((p - 2)/2)'"
        ),
    ] = field(name="gradient-diffusion")
    species: Species = None


class Advection(Table, kw_only=True):
    """v.grad u, or div(v u)."""

    advection: Annotated[
        Row,
        Meta(
            description="the velocity, one an axis: numbers, names of coefficients (fields, files, "
            "unknowns), or text in x, y, z, t and coefficients: ['Q*y*(1 - y)', 0]; one that reads "
            "the time t is explicit in IMEX schemes, and upwind"
        ),
    ]
    scheme: Annotated[
        Literal["upwind", "central"], Meta(description="of the differences")
    ] = "upwind"
    conservative: Annotated[
        bool,
        Meta(description="div(v u): what leaves a cell enters the next; else v.grad u"),
    ] = False
    species: Species = None


class Reaction(Table, kw_only=True):
    """c u, added to A."""

    reaction: Annotated[
        str,
        Meta(
            description="a coefficient's name, or text in coefficients: 'k**2*(1 - n**2)'"
        ),
    ]
    species: Species = None


class Weight(Table, kw_only=True):
    """A neighbour in a convolution."""

    offset: Annotated[
        list[int], Meta(min_length=1, max_length=3, description="cells along each axis")
    ]
    weight: Annotated[
        str | float, Meta(description="a coefficient's name, or a number")
    ]


class Convolution(Table, kw_only=True):
    """sum_s w_s u(x + s h), added to A; u is 0 outside the domain."""

    convolution: Annotated[
        Annotated[list[Weight], Meta(min_length=1)],
        Meta(
            description="neighbours and weights, e.g. [{ offset = [0, 2], weight = 'w' }]"
        ),
    ]
    species: Species = None


class Ground(Table, kw_only=True):
    """A conductance to the potential 0."""

    ground: Annotated[Place, Meta(description="coordinates of its centre")]
    radius: Annotated[NotNegative, Meta(description="of the patch")] = 0.0
    conductance: Annotated[
        Positive, Meta(description="current out of it for a potential of 1")
    ]


class Absorbing(Table, kw_only=True):
    """Layers that absorb waves."""

    absorbing: Annotated[dict[Side, Positive], Meta(description="side = width")]
    speed: Annotated[Positive, Meta(description="of the waves")] = 1.0
    depth: Annotated[Positive, Meta(description="of the layer in e-foldings")] = 5.0


class Kinetics(Table, kw_only=True):
    """Reactions."""

    kinetics: Annotated[
        str | dict[str, str], Meta(description="a model's name, or {species = text}")
    ]


class Timed(Table, kw_only=True):
    """What a history h(t) multiplies."""

    history: History = None
    times: HistoryTimes = []
    interpolation: Interpolation = "linear"


class AnySource(Timed, kw_only=True):
    """s(x) h(t)."""

    species: Species = None


class Source(AnySource, kw_only=True):
    """s(x) h(t) in all experiments."""

    shape: Annotated[
        str | float, Meta(description="its shape s, text in x, y, z and coefficients")
    ] = field(name="source")


class ExperimentSource(AnySource, kw_only=True):
    """s(x) h(t) in one experiment."""

    shape: Annotated[str | float, Meta(description="text in x, y, z and coefficients")]


class Registered(Table, kw_only=True):
    """A term of the user's, from a file given by --module."""

    registered: Annotated[str, Meta(description="the name that it is registered by")]
    options: Annotated[
        Record, Meta(description="what it takes beside grid and species")
    ] = {}
    species: Species = None


Term = (
    Diffusion
    | TensorDiffusion
    | NonlinearDiffusion
    | GradientDiffusion
    | Advection
    | Reaction
    | Convolution
    | Ground
    | Absorbing
    | Kinetics
    | Source
    | Registered
)
TERMS = (
    Diffusion,
    TensorDiffusion,
    NonlinearDiffusion,
    GradientDiffusion,
    Advection,
    Reaction,
    Convolution,
    Weight,
    Ground,
    Absorbing,
    Kinetics,
    Source,
    Registered,
)
