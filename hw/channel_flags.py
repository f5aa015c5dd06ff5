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
        Strobe: the flags of ``CHUNK`` channels; with ``write_all`` every channel of the operand wins. What is asked for
        from the next cycle on sees them.
    chunk_slot, chunk_start, chunk_next, chunk_flags:
        Strobes: the flags as first operand are walked, chunk by chunk; those of the first chunk stand at
        ``chunk_flags`` from the third cycle behind the start on, those of the next one in the next cycle.
    ask, slot, channel, flags:
        Whether the channel wins as first (bit 0) and as second operand: the answer of three cycles with ``ask`` before.
    """

    def __init__(self, *, max_channels: int):
        self.chunks = max(2, -(-max_channels // CHUNK))
        super().__init__({
            "write": In(1), "write_slot": In(1), "write_operand": In(1), "write_chunk": In(16), "write_all": In(1),
            "write_bits": In(CHUNK), "chunk_slot": In(1), "chunk_start": In(1), "chunk_next": In(1),
            "chunk_flags": Out(CHUNK), "ask": In(1), "slot": In(1), "channel": In(16), "flags": Out(2),
        })

    def elaborate(self, platform):
        m = Module()
        low = (CHUNK - 1).bit_length()
        every = Signal(4)
        with m.If(self.write):
            m.d.sync += every.bit_select(Cat(self.write_operand, self.write_slot), 1).eq(self.write_all)
        reads = []
        for operand in range(2):
            m.submodules[f"operand{operand}"] = memory = Memory(shape=CHUNK, depth=2 * self.chunks, init=[])
            write, read = memory.write_port(), memory.read_port(domain="sync")
            reads.append(read)
            m.d.comb += [
                write.addr.eq(self.write_slot * self.chunks + self.write_chunk), write.data.eq(self.write_bits),
                write.en.eq(self.write & ~self.write_all & (self.write_operand == operand)),
                read.addr.eq(self.slot * self.chunks + (self.channel >> low)), read.en.eq(self.ask),
            ]
            if operand == 0:
                whole = memory.read_port(domain="sync")

        # Channels. Stage 1: the chunk. Stage 2: out of the memory. Stage 3: its bit.
        bit1, bit2, all1, all2 = Signal(low), Signal(low), Signal(2), Signal(2)
        words = [Signal(CHUNK, name=f"word{operand}", reset_less=True) for operand in range(2)]
        wins, all_win = Signal(2), Signal(2)
        with m.If(self.ask):
            m.d.sync += [
                bit1.eq(self.channel[:low]), all1.eq(every.word_select(self.slot, 2)),
                bit2.eq(bit1), all2.eq(all1), *(word.eq(read.data) for word, read in zip(words, reads, strict=True)),
                wins.eq(Cat(word.bit_select(bit2, 1) for word in words)), all_win.eq(all2),
            ]
        m.d.comb += self.flags.eq(wins | all_win)

        # Chunks: the memory has read the one that follows.
        place, filling, moves = Signal(range(2 * self.chunks + 2)), Signal(2), Signal()
        m.d.comb += [moves.eq(self.chunk_next | filling[1]), whole.addr.eq(place + moves), whole.en.eq(1)]
        m.d.sync += [filling.eq(Mux(self.chunk_start, 1, filling << 1)), place.eq(place + moves)]
        with m.If(moves):
            m.d.sync += self.chunk_flags.eq(
                Mux(every.bit_select(self.chunk_slot << 1, 1), 2**CHUNK - 1, whole.data))
        with m.If(self.chunk_start):
            m.d.sync += place.eq(self.chunk_slot * self.chunks)
        return m
