"""Blocks of code in LLVM's own vectors, where loops left to its vectoriser run at half of the speed.

They are written in vectors of a fixed number of lanes, which LLVM cuts to what the processor has; nothing here is of
one machine. A kernel that uses them keeps their code in its cache on disk: after an edit here, touch the files that
import it, or set ``NUMBA_CACHE_DIR``.

* :func:`transpose_block`: eight rows of a matrix, gathered, and eight of their columns, transposed into a tile. Loops
  move one number at a time; this loads eight, and exchanges them between vectors in three rounds of a butterfly.
* :func:`dots_block`: the sixteen inner products of four rows of a tile with four others. A loop's sums are each added
  up across their lanes by themselves, and what is left of a row after whole vectors is done number by number; here the
  tile is padded, and sixteen vectors of partial sums are added up together.
* :func:`copy_lines` and what works with the lines copied: rows of a matrix, gathered but not transposed. Vectors run
  along a line, which is padded with zeros, and not along the entries of a row of X, which may be two or three.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils as _cgutils
from numba.core import types
from numba.extending import intrinsic

cgutils: Any = _cgutils  # without types
EIGHT = 8  # numbers in a vector of those below that go along lines
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
        T, s, t, n, G = ((kind, value) for kind, value in zip(signature.args, values, strict=True))
        _sum_products(context, builder, T, s[1], t[1], n[1], G)
        return context.get_dummy_value()

    return types.void(T, types.intp, types.intp, types.intp, G), generate


def _sum_products(context: Any, builder: Any, T: Any, s: Any, t: Any, n: Any, G: Any) -> None:
    """Code for the sixteen sums; arrays come with their types."""
    number, word = context.get_data_type(T[0].dtype), s.type
    align = T[0].dtype.bitwidth // 8
    vector = ir.VectorType(number, 64 // align)  # the widest there is
    sums = [cgutils.alloca_once_value(builder, ir.Constant(vector, [0.0] * vector.count)) for _ in range(16)]
    starts = [
        _element(context, builder, T[0], T[1], [builder.add(line, word(k)), word(0)])
        for line in (s, t)
        for k in range(4)
    ]
    with cgutils.for_range_slice(builder, word(0), n, word(vector.count), word) as (q, _):
        lines = [_load(builder, builder.gep(start, [q]), vector, align) for start in starts]
        for k in range(16):
            product = builder.fmul(lines[k // 4], lines[4 + k % 4], flags=("contract",))
            builder.store(builder.fadd(builder.load(sums[k]), product, flags=("contract",)), sums[k])
    totals = _added_up(builder, [builder.load(place) for place in sums])
    for k in range(16):
        place = _element(context, builder, G[0], G[1], [builder.add(s, word(k // 4)), builder.add(t, word(k % 4))])
        builder.store(builder.fadd(builder.load(place), totals[k]), place)


def _added_up(builder: Any, parts: list[Any]) -> list[Any]:
    """The sum of the lanes of each of sixteen vectors: two vectors become one, until every lane is a sum of its own."""
    lanes = parts[0].type.count
    distance = lanes // 2
    while len(parts) > 16 // lanes:
        half = len(parts) // 2
        pairs = [_exchanged(builder, parts[i], parts[i + half], distance) for i in range(half)]
        parts = [builder.fadd(a, b) for a, b in pairs]
        distance //= 2
    width, folded = len(parts), 16 // len(parts)
    totals = []
    for i in range(16):  # which lane it is follows from the order in which the vectors were folded
        fold, lane, size, step = i // width, 0, folded // 2, lanes // 2
        while size:
            lane += step if fold & size else 0
            size, step = size // 2, step // 2
        totals.append(builder.extract_element(parts[i % width], ir.Constant(ir.IntType(32), lane)))
    return totals


# ---- lines: rows of a matrix, gathered, one after the other, each padded with zeros to a multiple of EIGHT --------


def _rounds(builder: Any, start: Any, stop: Any, step: int) -> Any:
    return cgutils.for_range_slice(builder, start, stop, start.type(step), start.type)


def _zeros(builder: Any, vector: Any, count: int) -> list[Any]:
    return [cgutils.alloca_once_value(builder, ir.Constant(vector, [0.0] * vector.count)) for _ in range(count)]


def _add(builder: Any, place: Any, a: Any, b: Any) -> None:
    """``place += a b``, lane by lane."""
    product = builder.fmul(a, b, flags=("contract",))
    builder.store(builder.fadd(builder.load(place), product, flags=("contract",)), place)


def _spread(builder: Any, number: Any, vector: Any) -> Any:
    """A number in every lane."""
    single = builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    return _shuffle(builder, single, ir.Constant(vector, ir.Undefined), [0] * vector.count)


def _width(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    return cgutils.unpack_tuple(builder, context.make_array(kind)(context, builder, value).shape)[1]


def _copy_lines(typing: Any, B: Any, rows: Any, first: Any, n: Any, L: Any) -> Any:
    """``L[q, t] = B[rows[first + q], t]`` for ``q < n``, as far as ``B`` goes."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind, rows_kind, L_kind = signature.args[0], signature.args[1], signature.args[4]
        B, rows, first, n, L = values
        number, word = context.get_data_type(kind.dtype), n.type
        align = kind.dtype.bitwidth // 8
        r = _width(context, builder, kind, B)

        def move(source: Any, target: Any, t: Any, size: int) -> None:
            vector = ir.VectorType(number, size)
            _store(builder, _load(builder, builder.gep(source, [t]), vector, align), builder.gep(target, [t]), align)

        with _rounds(builder, word(0), n, 1) as (q, _):
            index = builder.load(_element(context, builder, rows_kind, rows, [builder.add(first, q)]))
            if index.type.width < word.width:
                index = builder.zext(index, word)
            source = _element(context, builder, kind, B, [index, word(0)])
            target = _element(context, builder, L_kind, L, [q, word(0)])
            done = word(0)
            for size in (8, 4, 1):  # what is left is as many again up to the end, some of them twice
                with _rounds(builder, done, builder.sub(r, word(size - 1)), size) as (t, _):
                    move(source, target, t, size)
                if size > 1:
                    enough = builder.icmp_signed(">=", r, word(size))
                    with builder.if_then(enough):
                        move(source, target, builder.sub(r, word(size)), size)
                    done = builder.select(enough, r, done)
        return context.get_dummy_value()

    return types.void(B, rows, types.intp, types.intp, L), generate


