"""Every section of a case file."""

from typing import Annotated

from msgspec import Meta, field

from npde_opt.aliases import Record
from npde_opt.cases.equation_tables import EquationSection, TimeSection
from npde_opt.cases.experiment_tables import (
    MOST_TABLES,
    ElectrodesSection,
    ExperimentSection,
    MisfitSection,
    ObservationSection,
    SimulationSection,
)
from npde_opt.cases.field_tables import (
    File,
)
from npde_opt.cases.grid_tables import (
    Boundaries,
    CaseSection,
    DomainSection,
    GridSection,
)
from npde_opt.cases.posterior_tables import PosteriorSection
from npde_opt.cases.sought_tables import (
    OptimizerSection,
    RegularizationSection,
    UnknownSection,
    ValidationSection,
)
from npde_opt.cases.typed import Table

Many = Meta(max_length=MOST_TABLES)


class CaseFile(Table, kw_only=True):
    """A case."""

    case: CaseSection = field(default_factory=CaseSection)
    variables: Annotated[
        dict[str, str | float | list[float]],
        Meta(
            description="texts, numbers and lists of numbers that replace {NAME} in texts, and "
            'that --set NAME=VALUE changes; for a number write NAME = "{NAME}" where it belongs'
        ),
    ] = {}
    grid: GridSection = field(default_factory=GridSection)
    domain: DomainSection = field(default_factory=DomainSection)
    boundaries: Boundaries = {}
    equation: EquationSection = field(default_factory=EquationSection)
    time: TimeSection | None = None
    unknown: Annotated[list[UnknownSection], Many] = []
    experiment: Annotated[list[ExperimentSection], Many] = []
    electrodes: ElectrodesSection | None = None
    wells: Annotated[
        File | None,
        Meta(
            description="a text table {file, ...} with columns of coordinates, rate, and perhaps "
            "radius and experiment (1, 2, ...): one experiment a number"
        ),
    ] = None
    observation: Annotated[list[ObservationSection], Many] = []
    simulation: SimulationSection = field(default_factory=SimulationSection)
    misfit: MisfitSection = field(default_factory=MisfitSection)
    regularization: Annotated[list[RegularizationSection], Many] = []
    optimizer: OptimizerSection = field(default_factory=OptimizerSection)
    validation: ValidationSection | None = None
    posterior: PosteriorSection = field(default_factory=PosteriorSection)
    petsc: Annotated[
        Record,
        Meta(
            description="options of PETSc without their dash, of the prefixes state_, reg_, tao_; "
            "the command line wins. For example state_recipe = 'gamg'"
        ),
    ] = {}
