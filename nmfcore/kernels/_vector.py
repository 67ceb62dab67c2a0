"""Two blocks of code in LLVM's own vectors, where loops left to its vectoriser run at half of the speed.

Both are written in vectors of a fixed number of lanes, which LLVM cuts to what the processor has; nothing here is of
one machine. A kernel that uses them keeps their code in its cache on disk: after an edit here, touch the files that
import it, or set ``NUMBA_CACHE_DIR``.

* :func:`transpose_block`: eight rows of a matrix, gathered, and eight of their columns, transposed into a tile. Loops
  move one number at a time; this loads eight, and exchanges them between vectors in three rounds of a butterfly.
* :func:`dots_block`: the sixteen inner products of four rows of a tile with four others. A loop's sums are each added
  up across their lanes by themselves, and what is left of a row after whole vectors is done number by number; here
  the tile is padded, and sixteen vectors of partial sums are added up together.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils as _cgutils
from numba.core import types
from numba.extending import intrinsic

cgutils: Any = _cgutils  # without types
LANES = 16  # a tile has a multiple of so many columns, and zeros where there are no entries


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


def _transpose_block(typing: Any, B: Any, rows: Any, first: Any, t: Any, T: Any, q: Any) -> Any:
    """``T[t + k, q + p] = B[rows[first + p], t + k]`` for ``k, p < 8``."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind, rows_kind, T_kind = signature.args[0], signature.args[1], signature.args[4]
        B, rows, first, t, T, q = values
        number = context.get_data_type(kind.dtype)
        align, vector = kind.dtype.bitwidth // 8, ir.VectorType(number, 8)
        word = first.type
        lines = []
        for p in range(8):
            pointer = _element(context, builder, rows_kind, rows, [builder.add(first, word(p))])
            index = builder.load(pointer)
            if index.type.width < word.width:
                index = builder.zext(index, word)
            lines.append(_load(builder, _element(context, builder, kind, B, [index, t]), vector, align))
        for distance in (1, 2, 4):
            for i in range(8):
                if not i & distance:
                    lines[i], lines[i | distance] = _exchanged(builder, lines[i], lines[i | distance], distance)
        for k in range(8):
            _store(builder, lines[k], _element(context, builder, T_kind, T, [builder.add(t, word(k)), q]), align)
        return context.get_dummy_value()

    return types.void(B, rows, types.intp, types.intp, T, types.intp), generate


def _dots_block(typing: Any, T: Any, s: Any, t: Any, n: Any, G: Any) -> Any:
    """``G[s + k, t + l] += Σ_q T[s + k, q] T[t + l, q]`` for ``k, l < 4``, ``q < n`` a multiple of ``LANES``."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind, G_kind = signature.args[0], signature.args[4]
        T, s, t, n, G = values
        number = context.get_data_type(kind.dtype)
        align = kind.dtype.bitwidth // 8
        lanes = 64 // align  # of the widest vector there is
        vector, word = ir.VectorType(number, lanes), s.type
        zero = ir.Constant(vector, [0.0] * lanes)
        sums = [cgutils.alloca_once_value(builder, zero) for _ in range(16)]
        starts = [
            _element(context, builder, kind, T, [builder.add(line, word(k)), word(0)])
            for line in (s, t)
            for k in range(4)
        ]
        with cgutils.for_range_slice(builder, word(0), n, word(lanes), word) as (q, _):
            lines = [_load(builder, builder.gep(start, [q]), vector, align) for start in starts]
            for k in range(4):
                for m in range(4):
                    place = sums[4 * k + m]
                    product = builder.fmul(lines[k], lines[4 + m], flags=("contract",))
                    builder.store(builder.fadd(builder.load(place), product, flags=("contract",)), place)
        parts = [builder.load(place) for place in sums]
        distance = lanes // 2
        while len(parts) > 16 // lanes:  # two vectors become one, until every lane is a sum of its own
            half = len(parts) // 2
            both = [_exchanged(builder, parts[i], parts[i + half], distance) for i in range(half)]
            parts = [builder.fadd(a, b) for a, b in both]
            distance //= 2
        # Lane by lane, from the order in which the vectors were folded.
        width, folded = len(parts), 16 // len(parts)
        for i in range(16):
            fold, lane, size, step = i // width, 0, folded // 2, lanes // 2
            while size:
                lane += step if fold & size else 0
                size, step = size // 2, step // 2
            sum_ = builder.extract_element(parts[i % width], ir.Constant(ir.IntType(32), lane))
            place = _element(context, builder, G_kind, G, [builder.add(s, word(i // 4)), builder.add(t, word(i % 4))])
            builder.store(builder.fadd(builder.load(place), sum_), place)
        return context.get_dummy_value()

    return types.void(T, types.intp, types.intp, types.intp, G), generate


transpose_block: Any = intrinsic(_transpose_block)
dots_block: Any = intrinsic(_dots_block)
