"""The payload memory: what will be written, or has been read."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .protocol import MAX_PAYLOAD


class PayloadMemory(wiring.Component):
    """Bytes in, then the same bytes out, as often as asked; or constants out.

    One block RAM of the ECP5, four of the iCE40, through one port. A byte a cycle in or out; 2 cycles from ``rewind_o``
    to the first byte, which comes from a register, as the memory itself is slow.

    Parameters
    ----------
    constants:
        At most ``MAX_PAYLOAD`` bytes; else ValueError.

    Members
    -------
    rewind_i, i:
        Strobe: bytes come in from now on, ``MAX_PAYLOAD`` at most, the next one being the first.
    rewind_o, of_constants, o:
        Strobe: bytes go out from the next cycle on, from the first one, or from the first of the constants.
    """

    def __init__(self, *, constants: bytes):
        if len(constants) > MAX_PAYLOAD:
            raise ValueError(f"constants: expected at most {MAX_PAYLOAD} bytes, got {len(constants)}")
        self.constants = constants
        super().__init__({
            "rewind_i": In(1), "i": In(stream.Signature(8, always_ready=True)),
            "rewind_o": In(1), "of_constants": In(1), "o": Out(stream.Signature(8)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(
            shape=8, depth=2 * MAX_PAYLOAD, init=[*bytes(MAX_PAYLOAD), *self.constants])
        write, read = memory.write_port(), memory.read_port()
        position, reading, is_read, moves = Signal(range(2 * MAX_PAYLOAD)), Signal(), Signal(), Signal()
        m.d.comb += [
            write.addr.eq(position), write.data.eq(self.i.payload), write.en.eq(self.i.valid & ~reading),
            read.addr.eq(position), read.en.eq(moves), moves.eq(reading & (~self.o.valid | self.o.ready)),
        ]
        with m.If(write.en | moves):
            m.d.sync += position.eq(position + 1)
        with m.If(moves):  # address, memory and output
            m.d.sync += [is_read.eq(1), self.o.valid.eq(is_read), self.o.payload.eq(read.data)]
        with m.If(self.rewind_i | self.rewind_o):
            m.d.sync += [
                position.eq(Mux(self.rewind_o & self.of_constants, MAX_PAYLOAD, 0)), reading.eq(self.rewind_o),
                is_read.eq(0), self.o.valid.eq(0),
            ]
        return m
