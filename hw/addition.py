"""The rescaling of an addition's operands, bit for bit as TFLite's reference kernel does it."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .multiplier import Multipliers
from .requantize import add_with_carry, halves, rounding_bits, shifted_and_carry

LEFT_SHIFT = 20
"""TFLite's kernel takes operands times 2**20."""


class Addition(wiring.Component):
    """``scale(a, multiplier_1, shift_1) + scale(b, multiplier_2, shift_2)`` for every lane.

    ``scale(q, multiplier, shift)``: rounding shift by ``shift``, ties away from zero, of the saturating rounding
    doubling high multiply of ``q << LEFT_SHIFT``, which is ``(q * multiplier + 2**10) >> 11``. The sum is then
    requantized.

    Latency :attr:`LATENCY` cycles, one result a lane each cycle, never stalls. :attr:`PRODUCTS` a lane, of at most
    ``blocks`` multiplier blocks in all (0: logic only).

    Members: ``operands`` (32 bits a lane: first operand in the low half, second in the high half, zero points
    subtracted), ``multiplier_1``, ``multiplier_2`` (not negative), ``shift_1``, ``shift_2`` (to the right; stable),
    ``sums`` (int32 a lane).
    """

    LATENCY = 6
    PRODUCTS = 4
    """Of a lane."""

    def __init__(self, *, lanes: int, blocks: int = 0):
        self.lanes, self.blocks = lanes, blocks
        super().__init__({
            "operands": In(32 * lanes), "multiplier_1": In(signed(32)), "multiplier_2": In(signed(32)),
            "shift_1": In(5), "shift_2": In(5), "sums": Out(32 * lanes),
        })

    def elaborate(self, platform):
        m = Module()
        multipliers = Multipliers(m, platform, blocks=self.blocks)
        shifts = [(shift, *rounding_bits(m, shift, str(number)))
                  for number, shift in enumerate((self.shift_1, self.shift_2), 1)]
        for lane in range(self.lanes):
            word = self.operands.word_select(lane, 32)
            scaled = []
            for number, (operand, multiplier) in enumerate(
                    ((word[:9], self.multiplier_1), (word[16:25], self.multiplier_2)), 1):
                def stage(n, shape, name, lane=lane, number=number):
                    return Signal(shape, name=f"lane{lane}_operand{number}_{name}{n}", reset_less=True)
                # Stages 1 and 2: products with the multiplier's halves, whose summands are added.
                low, high = (stage(2, signed(25), name) for name in ("low", "high"))
                for product, half, name in zip((low, high), halves(multiplier), ("low", "high"), strict=True):
                    m.d.sync += product.eq(sum(multipliers.summands(
                        operand.as_signed(), half, name=f"lane{lane}_operand{number}_{name}1")))
                # Stage 3: high multiply; of the bits shifted out, which only ``low`` has, the highest rounds.
                out = 31 - LEFT_SHIFT
                doubled_high = stage(3, signed(32), "high")
                m.d.sync += doubled_high.eq(add_with_carry(low >> out, high << 16 - out, low[out - 1]))
                # Stage 4: shift. Stage 5: rounding.
                quotient, carry = stage(4, signed(32), "quotient"), stage(4, 1, "carry")
                rounded = stage(5, signed(32), "rounded")
                shifted, rounds_up = shifted_and_carry(doubled_high, *shifts[number - 1])
                m.d.sync += [quotient.eq(shifted), carry.eq(rounds_up), rounded.eq(quotient + carry)]
                scaled.append(rounded)
            # Stage 6: the sum.
            m.d.sync += self.sums.word_select(lane, 32).eq(scaled[0] + scaled[1])
        return m
