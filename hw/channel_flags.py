"""Which channels win, one by one: for the vector unit, whose losers are computed too, from zeros."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .winner_list import CHUNK


class ChannelFlags(wiring.Component):
    """The masks of two bands (slots 0 and 1), of two operands each.

    Members
    -------
    write, write_slot, write_operand, write_chunk, write_all, write_bits:
        Strobe: the flags of ``CHUNK`` channels; with ``write_all`` every channel of the operand wins.
    chunk_slot, chunk, chunk_flags:
        The flags of chunk ``chunk`` as first operand, in the same cycle.
    slot, channel, flags:
        Whether the channel wins as first (bit 0) and as second operand, a cycle later. Flags written in cycle t are
        seen by what is asked for from cycle t + 1 on.
    """

    def __init__(self, *, max_channels: int):
        self.chunks = max(2, -(-max_channels // CHUNK))
        super().__init__({
            "write": In(1), "write_slot": In(1), "write_operand": In(1), "write_chunk": In(16), "write_all": In(1),
            "write_bits": In(CHUNK), "chunk_slot": In(1), "chunk": In(16), "chunk_flags": Out(CHUNK),
            "slot": In(1), "channel": In(16), "flags": Out(2),
        })

    def elaborate(self, platform):
        m = Module()
        low = (CHUNK - 1).bit_length()
        every = Signal(4)
        bit = Signal(low)
        m.d.sync += bit.eq(self.channel[:low])
        with m.If(self.write):
            m.d.sync += every.bit_select(Cat(self.write_operand, self.write_slot), 1).eq(self.write_all)
        chosen = Signal(2)
        m.d.sync += chosen.eq(every.word_select(self.slot, 2))
        for operand in range(2):
            m.submodules[f"operand{operand}"] = memory = Memory(shape=CHUNK, depth=2 * self.chunks, init=[])
            write, read = memory.write_port(), memory.read_port(domain="sync")
            if operand == 0:
                whole = memory.read_port(domain="comb")
                m.d.comb += [
                    whole.addr.eq(self.chunk_slot * self.chunks + self.chunk),
                    self.chunk_flags.eq(Mux(every.bit_select(self.chunk_slot << 1, 1), 2**CHUNK - 1, whole.data)),
                ]
            m.d.comb += [
                write.addr.eq(self.write_slot * self.chunks + self.write_chunk), write.data.eq(self.write_bits),
                write.en.eq(self.write & ~self.write_all & (self.write_operand == operand)),
                read.addr.eq(self.slot * self.chunks + (self.channel >> low)), read.en.eq(1),
                self.flags[operand].eq(Mux(chosen[operand], 1, read.data.bit_select(bit, 1))),
            ]
        return m
