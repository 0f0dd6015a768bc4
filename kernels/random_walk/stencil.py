"""The inner loop of the CPU version, in LLVM's vectors: sums of weighted neighbours that never leave the registers.

Written as a numba loop, the sums go through memory for every offset, since the number of offsets is known only when it
runs; that halves the speed.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

# Numbers in a vector: one register of AVX-512, two of AVX2, four of SSE or NEON.
LANES = 16
# Pixels whose sums are open at a time: two vectors, so that four maps fit into the registers.
STRIP = 2 * LANES
MAX_MAPS = 4


@intrinsic(prefer_literal=True)
def add_neighbours(typing_context, fields, first, at, weights, weights_at, shifts, sums, maps):
    """Write to sums [maps, STRIP] the weighted neighbours of a strip of pixels, in each of `maps` (a literal) fields.

    For map c and pixel i: sum over k of weights[weights_at + after_k + i] fields[first + c, at + shift_k + i]
    + weights[weights_at + before_k + i] fields[first + c, at - shift_k + i], in this order, single precision.

    Args:
        fields: float32 [C, size].
        first: The first map.
        at: Index of the strip's first pixel in a field.
        weights: float32 [size], flat.
        weights_at: Index of the weights' row that belongs to the strip, before any shift.
        shifts: int64 [K, 3]; (shift_k, after_k, before_k).
        sums: float32 [MAX_MAPS, STRIP].
        maps: 1 to MAX_MAPS.
    """
    if not isinstance(maps, types.IntegerLiteral):
        return None
    signature = types.void(fields, first, at, weights, weights_at, shifts, sums, maps)
    count = maps.literal_value

    def generate(context, builder, signature, arguments):
        def array(position):
            value = context.make_array(signature.args[position])(context, builder, arguments[position])
            return value.data, cgutils.unpack_tuple(builder, value.shape)

        (field_data, field_shape), (weight_data, _), (shift_data, shift_shape), (sum_data, _) = map(array, (0, 3, 5, 6))
        first, at, weights_at = (arguments[position] for position in (1, 2, 4))
        vector = ir.VectorType(ir.FloatType(), LANES)
        index = at.type

        def pointer(data, position):
            return builder.bitcast(builder.gep(data, [position]), vector.as_pointer())

        def load(data, position, lane):
            return builder.load(pointer(data, builder.add(position, index(lane))), align=4)

        lanes = range(0, STRIP, LANES)
        zero = ir.Constant(vector, [0.0] * LANES)
        totals = {(c, lane): cgutils.alloca_once_value(builder, zero) for c in range(count) for lane in lanes}
        pixels = [builder.add(builder.mul(builder.add(first, index(c)), field_shape[1]), at) for c in range(count)]
        with cgutils.for_range(builder, shift_shape[0]) as loop:
            row = builder.mul(loop.index, index(3))
            shift, after, before = (
                builder.load(builder.gep(shift_data, [builder.add(row, index(column))])) for column in range(3)
            )
            for weight_shift, move in ((after, builder.add), (before, builder.sub)):
                for lane in lanes:
                    weight = load(weight_data, builder.add(weights_at, weight_shift), lane)
                    for c in range(count):
                        # "contract" lets the product and the sum become one instruction where the machine has it.
                        product = builder.fmul(
                            weight, load(field_data, move(pixels[c], shift), lane), flags=["contract"]
                        )
                        total = totals[c, lane]
                        builder.store(builder.fadd(product, builder.load(total), flags=["contract"]), total)
        for (c, lane), total in totals.items():
            builder.store(builder.load(total), pointer(sum_data, index(c * STRIP + lane)), align=4)
        return context.get_dummy_value()

    return signature, generate