def _dot_lines(typing: Any, a: Any, L: Any, n: Any, y: Any) -> Any:
    """``y[q] = Σ_t a[t] L[q, t]`` for ``q < n``, a multiple of ``EIGHT``."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        a_kind, kind, _, y_kind = signature.args
        a, L, n, y = values
        word, align = n.type, kind.dtype.bitwidth // 8
        vector = ir.VectorType(context.get_data_type(kind.dtype), EIGHT)
        width = _width(context, builder, kind, L)
        factor = _element(context, builder, a_kind, a, [word(0)])
        with _rounds(builder, word(0), n, EIGHT) as (q, _):
            lines = [_element(context, builder, kind, L, [builder.add(q, word(k)), word(0)]) for k in range(EIGHT)]
            sums = _zeros(builder, vector, EIGHT)
            for place in sums:
                builder.store(ir.Constant(vector, [0.0] * EIGHT), place)
            with _rounds(builder, word(0), width, EIGHT) as (t, _):
                by = _load(builder, builder.gep(factor, [t]), vector, align)
                for line, place in zip(lines, sums, strict=True):
                    _add(builder, place, _load(builder, builder.gep(line, [t]), vector, align), by)
            parts = [builder.load(place) for place in sums]
            while len(parts) > 1:  # the lane is the number of the line
                half = len(parts) // 2
                pairs = [_exchanged(builder, parts[k], parts[k + half], half) for k in range(half)]
                parts = [builder.fadd(low, high) for low, high in pairs]
            _store(builder, parts[0], _element(context, builder, y_kind, y, [q]), align)
        return context.get_dummy_value()

    return types.void(a, L, types.intp, y), generate


def _add_lines(typing: Any, u: Any, L: Any, n: Any, p: Any) -> Any:
    """``p[t] += Σ_q u[q] L[q, t]`` for ``q < n``, a multiple of ``EIGHT``; ``p`` is float64."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        u_kind, kind, _, p_kind = signature.args
        u, L, n, p = values
        number, word, align = context.get_data_type(kind.dtype), n.type, kind.dtype.bitwidth // 8
        vector, wide = ir.VectorType(number, EIGHT), ir.VectorType(ir.DoubleType(), EIGHT)
        with _rounds(builder, word(0), _width(context, builder, kind, L), EIGHT) as (t, _):
            sums = _zeros(builder, vector, EIGHT)
            for place in sums:
                builder.store(ir.Constant(vector, [0.0] * EIGHT), place)
            with _rounds(builder, word(0), n, EIGHT) as (q, _):
                for k, place in enumerate(sums):
                    line = builder.add(q, word(k))
                    by = builder.load(_element(context, builder, u_kind, u, [line]))
                    part = _load(builder, _element(context, builder, kind, L, [line, t]), vector, align)
                    _add(builder, place, part, _spread(builder, by, vector))
            parts = [builder.load(place) for place in sums]
            while len(parts) > 1:
                parts = [builder.fadd(parts[k], parts[k + 1]) for k in range(0, len(parts), 2)]
            total = parts[0] if number == ir.DoubleType() else builder.fpext(parts[0], wide)
            place = _element(context, builder, p_kind, p, [t])
            _store(builder, builder.fadd(_load(builder, place, wide, 8), total), place, 8)
        return context.get_dummy_value()

    return types.void(u, L, types.intp, p), generate


