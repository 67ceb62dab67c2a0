"""Blocks of sixteen numbers: what is done with rows of a factor that are gathered one by one.

See :mod:`nmfcore.kernels.vectors.ir`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types

from nmfcore.kernels.vectors import plain as _plain
from nmfcore.kernels.vectors.ir import (
    BYTES,
    SUMS,
    WORD,
    _element,
    _exchanged,
    _load,
    _shuffle,
    _store,
    cgutils,
    compiled,
)

LANES = 16


def _at_once(kind: Any) -> int:
    """How many vectors of sixteen sums the registers hold."""
    return int(max(1, min(LANES, SUMS * BYTES // (LANES * kind.dtype.bitwidth // 8))))


def _at(context: Any, builder: Any, array: Any, *place: Any) -> Any:
    """Where an element of an array is, which comes with its type."""
    return _element(context, builder, array[0], array[1], [*place])


def _splat(builder: Any, number: Any) -> Any:
    vector = ir.VectorType(number.type, LANES)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), number, WORD(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(WORD, LANES), [0] * LANES))


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return builder.fadd(builder.fmul(a, b, flags=("contract",)), c, flags=("contract",))


def _row(context: Any, builder: Any, B: Any, indices: Any, place: Any) -> Any:
    """Where the row begins that an index names."""
    index = builder.load(_at(context, builder, indices, place))
    if index.type.width < place.type.width:
        index = builder.zext(index, place.type)
    return _at(context, builder, B, index, place.type(0))


def _zeros(builder: Any, vector: Any, count: int) -> list[Any]:
    return [cgutils.alloca_once_value(builder, ir.Constant(vector, [0.0] * LANES)) for _ in range(count)]


def _reset(builder: Any, places: list[Any], vector: Any) -> None:
    for place in places:
        builder.store(ir.Constant(vector, [0.0] * LANES), place)


def _add_to(context: Any, builder: Any, out: Any, i: Any, line: Any, total: Any) -> None:
    """Add a vector to a line of the ``i``-th array of some."""
    place, align = _at(context, builder, out, i, line, line.type(0)), out[0].dtype.bitwidth // 8
    _store(builder, builder.fadd(_load(builder, place, total.type, align), total), place, align)


def _outer(height: int) -> Any:
    def add_outer(
        typing: Any,
        B: Any,
        indices: Any,
        first: Any,
        n: Any,
        s: Any,
        t: Any,
        weights: Any,
        step: Any,
        E: Any,
        o: Any,
        out: Any,
        i: Any,
    ) -> Any:
        """``out[i, k] += Σ ω b_{s+k} b_{t:t+16}`` for ``k < height``, and in lines 16 and 17 ``Σ ω e b_{t:t+16}``."""

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            B, indices, first, n, s, t, weights, step, E, o, out, i = zip(signature.args, values, strict=True)
            first, n, s, t, step, o, i = (number[1] for number in (first, n, s, t, step, o, i))
            number, word = context.get_data_type(B[0].dtype), s.type
            align, vector = B[0].dtype.bitwidth // 8, ir.VectorType(number, LANES)
            at_once = min(height, _at_once(B[0]))
            for panel in range(0, height, at_once):
                lines = [*range(panel, panel + at_once)]
                extra = 2 if panel == 0 else 0
                sums = _zeros(builder, vector, at_once + extra)
                _reset(builder, sums, vector)
                with cgutils.for_range_slice(builder, word(0), n, word(1), word) as (q, _):
                    place = builder.add(first, q)
                    row = _row(context, builder, B, indices, place)
                    weight = builder.load(_at(context, builder, weights, builder.mul(place, step)))
                    b = _load(builder, builder.gep(row, [t]), vector, align)
                    b = builder.fmul(b, _splat(builder, weight))
                    numbers = [builder.load(builder.gep(row, [builder.add(s, word(k))])) for k in lines]
                    for k in range(extra):
                        numbers.append(builder.load(_at(context, builder, E, word(k), builder.add(o, q))))
                    for place, factor in zip(sums, numbers, strict=True):
                        builder.store(_fma(builder, _splat(builder, factor), b, builder.load(place)), place)
                for k, place in zip([*lines, LANES, LANES + 1], sums, strict=False):
                    _add_to(context, builder, out, i, word(k), builder.load(place))
            return context.get_dummy_value()

        p = types.intp
        return types.void(B, indices, p, p, p, p, weights, p, E, p, out, p), generate

    return add_outer


def _less_dots(start: bool) -> Any:
    def less_dots(
        typing: Any, B: Any, indices: Any, first: Any, n: Any, t: Any, width: Any, a: Any, values: Any, E: Any, o: Any
    ) -> Any:
        return _less(start, B, indices, first, n, t, width, a, values, E, o)

    return less_dots


def _less(
    start: bool, B: Any, indices: Any, first: Any, n: Any, t: Any, width: Any, a: Any, values: Any, E: Any, o: Any
) -> Any:
    """``E[0, o + q] -= Σ_s a[s] B[indices[first + q], t + s]`` for ``s < width``, a multiple of sixteen, and ``q < n``.

    At the start both lines of E become ``x_q`` less that.
    """
    together = 4

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        B, indices, first, n, t, width, a, x, E, o = zip(signature.args, values, strict=True)
        first, n, t, width, o = (number[1] for number in (first, n, t, width, o))
        number, word = context.get_data_type(B[0].dtype), t.type
        align, vector = B[0].dtype.bitwidth // 8, ir.VectorType(number, LANES)

        def some(q: Any, count: int) -> None:
            rows = [
                _row(context, builder, B, indices, builder.add(first, builder.add(q, word(k)))) for k in range(count)
            ]
            sums = _zeros(builder, vector, count)
            _reset(builder, sums, vector)
            with cgutils.for_range_slice(builder, word(0), width, word(LANES), word) as (s, _):
                factor = _load(builder, _at(context, builder, a, s), vector, align)
                for row, place in zip(rows, sums, strict=True):
                    b = _load(builder, builder.gep(row, [builder.add(t, s)]), vector, align)
                    builder.store(_fma(builder, factor, b, builder.load(place)), place)
            totals = _folded(builder, [builder.load(place) for place in sums])
            places = [_at(context, builder, E, word(k), builder.add(o, q)) for k in range(1 + start)]
            given = _at(context, builder, x, builder.add(first, q)) if start else places[0]
            e = builder.fsub(_load(builder, given, totals.type, align), totals)
            for place in places:
                _store(builder, e, place, align)

        whole = builder.and_(n, word(-together))
        with cgutils.for_range_slice(builder, word(0), whole, word(together), word) as (q, _):
            some(q, together)
        with cgutils.for_range_slice(builder, whole, n, word(1), word) as (q, _):
            some(q, 1)
        return context.get_dummy_value()

    p = types.intp
    return types.void(B, indices, p, p, p, p, a, values, E, p), generate


def _folded(builder: Any, parts: list[Any]) -> Any:
    """The sums of the lanes of each of some vectors (1, 2, 4, ...), in one vector of so many."""
    count, distance = len(parts), LANES // 2
    while len(parts) > 1:
        half = len(parts) // 2
        pairs = [_exchanged(builder, parts[i], parts[i + half], distance) for i in range(half)]
        parts = [builder.fadd(a, b) for a, b in pairs]
        distance //= 2
    (total,) = parts
    while distance:
        other = _shuffle(builder, total, total, [k ^ distance for k in range(LANES)])
        total = builder.fadd(total, other)
        distance //= 2
    return _shuffle(builder, total, total, [k * (LANES // count) for k in range(count)])


def _add_rows(
    typing: Any,
    B: Any,
    indices: Any,
    first: Any,
    n: Any,
    t: Any,
    weights: Any,
    step: Any,
    E: Any,
    o: Any,
    out: Any,
    i: Any,
) -> Any:
    """``out[i, 0] += Σ ω e_q b`` and ``out[i, 1] += Σ ω b²`` for sixteen columns of the rows ``b`` that are named."""
    together = 4

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        B, indices, first, n, t, weights, step, E, o, out, i = zip(signature.args, values, strict=True)
        first, n, t, step, o, i = (number[1] for number in (first, n, t, step, o, i))
        number, word = context.get_data_type(B[0].dtype), t.type
        align, vector = B[0].dtype.bitwidth // 8, ir.VectorType(number, LANES)
        sums = _zeros(builder, vector, 2 * together)
        _reset(builder, sums, vector)

        def one(q: Any, k: int) -> None:
            place = builder.add(first, q)
            row = _row(context, builder, B, indices, place)
            weight = builder.load(_at(context, builder, weights, builder.mul(place, step)))
            b = _load(builder, builder.gep(row, [t]), vector, align)
            scaled = builder.fmul(b, _splat(builder, weight))
            e = builder.load(_at(context, builder, E, word(0), builder.add(o, q)))
            for factor, place in ((_splat(builder, e), sums[2 * k]), (b, sums[2 * k + 1])):
                builder.store(_fma(builder, factor, scaled, builder.load(place)), place)

        whole = builder.and_(n, word(-together))
        with cgutils.for_range_slice(builder, word(0), whole, word(together), word) as (q, _):
            for k in range(together):
                one(builder.add(q, word(k)), k)
        with cgutils.for_range_slice(builder, whole, n, word(1), word) as (q, _):
            one(q, 0)
        for line in (0, 1):
            parts = [builder.load(place) for place in sums[line::2]]
            while len(parts) > 1:
                parts = [builder.fadd(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
            _add_to(context, builder, out, i, word(line), parts[0])
        return context.get_dummy_value()

    p = types.intp
    return types.void(B, indices, p, p, p, weights, p, E, p, out, p), generate


def _transpose_square(typing: Any, P: Any, s: Any, G: Any) -> Any:
    """``G[s, t, k] = P[k, s, t]`` for ``k, t < 16``."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        P, s, G = zip(signature.args, values, strict=True)
        number, word = context.get_data_type(P[0].dtype), s[1].type
        align, vector = P[0].dtype.bitwidth // 8, ir.VectorType(number, LANES)
        places = [_at(context, builder, P, word(k), s[1], word(0)) for k in range(LANES)]
        lines = [_load(builder, place, vector, align) for place in places]
        for distance in (1, 2, 4, 8):
            for i in range(LANES):
                if not i & distance:
                    lines[i], lines[i | distance] = _exchanged(builder, lines[i], lines[i | distance], distance)
        for t, line in enumerate(lines):
            _store(builder, line, _at(context, builder, G, s[1], word(t), word(0)), align)
        return context.get_dummy_value()

    return types.void(P, types.intp, G), generate


