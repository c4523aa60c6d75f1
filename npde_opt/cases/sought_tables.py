"""Keys of [[unknown]], [[regularization]] and [optimizer]."""

from typing import Annotated, Literal

from msgspec import Meta

from npde_opt.aliases import Record
from npde_opt.cases.field_tables import (
    FIELD_TABLES,
    Count,
    Field,
    Index,
    Names,
    NotNegative,
    Pair,
    Positive,
)
from npde_opt.cases.term_tables import Numbers
from npde_opt.cases.typed import Table

FUNCTION = {"kinds": ("spline", "perceptron")}
Knots = Annotated[int, Meta(ge=2, le=1000)]


class UnknownSection(Table, kw_only=True):
    """What is sought."""

    name: Annotated[
        str,
        Meta(
            description="a coefficient of the terms, initial states or sources; of a spline or "
            "perceptron as texts of kinetics and nonlinear diffusion call it: 'D' of 'D(u)'"
        ),
    ]
    kind: Annotated[
        Literal["field", "scalar", "history", "spline", "perceptron"],
        Meta(
            description="a field (with `regions` one constant a region), a scalar, a history of "
            "`length` values, or a function of the state or of time: a cubic spline, or a network "
            "with one hidden layer"
        ),
    ] = "field"
    transform: Annotated[
        Literal["identity", "log", "bounded"],
        Meta(
            description="what is optimized (functions have `sign` and `bounds`)",
            extra={"kinds": ("field", "scalar", "history")},
        ),
    ] = "log"
    bounds: Annotated[
        Pair | None,
        Meta(
            description="[lower, upper] of the coefficient, or of a function's values"
        ),
    ] = None
    initial: Annotated[
        float | Numbers | FIELD_TABLES,
        Meta(
            description="the value to start from: a number, a list (a history) or a field; of a "
            "function a number or an {expression} in its variables"
        ),
    ]
    of: Annotated[
        Names,
        Meta(
            description="functions: names of the variables, for `initial`, `truth` and figures, "
            "e.g. ['u'], ['u', 'v'], ['t']",
            extra=FUNCTION,
        ),
    ] = []
    range: Annotated[
        Annotated[list[float | list[float]], Meta(min_length=1, max_length=4)] | None,
        Meta(
            description="functions: [lower, upper] of the variable, or a list of them: between the "
            "first and the last knot; what a network is scaled by",
            extra=FUNCTION,
        ),
    ] = None
    knots: Annotated[
        Knots | Annotated[list[Knots], Meta(min_length=1, max_length=4)],
        Meta(
            description="splines: how many values it has, at equal distances; of several variables "
            "a list",
            extra={"kinds": ("spline",)},
        ),
    ] = 8
    neurons: Annotated[
        Annotated[int, Meta(ge=1, le=300)],
        Meta(
            description="perceptrons: of the hidden layer",
            extra={"kinds": ("perceptron",)},
        ),
    ] = 5
    monotone: Annotated[
        Literal["rising", "falling"] | None,
        Meta(
            description="functions: the only direction in which they go", extra=FUNCTION
        ),
    ] = None
    sign: Annotated[
        Literal["positive", "negative"] | None,
        Meta(
            description="functions: of all values",
            extra={**FUNCTION, "not_with": ("bounds",)},
        ),
    ] = None
    outside: Annotated[
        Literal["linear", "constant"],
        Meta(
            description="splines: how they go on outside of the range (with a sign or bounds what "
            "these are made of)",
            extra={"kinds": ("spline",)},
        ),
    ] = "linear"
    truth: Annotated[
        float | Numbers | FIELD_TABLES | None,
        Meta(description="the true value, for simulated data and the error reported"),
    ] = None
    regions: Annotated[
        Field | None,
        Meta(
            description="a field of integers 0, 1, ...: one constant a region",
            extra={"kinds": ("field",)},
        ),
    ] = None
    known: Annotated[
        Field | None,
        Meta(
            description="where it exceeds 0.5 the unknown is known and keeps `initial`",
            extra={"kinds": ("field",)},
        ),
    ] = None
    length: Annotated[
        Count | None,
        Meta(description="values of a history", extra={"kinds": ("history",)}),
    ] = None
    deviation: Annotated[
        Annotated[float, Meta(ge=1e-100, le=1e100)] | None,
        Meta(
            description="scalars, histories, functions and constants of regions: standard "
            "deviation of a normal prior of the parameter around its initial value, of its "
            "logarithm with the transform log (functions: of their numbers)"
        ),
    ] = None
    smoothness: Annotated[
        float,
        Meta(
            ge=0,
            le=1e100,
            description="histories: weight of the squared differences between neighbouring values, "
            "each over the distance of their times (in units of the mean distance: 1 where they "
            "are equally spaced), beside the deviation; splines: of the squared second differences "
            "of neighbouring values (of their logarithms with a sign), with a direction of the "
            "differences between logarithms of neighbouring steps",
        ),
    ] = 0.0
    unit: Annotated[str, Meta(description="for figures")] = ""


