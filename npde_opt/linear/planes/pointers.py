"""Arrays from addresses in compiled loops: carray(single(address), shape)."""

from __future__ import annotations

from typing import Any

import numba
from numba.extending import intrinsic

carray: Any = numba.carray  # type: ignore[attr-defined]
types: Any = numba.types


def _pointer(number: Any) -> Any:
    """From an address to a pointer to such numbers."""

    def typed(context: Any, address: Any) -> tuple[Any, Any]:
        def generated(target: Any, builder: Any, signature: Any, given: Any) -> Any:
            kind = target.get_value_type(signature.return_type)
            return builder.inttoptr(given[0], kind)

        return types.CPointer(number)(types.int64), generated

    return intrinsic(typed)


whole, single = (_pointer(t) for t in (types.int64, types.float32))


def _like(context: Any, array: Any, address: Any) -> tuple[Any, Any]:
    def generated(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        kind = target.get_value_type(signature.return_type)
        return builder.inttoptr(given[1], kind)

    return types.CPointer(array.dtype)(array, types.int64), generated


like: Any = intrinsic(_like)
"""From an array and an address to a pointer to numbers of the array's type."""
