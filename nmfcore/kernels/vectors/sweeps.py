"""Blocks of a sweep over a tile of rows that move together: a coordinate of all of them is a line of the tile.

A vector is as wide as the registers of this processor, and a tile a whole number of vectors. See
:mod:`nmfcore.kernels.vectors.ir`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types

from nmfcore.kernels.vectors import plain as _plain
from nmfcore.kernels.vectors.gathered import _at, _fma
from nmfcore.kernels.vectors.ir import BYTES, REGISTERS, _exchanged, _load, _store, cgutils, compiled
from nmfcore.kernels.vectors.products import _lanes, _splat

LINE = BYTES  # bytes of a vector
TOGETHER = REGISTERS // 8  # lines of the gradient that four steps are added to at once: their factors fill registers


def _line(context: Any, builder: Any, array: Any, t: Any, k: int, q: Any) -> Any:
    """Where a vector of the line ``t + k`` begins."""
    return _at(context, builder, array, builder.add(t, t.type(k)), q)


def _steps(count: int) -> Any:
    def add_steps(typing: Any, steps: Any, hessian: Any, t: Any, g: Any) -> Any:
        """What steps (4, lanes) along the coordinates from ``t`` on do to the gradient (r, lanes)."""

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            steps, hessian, t, g = zip(signature.args, values, strict=True)
            number, word, lanes = context.get_data_type(g[0].dtype), t[1].type, _lanes(g[0])
            vector, align = ir.VectorType(number, lanes), g[0].dtype.bitwidth // 8
            r, width = cgutils.unpack_tuple(builder, context.make_array(g[0])(context, builder, g[1]).shape)

            def factor(i: int, s: Any, k: int) -> Any:
                place = _at(context, builder, hessian, builder.add(t[1], word(i)), builder.add(s, word(k)))
                return _splat(builder, builder.load(place), lanes)

            def lines(s: Any, together: int) -> None:
                h = [[factor(i, s, k) for i in range(count)] for k in range(together)]
                with cgutils.for_range_slice(builder, word(0), width, word(lanes), word) as (q, _):
                    places = [_line(context, builder, steps, word(0), i, q) for i in range(count)]
                    d = [_load(builder, place, vector, align) for place in places]
                    for k in range(together):
                        place = _line(context, builder, g, s, k, q)
                        total = _load(builder, place, vector, align)
                        for step, bend in zip(d, h[k], strict=True):
                            total = _fma(builder, step, bend, total)
                        _store(builder, total, place, align)

            whole = builder.sub(r, builder.urem(r, word(TOGETHER)))
            with cgutils.for_range_slice(builder, word(0), whole, word(TOGETHER), word) as (s, _):
                lines(s, TOGETHER)
            with cgutils.for_range_slice(builder, whole, r, word(1), word) as (s, _):
                lines(s, 1)
            return context.get_dummy_value()

        return types.void(steps, hessian, types.intp, g), generate

    return add_steps


def _moves(count: int) -> Any:
    def move(typing: Any, a: Any, g: Any, hessian: Any, inverse: Any, t: Any, steps: Any) -> Any:
        """Minimise along coordinates from ``t`` on in turn, each of which knows the steps of those before it.

        Leaves the steps in ``steps`` and ``g`` as it was, and says how far all lanes fell. ``inverse`` is 0 where a
        coordinate is flat.
        """

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            a, g, hessian, inverse, t, steps = zip(signature.args, values, strict=True)
            number, word, lanes = context.get_data_type(a[0].dtype), t[1].type, _lanes(a[0])
            vector, align = ir.VectorType(number, lanes), a[0].dtype.bitwidth // 8
            width = cgutils.unpack_tuple(builder, context.make_array(a[0])(context, builder, a[1]).shape)[1]
            zero, coordinates = ir.Constant(vector, [0.0] * lanes), range(count)
            numbers = [builder.add(t[1], word(i)) for i in coordinates]

            def splat(array: Any, *place: Any) -> Any:
                return _splat(builder, builder.load(_at(context, builder, array, *place)), lanes)

            h = [[splat(hessian, numbers[j], numbers[i]) for j in range(i + 1)] for i in coordinates]
            half = [builder.fmul(ir.Constant(vector, [0.5] * lanes), h[i][i]) for i in coordinates]
            v = [builder.load(_at(context, builder, inverse, number)) for number in numbers]
            flat = [builder.fcmp_ordered("==", one, number(0.0)) for one in v]
            some_flat = flat[0]
            for one in flat[1:]:
                some_flat = builder.or_(some_flat, one)
            total = cgutils.alloca_once(builder, vector)
            builder.store(zero, total)

            def tile(careful: bool) -> None:
                with cgutils.for_range_slice(builder, word(0), width, word(lanes), word) as (q, _):
                    places = [_line(context, builder, a, t[1], i, q) for i in coordinates]
                    old = [_load(builder, place, vector, align) for place in places]
                    slopes = [
                        _load(builder, _line(context, builder, g, t[1], i, q), vector, align) for i in coordinates
                    ]
                    fell, d = builder.load(total), list[Any]()
                    for i in coordinates:
                        slope = slopes[i]
                        for j, step in enumerate(d):
                            slope = _fma(builder, step, h[i][j], slope)
                        way = builder.fmul(slope, _splat(builder, v[i], lanes), flags=("contract",))
                        new = builder.fsub(old[i], way, flags=("contract",))
                        new = builder.select(builder.fcmp_ordered(">", new, zero), new, zero)
                        if careful:  # flat but for a penalty, which wants it gone
                            gone = builder.fcmp_ordered(">", slope, builder.fmul(h[i][i], old[i]))
                            new = builder.select(builder.and_(_splat(builder, flat[i], lanes), gone), zero, new)
                        d.append(builder.fsub(new, old[i]))
                        _store(builder, new, places[i], align)
                        _store(builder, d[i], _line(context, builder, steps, word(0), i, q), align)
                        drop = builder.fmul(d[i], _fma(builder, half[i], d[i], slope), flags=("contract",))
                        fell = builder.fsub(fell, drop, flags=("contract",))
                    builder.store(fell, total)

            with builder.if_else(some_flat) as (then, otherwise):
                with then:
                    tile(True)
                with otherwise:
                    tile(False)
            lane_sums = builder.load(total)
            fell = builder.extract_element(lane_sums, ir.IntType(32)(0))
            for k in range(1, lanes):
                fell = builder.fadd(fell, builder.extract_element(lane_sums, ir.IntType(32)(k)))
            return fell if number == ir.DoubleType() else builder.fpext(fell, ir.DoubleType())

        return types.float64(a, g, hessian, inverse, types.intp, steps), generate

    return move


def _turn(inward: bool) -> Any:
    def turn(typing: Any, A: Any, start: Any, count: Any, tile: Any) -> Any:
        """Rows ``start <= i < start + count`` of ``A`` (m, r) and lanes of the tile (r, lanes): one into the other.

        ``count`` is a whole number of vectors. Up to a vector of numbers beyond the last row is read, or written with
        anything: rows that are yet to come.
        """

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            A, start, count, tile = zip(signature.args, values, strict=True)
            number, word, lanes = context.get_data_type(A[0].dtype), start[1].type, _lanes(A[0])
            vector, align = ir.VectorType(number, lanes), A[0].dtype.bitwidth // 8
            r = cgutils.unpack_tuple(builder, context.make_array(tile[0])(context, builder, tile[1]).shape)[0]
            blocks = builder.udiv(builder.add(r, word(lanes - 1)), word(lanes))
            with (
                cgutils.for_range_slice(builder, word(0), count[1], word(lanes), word) as (k, _),
                cgutils.for_range_slice(builder, word(0), blocks, word(1), word) as (b, _),
            ):
                # The last coordinates first: what a row has too much is where the first ones of the next will be.
                t = builder.mul(builder.sub(builder.sub(blocks, word(1)), b), word(lanes))
                left = builder.sub(builder.sub(r, t), word(1))
                row = builder.add(start[1], k)
                of_A = [_at(context, builder, A, builder.add(row, word(q)), t) for q in range(lanes)]
                lines = []
                for i in range(lanes):
                    line = builder.select(builder.icmp_signed("<", word(i), left), word(i), left)
                    lines.append(_at(context, builder, tile, builder.add(t, line), k))
                source, to = (of_A, lines) if inward else (lines, of_A)
                block = [_load(builder, place, vector, align) for place in source]
                distance = 1
                while distance < lanes:
                    for i in range(lanes):
                        if not i & distance:
                            block[i], block[i | distance] = _exchanged(builder, block[i], block[i | distance], distance)
                    distance *= 2
                # Lines that are not there have been made the last one, which is written after them.
                ends = list(zip(block, to, strict=True))
                for line, place in reversed(ends) if inward else ends:
                    _store(builder, line, place, align)
            return context.get_dummy_value()

        return types.void(A, types.intp, types.intp, tile), generate

    return turn


add_four_steps: Any = compiled(_steps(4), _plain.add_four_steps)
add_step: Any = compiled(_steps(1), _plain.add_step)
move_four: Any = compiled(_moves(4), _plain.move_four)
move_one: Any = compiled(_moves(1), _plain.move_one)
into_tile: Any = compiled(_turn(inward=True), _plain.into_tile)
out_of_tile: Any = compiled(_turn(inward=False), _plain.out_of_tile)
