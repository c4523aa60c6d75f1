"""Every section of a training case: samples, network, loss, what is asked of weights, and how they
are sought."""

from typing import Annotated, Literal

from msgspec import Meta, field

from npde_opt.aliases import Record
from npde_opt.cases.experiment_tables import MOST_TABLES
from npde_opt.cases.field_tables import Count, Index, NotNegative, Positive
from npde_opt.cases.sought_tables import OptimizerSection
from npde_opt.cases.typed import Table

Share = Annotated[float, Meta(gt=0, lt=1)]
Columns = Annotated[list[str | Index], Meta(min_length=1)]
Taps = Count | Annotated[list[Count], Meta(min_length=1, max_length=3)]
Paddings = Index | Annotated[list[Index], Meta(min_length=1, max_length=3)]

TABLE = {"kinds": ("table",)}
SERIES = {"kinds": ("series", "sunspots")}
OF_FILES = {"kinds": ("table", "series", "sequences", "arrays")}
OF_COPIES = {"needs": "copies"}
OF_PICTURES = {"kinds": ("pictures", "skimage")}


class TitleSection(Table, kw_only=True):
    """Names."""

    title: Annotated[str, Meta(description="one line for reports")] = ""


class DataSection(Table, kw_only=True):
    """The samples, and which of them are for what."""

    kind: Annotated[
        Literal[
            "digits",
            "mnist",
            "pictures",
            "skimage",
            "table",
            "series",
            "sunspots",
            "sequences",
            "archive",
            "arrays",
        ],
        Meta(
            description="digits of scikit-learn; mnist, idx files in --data; pictures of a folder "
            "or of scikit-image (skimage), to be denoised; rows of a table; windows of a series "
            "in a table, or of the sunspots of statsmodels; labelled sequences of a ts file, or "
            "of aeon's archive; arrays of an .npz file"
        ),
    ]
    file: Annotated[
        str | None,
        Meta(
            description="a text table, a ts file, or an .npz file with arrays `inputs` [sample, "
            "channel, z, y, x] (axes of 1 may be left out between sample and the last ones) and "
            "`labels` or `targets`",
            extra=OF_FILES,
        ),
    ] = None
    folder: Annotated[
        str | None, Meta(description="of pictures", extra={"kinds": ("pictures",)})
    ] = None
    name: Annotated[
        str | None,
        Meta(description="of a set in aeon's archive", extra={"kinds": ("archive",)}),
    ] = None
    names: Annotated[
        list[str] | None,
        Meta(description="of scikit-image's pictures", extra={"kinds": ("skimage",)}),
    ] = None
    size: Annotated[
        tuple[Count, Count] | None,
        Meta(
            description="rows and columns that are taken from the middle of each picture; "
            "default: the whole, of which all must have one size, where they are not cropped",
            extra=OF_PICTURES,
        ),
    ] = None
    crop: Annotated[
        tuple[Count, Count] | None,
        Meta(
            description="rows and columns of the pieces of pictures that are trained with, whose "
            "places, turns and mirror images are drawn from --seed and the number of the sample; "
            "tests are whole pictures, of any size",
            extra=OF_PICTURES,
        ),
    ] = None
    versions: Annotated[
        Count,
        Meta(
            description="pieces of each picture, each with noise of its own",
            extra=OF_PICTURES,
        ),
    ] = 1
    noise: Annotated[
        Positive | Annotated[list[Positive], Meta(min_length=1, max_length=100)] | None,
        Meta(
            description="standard deviation of the normal noise that the inputs get, drawn from "
            "--seed and the number of the sample; of pictures, where white is 1; of several, a "
            "network each",
        ),
    ] = None
    fresh: Annotated[
        bool,
        Meta(
            description="adam, adamw: training samples get other noise in every epoch",
            extra={"needs": "noise"},
        ),
    ] = False
    inputs: Annotated[
        Columns | None,
        Meta(
            description="columns of the table; default: all that nobody asks for",
            extra={"kinds": ("table", "series")},
        ),
    ] = None
    targets: Annotated[
        Columns | None,
        Meta(description="columns of numbers that are sought", extra=TABLE),
    ] = None
    label: Annotated[
        str | Index | None, Meta(description="the column of classes", extra=TABLE)
    ] = None
    time: Annotated[
        str | Index | None,
        Meta(description="the column of times", extra={"kinds": ("series",)}),
    ] = None
    length: Annotated[
        Count | None,
        Meta(
            description="steps: of a window, after which the target follows; of sequences, by "
            "default those of the longest",
            extra={"kinds": ("series", "sunspots", "sequences", "archive")},
        ),
    ] = None
    until: Annotated[
        list[float] | None,
        Meta(
            description="times: windows whose target is not later than the first are for "
            "training, and between two of them, and after the last, for a test each",
            extra=SERIES | {"not_with": ("test",)},
        ),
    ] = None
    test: Annotated[
        Share | str | list[str] | None,
        Meta(
            description="samples that are not for training: a share, each class alike, or a file "
            "(a folder of pictures, a list of scikit-image's) of their own; mnist and archive have "
            "theirs"
        ),
    ] = None
    validation: Annotated[
        Share | None,
        Meta(description="share of the training samples that watches only"),
    ] = None
    train: Annotated[
        Count | None, Meta(description="training samples that are used, drawn from all")
    ] = None
    copies: Annotated[
        Count,
        Meta(
            description="of each training sample with a class, all but the first shifted by up to "
            "`shift` cells along each axis; of pictures also turned by up to `turn`, and bent by a "
            "smooth random field of standard deviation `bend`"
        ),
    ] = 1
    shift: Annotated[Count, Meta(description="cells", extra=OF_COPIES)] = 1
    turn: Annotated[NotNegative, Meta(description="degrees", extra=OF_COPIES)] = 0.0
    bend: Annotated[NotNegative, Meta(description="cells", extra=OF_COPIES)] = 0.0
    splits: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="so many networks, each with other random shares for test and "
            "validation, and other weights to start from",
        ),
    ] = 1
    normalisation: Annotated[
        Literal["none", "standard", "roots", "noise"],
        Meta(
            description="standard: mean 0 and deviation 1 of each channel over the training "
            "samples, of numbers that are sought too; roots: the same of their square roots, as "
            "counts vary by; noise: inputs and targets in units of "
            "`noise`; brightness is 0 to 1 as it comes"
        ),
    ] = "none"


