"""Requantization of int32 sums to int8, bit for bit as TFLite's reference kernels do it."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .reader import beat_layout


class Parameters(data.Struct):
    """One output channel's constants."""

    bias: signed(32)
    multiplier: signed(32)
    shift: signed(8)


class Requantizer(wiring.Component):
    """``clamp(round_shift(high_multiply((sum + bias) << left, multiplier), right) + zero_point)``.

    ``high_multiply`` is the saturating rounding doubling high multiply and ``round_shift`` the rounding division by a
    power of two, ties away from zero, of TFLite's reference kernels; a positive ``shift`` shifts left, a negative one
    right. Additions and the left shift wrap to int32. Bit-exact with ``golden.numerics``.

    Latency :attr:`LATENCY` cycles, one result a lane each cycle, never stalls.

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

    LATENCY = 7

    def __init__(self, *, lanes: int, width: int = 8):
        self.lanes, self.width = lanes, width
        super().__init__({
            "sums": In(32 * lanes), "parameters": In(Parameters),
            "zero_point": In(signed(10)), "minimum": In(signed(10)), "maximum": In(signed(10)),
            "results": Out(width * lanes),
        })

    def elaborate(self, platform):
        m = Module()
        # Per channel, beside the lanes' stages: left shift for stage 2, multiplier for 3, right shift for 6.
        left1, right1, multiplier1 = Signal(5), Signal(5), Signal(signed(32))
        multiplier2 = Signal(signed(32))
        shift = self.parameters.shift
        m.d.sync += [
            left1.eq(Mux(shift > 0, shift, 0)), right1.eq(Mux(shift < 0, -shift, 0)),
            multiplier1.eq(self.parameters.multiplier), multiplier2.eq(multiplier1),
        ]
        right = right1
        for stage in range(2, 6):
            delayed = Signal(5, name=f"right{stage}")
            m.d.sync += delayed.eq(right)
            right = delayed
        nudge = Signal(32)
        m.d.comb += nudge.eq(Mux(right == 0, 0, (Const(1, 32) << right) >> 1))
        for lane in range(self.lanes):
            def stage(number, shape, lane=lane):
                return Signal(shape, name=f"lane{lane}_stage{number}")
            biased, shifted = stage(1, signed(32)), stage(2, signed(32))
            product, product_again = stage(3, signed(64)), stage(4, signed(64))
            high, rounded, result = stage(5, signed(32)), stage(6, signed(32)), stage(7, self.width)
            doubled = Signal(signed(34), name=f"doubled{lane}")
            halved = Signal(signed(34), name=f"halved{lane}")
            offset = Signal(signed(33), name=f"offset{lane}")
            m.d.comb += [
                doubled.eq((product_again + (1 << 30)) >> 31),
                halved.eq(high + nudge - ((high < 0) & (right != 0))),
                offset.eq(rounded + self.zero_point),
            ]
            m.d.sync += [
                biased.eq(self.sums.word_select(lane, 32).as_signed() + self.parameters.bias),
                shifted.eq(biased << left1),
                product.eq(shifted * multiplier2),
                product_again.eq(product),
                high.eq(Mux(doubled == 1 << 31, (1 << 31) - 1, doubled)),
                rounded.eq(halved >> right),
                result.eq(Mux(offset < self.minimum, self.minimum, Mux(offset > self.maximum, self.maximum, offset))),
            ]
            m.d.comb += self.results.word_select(lane, self.width).eq(result)
        return m


class ParameterStore(wiring.Component):
    """Two banks of channel constants: one in use, one being loaded.

    Members: ``i_beat`` (beats of parameters; a group's segment fills one bank, alternately), ``loaded`` (strobe: a
    bank is complete), ``column`` and ``switch`` (strobe: the other bank from the next cycle on), ``parameters`` (of
    ``column`` one cycle later).
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
        m.submodules.memory = memory = Memory(shape=Parameters, depth=2 * depth, init=[])
        write, read = memory.write_port(), memory.read_port(domain="sync")
        write_bank, read_bank = Signal(), Signal()
        beat = self.i_beat
        column = Signal(range(self.columns))
        record = Signal(128)
        complete = Signal()
        m.d.comb += beat.ready.eq(1)
        if self.axi_bytes == 16:
            m.d.comb += [record.eq(beat.p.data), complete.eq(beat.valid)]
        else:
            low, second = Signal(64), Signal()
            m.d.comb += [record.eq(Cat(low, beat.p.data)), complete.eq(beat.valid & second & ~beat.p.start)]
            with m.If(beat.valid):
                m.d.sync += [low.eq(beat.p.data), second.eq(beat.p.start | ~second)]
        now = Signal.like(column)
        m.d.comb += now.eq(Mux(beat.p.start, 0, column))
        last = Signal()
        m.d.comb += [
            last.eq(beat.p.strip_end),
            write.addr.eq(write_bank * depth + now), write.en.eq(complete),
            write.data.eq(record[:72]),
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
        m.d.comb += [
            read.addr.eq(read_bank * depth + self.column), read.en.eq(1), self.parameters.eq(read.data),
        ]
        return m
