"""Compiled loops as machine code on disk, loaded without numba.

numba and what it asks for take half a second to be loaded, before it finds what it compiled
earlier: more than many a run along a line. The machine code of a loop over arrays needs none of
that. It is made by numba once, kept in the user's folder for what can be made again, and taken by
its linker alone from then on. What is kept says for which source, versions and processor it is, and
has a check sum; where something does not fit, numba makes it again, and where it cannot be kept,
every process does.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib
import os
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import Any, cast

import numpy as np

from npde_opt import turns
from npde_opt.compiling import announce, compiled, defined, folder, stamp, write

Argument = Any
"""An array, a number, or a tuple of such."""
Kind = tuple[str, int]
"""Type of an array's values and number of its axes, NUMBER of a number."""
Kinds = tuple[Any, ...]
"""Of arguments, a Kind or, of a tuple, Kinds each."""
NUMBER = -1
Native = Callable[..., Any]
NAMES = {
    "d": "float64",
    "f": "float32",
    "i": "int32",
    "l": "int64",
    "q": "int64",
    "L": "uint64",
    "?": "boolean",
}
"""numba's, of types of values."""
OWN = 0
"""Where in a table its own address stands."""
UNUSED = (
    "NRT_Free",
    "NRT_MemInfo_call_dtor",
    "numba_do_raise",
    "numba_gil_ensure",
    "numba_gil_release",
    "numba_runtime_build_excinfo_struct",
    "numba_unpickle",
)
"""What machine code calls where a loop raises an exception, which those here do not."""


class Kept:
    """A compiled function of arrays, each in C order, of numbers and of tuples of such, that
    allocates no array: it is imported where it has to be compiled.

    Args:
        module: where it is, a function that `compiling.compiled` made. name: its name there.
        returns: the type of what it returns, an int or a float; None: nothing.
    """

    def __init__(
        self, module: str, name: str, returns: type[int] | type[float] | None = None
    ):
        self.module, self.name, self.returns = module, name, returns
        self._made: dict[Kinds, Native | None] = {}

    def __call__(self, *given: Argument) -> Any:
        """What it returns, or 0."""
        return self.bound(*given)()

    def bound(self, *given: Argument) -> Bound:
        """A call with these, to be made many times: it takes a microsecond."""
        return Bound(self, given)

    def native(self, given: Sequence[Argument]) -> Native | None:
        """The machine code for such arguments, a function of the address of a `Table`;
        None where there can be none."""
        if not all(_is_in_order(leaf) for leaf in leaves(given)):
            return None
        kinds = _kinds(given)
        if kinds not in self._made:
            self._made[kinds] = self._native(kinds)
        return self._made[kinds]

    def compiled(self, given: Sequence[Argument]) -> Any:
        """The same by numba."""
        return self._function()(*given) or 0

    def _function(self) -> Callable[..., Any]:
        return cast(
            Callable[..., Any],
            getattr(importlib.import_module(self.module), self.name),
        )

    @property
    def _what(self) -> tuple[object, ...]:
        """What tells it apart from others of its module and name."""
        return ()

    def _native(self, kinds: Kinds) -> Native | None:
        """The machine code for arguments of these kinds; None where there can be none."""
        try:
            path, said = self._place(kinds)
            found = turns.found_or_turn(
                said.decode(), lambda: _kept(path, said), announce
            )
            symbol, code = found or self._made_and_kept(kinds, path, said)
            return self._as_python(_linked(symbol, code))
        except Exception:
            # numba's insides, other than they were: it calls what it compiled by itself.
            return None

    def _made_and_kept(
        self, kinds: Kinds, path: Path, said: bytes
    ) -> tuple[str, bytes]:
        """Symbol and object file; ends the turn."""
        try:
            symbol, code = self._compiled(kinds)
            check = hashlib.sha256(code).digest()
            with contextlib.suppress(OSError):
                write(path, b"\n".join((said, symbol.encode(), check + code)))
            return symbol, code
        finally:
            turns.over(said.decode())

    def _place(self, kinds: Kinds) -> tuple[Path, bytes]:
        """The file, and for what source, versions and processor it is."""
        import llvmlite.binding as llvm

        source, numba = _spec(self.module), find_spec("numba")
        assert source is not None and source.origin is not None
        assert numba is not None and numba.origin is not None
        version = (
            numba.origin,
            os.stat(numba.origin).st_mtime_ns,
            llvm.llvm_version_info,
        )
        processor = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
        set_to = {k: v for k, v in os.environ.items() if k.startswith("NUMBA_")}
        # What reads the table was made by this file.
        own_file = os.stat(__file__)
        reader = own_file.st_mtime_ns, own_file.st_size
        told = stamp(source.origin), reader, version, sorted(set_to.items())
        own = self.module, self.name, *self._what
        # Machines of one home folder may have other processors: each has its file.
        called = "table", *own, source.origin, kinds, processor
        said = hashlib.sha256(repr((called, told)).encode()).hexdigest()
        where = hashlib.sha256(repr(called).encode()).hexdigest()[:16]
        return folder() / f"{self.name}_{where}.code", said.encode()

    def _compiled(self, kinds: Kinds) -> tuple[str, bytes]:
        """A C function of a table of addresses, sizes and numbers that calls the compiled one: its
        symbol, and the object file."""
        numba: Any = importlib.import_module("numba")
        types = numba.types
        space: dict[str, object] = {
            "carray": numba.carray,
            "function": self._function(),
            "single": np.float32,
        }
        for char in {char for char, _ in _flat(kinds)} | {"d"}:
            space[f"pointer_{char}"] = _pointer(getattr(types, NAMES[char]))
        given, size = _texts(kinds, OWN + 1)
        line = f"function({given[1:-1]})"
        line = f"return {line}" if self.returns else line
        source = f"def called(table):\n    t = carray(table, ({size},))\n    {line}\n"
        returned = {None: types.void, int: types.int64, float: types.float64}
        signature = returned[self.returns](types.CPointer(types.int64))
        made = numba.cfunc(signature)(defined(source, "called", space))
        _refuse_what_needs_numba(made._library._final_module)
        _, _, (code, _) = made._library.serialize_using_object_code()
        return made._wrapper_name, code

    def _as_python(self, address: int) -> Native:
        returned = {None: None, int: ctypes.c_int64, float: ctypes.c_double}
        made = ctypes.CFUNCTYPE(returned[self.returns], ctypes.c_void_p)
        return cast(Native, made(address))


