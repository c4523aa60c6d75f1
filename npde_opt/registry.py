"""Classes of the user's that a case names: terms, misfits, regularizers and optimizers.

    import npde_opt as nd

    @nd.register("misfit", "cauchy")
    class Cauchy(Independent): ...

in a file that is given by `--module FILE`; a case then says kind = "registered", name = "cauchy",
and options = { ... } for what the class takes beyond what all of its kind take.
"""

from __future__ import annotations

import hashlib
import inspect
import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from npde_opt.errors import InputError
from npde_opt.packages import difflib

KINDS = {"term": 2, "misfit": 3, "regularizer": 3, "optimizer": 1}
"""What may be registered, and the arguments that all of a kind are called with: a term with grid
and species; a misfit with data, standard deviations and layout; a regularizer with grid, weight and
reference; an optimizer with the objective."""

Class = TypeVar("Class", bound=Callable[..., object])

_known: dict[str, dict[str, Callable[..., object]]] = {kind: {} for kind in KINDS}
_loaded: list[str] = []


def register(kind: str, name: str) -> Callable[[Class], Class]:
    """A decorator of a class, or of a function that makes an object.

    Raises:
        InputError: for a kind that there is not.
    """
    if kind not in KINDS:
        raise InputError("register", kind, ", ".join(KINDS))

    def keep(made: Class) -> Class:
        _known[kind][name] = made
        return made

    return keep


def load(path: str) -> None:
    """Runs a file that registers classes.

    Raises:
        InputError: for a file that is not there, or that raises.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError("--module", path, "an existing Python file")
    try:
        runpy.run_path(str(file), run_name=file.stem)
    except Exception as error:
        said = f"{path}, which raises {type(error).__name__}: {error}"
        raise InputError("--module", said, "a file that can be run") from error
    _loaded.append(hashlib.sha256(file.read_bytes()).hexdigest()[:16])


def loaded() -> str:
    """What the files that were run contained, as short hashes."""
    return " ".join(_loaded) or "none"


def registered(
    kind: str, key: str, name: str, given: Mapping[str, Any]
) -> Callable[..., Any]:
    """The class of a name.

    Args:
        key: of the name, in messages.
        given: its options.

    Raises:
        InputError: for a name that nobody registered, and for options that the class does not
            take.
    """
    known = _known[kind]
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        there = ", ".join(known) or "none is registered"
        raise InputError(key, name, f"a {kind} of --module FILE: {there}{hint}")
    found = known[name]
    parameters = list(inspect.signature(found).parameters.values())
    free = [p.name for p in parameters[KINDS[kind] :] if p.kind is not p.VAR_KEYWORD]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        table = key.rpartition(".")[0]
        for option in given:
            if option not in free:
                allowed = ", ".join(free) or f"none: {name} takes no options"
                raise InputError(f"{table}.options.{option}", "an unknown key", allowed)
    return found
