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
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import Any, cast

import numpy as np

from npde_opt.compiling import compiled, defined, folder, stamp, write

Kind = tuple[str, int]
"""Type of an array's values and number of its axes."""
Native = Callable[..., int]
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
    """A compiled function of arrays, each in C order, that allocates none: it is imported where it
    has to be compiled.

    Args:
        module: where it is, a function that `compiling.compiled` made. name: its name there.
        returns: whether it returns an integer; else nothing.
    """

    def __init__(self, module: str, name: str, returns: bool = False):
        self.module, self.name, self.returns = module, name, returns
        self._made: dict[tuple[Kind, ...], Native | None] = {}

    def __call__(self, *arrays: np.ndarray) -> int:
        """What it returns, or 0."""
        return self.bound(*arrays)()

    def bound(self, *arrays: np.ndarray) -> Bound:
        """A call with these arrays, to be made many times: it takes a microsecond."""
        return Bound(self, arrays)

    def native(self, arrays: Sequence[np.ndarray]) -> Native | None:
        """The machine code for such arrays, a function of the address of a table (see `Bound`);
        None where there can be none."""
        if not all(a.flags.c_contiguous for a in arrays):
            return None
        kinds = tuple((a.dtype.char, a.ndim) for a in arrays)
        if kinds not in self._made:
            self._made[kinds] = self._native(kinds)
        return self._made[kinds]

    def compiled(self, arrays: Sequence[np.ndarray]) -> int:
        """The same by numba."""
        return int(self._function()(*arrays) or 0)

    def _function(self) -> Callable[..., Any]:
        return cast(
            Callable[..., Any],
            getattr(importlib.import_module(self.module), self.name),
        )

    @property
    def _what(self) -> tuple[object, ...]:
        """What tells it apart from others of its module and name."""
        return ()

    def _native(self, kinds: Sequence[Kind]) -> Native | None:
        """The machine code for arrays of these kinds; None where there can be none."""
        try:
            path, said = self._place(kinds)
            found = _kept(path, said)
            symbol, code = self._compiled(kinds) if found is None else found
            if found is None:
                with contextlib.suppress(OSError):
                    check = hashlib.sha256(code).digest()
                    write(path, b"\n".join((said, symbol.encode(), check + code)))
            return self._as_python(_linked(symbol, code))
        except Exception:
            # numba's insides, other than they were: it calls what it compiled by itself.
            return None

    def _place(self, kinds: Sequence[Kind]) -> tuple[Path, bytes]:
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
        told = (stamp(source.origin), version, processor, sorted(set_to.items()))
        own = self.module, self.name, *self._what
        called = "table", *own, source.origin, tuple(kinds)
        said = hashlib.sha256(repr((called, told)).encode()).hexdigest()
        where = hashlib.sha256(repr(called).encode()).hexdigest()[:16]
        return folder() / f"{self.name}_{where}.code", said.encode()

    def _compiled(self, kinds: Sequence[Kind]) -> tuple[str, bytes]:
        """A C function of a table of addresses and sizes that calls the compiled one: its symbol,
        and the object file."""
        numba: Any = importlib.import_module("numba")
        types, arrays, at = numba.types, list[str](), 0
        space: dict[str, object] = {
            "carray": numba.carray,
            "function": self._function(),
        }
        for char, axes in kinds:
            space[f"pointer_{char}"] = _pointer(getattr(types, NAMES[char]))
            sizes = "".join(f"t[{at + 1 + d}], " for d in range(axes))
            arrays.append(f"carray(pointer_{char}(t[{at}]), ({sizes}))")
            at += 1 + axes
        call = f"function({', '.join(arrays)})"
        line = f"return {call}" if self.returns else call
        source = f"def called(table):\n    t = carray(table, ({at},))\n    {line}\n"
        returned = types.int64 if self.returns else types.void
        signature = returned(types.CPointer(types.int64))
        made = numba.cfunc(signature)(defined(source, "called", space))
        _, _, (code, _) = made._library.serialize_using_object_code()
        return made._wrapper_name, code

    def _as_python(self, address: int) -> Native:
        returned = ctypes.c_int64 if self.returns else None
        return cast(Native, ctypes.CFUNCTYPE(returned, ctypes.c_void_p)(address))


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
        returns: bool = False,
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
    """A call of a compiled function with arrays that are kept, of which some are replaced by others
    of the same type and shape from call to call.

    The machine code reads a table: of each array in turn its address and its sizes.
    """

    def __init__(self, of: Kept, arrays: Sequence[np.ndarray]):
        self._of, self._arrays = of, list(arrays)
        self._run = of.native(arrays)
        entries, self._places = list[int](), list[int]()
        for a in arrays:
            self._places.append(len(entries))
            entries += (address_of(a), *a.shape)
        self._table = np.array(entries, np.int64)
        self._address = self._table.ctypes.data

    def put(self, k: int, array: np.ndarray) -> None:
        """The k-th array, in C order, of the type and shape that it had."""
        self._arrays[k] = array
        self._table[self._places[k]] = address_of(array)

    @property
    def call(self) -> tuple[int, np.ndarray] | None:
        """For machine code that calls this one: its address, and the table that it reads. None
        where there is none."""
        if self._run is None:
            return None
        address = ctypes.cast(cast(Any, self._run), ctypes.c_void_p).value
        return (address, self._table) if address is not None else None

    def place(self, k: int) -> int:
        """Where in the table the address of the k-th array stands."""
        return self._places[k]

    def __call__(self) -> int:
        """What the function returns, or 0."""
        if self._run is None:
            return self._of.compiled(self._arrays)
        return self._run(self._address) or 0


def _spec(module: str) -> ModuleSpec | None:
    """Where a module is. Asking one that is loaded lazily would load it, and numba with it."""
    if module in sys.modules:
        found = object.__getattribute__(sys.modules[module], "__spec__")
        return cast("ModuleSpec | None", found)
    return find_spec(module)


def address_of(array: np.ndarray) -> int:
    found: int = array.__array_interface__["data"][0]
    return found


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