class NetworkSection(Table, kw_only=True):
    """What all layers share."""

    precision: Annotated[
        Literal["double", "single"],
        Meta(description="of states and products; weights and sums are double"),
    ] = "double"
    path: Annotated[
        Literal["fused", "assembled"],
        Meta(
            description="how products with stencils are found: in compiled loops and BLAS, box by "
            "box, or by PETSc's sparse matrices of shifts, in double precision"
        ),
    ] = "fused"
    seed: Annotated[Index, Meta(description="of the weights to start from")] = 0
    hidden: Annotated[
        Literal["drawn", "autoencoders"],
        Meta(
            description="autoencoders: layers before the last, dense or convolutions, start from "
            "pseudoinverse autoencoders of what those before make of the training samples"
        ),
    ] = "drawn"
    last: Annotated[
        Literal["drawn", "solved"],
        Meta(
            description="solved: the last layer, dense and without an activation, starts from "
            "least squares of what the others make of the training samples as they start"
        ),
    ] = "drawn"
    gain: Annotated[
        Positive,
        Meta(description="factor of the variance of the weights to start from"),
    ] = 1.0


STENCILS = {"kinds": ("convolution", "residual")}
RESIDUAL = {"kinds": ("residual",)}
OPTICAL = {"kinds": ("diffractive",)}


class StartSection(Table, kw_only=True):
    """Trainable reaction and diffusion before it is trained: W are cosines, and sigma(v) = a v / (1
    + (v / w)^2)."""

    strength: Annotated[Positive, Meta(description="a")] = 0.27
    width: Annotated[Positive, Meta(description="w, of the first layer")] = 0.3
    narrowing: Annotated[
        Positive, Meta(description="factor of w from layer to layer")
    ] = 0.84


