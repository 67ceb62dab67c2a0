"""Lines: rows of a matrix, gathered, one after the other, each padded with zeros to a multiple of eight.

Vectors run along a line, and not along the entries of a row of X, which may be two or three.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types

from nmfcore.kernels.vectors import plain as _plain
from nmfcore.kernels.vectors.ir import BYTES, SUMS, _element, _exchanged, _load, _shuffle, _store, cgutils, compiled

EIGHT = 8  # numbers in a vector


def _at_once(kind: Any) -> int:
    """How many vectors of sums the registers hold: eight, or four."""
    return int(max(4, min(EIGHT, SUMS * BYTES // (EIGHT * kind.dtype.bitwidth // 8))))


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
        word, align, at_once = n.type, kind.dtype.bitwidth // 8, _at_once(kind)
        vector = ir.VectorType(context.get_data_type(kind.dtype), EIGHT)
        width = _width(context, builder, kind, L)
        factor = _element(context, builder, a_kind, a, [word(0)])
        with _rounds(builder, word(0), n, EIGHT) as (q, _):
            lines = [_element(context, builder, kind, L, [builder.add(q, word(k)), word(0)]) for k in range(EIGHT)]
            parts = list[Any]()
            for first in range(0, EIGHT, at_once):
                sums = _zeros(builder, vector, at_once)
                for place in sums:
                    builder.store(ir.Constant(vector, [0.0] * EIGHT), place)
                with _rounds(builder, word(0), width, EIGHT) as (t, _):
                    by = _load(builder, builder.gep(factor, [t]), vector, align)
                    for line, place in zip(lines[first:], sums, strict=False):
                        _add(builder, place, _load(builder, builder.gep(line, [t]), vector, align), by)
                parts += [builder.load(place) for place in sums]
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
            sums = _zeros(builder, vector, _at_once(kind))
            for place in sums:
                builder.store(ir.Constant(vector, [0.0] * EIGHT), place)
            with _rounds(builder, word(0), n, len(sums)) as (q, _):
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


def _outer_lines(typing: Any, w: Any, L: Any, n: Any, r: Any, G: Any) -> Any:
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
            sums = _zeros(builder, vector, _at_once(kind))
            together = len(sums) // 4
            for place in sums:
                builder.store(ir.Constant(vector, [0.0] * EIGHT), place)
            with _rounds(builder, word(0), n, together) as (q, _):
                for e in range(together):
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
                total = builder.load(sums[k])
                for other in sums[4 + k :: 4]:
                    total = builder.fadd(total, builder.load(other))
                _store(builder, builder.fadd(_load(builder, place, vector, align), total), place, align)
        return context.get_dummy_value()

    return types.void(w, L, types.intp, types.intp, G), generate


copy_lines: Any = compiled(_copy_lines, _plain.copy_lines)
dot_lines: Any = compiled(_dot_lines, _plain.dot_lines)
add_lines: Any = compiled(_add_lines, _plain.add_lines, mixed=True)
outer_lines: Any = compiled(_outer_lines, _plain.outer_lines)
