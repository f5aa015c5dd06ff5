"""Requantization of int32 sums to int8, bit for bit as TFLite's reference kernels do it."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .delay import delay
from .multiplier import Multipliers
from .reader import beat_layout
from .technology import BLOCK_RAM

COARSE = 3
"""Bits of a left shift that are left to its second stage."""


class Parameters(data.Struct):
    """One output channel's constants."""

    bias: signed(32)
    multiplier: signed(32)
    shift: signed(8)
    once: 1
    """Rounded once, ties up, not twice."""


def halves(value: Value) -> tuple[Value, Value]:
    """The low half of a signed value, unsigned, and the high half, signed: factors of a multiplier."""
    middle = len(value) // 2
    return value[:middle], value[middle:].as_signed()


def add_with_carry(a: Value, b: Value, carry: Value) -> Value:
    """``a + b + carry`` of signed values in a single carry chain."""
    return (Cat(1, a).as_signed() + Cat(carry, b).as_signed())[1:].as_signed()


def rounding_bits(m: Module, shift: Value, name: str) -> tuple[Signal, Signal]:
    """Which bits of an int32 decide, when it is shifted right, on rounding up: the half, and what lies below it.

    Registers, one cycle behind ``shift``.
    """
    half, below = Signal(31, name=f"half{name}", reset_less=True), Signal(31, name=f"below{name}", reset_less=True)
    m.d.sync += [half.eq((Const(1, 32) << shift)[1:]), below.eq(((Const(1, 32) << shift) - 1)[1:])]
    return half, below


def shifted_and_carry(value: Value, shift: Value, half: Value, below: Value, up: Value | int = 0
                      ) -> tuple[Value, Value]:
    """An int32 shifted right, and the one to add to round it to the nearest, ties away from zero or ``up``."""
    return value >> shift, (value & half).any() & ((value >= 0) | (value & below).any() | up)


class Requantizer(wiring.Component):
    """``clamp(round_shift(high_multiply((sum + bias) << left, multiplier), right) + zero_point)``.

    ``high_multiply`` is the saturating rounding doubling high multiply and ``round_shift`` the rounding division by a
    power of two, ties away from zero, of TFLite's reference kernels; a positive ``shift`` shifts left, a negative one
    right. Additions and the left shift wrap to int32. With ``once`` the product is not rounded before it is shifted
    right, and ties go up. Bit-exact with ``golden.numerics``.

    Latency :attr:`LATENCY` cycles, one result a lane each cycle, never stalls. Four multiplier blocks a lane.

    Members
    -------
    sums:
        In(32 * lanes): int32.
    parameters:
        Of the channel that all lanes belong to, in the same cycle.
    zero_point, minimum, maximum:
        signed(9), stable while results are on their way.
    results:
        Out(width * lanes).
    """

    LATENCY = 8

    def __init__(self, *, lanes: int, width: int = 8):
        self.lanes, self.width = lanes, width
        super().__init__({
            "sums": In(32 * lanes), "parameters": In(Parameters),
            "zero_point": In(signed(10)), "minimum": In(signed(10)), "maximum": In(signed(10)),
            "results": Out(width * lanes),
        })

    def elaborate(self, platform):
        m = Module()
        multipliers = Multipliers(m, platform)
        # Per channel, beside the lanes' stages: left shift for stages 2 and 3, multiplier for 4, right shift for 7.
        left1, right1, multiplier1 = (Signal(shape, name=f"{n}1", reset_less=True) for n, shape in (
            ("left", 5), ("right", 5), ("multiplier", signed(32))))
        shift = self.parameters.shift
        m.d.sync += [
            left1.eq(Mux(shift > 0, shift, 0)), right1.eq(Mux(shift < 0, -shift, 0)),
            multiplier1.eq(self.parameters.multiplier),
        ]
        left2, multiplier2 = delay(m, left1[:COARSE], 1, "left2"), delay(m, multiplier1, 1, "multiplier2")
        multiplier_low, multiplier_high = (
            multipliers.operand(value, name=f"multiplier_{name}3")
            for name, value in zip(("low", "high"), halves(multiplier2), strict=True))
        # And whether the product is rounded, for stage 5, and ties go up, for 7.
        right, once = right1, delay(m, self.parameters.once, 1, "once1")
        for stage in range(2, 7):
            if stage == 5:
                rounds_product = ~(once & (right != 0))
            before = right
            right, once = delay(m, right, 1, f"right{stage}"), delay(m, once, 1, f"once{stage}")
        half, below = rounding_bits(m, before, "6")
        # Added to the rounded quotient: the result's distance from its bounds, whose sign alone decides.
        above_minimum, above_maximum = (
            Signal(signed(11), name=n, reset_less=True) for n in ("above_minimum", "above_maximum"))
        m.d.sync += [above_minimum.eq(self.zero_point - self.minimum), above_maximum.eq(self.zero_point - self.maximum)]
        for lane in range(self.lanes):
            def stage(number, shape, name, lane=lane):
                return Signal(shape, name=f"lane{lane}_{name}{number}", reset_less=True)

            # Stages 1 to 4: sum and bias, left shift by a multiple of 8, by the rest, products of the halves.
            biased, aligned, shifted = (
                stage(1, signed(32), "biased"), stage(2, signed(32), "aligned"), stage(3, signed(32), "shifted"))
            m.d.sync += [biased.eq(self.sums.word_select(lane, 32).as_signed() + self.parameters.bias),
                         aligned.eq(biased << (left1[COARSE:] << COARSE))]
            m.d.comb += shifted.eq(aligned << left2)
            low, high = (multipliers.operand(value, name=f"lane{lane}_{name}3")
                         for name, value in zip(("low", "high"), halves(shifted), strict=True))
            low_low, low_high, high_low, high_high = (
                multipliers.product(a, b, name=f"lane{lane}_{name}4") for a, b, name in (
                    (low, multiplier_low, "low_low"), (low, multiplier_high, "low_high"),
                    (high, multiplier_low, "high_low"), (high, multiplier_high, "high_high")))
            # Stage 5: the product without its lowest 16 bits, as two summands; rounding adds 2**30.
            outer, middle = stage(5, signed(48), "outer"), stage(5, signed(33), "middle")
            m.d.sync += [outer.eq(Cat(low_low[16:], high_high).as_signed() + (rounds_product << 14)),
                         middle.eq(low_high + high_low)]
            # Stage 6: twice the product's high half. Only that of -2**31 and -2**31 is not an int32: of no other
            # factors is the product of the high halves 2**30 and that of the others not negative.
            total, doubled_high = Signal(signed(48), name=f"lane{lane}_total"), stage(6, signed(32), "high")
            m.d.comb += total.eq(outer + middle)
            saturates = outer[46] & ~outer[47] & (middle >= 0)
            m.d.sync += doubled_high.eq(Mux(saturates, (1 << 31) - 1, total[15:]))
            # Stage 7: right shift. Stage 8: rounding, zero point and bounds.
            quotient, carry, result = (
                stage(7, signed(32), "quotient"), stage(7, 1, "carry"), stage(8, self.width, "result"))
            right_shifted, rounds_up = shifted_and_carry(doubled_high, right, half, below, once)
            m.d.sync += [quotient.eq(right_shifted), carry.eq(rounds_up)]
            too_low = add_with_carry(quotient, above_minimum, carry) < 0
            too_high = add_with_carry(quotient, above_maximum, carry) >= 0
            offset = add_with_carry(quotient, self.zero_point, carry)
            m.d.sync += result.eq(Mux(too_low, self.minimum, Mux(too_high, self.maximum, offset)))
            m.d.comb += self.results.word_select(lane, self.width).eq(result)
        return m


