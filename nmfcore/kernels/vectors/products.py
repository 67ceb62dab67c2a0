"""Blocks of a product with a dense matrix, in LLVM's own vectors: sums in registers, one factor broadcast.

A vector is as wide as the registers of this processor. See :mod:`nmfcore.kernels.vectors.ir`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types

from nmfcore.kernels.vectors import plain as _plain
from nmfcore.kernels.vectors.gathered import _at, _fma, _row
from nmfcore.kernels.vectors.ir import BYTES, REGISTERS, SUMS, WORD, _load, _store, cgutils, compiled

LINE = BYTES  # bytes of a vector
CACHE_LINE = 64  # bytes
AHEAD = 8  # entries until a row of B that is asked for is needed
ENTRIES = 64  # of a row, that are asked for at once
HEIGHT = 8 if REGISTERS == 32 else 6  # rows of X, or components, at a time; with two vectors of each


def _lanes(kind: Any) -> int:
    return LINE * 8 // int(kind.dtype.bitwidth)


def _splat(builder: Any, number: Any, lanes: int) -> Any:
    one = builder.insert_element(ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined), number, WORD(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(WORD, lanes), [0] * lanes))


def _mask(builder: Any, count: Any, lanes: int) -> Any:
    """The first ``count`` lanes."""
    numbers = ir.Constant(ir.VectorType(count.type, lanes), list(range(lanes)))
    return builder.icmp_signed("<", numbers, _splat(builder, count, lanes))


def _masked(builder: Any, kind: str, pointer: Any, vector: Any, *arguments: Any) -> Any:
    """Call ``llvm.masked.load`` or ``store``."""
    pointer = builder.bitcast(pointer, vector.as_pointer())
    bits = 64 if isinstance(vector.element, ir.DoubleType) else 32
    name = f"llvm.masked.{kind}.v{vector.count}f{bits}.p0"
    before = [arguments[0]] if kind == "store" else []
    after = [WORD(bits // 8), *arguments[len(before) :]]
    given = [*before, pointer, *after]
    result = ir.VoidType() if kind == "store" else vector
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, [a.type for a in given]), name)
    return builder.call(function, given)


def _load_some(builder: Any, pointer: Any, vector: Any, mask: Any, align: int) -> Any:
    """A vector, with 0 in lanes that are not of the mask, if there is one, whose memory is not touched."""
    if mask is None:
        return _load(builder, pointer, vector, align)
    return _masked(builder, "load", pointer, vector, mask, ir.Constant(vector, [0.0] * vector.count))


def _store_some(builder: Any, value: Any, pointer: Any, mask: Any, align: int) -> None:
    if mask is None:
        _store(builder, value, pointer, align)
    else:
        _masked(builder, "store", pointer, value.type, value, mask)


def _least(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.icmp_signed("<", a, b), a, b)


def _rows_panel(vectors: int) -> Any:
    def rows_panel(
        typing: Any, X: Any, i: Any, end: Any, B: Any, t: Any, first: Any, last: Any, out: Any, o: Any, add: Any
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            X, i, end, B, t, first, last, out, o, add = zip(signature.args, values, strict=True)
            i, end, t, first, last, o, add = (number[1] for number in (i, end, t, first, last, o, add))
            number, word, lanes = context.get_data_type(X[0].dtype), t.type, _lanes(X[0])
            vector, align = ir.VectorType(number, lanes), X[0].dtype.bitwidth // 8
            r = cgutils.unpack_tuple(builder, context.make_array(B[0])(context, builder, B[1]).shape)[1]
            starts = [builder.add(t, word(v * lanes)) for v in range(vectors)]
            mask = _mask(builder, builder.sub(r, starts[-1]), lanes)
            lines = [_least(builder, word(k), builder.sub(builder.sub(end, i), word(1))) for k in range(HEIGHT)]
            rows = [_at(context, builder, X, builder.add(i, line), word(0)) for line in lines]
            places = [[_at(context, builder, out, builder.add(o, line), start) for start in starts] for line in lines]
            zero = ir.Constant(vector, [0.0] * lanes)
            sums = [[cgutils.alloca_once(builder, vector) for _ in starts] for _ in lines]

            def panel(masks: list[Any]) -> None:
                for place in (place for line in sums for place in line):
                    builder.store(zero, place)
                with cgutils.for_range_slice(builder, first, last, word(1), word) as (j, _):
                    pointers = [_at(context, builder, B, j, start) for start in starts]
                    b = [_load_some(builder, p, vector, m, align) for p, m in zip(pointers, masks, strict=True)]
                    for row, line in zip(rows, sums, strict=True):
                        x = _splat(builder, builder.load(builder.gep(row, [j])), lanes)
                        for place, factor in zip(line, b, strict=True):
                            builder.store(_fma(builder, x, factor, builder.load(place)), place)
                going_on = builder.icmp_signed("!=", add, word(0))
                ends = []
                for to, line in zip(places, sums, strict=True):  # all are read before the first is written
                    for pointer, place, m in zip(to, line, masks, strict=True):
                        old = builder.select(going_on, _load_some(builder, pointer, vector, m, align), zero)
                        ends.append((builder.fadd(old, builder.load(place)), pointer, m))
                for total, pointer, m in ends:
                    _store_some(builder, total, pointer, m, align)

            whole = builder.icmp_signed(">=", builder.sub(r, t), word(vectors * lanes))
            with builder.if_else(whole) as (then, otherwise):
                with then:
                    panel([None] * vectors)
                with otherwise:
                    panel([*[None] * (vectors - 1), mask])
            return context.get_dummy_value()

        p = types.intp
        return types.void(X, p, p, B, p, p, p, out, p, p), generate

    return rows_panel


def _columns_panel(height: int) -> Any:
    def columns_panel(
        typing: Any, X: Any, i: Any, j: Any, count: Any, A: Any, first: Any, t: Any, sums: Any, c: Any
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            X, i, j, count, A, first, t, sums, c = zip(signature.args, values, strict=True)
            i, j, count, first, t, c = (number[1] for number in (i, j, count, first, t, c))
            number, word, lanes = context.get_data_type(A[0].dtype), t.type, _lanes(A[0])
            vector, align = ir.VectorType(number, lanes), A[0].dtype.bitwidth // 8
            r = cgutils.unpack_tuple(builder, context.make_array(A[0])(context, builder, A[1]).shape)[1]
            n = cgutils.unpack_tuple(builder, context.make_array(X[0])(context, builder, X[1]).shape)[1]
            offsets = [word(v * lanes) for v in range(2)]
            masks = [_mask(builder, builder.sub(n, builder.add(j, offset)), lanes) for offset in offsets]
            zero = ir.Constant(vector, [0.0] * lanes)
            parts = [[cgutils.alloca_once(builder, vector) for _ in offsets] for _ in range(height)]

            def panel(masks: list[Any], high: bool) -> None:
                lines = [word(k) for k in range(height)]
                if not high:
                    lines = [_least(builder, line, builder.sub(builder.sub(r, t), word(1))) for line in lines]
                for place in (place for line in parts for place in line):
                    builder.store(zero, place)
                with cgutils.for_range_slice(builder, word(0), count, word(1), word) as (q, _):
                    start = _at(context, builder, X, builder.add(i, q), j)
                    pointers = [builder.gep(start, [offset]) for offset in offsets]
                    x = [_load_some(builder, p, vector, m, align) for p, m in zip(pointers, masks, strict=True)]
                    row = _at(context, builder, A, builder.add(first, q), t)
                    for line, places in zip(lines, parts, strict=True):
                        a = _splat(builder, builder.load(builder.gep(row, [line])), lanes)
                        for place, factor in zip(places, x, strict=True):
                            builder.store(_fma(builder, a, factor, builder.load(place)), place)
                ends = []
                for line, places in zip(lines, parts, strict=True):  # all are read before the first is written
                    for offset, place in zip(offsets, places, strict=True):
                        to = _at(context, builder, sums, builder.add(t, line), builder.add(c, offset))
                        ends.append((to, builder.fadd(_load(builder, to, vector, align), builder.load(place))))
                for to, total in ends:
                    _store(builder, total, to, align)

            # Masks would take up registers, and so would the numbers of lines.
            high = builder.icmp_signed(">=", builder.sub(r, t), word(height))
            whole = builder.icmp_signed(">=", builder.sub(n, j), word(2 * lanes))
            with builder.if_else(whole) as (then, otherwise):
                with then, builder.if_else(high) as (all_there, some_there):
                    with all_there:
                        panel([None, None], high=True)
                    with some_there:
                        panel([None, None], high=False)
                with otherwise:
                    panel(masks, high=False)
            return context.get_dummy_value()

        w = types.intp
        return types.void(X, w, w, w, A, w, w, sums, w), generate

    return columns_panel


def _ask(builder: Any, pointer: Any) -> None:
    """Have a cache line brought near; where there is no such memory, nothing happens."""
    given = [builder.bitcast(pointer, ir.IntType(8).as_pointer()), WORD(0), WORD(3), WORD(1)]
    kind = ir.FunctionType(ir.VoidType(), [a.type for a in given])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0"), given)


def _prefetch(typing: Any, X: Any, i: Any, j: Any) -> Any:
    """Ask for the cache line of ``X[i, j]``."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        X, i, j = zip(signature.args, values, strict=True)
        _ask(builder, _at(context, builder, X, i[1], j[1]))
        return context.get_dummy_value()

    return types.void(X, types.intp, types.intp), generate


