"""The rescaling of an addition's operands, bit for bit as TFLite's reference kernel does it."""

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

LEFT_SHIFT = 20
"""TFLite's kernel takes operands times 2**20."""


class Addition(wiring.Component):
    """``scale(a, multiplier_1, shift_1) + scale(b, multiplier_2, shift_2)`` for every lane.

    ``scale(q, multiplier, shift)``: rounding shift by ``shift``, ties away from zero, of the saturating rounding
    doubling high multiply of ``q << LEFT_SHIFT``, which is ``(q * multiplier + 2**10) >> 11``. The sum is then
    requantized.

    Latency :attr:`LATENCY` cycles, one result a lane each cycle, never stalls.

    Members: ``operands`` (32 bits a lane: first operand in the low half, second in the high half, zero points
    subtracted), ``multiplier_1``, ``multiplier_2`` (not negative), ``shift_1``, ``shift_2`` (to the right; stable),
    ``sums`` (int32 a lane).
    """

    LATENCY = 5

    def __init__(self, *, lanes: int):
        self.lanes = lanes
        super().__init__({
            "operands": In(32 * lanes), "multiplier_1": In(signed(32)), "multiplier_2": In(signed(32)),
            "shift_1": In(5), "shift_2": In(5), "sums": Out(32 * lanes),
        })

    def elaborate(self, platform):
        m = Module()
        nudges = []
        for number, shift in ((1, self.shift_1), (2, self.shift_2)):
            nudge = Signal(31, name=f"nudge{number}")
            m.d.sync += nudge.eq(Mux(shift == 0, 0, (Const(1, 32) << shift) >> 1))
            nudges.append(nudge)
        for lane in range(self.lanes):
            word = self.operands.word_select(lane, 32)
            scaled = []
            for number, (half, multiplier, shift, nudge) in enumerate((
                    (word[:16], self.multiplier_1, self.shift_1, nudges[0]),
                    (word[16:], self.multiplier_2, self.shift_2, nudges[1])), 1):
                def stage(n, shape, lane=lane, number=number):
                    return Signal(shape, name=f"lane{lane}_operand{number}_stage{n}")
                # Stages 1 and 2: the product. 3: high multiply. 4: rounding shift.
                product, product_again = stage(1, signed(41)), stage(2, signed(41))
                high, shifted = stage(3, signed(32)), stage(4, signed(32))
                m.d.sync += [
                    product.eq(half[:9].as_signed() * multiplier), product_again.eq(product),
                    high.eq((product_again + (1 << (30 - LEFT_SHIFT))) >> (31 - LEFT_SHIFT)),
                    shifted.eq((high + nudge - ((high < 0) & (shift != 0))) >> shift),
                ]
                scaled.append(shifted)
            # Stage 5: the sum.
            m.d.sync += self.sums.word_select(lane, 32).eq(scaled[0] + scaled[1])
        return m