class Written(Kept):
    """A function of a source that was written for the case at hand.

    Args:
        source: with the function `name`, which reads `math`. Whoever writes it answers for what is
            in it: it is run.
        called: functions of a compiled module that it calls, all of its files being in one folder.
    """

    def __init__(
        self,
        source: str,
        name: str,
        module: str,
        called: Sequence[str],
        returns: type[int] | type[float] | None = None,
    ):
        super().__init__(module, name, returns)
        self._source, self._called = source, tuple(called)

    def _function(self) -> Callable[..., Any]:
        module = importlib.import_module(self.module)
        space: dict[str, object] = {n: getattr(module, n) for n in self._called}
        text = f"import math\n\n\n{self._source}\n"
        return compiled(cast(FunctionType, defined(text, self.name, space)))

    @property
    def _what(self) -> tuple[object, ...]:
        return self._source, self._called


class Bound:
    """A call of a compiled function with arguments that are kept, of which arrays are replaced by
    others of the same type and shape from call to call."""

    def __init__(self, of: Kept, given: Sequence[Argument]):
        self._of, self._given, self._table = of, list(given), Table(given)
        self._run = of.native(given)

    def put(self, k: int, array: np.ndarray) -> None:
        """The k-th argument, an array in C order, of the type and shape that it had."""
        self._given[k] = array
        self._table.put(k, array)

    @property
    def call(self) -> tuple[int, np.ndarray] | None:
        """For machine code that calls this one: its address, and the table that it reads. None
        where there is none."""
        if self._run is None:
            return None
        address = ctypes.cast(cast(Any, self._run), ctypes.c_void_p).value
        return (address, self._table.numbers) if address is not None else None

    def place(self, k: int) -> int:
        """Where in the table the address of the k-th argument stands."""
        return self._table.places[k]

    def __call__(self) -> Any:
        """What the function returns, or 0."""
        if self._run is None:
            return self._of.compiled(self._given)
        return self._run(self._table.address) or 0


