"""What the user gives PETSc: names that belong to nothing are refused at once, values that PETSc
does not know are wrong input, and what nothing has used is named at the end.

Options of this package have the prefixes state_, reg_ and tao_; PETSc's own for vectors and
matrices have vec_ and mat_; what PETSc reads for itself (-log_view, -malloc_debug, ...) passes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.packages import difflib

PREFIXES = ("state_", "reg_", "tao_")
TYPES = ("vec_", "mat_")
OF_STATE = ("ksp_", "pc_", "mg_", "newton_", "presb_", "recipe", "sub_", "redundant_")
"""What is likely meant for `state_` where it has no prefix."""

PETSCS = (
    "log_",
    "malloc",
    "info",
    "options_",
    "on_error_",
    "error_output_",
    "help",
    "version",
    "memory_view",
    "history",
    "checkstack",
    "check_pointer",
    "debugger_",
    "start_in_debugger",
    "stop_for_debugger",
    "fp_trap",
    "get_total_flops",
    "mpi_",
    "objects_",
    "no_signal_handler",
    "petsc_",
    "python",
    "viewer_",
    "draw_",
    "x_",
    "display",
    "nox",
    "shared_tmp",
    "not_shared_tmp",
    "tmp",
    "use_gpu_aware_mpi",
    "device_",
    "default_device",
    "cuda_",
    "hip_",
    "sycl_",
    "kokkos_",
    "blas_",
    "omp_",
    "openmp",
    "sf_",
    "is_",
    "matstash_",
    "vecload_",
    "matload_",
    "vecscatter_",
    "partition_",
    "citations",
    "saws_",
    "random_",
    "skip_petscrc",
    "quick_exit",
    "finalize_",
    "monitor_",
    "allow_",
)
"""Beginnings of the names that PETSc reads for itself, or puts there (vecload_: as it reads a Vec's
.info file)."""

WRONG_VALUES = (56, 62, 63, 83, 86, 92)
"""PETSc's errors: not supported, wrong argument, out of range, none of a list, unknown type,
missing package."""

KINDS: Mapping[str, Callable[[], PETSc.Object]] = {
    "ksp_type": PETSc.KSP,
    "pc_type": PETSc.PC,
    "mat_type": PETSc.Mat,
    "vec_type": PETSc.Vec,
    "tao_type": PETSc.TAO,
}
NUMBERS = ("_rtol", "_atol", "_divtol", "_max_it")


def check_options() -> None:
    """Raises InputError for an option that belongs to nothing, and for a type or number that none
    is; the same on all ranks. What is asked for only later (a solver of a regularizer) is so
    refused before work starts."""
    for name, value in PETSc.Options().getAll().items():
        if not name.startswith((*PREFIXES, *TYPES, *PETSCS)):
            guess = meant(name)
            raise InputError(
                f"-{name}",
                "an option of PETSc",
                f"the prefixes {', '.join(PREFIXES)}"
                + (f"; did you mean -{guess}?" if guess else ""),
            )
        if name.startswith((*PREFIXES, *TYPES)):
            _check_value(name, value or "")


def _check_value(name: str, value: str) -> None:
    kind = next((k for k in KINDS if name.endswith(k)), None)
    if kind is not None:
        trial = KINDS[kind]().create(PETSc.COMM_SELF)
        try:
            trial.setType(value)
        except PETSc.Error as error:
            raise InputError(
                f"-{name}", value or "nothing", "a type that this PETSc has"
            ) from error
        finally:
            trial.destroy()
    elif name.endswith(NUMBERS):
        try:
            float(value)
        except ValueError as error:
            raise InputError(f"-{name}", value or "nothing", "a number") from error


def meant(name: str) -> str | None:
    """The option that a misspelt one may stand for."""
    if name.startswith(OF_STATE):
        return "state_" + name
    head, _, rest = name.partition("_")
    near = difflib.get_close_matches(head + "_", PREFIXES, 1, 0.6)
    if rest and near:
        return near[0] + rest
    return None


def unused() -> list[str]:
    """Names of this package's options that were given and that nothing has asked for."""
    options = PETSc.Options()
    return sorted(
        name
        for name in options.getAll()
        if name.startswith((*PREFIXES, *TYPES)) and not options.used(name)
    )


def unused_text() -> str | None:
    """A line about them, or None; PETSc then says nothing of its own at its end, unless it was
    asked to."""
    options, names = PETSc.Options(), unused()
    if not names:
        return None
    if not options.hasName("options_left"):
        options.setValue("options_left", "no")
    return (
        "warning: nothing has used the option"
        + ("s " if len(names) > 1 else " ")
        + ", ".join("-" + n for n in names)
    )


@contextlib.contextmanager
def from_options(prefix: str) -> Iterator[None]:
    """Sets PETSc objects up from the options below a prefix: a value that PETSc does not know is an
    InputError, on all ranks as they have the same options."""
    try:
        yield
    except PETSc.Error as error:
        given = {
            k: v for k, v in PETSc.Options().getAll().items() if k.startswith(prefix)
        }
        if error.ierr not in WRONG_VALUES or not given:
            raise
        said = str(error).strip().splitlines()[-1].strip()
        named = {
            k: v for k, v in given.items() if k in said or (v and f" {v}" in said)
        } or given
        raise InputError(
            ", ".join("-" + k for k in named),
            ", ".join(str(v or "nothing") for v in named.values()),
            f"types and values that this PETSc knows; it says: {said}",
        ) from error