def _prefetch_entries(typing: Any, X: Any, first: Any) -> Any:
    """Ask for ``X[first : first + 64]``."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        X, first = zip(signature.args, values, strict=True)
        step = 8 * CACHE_LINE // int(X[0].dtype.bitwidth)
        for k in range(0, ENTRIES, step):
            _ask(builder, _at(context, builder, X, builder.add(first[1], first[1].type(k))))
        return context.get_dummy_value()

    return types.void(X, types.intp), generate


def _add_gathered(typing: Any, x: Any, indices: Any, first: Any, last: Any, B: Any, out: Any, i: Any) -> Any:
    """``out[i] += Σ_p x[p] B[indices[p]]`` for ``first <= p < last``.

    A row that is needed soon is asked for already; the processor itself looks ahead only until a branch misleads it,
    as the end of every row does.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        x, indices, first, last, B, out, i = zip(signature.args, values, strict=True)
        first, last, i = (number[1] for number in (first, last, i))
        number, word, lanes = context.get_data_type(B[0].dtype), i.type, _lanes(B[0])
        vector, zero = ir.VectorType(number, lanes), ir.Constant(ir.VectorType(number, lanes), [0.0] * lanes)
        r = cgutils.unpack_tuple(builder, context.make_array(B[0])(context, builder, B[1]).shape)[1]
        n = cgutils.unpack_tuple(builder, context.make_array(indices[0])(context, builder, indices[1]).shape)[0]
        final, align = builder.sub(n, word(1)), B[0].dtype.bitwidth // 8

        def panel(t: Any, vectors: int) -> None:
            together = min(4, 2 ** ((SUMS // vectors).bit_length() - 1))
            starts = [builder.add(t, word(v * lanes)) for v in range(vectors)]
            mask = _mask(builder, builder.sub(r, starts[-1]), lanes)
            sums = [[cgutils.alloca_once(builder, vector) for _ in range(vectors)] for _ in range(together)]

            def load(pointer: Any, v: int) -> Any:
                whole = v < vectors - 1
                return _load_some(builder, pointer, vector, None if whole else mask, align)

            for place in (place for line in sums for place in line):
                builder.store(zero, place)

            def one(p: Any, line: list[Any]) -> None:
                factor = _splat(builder, builder.load(_at(context, builder, x, p)), lanes)
                row = _row(context, builder, B, indices, p)
                for v, place in enumerate(line):
                    b = load(builder.gep(row, [starts[v]]), v)
                    builder.store(_fma(builder, factor, b, builder.load(place)), place)
                row = _row(context, builder, B, indices, _least(builder, builder.add(p, word(AHEAD)), final))
                for start in starts:
                    _ask(builder, builder.gep(row, [start]))

            whole = builder.add(first, builder.and_(builder.sub(last, first), word(-together)))
            with cgutils.for_range_slice(builder, first, whole, word(together), word) as (p, _):
                for k, line in enumerate(sums):
                    one(builder.add(p, word(k)), line)
            with cgutils.for_range_slice(builder, whole, last, word(1), word) as (p, _):
                one(p, sums[0])
            for v, start in enumerate(starts):
                parts = [builder.load(line[v]) for line in sums]
                while len(parts) > 1:
                    parts = [builder.fadd(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
                to = _at(context, builder, out, i, start)
                total = builder.fadd(load(to, v), parts[0])
                if v < vectors - 1:
                    _store(builder, total, to, align)
                else:
                    _masked(builder, "store", to, vector, total, mask)

        most = 4
        with cgutils.for_range_slice(builder, word(0), r, word(most * lanes), word) as (t, _):
            left = builder.sub(r, t)
            for vectors in range(1, most + 1):
                here = builder.icmp_signed(">", left, word((vectors - 1) * lanes))
                if vectors < most:
                    here = builder.and_(here, builder.icmp_signed("<=", left, word(vectors * lanes)))
                with builder.if_then(here):
                    panel(t, vectors)
        return context.get_dummy_value()

    return types.void(x, indices, types.intp, types.intp, B, out, types.intp), generate


prefetch: Any = compiled(_prefetch, _plain.prefetch)
prefetch_entries: Any = compiled(_prefetch_entries, _plain.prefetch_entries)
add_gathered: Any = compiled(_add_gathered, _plain.add_gathered)
rows_panel: Any = compiled(_rows_panel(2), _plain.rows_panel)
rows_panel_narrow: Any = compiled(_rows_panel(1), _plain.rows_panel)
columns_panel: Any = compiled(_columns_panel(HEIGHT), _plain.columns_panel)
columns_panel_low: Any = compiled(_columns_panel(HEIGHT // 2), _plain.columns_panel)
