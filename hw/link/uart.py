"""The UART: bytes as 8N1 on two wires."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

MIN_CYCLES_PER_BIT = 4


class ReceivedByte(data.Struct):
    """A byte from the line; ``framing_error``: there was no stop bit behind it."""

    data: 8
    framing_error: 1


def check_cycles_per_bit(cycles_per_bit: int):
    """Raises ValueError."""
    if cycles_per_bit < MIN_CYCLES_PER_BIT:
        raise ValueError(f"cycles_per_bit: expected at least {MIN_CYCLES_PER_BIT}, got {cycles_per_bit}")


class UartReceiver(wiring.Component):
    """Samples every bit in its middle, counted from the edge of the start bit.

    A start bit that is over by its middle is a glitch and passed over. After a framing error nothing begins before the
    line has been high, so a break is one byte. Sampling moves by one cycle with the phase of the edge; the last sample
    is 9.5 bits behind it, so baud rates may differ by ``(0.5 - 1 / cycles_per_bit) / 9.5``: 3.9 % at 8 cycles a bit.

    Parameters
    ----------
    cycles_per_bit:
        Clock cycles of a bit, at least ``MIN_CYCLES_PER_BIT``; else ValueError.

    Members
    -------
    rx:
        The pin, of any clock.
    o:
        Each byte for one cycle, in the middle of its stop bit.
    """

    def __init__(self, *, cycles_per_bit: int):
        check_cycles_per_bit(cycles_per_bit)
        self.cycles_per_bit = cycles_per_bit
        super().__init__({
            "rx": In(1, init=1), "o": Out(stream.Signature(ReceivedByte, always_ready=True)),
        })

    def elaborate(self, platform):
        m = Module()
        line = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.rx, line, init=1)
        wait, bits = Signal(range(self.cycles_per_bit)), Signal(range(8))
        out = self.o
        m.d.sync += [out.valid.eq(0), wait.eq(wait - 1)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += wait.eq(self.cycles_per_bit // 2 - 1)
                with m.If(~line):
                    m.next = "START"
            with m.State("START"):
                with m.If(wait == 0):
                    m.d.sync += [wait.eq(self.cycles_per_bit - 1), bits.eq(0)]
                    m.next = "DATA"
                    with m.If(line):
                        m.next = "IDLE"
            with m.State("DATA"):
                with m.If(wait == 0):
                    m.d.sync += [
                        wait.eq(self.cycles_per_bit - 1), bits.eq(bits + 1),
                        out.p.data.eq(Cat(out.p.data[1:], line)),
                    ]
                    with m.If(bits == 7):
                        m.next = "STOP"
            with m.State("STOP"):
                with m.If(wait == 0):
                    m.d.sync += [out.valid.eq(1), out.p.framing_error.eq(~line)]
                    m.next = "BREAK"
            with m.State("BREAK"):
                with m.If(line):
                    m.next = "IDLE"
        return m


class UartTransmitter(wiring.Component):
    """Sends a byte in ``10 * cycles_per_bit + 1`` cycles, one after the other.

    Parameters
    ----------
    cycles_per_bit:
        As of :class:`UartReceiver`.

    Members
    -------
    i:
        Bytes.
    tx:
        The pin, from a register.
    """

    def __init__(self, *, cycles_per_bit: int):
        check_cycles_per_bit(cycles_per_bit)
        self.cycles_per_bit = cycles_per_bit
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        wait, bits = Signal(range(self.cycles_per_bit)), Signal(range(11))
        line = Signal(10, init=-1)
        bit_end = Signal()
        m.d.comb += [self.tx.eq(line[0]), self.i.ready.eq(bits == 0), bit_end.eq(wait == 0)]
        m.d.sync += wait.eq(wait - 1)
        with m.If(bits == 0):
            m.d.sync += wait.eq(self.cycles_per_bit - 1)
            with m.If(self.i.valid):
                m.d.sync += [line.eq(Cat(Const(0, 1), self.i.payload, Const(1, 1))), bits.eq(10)]
        with m.Elif(bit_end):
            m.d.sync += [line.eq(Cat(line[1:], 1)), bits.eq(bits - 1), wait.eq(self.cycles_per_bit - 1)]
        return m