def _sweep_lanes(typing: Any, a: Any, g: Any, G: Any, inverse: Any, width: Any, fell: Any) -> Any:
    """One sweep of coordinate descent in each of sixteen lanes, and how far each fell.

    ``a``, the gradient ``g`` and the inverse curvatures (0: flat) are (width, 16), ``G`` is (width, width, 16).
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        a, g, G, inverse, width, fell = zip(signature.args, values, strict=True)
        number, word = context.get_data_type(a[0].dtype), width[1].type
        align, vector = a[0].dtype.bitwidth // 8, ir.VectorType(number, LANES)
        zero, half = ir.Constant(vector, [0.0] * LANES), ir.Constant(vector, [0.5] * LANES)

        def at(array: Any, *place: Any) -> Any:
            return _at(context, builder, array, *[*place, word(0)][: array[0].ndim])

        def load(array: Any, *place: Any) -> Any:
            return _load(builder, at(array, *place), vector, align)

        with cgutils.for_range_slice(builder, word(0), width[1], word(1), word) as (t, _):
            old, slope, bend, v = load(a, t), load(g, t), load(G, t, t), load(inverse, t)
            nothing = builder.fsub(old, old)  # 0, or NaN
            new = builder.fsub(old, builder.fmul(slope, v, flags=("contract",)), flags=("contract",))
            new = builder.select(builder.fcmp_ordered(">", new, zero), new, nothing)
            flat = builder.fcmp_ordered("==", v, zero)  # but for a penalty, which wants it gone
            gone = builder.fcmp_ordered(">", slope, builder.fmul(bend, old))
            new = builder.select(builder.and_(flat, gone), nothing, new)
            step = builder.fsub(new, old)
            _store(builder, new, at(a, t), align)
            drop = builder.fmul(step, _fma(builder, builder.fmul(half, bend), step, slope))
            _store(builder, builder.fsub(load(fell), drop), at(fell), align)
            with cgutils.for_range_slice(builder, word(0), width[1], word(1), word) as (s, _):
                _store(builder, _fma(builder, step, load(G, t, s), load(g, s)), at(g, s), align)
        return context.get_dummy_value()

    return types.void(a, g, G, inverse, types.intp, fell), generate


add_outer: Any = compiled(_outer(LANES), _plain.add_outer)
add_outer_narrow: Any = compiled(_outer(4), _plain.add_outer)
errors: Any = compiled(_less_dots(start=True), _plain.errors)
subtract_dots: Any = compiled(_less_dots(start=False), _plain.subtract_dots)
add_rows: Any = compiled(_add_rows, _plain.add_rows)
transpose_square: Any = compiled(_transpose_square, _plain.transpose_square)
sweep_lanes: Any = compiled(_sweep_lanes, _plain.sweep_lanes)
