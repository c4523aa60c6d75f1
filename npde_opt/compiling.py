"""Loops compiled by numba, which are kept on disk from process to process.

numba takes seconds to compile a loop and a tenth of one to load it. It is imported where it is
first needed: that takes long, too.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar, cast

from npde_opt import turns
from npde_opt.errors import InputError
from npde_opt.packages import tempfile

CHECKS = "-runtime-memory-check-threshold=64"
"""Loops over many arrays are vectorised after as many looks at whether these overlap."""

F = TypeVar("F", bound=Callable[..., object])

FOLDER = "npde_opt/loops"
"""Of written sources, below the user's folder for what can be made again."""


def compiled(function: F) -> F:
    """The function compiled: divisions by zero give infinities, sums may be taken in any order. It
    must be in a file.

    Raises:
        InputError: where numba is told to compile nothing: some loops are none that Python runs.
    """
    import numba

    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        wanted = (
            "unset: loops call MPI and read addresses, which only machine code does"
        )
        raise InputError("NUMBA_DISABLE_JIT", 1, wanted)
    _let_loops_check()
    _listen()
    made = numba.njit(error_model="numpy", fastmath={"contract", "reassoc", "nsz"})(
        function
    )
    # Where no folder can be written, every process compiles.
    with contextlib.suppress(RuntimeError):
        made.enable_caching()
        if function.__module__.startswith("npde_opt."):
            # numba looks at the function's own file; loops that it calls are in others.
            made_from = stamp(function.__code__.co_filename)
            made._cache._cache_file._source_stamp = made_from  # type: ignore[attr-defined]
        called = f"{function.__code__.co_filename} {function.__qualname__}"
        made._cache = Forgiving(made._cache, called)  # type: ignore[attr-defined]
    return cast(F, made)


Say = Callable[[str], None]
_say: Say | None = None
_is_said = False


def announced_by(say: Say | None) -> Say | None:
    """Who is told, once a process, that loops have to be compiled: it may take a minute or two, in
    which nothing else is said. None: nobody. Whom it was before."""
    global _say
    before, _say = _say, say
    return before


def announce() -> None:
    """Tells it, where it has not been told."""
    global _is_said
    if _say is not None and not _is_said:
        _is_said = True
        where = f"they are kept in {_place()}"
        _say(f"compiling loops for this machine, once: {where}")


@cache
def _listen() -> None:
    """For the first of numba's compilations; what it finds on disk is none."""
    from numba.core import event

    class First(event.Listener):
        def on_start(self, _: Any) -> None:
            announce()

        def on_end(self, _: Any) -> None:
            pass

    event.register("numba:compile", First())  # type: ignore[no-untyped-call]


def _place() -> str:
    """Where numba keeps what it compiled."""
    return os.environ.get("NUMBA_CACHE_DIR") or f"{folder()} and beside the package"


def stamp(file: str) -> tuple[object, ...]:
    """What changes when a file beside this one, or this one, does."""
    return (CHECKS, file, *_times(str(Path(file).parent)))


@cache
def _times(room: str) -> tuple[object, ...]:
    beside = sorted(Path(room).glob("*.py"))
    return tuple(
        (path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in beside
    )


@cache
def _let_loops_check() -> None:
    import llvmlite.binding

    llvmlite.binding.set_option("", CHECKS)


class Forgiving:
    """numba's store of a function, which does not end a run where the disk or a quota is full, or
    a file in it damaged. One process of a machine compiles what several miss.

    Args:
        called: the function and its file.
    """

    def __init__(self, store: object, called: str):
        self._store, self._called = store, called

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def load_overload(self, types: object, target: object) -> object:
        def found() -> object:
            try:
                return self._method("load_overload")(types, target)
            except Exception:
                # Whatever is wrong with a file that can be made again: it is made again.
                return None

        return turns.found_or_turn(self._key(types), found, announce)

    def save_overload(self, types: object, made: object) -> None:
        try:
            with contextlib.suppress(OSError):
                self._method("save_overload")(types, made)
        finally:
            turns.over(self._key(types))

    def _key(self, types: object) -> str:
        return f"{self._called} {types}"

    def _method(self, name: str) -> Callable[..., object]:
        return cast(Callable[..., object], getattr(self._store, name))


def compiled_source(source: str, name: str, imports: str = "") -> Callable[..., Any]:
    """The function of this name in a source that needs no more than `math` and what lines before it
    import, compiled. Whoever writes the source answers for what is in it: it is run."""
    whole = f"import math\n{imports}\n\n{source}\n"
    with contextlib.suppress(OSError):
        return compiled(_loaded(_kept(whole), name))
    return compiled(cast(FunctionType, defined(whole, name, {})))


def defined(source: str, name: str, space: dict[str, object]) -> Callable[..., object]:
    """The function of this name in a source that reads `space`, as Python. Whoever writes the
    source answers for what is in it: it is run."""
    exec(source, space)
    return cast(Callable[..., object], space[name])


def folder() -> Path:
    """Of what is kept from process to process."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / FOLDER


def _kept(source: str) -> Path:
    """A file with the source, named by what is in it. Raises OSError where none can be written."""
    digest = hashlib.sha256(source.encode()).hexdigest()[:32]
    path = folder() / f"loops_{digest}.py"
    with contextlib.suppress(OSError):
        if path.read_text() == source:
            return path
    write(path, source.encode())
    return path


def write(path: Path, content: bytes) -> None:
    """A file of the folder. Raises OSError where none can be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Other ranks and runs may write the same at this moment: nobody sees half of it.
    handle, beside = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


def _loaded(path: Path, name: str) -> Callable[..., None]:
    """A function of a file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise OSError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    # numba asks for it by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return cast(Callable[..., None], getattr(module, name))
