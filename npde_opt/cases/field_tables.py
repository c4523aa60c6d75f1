"""Tables of files and fields, and the kinds of numbers and lists, that sections of cases share."""

from typing import Annotated, Literal

from msgspec import Meta

from npde_opt.cases.typed import Table

Count = Annotated[int, Meta(ge=1)]
Index = Annotated[int, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Side = Literal["x-", "x+", "y-", "y+", "z-", "z+"]
Place = Annotated[list[float], Meta(min_length=1, max_length=3)]
Cells = Annotated[list[Count], Meta(min_length=1, max_length=3)]
Pair = tuple[float, float]
Names = Annotated[list[str], Meta(min_length=1, max_length=20)]


# ---- files and fields ---------------------------------------------------------------------------


class File(Table, kw_only=True):
    """An array, or columns of a text table."""

    file: Annotated[
        str,
        Meta(description="an array's file, or a text table (.csv, .txt, .dat, .tsv)"),
    ]
    key: Annotated[str | None, Meta(description="which of its arrays")] = None
    part: Annotated[
        Literal["real", "imag", "intensity"] | None,
        Meta(description="of complex arrays"),
    ] = None
    column: Annotated[
        str | Index | list[str | Index] | None,
        Meta(description="of a text table: a name, a number from 0, or a list of them"),
    ] = None
    replicates: Annotated[
        Annotated[list[str | Index], Meta(min_length=2, max_length=1000)] | None,
        Meta(
            description="or columns of repeated measurements, of which the mean is taken, without "
            "the one of [validation]; of data the noise is told from their spread",
            extra={"not_with": ("column",)},
        ),
    ] = None
    where: Annotated[
        dict[str, Pair] | None,
        Meta(description="rows of a text table: {column = [from, to]}"),
    ] = None
    rows: Annotated[
        tuple[Index, Index, Count] | None,
        Meta(
            description="[first, last, step] of the first axis, from 0, the last included"
        ),
    ] = None
    shape: Annotated[
        Cells | None,
        Meta(
            description="folds the values: arrays of x fastest, data of the last axis"
        ),
    ] = None
    scale: Annotated[float | None, Meta(description="factor of the values")] = None
    delimiter: Annotated[
        str | None, Meta(description="',', ';', 'tab', '|' or 'space'; default: found")
    ] = None
    decimal: Annotated[Literal[".", ","] | None, Meta(description="default: found")] = (
        None
    )
    header: Annotated[
        bool | list[str] | None,
        Meta(
            description="whether the first line holds names, or the names; default: found"
        ),
    ] = None
    skip: Annotated[Index | None, Meta(description="lines left out at the top")] = None
    encoding: Annotated[
        str | None, Meta(description="default: found (UTF-8, UTF-16, Latin-1)")
    ] = None
    missing: Annotated[
        float | str | list[float | str] | None,
        Meta(
            description="what stands for a missing value, beside empty words, NaN and NA"
        ),
    ] = None


class AnyField(Table, kw_only=True):
    """What all fields have."""

    clip: Annotated[
        Pair | None,
        Meta(description="[lo, hi]: values are cut off there, after `scale`"),
    ] = None
    scale: Annotated[float | None, Meta(description="factor of the values")] = None


class FileField(File, kw_only=True):
    """An array where its file says, or of the shape of the grid; or a column with one value a cell,
    x fastest."""

    resample: Annotated[
        bool | None,
        Meta(
            description="true: an array of another shape, whose file gives no coordinates, is laid "
            "evenly over the whole box"
        ),
    ] = None
    clip: Annotated[
        Pair | None,
        Meta(description="[lo, hi]: values are cut off there, after `scale`"),
    ] = None


class Expression(AnyField, kw_only=True):
    """A text at the middles of the cells."""

    expression: Annotated[
        str, Meta(description="text in x, y, z, e.g. 'where(x > 0.5, exp(x)*y, 1)'")
    ]


class Value(AnyField, kw_only=True):
    """The same value everywhere."""

    value: Annotated[float, Meta(description="a number")]


class Tissues(Table, kw_only=True):
    """Values of the tissues."""

    grey: Annotated[float, Meta(description="of grey matter")]
    white: Annotated[float, Meta(description="of white matter")]
    csf: Annotated[float, Meta(description="of fluid")]


class AnatomyField(AnyField, kw_only=True):
    """Tissues of the brain, mixed by volume; needs domain.mni152."""

    mni152: Annotated[
        Tissues, Meta(description="{grey = 0.33, white = 0.14, csf = 1.79}")
    ]


class Contrast(Table, kw_only=True):
    """A random field."""

    contrast: Annotated[
        float, Meta(gt=0, description="largest over smallest value")
    ] = 1000.0
    seed: Annotated[Index, Meta(description="of the random numbers")] = 0


class LognormalField(AnyField, kw_only=True):
    """A smooth log-normal benchmark field."""

    lognormal: Annotated[Contrast, Meta(description="{contrast = 1000, seed = 0}")]


class PictureField(Table, kw_only=True):
    """A grey picture."""

    picture: Annotated[
        str, Meta(description="a name of scikit-image's pictures ('camera'), or a file")
    ]
    range: Annotated[
        Pair | None, Meta(description="[black, white]; default 0 to 1")
    ] = None
    box: Annotated[
        tuple[Pair, Pair] | None,
        Meta(
            description="[[x0, x1], [y0, y1]] that it covers; default the grid's; black outside"
        ),
    ] = None


FIELD_TABLES = (
    FileField | Expression | Value | AnatomyField | LognormalField | PictureField
)
Field = float | FIELD_TABLES
