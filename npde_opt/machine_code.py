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
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np

from npde_opt.compiling import defined, folder, stamp, write

Kind = tuple[str, int]
"""Type of an array's values and number of its axes."""
Native = Callable[..., int]
NAMES = {"d": "float64", "f": "float32", "l": "int64", "q": "int64", "?": "boolean"}
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
        kinds = tuple((a.dtype.char, a.ndim) for a in arrays)
        if kinds not in self._made:
            self._made[kinds] = self._native(kinds)
        run = self._made[kinds]
        if run is None or not all(a.flags.c_contiguous for a in arrays):
            return int(self._function()(*arrays) or 0)
        given: list[int] = []
        for a in arrays:
            given += (a.__array_interface__["data"][0], *a.shape)
        return int(run(*given) or 0)

    def _function(self) -> Callable[..., Any]:
        return cast(
            Callable[..., Any],
            getattr(importlib.import_module(self.module), self.name),
        )

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
            return self._as_python(_linked(symbol, code), kinds)
        except Exception:
            # numba's insides, other than they were: it calls what it compiled by itself.
            return None

    def _place(self, kinds: Sequence[Kind]) -> tuple[Path, bytes]:
        """The file, and for what source, versions and processor it is."""
        import llvmlite.binding as llvm

        source, numba = find_spec(self.module), find_spec("numba")
        assert source is not None and source.origin is not None
        assert numba is not None and numba.origin is not None
        version = (
            numba.origin,
            os.stat(numba.origin).st_mtime_ns,
            llvm.llvm_version_info,
        )
        processor = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
        own = {k: v for k, v in os.environ.items() if k.startswith("NUMBA_")}
        told = (stamp(source.origin), version, processor, sorted(own.items()))
        called = self.module, self.name, source.origin, tuple(kinds)
        said = hashlib.sha256(repr((called, told)).encode()).hexdigest()
        where = hashlib.sha256(repr(called).encode()).hexdigest()[:16]
        return folder() / f"{self.name}_{where}.code", said.encode()

    def _compiled(self, kinds: Sequence[Kind]) -> tuple[str, bytes]:
        """A C function of addresses and sizes that calls the compiled one: its symbol, and the
        object file."""
        numba: Any = importlib.import_module("numba")
        types = numba.types
        arguments, arrays, signature = list[str](), list[str](), list[Any]()
        for k, (char, axes) in enumerate(kinds):
            sizes = [f"n_{k}_{d}" for d in range(axes)]
            arguments += [f"a_{k}", *sizes]
            arrays.append(f"carray(a_{k}, ({''.join(f'{n}, ' for n in sizes)}))")
            signature.append(types.CPointer(getattr(types, NAMES[char])))
            signature += [types.int64] * axes
        call = f"function({', '.join(arrays)})"
        line = f"return {call}" if self.returns else call
        source = f"def called({', '.join(arguments)}):\n    {line}\n"
        space: dict[str, object] = {
            "carray": numba.carray,
            "function": self._function(),
        }
        returned = types.int64 if self.returns else types.void
        made = numba.cfunc(returned(*signature))(defined(source, "called", space))
        _, _, (code, _) = made._library.serialize_using_object_code()
        return made._wrapper_name, code

    def _as_python(self, address: int, kinds: Sequence[Kind]) -> Native:
        given: list[Any] = []
        for _, axes in kinds:
            given += [ctypes.c_void_p, *[ctypes.c_int64] * axes]
        returned = ctypes.c_int64 if self.returns else None
        return cast(Native, ctypes.CFUNCTYPE(returned, *given)(address))


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