BILAPLACIAN = {"kinds": ("bilaplacian",)}
REGISTERED = {"kinds": ("registered",)}


class RegularizationSection(Table, kw_only=True):
    """What is asked of an unknown field."""

    unknown: Annotated[
        str | None, Meta(description="which unknown; default: the first field")
    ] = None
    kind: Annotated[
        Literal["gradient", "bilaplacian", "total-variation", "registered"],
        Meta(description="regularizer"),
    ] = "gradient"
    weight: Annotated[
        NotNegative | Literal["discrepancy", "l-curve"],
        Meta(
            description="a number, or 'discrepancy': the largest weight, in factors of 4, whose "
            "misfit reaches the noise; or 'l-curve'"
        ),
    ] = 1.0
    reference: Annotated[
        Field | None,
        Meta(description="coefficient towards which it pulls; default: `initial`"),
    ] = None
    cell_weights: Annotated[
        Field | None,
        Meta(
            description="factor a cell (gradient, total-variation)",
            extra={"kinds": ("gradient", "total-variation")},
        ),
    ] = None
    gamma: Annotated[
        Positive | None,
        Meta(description="bilaplacian: of the Laplacian", extra=BILAPLACIAN),
    ] = None
    delta: Annotated[
        Positive | None,
        Meta(description="bilaplacian: of the field", extra=BILAPLACIAN),
    ] = None
    correlation_length: Annotated[
        Positive | None,
        Meta(
            description="bilaplacian: with variance, instead of gamma and delta; of an axis with a "
            "factor in `directions`: times its root",
            extra=BILAPLACIAN,
        ),
    ] = None
    variance: Annotated[
        Positive | None,
        Meta(
            description="bilaplacian: prior variance of a cell's parameter, the same in the "
            "middle, at "
            "sides and on outlines (at weight 1; of the logarithm with the transform log)",
            extra=BILAPLACIAN,
        ),
    ] = None
    directions: Annotated[
        Annotated[list[Positive], Meta(min_length=1, max_length=3)] | None,
        Meta(
            description="factors a direction (gradient, bilaplacian)",
            extra={"kinds": ("gradient", "bilaplacian")},
        ),
    ] = None
    epsilon: Annotated[
        Positive | None,
        Meta(
            description="total-variation: slope below which it is quadratic",
            extra={"kinds": ("total-variation",)},
        ),
    ] = None
    name: Annotated[
        str,
        Meta(
            description="registered: its name in the file of --module", extra=REGISTERED
        ),
    ] = ""
    options: Annotated[
        Record,
        Meta(
            description="registered: what it takes beside grid, weight and reference",
            extra=REGISTERED,
        ),
    ] = {}