def _add_outer(typing: Any, w: Any, L: Any, n: Any, r: Any, G: Any) -> Any:
    """``G[s, t] += Σ_q w[q] L[q, s] L[q, t]`` for ``t <= s < r`` (and some more), ``q < n``, a multiple of 2."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        w_kind, kind, _, _, G_kind = signature.args
        w, L, n, r, G = values
        word, align = n.type, kind.dtype.bitwidth // 8
        vector = ir.VectorType(context.get_data_type(kind.dtype), EIGHT)
        with (
            _rounds(builder, word(0), r, 4) as (s, _),
            _rounds(builder, word(0), builder.add(s, word(1)), EIGHT) as (t, _),
        ):
            sums = _zeros(builder, vector, 8)
            for place in sums:
                builder.store(ir.Constant(vector, [0.0] * EIGHT), place)
            with _rounds(builder, word(0), n, 2) as (q, _):
                for e in range(2):
                    line = builder.add(q, word(e))
                    by = builder.load(_element(context, builder, w_kind, w, [line]))
                    part = _load(builder, _element(context, builder, kind, L, [line, t]), vector, align)
                    part = builder.fmul(part, _spread(builder, by, vector))
                    four = _element(context, builder, kind, L, [line, s])
                    for k in range(4):
                        other = _spread(builder, builder.load(builder.gep(four, [word(k)])), vector)
                        _add(builder, sums[4 * e + k], part, other)
            for k in range(4):
                place = _element(context, builder, G_kind, G, [builder.add(s, word(k)), t])
                total = builder.fadd(builder.load(sums[k]), builder.load(sums[4 + k]))
                _store(builder, builder.fadd(_load(builder, place, vector, align), total), place, align)
        return context.get_dummy_value()

    return types.void(w, L, types.intp, types.intp, G), generate


transpose_block: Any = intrinsic(_transpose_block)
copy_lines: Any = intrinsic(_copy_lines)
dot_lines: Any = intrinsic(_dot_lines)
add_lines: Any = intrinsic(_add_lines)
add_outer: Any = intrinsic(_add_outer)
dots_block: Any = intrinsic(_dots_block)