class LayerSection(Table, kw_only=True):
    """A layer u' = a u + dt V sigma(W u + U x + b), or several."""

    kind: Annotated[
        Literal["convolution", "dense", "residual", "recurrent", "diffractive"],
        Meta(
            description="convolution: u' = sigma(W u + b), W a stencil; dense: the same, W full; "
            "residual: u' = u + dt V sigma(W u + b), W and V stencils; recurrent: u' = sigma(W u "
            "+ U x + b), once for each step x of the sample's sequence, from u = 0; with `linear` "
            "u' = K u + B x + V sigma(W u + U x + b); diffractive: "
            "the sample is the amplitude of light of power 1 that passes masks exp(i phi), and u' "
            "are differences of its intensities in pairs of detectors"
        ),
    ]
    channels: Annotated[
        Count | None,
        Meta(
            description="of the result; of residual layers those of sigma, default: as before"
        ),
    ] = None
    activation: Annotated[
        Literal[
            "identity", "tanh", "relu", "softplus", "piecewise-linear", "radial-basis"
        ],
        Meta(description="sigma; the last two are learnt, a function each channel"),
    ] = "identity"
    kernel: Annotated[
        Taps,
        Meta(description="taps of W, for all axes or along x, y, z", extra=STENCILS),
    ] = 3
    stride: Annotated[
        Taps,
        Meta(description="cells between outputs", extra={"kinds": ("convolution",)}),
    ] = 1
    dilation: Annotated[
        Taps, Meta(description="cells between taps", extra=STENCILS)
    ] = 1
    padding: Annotated[
        Paddings | None,
        Meta(
            description="cells around the grid; default: as many as keep its size with a stride "
            "of 1",
            extra={"kinds": ("convolution",)},
        ),
    ] = None
    outside: Annotated[
        Literal["zero", "replicate"],
        Meta(
            description="values there: 0, or those of the nearest cell", extra=STENCILS
        ),
    ] = "zero"
    bias: Annotated[bool, Meta(description="whether there is a b")] = True
    symmetric: Annotated[
        bool, Meta(description="V = -W^T: steps that cannot blow up", extra=RESIDUAL)
    ] = True
    dt: Annotated[Positive, Meta(description="the step", extra=RESIDUAL)] = 1.0
    fidelity: Annotated[
        NotNegative | None,
        Meta(
            description="adds dt l (x - u), which holds on to the input x; the weight l is learnt "
            "and starts here, of one channel it stays positive",
            extra=RESIDUAL,
        ),
    ] = None
    repeat: Annotated[Count, Meta(description="so many layers", extra=RESIDUAL)] = 1
    shared: Annotated[
        bool,
        Meta(
            description="whether repeated layers have the same weights", extra=RESIDUAL
        ),
    ] = False
    knots: Annotated[
        Annotated[int, Meta(ge=2)], Meta(description="of an activation that is learnt")
    ] = 33
    reach: Annotated[
        Positive, Meta(description="knots lie between -reach and reach")
    ] = 3.0
    start: Annotated[
        StartSection | None,
        Meta(
            description="not normal weights but those of a denoiser, {strength = a, width = w, "
            "narrowing = factor of w a layer}",
            extra=RESIDUAL,
        ),
    ] = None
    linear: Annotated[
        bool,
        Meta(
            description="a linear part beside sigma, which starts as a delay line: the state is "
            "what was given last",
            extra={"kinds": ("recurrent",)},
        ),
    ] = False
    hidden: Annotated[
        Count | None,
        Meta(
            description="channels of sigma beside a linear part; default: as many as `channels`",
            extra={"kinds": ("recurrent",)},
        ),
    ] = None
    masks: Annotated[Count, Meta(description="that light passes", extra=OPTICAL)] = 5
    cells: Annotated[
        Count, Meta(description="of a mask along x and y", extra=OPTICAL)
    ] = 64
    spacing: Annotated[
        Positive, Meta(description="width of a cell, in wavelengths", extra=OPTICAL)
    ] = 1.0
    distance: Annotated[
        Positive,
        Meta(
            description="from the sample to the first mask, between masks and to the detectors, "
            "in wavelengths",
            extra=OPTICAL,
        ),
    ] = 60.0
    margin: Annotated[
        Index,
        Meta(
            description="cells at all sides that absorb; with 0 they reflect",
            extra=OPTICAL,
        ),
    ] = 4
    contrast: Annotated[
        Positive,
        Meta(description="factor of the differences of intensities", extra=OPTICAL),
    ] = 50.0


class LossSection(Table, kw_only=True):
    """What is minimized, summed over the training samples."""

    kind: Annotated[
        Literal["softmax", "least-squares", "huber"] | None,
        Meta(
            description="softmax: -log of the probability of the class; else of (output - "
            "target) / sigma. Default: softmax of classes, least squares of numbers"
        ),
    ] = None
    sigma: Annotated[
        Positive,
        Meta(
            description="standard deviation of numbers that are sought, as they are normalised",
        ),
    ] = 1.0
    margin: Annotated[
        Index,
        Meta(description="cells along the sides of pictures that do not count"),
    ] = 0


class PenaltySection(Table, kw_only=True):
    """weight/2 sum of the squares of weights."""

    weights: Annotated[
        list[str] | None,
        Meta(
            description="their names, as W1, b1 of the first layer; default: all but biases"
        ),
    ] = None
    towards: Annotated[
        Literal["zero", "start"],
        Meta(description="start: squares of the distance from where the weights start"),
    ] = "zero"
    weight: Annotated[
        Positive, Meta(description="1 / s^2 of a normal prior of deviation s")
    ] = 1.0


class TrainingFile(Table, kw_only=True):
    """A case of training."""

    case: TitleSection = field(default_factory=TitleSection)
    variables: Annotated[
        dict[str, str | float | list[float]],
        Meta(
            description="texts, numbers and lists of numbers that replace {NAME} in texts, and "
            'that --set NAME=VALUE changes; for a number write NAME = "{NAME}" where it belongs'
        ),
    ] = {}
    data: DataSection
    network: NetworkSection = field(default_factory=NetworkSection)
    layer: Annotated[list[LayerSection], Meta(min_length=1, max_length=MOST_TABLES)]
    loss: LossSection = field(default_factory=LossSection)
    regularization: Annotated[list[PenaltySection], Meta(max_length=MOST_TABLES)] = []
    optimizer: Annotated[
        list[OptimizerSection],
        Meta(min_length=1, max_length=10, description="one after the other"),
    ] = field(default_factory=lambda: [OptimizerSection(method="lbfgs")])
    petsc: Annotated[
        Record,
        Meta(
            description="options of PETSc without their dash, of the prefixes state_, reg_, tao_; "
            "the command line wins"
        ),
    ] = {}