class Repeated:
    """Calls of a compiled function again and again, mostly with what it was called with before: of
    that a call takes a look. It keeps no array alive, but those in tuples."""

    def __init__(self, of: Kept):
        self._of = of
        self._run: Native | None = None
        self._table: Table | None = None
        self._before = list[object]()
        """Of each argument, a number, a tuple, or a weak reference to an array."""

    def __call__(self, *given: Argument) -> Any:
        """What the function returns, or 0."""
        table = self._table
        if table is None or not self._follow(table, given):
            table = self._begin(given)
        if self._run is None:
            return self._of.compiled(given)
        return self._run(table.address) or 0

    def _begin(self, given: Sequence[Argument]) -> Table:
        # Until all is there: a signal may raise in between.
        self._table = None
        self._run = self._of.native(given)
        self._kinds = [_look(a) for a in given]
        self._before = [_weak(a) for a in given]
        self._table = Table(given)
        return self._table

    def _follow(self, table: Table, given: Sequence[Argument]) -> bool:
        """Puts what is new into the table; False where it is of another kind."""
        for k, (argument, before) in enumerate(zip(given, self._before, strict=True)):
            if isinstance(argument, np.ndarray):
                if isinstance(before, weakref.ref) and before() is argument:
                    continue
            elif argument is before:
                continue
            if isinstance(argument, tuple) or _look(argument) != self._kinds[k]:
                return False
            # Known for neither while the table changes, for the same reason.
            self._before[k] = None
            table.put(k, argument)
            self._before[k] = _weak(argument)
        return True


class Table:
    """What machine code reads: the table's own address, then of each leaf of the arguments in turn
    an array's address and its sizes, or a number, floats by their bits.

    Attributes:
        places: where in it each argument begins.
    """

    def __init__(self, given: Sequence[Argument]):
        entries, self.places = [0], list[int]()
        for argument in given:
            self.places.append(len(entries))
            for leaf in leaves([argument]):
                entries += _entries(leaf)
        self.numbers = np.array(entries, np.int64)
        self._floats = self.numbers.view(np.float64)
        self.address: int = self.numbers.ctypes.data
        self.numbers[OWN] = self.address

    def put(self, k: int, argument: np.ndarray | float) -> None:
        """The k-th argument, an array or a number of the type, and of the shape, that it had."""
        if isinstance(argument, np.ndarray):
            self.numbers[self.places[k]] = address_of(argument)
        elif isinstance(argument, float | np.floating):
            self._floats[self.places[k]] = argument
        else:
            self.numbers[self.places[k]] = argument


def _weak(argument: Argument) -> object:
    is_array = isinstance(argument, np.ndarray)
    return weakref.ref(argument) if is_array else argument


def _look(argument: Argument) -> object:
    """What arguments that take each other's place have alike."""
    if isinstance(argument, np.ndarray):
        return argument.dtype, argument.shape, argument.flags.c_contiguous
    return type(argument)


def leaves(given: Sequence[Argument]) -> Iterator[Argument]:
    """The arrays and numbers of arguments, in turn."""
    for argument in given:
        if isinstance(argument, tuple):
            yield from leaves(argument)
        else:
            yield argument


def _is_in_order(leaf: Argument) -> bool:
    """In C order and in the processor's order of bytes, of which no Kind tells."""
    if not isinstance(leaf, np.ndarray):
        return True
    return leaf.flags.c_contiguous and leaf.dtype.isnative


def _kinds(given: Sequence[Argument]) -> Kinds:
    return tuple(_kinds(a) if isinstance(a, tuple) else _kind(a) for a in given)


def _kind(leaf: Argument) -> Kind:
    if isinstance(leaf, np.ndarray):
        return leaf.dtype.char, leaf.ndim
    if isinstance(leaf, bool | np.bool):
        return "?", NUMBER
    if isinstance(leaf, np.floating):
        return leaf.dtype.char, NUMBER
    return ("d" if isinstance(leaf, float) else "l"), NUMBER


