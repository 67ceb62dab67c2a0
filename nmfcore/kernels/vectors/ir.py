"""What the blocks of code in vectors of LLVM (``gathered``, ``lines``, ``products`` and ``sweeps``) are made of.

Loops left to LLVM's vectoriser run at half of the speed of these blocks, or less. They are written in vectors of a
fixed number of lanes, which LLVM cuts to what the processor has; only how many sums are kept at a time is chosen by the
number and size of its registers. :mod:`nmfcore.kernels.vectors.plain` says in NumPy what each block does, and is what
runs where Numba is told not to compile.

A kernel that uses them keeps their code in its cache on disk, which an edit of any file in this folder makes stale.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils as _cgutils
from numba.core import config as _config
from numba.core import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

cgutils: Any = _cgutils  # without types
config: Any = _config
WORD = ir.IntType(32)


def _features() -> Any:
    try:
        return llvmlite.binding.get_host_cpu_features()
    except RuntimeError:
        return {}


# The plain twins are of the larger size.
REGISTERS, BYTES = (32, 64) if _features().get("avx512f") or config.DISABLE_JIT else (16, 32)
SUMS = REGISTERS // 2  # of numbers that are gathered; the rest is for what they are made of


def compiled(generate: Any, plain: Any, mixed: bool = False) -> Any:
    """The block that ``generate`` makes, or its plain twin. Unless it is ``mixed``, its arrays are of one precision."""

    @wraps(generate)
    def of_one_dtype(typing: Any, *arguments: Any) -> Any:
        kinds = {a.dtype for a in arguments if isinstance(getattr(a, "dtype", None), types.Float)}
        if len(kinds) > 1 and not mixed:  # memory of one would be read as the other
            raise TypingError(f"{generate.__name__}: arrays of {' and '.join(sorted(map(str, kinds)))}")
        return generate(typing, *arguments)

    return plain if config.DISABLE_JIT else intrinsic(of_one_dtype)


def _element(context: Any, builder: Any, kind: Any, value: Any, indices: list[Any]) -> Any:
    """Where an element of a C-contiguous array is."""
    array = context.make_array(kind)(context, builder, value)
    place = indices[0]
    for size, index in zip(cgutils.unpack_tuple(builder, array.shape)[1:], indices[1:], strict=True):
        place = builder.add(builder.mul(place, size), index)
    return builder.gep(array.data, [place])


def _load(builder: Any, pointer: Any, vector: Any, align: int) -> Any:
    loaded = builder.load(builder.bitcast(pointer, vector.as_pointer()))
    loaded.align = align
    return loaded


def _store(builder: Any, value: Any, pointer: Any, align: int) -> None:
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=align)


def _shuffle(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes))


def _exchanged(builder: Any, a: Any, b: Any, distance: int) -> tuple[Any, Any]:
    """Two vectors, the lanes of ``a`` whose number has the bit ``distance`` exchanged for those of ``b`` without."""
    n = a.type.count
    low = [k if not k & distance else n + (k ^ distance) for k in range(n)]
    high = [k | distance if not k & distance else n + k for k in range(n)]
    return _shuffle(builder, a, b, low), _shuffle(builder, a, b, high)