class OptimizerSection(Table, kw_only=True):
    """How it is sought."""

    method: Annotated[
        str,
        Meta(description="see --optimizer; registered: one of --module's, by its name"),
    ] = "gauss-newton"
    name: Annotated[
        str, Meta(description="registered: its name in the file of --module")
    ] = ""
    options: Annotated[
        Record, Meta(description="registered: what it takes beside the objective")
    ] = {}
    max_iterations: Annotated[
        int, Meta(ge=0, le=1_000_000, description="a level; adam and adamw: epochs")
    ] = 50
    gradient_rtol: Annotated[
        NotNegative, Meta(description="stop at this times the initial gradient norm")
    ] = 1e-6
    gradient_atol: Annotated[
        NotNegative,
        Meta(description="or where the gradient norm is no larger than this"),
    ] = 0.0
    decrement: Annotated[
        Positive,
        Meta(
            description="converged: the objective is this near its minimum, in units of the noise "
            "(and the gradient test holds)"
        ),
    ] = 1e-2
    insist: Annotated[
        bool | None,
        Meta(
            description="go on past the gradient test while the objective is farther from its "
            "minimum than `decrement`; false: stop there, NOT CONVERGED. Default: true, but a "
            "tolerance other than the default is obeyed"
        ),
    ] = None
    levels: Annotated[
        Annotated[int, Meta(ge=1, le=30)] | None,
        Meta(
            description="grids of nested iteration; default: as many as the grid coarsens into "
            "(the coarsest has cells of all ranks), with [time] one"
        ),
    ] = None
    memory: Annotated[
        Count, Meta(description="quasi-Newton methods: pairs that are kept")
    ] = 10
    cg_max: Annotated[
        Count, Meta(description="Newton methods: steps of the inner CG at most")
    ] = 200
    forcing_max: Annotated[
        float,
        Meta(
            gt=0,
            lt=1,
            description="Newton methods: relative residual of the inner CG at most",
        ),
    ] = 0.5
    reorthogonalize: Annotated[
        bool,
        Meta(
            description="Newton methods: keep all directions of the inner CG conjugate"
        ),
    ] = True
    learnt: Annotated[
        Index,
        Meta(
            description="nested iteration: products with a coarse grid's Hessian that may be spent "
            "on preconditioning finer ones"
        ),
    ] = 100
    gauss_newton: Annotated[
        bool, Meta(description="bntr: the Gauss-Newton Hessian")
    ] = False
    rate: Annotated[Positive, Meta(description="adam, adamw: learning rate")] = 1e-3
    schedule: Annotated[
        Literal["constant", "cosine", "step"],
        Meta(
            description="adam, adamw: how the rate falls: cosine: from step to step, to 0 at the "
            "end; step: times `decay` every `period` epochs"
        ),
    ] = "constant"
    decay: Annotated[float, Meta(gt=0, le=1, description="schedule step: a factor")] = (
        0.1
    )
    period: Annotated[Count, Meta(description="schedule step: epochs")] = 10
    warm_up: Annotated[
        NotNegative,
        Meta(
            description="adam, adamw: epochs in which the rate rises, from step to step"
        ),
    ] = 0.0
    betas: Annotated[
        Pair,
        Meta(
            description="adam, adamw: decay of the means of the gradient and of its square"
        ),
    ] = (0.9, 0.999)
    epsilon: Annotated[
        Positive, Meta(description="adam, adamw: added to the root of the mean square")
    ] = 1e-8
    weight_decay: Annotated[
        NotNegative | None,
        Meta(
            description="adamw: share by which parameters shrink towards 0 a step, times the rate; "
            "default: 0.01"
        ),
    ] = None
    batch: Annotated[
        Count | None,
        Meta(
            description="adam, adamw: experiments or samples a step at most; default: all"
        ),
    ] = None
    clip: Annotated[
        Positive | None,
        Meta(description="adam, adamw: gradients are shortened to this 2-norm"),
    ] = None
    patience: Annotated[
        Count | None,
        Meta(
            description="stop where the data set aside ([validation]) were not fitted better for "
            "so many iterations"
        ),
    ] = None
    restarts: Annotated[
        Annotated[int, Meta(ge=0, le=1000)]
        | Annotated[
            list[dict[str, float | Numbers | FIELD_TABLES]], Meta(max_length=1000)
        ],
        Meta(
            description="further starts, of which the lowest minimum is the answer: so many drawn "
            "around `initial`, or a list of tables {UNKNOWN = value to start from}"
        ),
    ] = 0
    spread: Annotated[
        Positive,
        Meta(
            description="drawn starts: standard deviation of the parameters around `initial`, a "
            "factor of e with the transform log, times the largest value with identity; of "
            "unknowns with a `deviation` that of their prior. Fields move by smooth functions"
        ),
    ] = 1.0


class ValidationSection(Table, kw_only=True):
    """What is not fitted, and reported beside what is. Experiments choose the point, too: the best
    one is that which fits these best."""

    experiments: Annotated[
        list[Index], Meta(description="numbers of experiments, from 0")
    ] = []
    replicate: Annotated[
        str,
        Meta(description="one of the `replicates` of all files; '': all are fitted"),
    ] = ""