def _entries(leaf: Argument) -> list[int]:
    """Of the table."""
    if isinstance(leaf, np.ndarray):
        return [address_of(leaf), *leaf.shape]
    if isinstance(leaf, float | np.floating):
        return [int(np.array(leaf, np.float64).view(np.int64))]
    return [int(leaf)]


def _flat(kinds: Kinds) -> Iterator[Kind]:
    for kind in kinds:
        if isinstance(kind[0], str):
            yield kind[0], kind[1]
        else:
            yield from _flat(kind)


def _texts(kinds: Kinds, at: int) -> tuple[str, int]:
    """A tuple of what the table t has from `at` on, as a source, and where what follows begins."""
    found = list[str]()
    for kind in kinds:
        if kind and isinstance(kind[0], str):
            text, at = _text(kind[0], kind[1], at)
        else:
            text, at = _texts(kind, at)
        found.append(text)
    return f"({', '.join(found)},)", at


def _text(char: str, axes: int, at: int) -> tuple[str, int]:
    if axes != NUMBER:
        sizes = "".join(f"t[{at + 1 + d}], " for d in range(axes))
        return f"carray(pointer_{char}(t[{at}]), ({sizes}))", at + 1 + axes
    if char in "df":
        number = f"carray(pointer_d(t[{OWN}] + {8 * at}), (1,))[0]"
        return (number if char == "d" else f"single({number})"), at + 1
    return (f"t[{at}] != 0" if char == "?" else f"t[{at}]"), at + 1


def _spec(module: str) -> ModuleSpec | None:
    """Where a module is. Asking one that is loaded lazily would load it, and numba with it."""
    if module in sys.modules:
        found = object.__getattribute__(sys.modules[module], "__spec__")
        return cast("ModuleSpec | None", found)
    return find_spec(module)


def address_of(array: np.ndarray) -> int:
    found: int = array.__array_interface__["data"][0]
    return found


def _refuse_what_needs_numba(module: Any) -> None:
    """Raises LookupError where machine code calls functions of numba's, which are not there in a
    process that has not loaded it."""
    process = ctypes.CDLL(None)
    for called in (*module.functions, *module.global_variables):
        name = called.name
        if not called.is_declaration or name.startswith("llvm.") or name in UNUSED:
            continue
        if not hasattr(process, name):
            raise LookupError(f"{module.name} calls {name}")


def _pointer(number: Any) -> Callable[..., object]:
    """From an address to a pointer to such numbers, for numba."""
    extending: Any = importlib.import_module("numba.extending")
    types: Any = importlib.import_module("numba.types")

    def typed(context: Any, address: Any) -> tuple[Any, Any]:
        def generated(
            target: Any, builder: Any, signature: Any, given: Sequence[Any]
        ) -> Any:
            kind = target.get_value_type(signature.return_type)
            return builder.inttoptr(given[0], kind)

        return types.CPointer(number)(types.int64), generated

    return cast(Callable[..., object], extending.intrinsic(typed))


def _kept(path: Path, said: bytes) -> tuple[str, bytes] | None:
    """Symbol and object file, where the file is there, whole, and what is asked for."""
    try:
        kept, symbol, rest = path.read_bytes().split(b"\n", 2)
    except (OSError, ValueError):
        return None
    check, code = rest[:32], rest[32:]
    if kept != said or hashlib.sha256(code).digest() != check:
        return None
    return symbol.decode(), code


_engines: list[object] = []
"""Which own the code."""


def is_loaded() -> bool:
    """Whether the process has what links machine code, of which most of the time of loading a first
    loop is."""
    return bool(_engines)


def _linked(symbol: str, code: bytes) -> int:
    """The address of a function of an object file."""
    import llvmlite.binding as llvm

    abort = ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p).value
    for name in UNUSED:
        if llvm.address_of_symbol(name) is None:
            llvm.add_symbol(name, abort)
    with contextlib.suppress(RuntimeError):
        # Later versions do this by themselves, and say so.
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return int(engine.get_function_address(symbol))