class ParameterStore(wiring.Component):
    """Two banks of channel constants: one in use, one being loaded.

    Members: ``i_beat`` (beats of parameters; a group's segment fills one bank, alternately), ``loaded`` (strobe: a
    bank is complete), ``column`` and ``switch`` (strobe: the other bank from the next cycle on), ``parameters`` (of
    ``column`` two cycles later).
    """

    def __init__(self, *, columns: int, axi_bytes: int):
        self.columns, self.axi_bytes = columns, axi_bytes
        super().__init__({
            "i_beat": In(stream.Signature(beat_layout(axi_bytes))),
            "column": In(range(columns)), "switch": In(1), "loaded": Out(1), "parameters": Out(Parameters),
        })

    def elaborate(self, platform):
        m = Module()
        depth = 1 << (self.columns - 1).bit_length()
        m.submodules.memory = memory = Memory(shape=Parameters, depth=2 * depth, init=[], attrs=BLOCK_RAM)
        write, read = memory.write_port(), memory.read_port(domain="sync")
        write_bank, read_bank = Signal(), Signal()
        parameters = Signal(Parameters, reset_less=True)
        beat = self.i_beat
        column = Signal(range(self.columns))
        record = Signal(128)
        complete = Signal()
        m.d.comb += beat.ready.eq(1)
        beats = 16 // self.axi_bytes
        if beats == 1:
            m.d.comb += [record.eq(beat.p.data), complete.eq(beat.valid)]
        else:
            # The beats of a record so far; a group starts one.
            held, number = Signal(128 - 8 * self.axi_bytes, reset_less=True), Signal(range(beats))
            m.d.comb += [record.eq(Cat(held, beat.p.data)),
                         complete.eq(beat.valid & (number == beats - 1) & ~beat.p.start)]
            with m.If(beat.valid):
                m.d.sync += [held.eq(record[8 * self.axi_bytes:]), number.eq(Mux(beat.p.start, 1, number + 1))]
        now = Signal.like(column)
        m.d.comb += now.eq(Mux(beat.p.start, 0, column))
        last = Signal()
        m.d.comb += [
            last.eq(beat.p.strip_end),
            write.addr.eq(write_bank * depth + now), write.en.eq(complete),
            write.data.eq(record[:73]),
        ]
        m.d.sync += self.loaded.eq(complete & last)
        with m.If(beat.valid & beat.p.start):
            m.d.sync += column.eq(0)
        with m.If(complete):
            m.d.sync += column.eq(now + 1)
            with m.If(last):
                m.d.sync += write_bank.eq(~write_bank)
        with m.If(self.switch):
            m.d.sync += read_bank.eq(~read_bank)
        m.d.comb += [read.addr.eq(read_bank * depth + self.column), read.en.eq(1)]
        m.d.sync += parameters.eq(read.data)
        m.d.comb += self.parameters.eq(parameters)
        return m
