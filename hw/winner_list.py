"""The winners as runs of consecutive channels, built once from a mask and walked many times."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

CHUNK = 16


def first_set(m: Module, name: str, bits):
    """Combinational index of the lowest set bit of ``bits`` (0 where there is none)."""
    index = Signal(range(len(bits)), name=name)
    for i in reversed(range(len(bits))):
        with m.If(bits[i]):
            m.d.comb += index.eq(i)
    return index


class Run(data.Struct):
    """``length`` winners in a row, from channel ``start``."""

    start: 16
    length: 16


def mask_layout(word_bits: int) -> data.StructLayout:
    """A beat of the mask: its first ``chunks`` chunks of ``CHUNK`` channels count."""
    return data.StructLayout({"word": word_bits, "chunks": range(word_bits // CHUNK + 1)})


class WinnerList(wiring.Component):
    """Turns a channel mask into a list of runs and streams that list on request.

    A dense layer is one run; so its planes and weight blocks are read in the longest bursts there are. The list may be
    walked while it is still being built.

    Latency: ``ALL``: 2 cycles. From a mask: at most 2 cycles a run, 2 a chunk of 16 channels, 1 a word, and 2
    more. Throughput of a walk: one run a cycle.

    Members
    -------
    build, build_all, channels:
        Strobe: start a new list of ``channels`` channels; all of them, or from the words that follow at ``i_mask``.
    i_mask:
        The mask in channel order, channel 0 in bit 0; bits beyond ``channels`` are ignored.
    rewind:
        Strobe: the walk starts over.
    o_run:
        The runs in channel order.
    exhausted:
        The list is complete and every run has been taken since ``rewind``.
    done, winners:
        The list is complete; the number of winners.
    """

    def __init__(self, *, max_channels: int, word_bits: int):
        self.max_channels, self.word_bits = max_channels, word_bits
        super().__init__({
            "build": In(1),
            "build_all": In(1),
            "channels": In(16),
            "i_mask": In(stream.Signature(mask_layout(word_bits))),
            "rewind": In(1),
            "o_run": Out(stream.Signature(Run)),
            "exhausted": Out(1),
            "done": Out(1),
            "winners": Out(16),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.runs = runs = Memory(shape=Run, depth=max(2, (self.max_channels + 1) // 2), init=[])
        write, read = runs.write_port(), runs.read_port(domain="sync")
        built = Signal(range(max(2, (self.max_channels + 1) // 2) + 1))

        channels = Signal(16)
        base = Signal(17)
        word = Signal(self.word_bits)
        chunks_left = Signal(range(self.word_bits // CHUNK + 1))
        bits = Signal(CHUNK)
        bits_valid = Signal()
        run_open = Signal()
        run_start = Signal(16)

        m.d.comb += write.addr.eq(built)

        def add_run(start, length):
            m.d.comb += [write.en.eq(1), write.data.start.eq(start), write.data.length.eq(length)]
            m.d.sync += [built.eq(built + 1), self.winners.eq(self.winners + length)]

        def next_chunk():
            m.d.sync += [bits_valid.eq(0), base.eq(base + CHUNK)]

        with m.FSM():
            with m.State("COMPLETE"):
                with m.If(self.build):
                    m.d.sync += [
                        self.done.eq(0), built.eq(0), self.winners.eq(0), channels.eq(self.channels), base.eq(0),
                        bits_valid.eq(0), chunks_left.eq(0), run_open.eq(0),
                    ]
                    with m.If(self.build_all):
                        m.next = "ALL"
                    with m.Else():
                        m.next = "MASK"
            with m.State("ALL"):
                add_run(0, channels)
                m.d.sync += self.done.eq(1)
                m.next = "COMPLETE"
            with m.State("MASK"):
                zeros = first_set(m, "first_winner", bits)
                ones = first_set(m, "first_loser", ~bits)
                with m.If(~bits_valid):
                    with m.If(base >= channels):
                        with m.If(run_open):
                            add_run(run_start, channels - run_start)
                        m.d.sync += self.done.eq(1)
                        m.next = "COMPLETE"
                    with m.Elif(chunks_left != 0):
                        left = Signal(17)
                        m.d.comb += left.eq(channels - base)
                        inside = Mux(left >= CHUNK, Const(2**CHUNK - 1, CHUNK), (Const(1, CHUNK + 1) << left[:5]) - 1)
                        m.d.sync += [
                            bits.eq(word[:CHUNK] & inside), bits_valid.eq(1),
                            word.eq(word >> CHUNK), chunks_left.eq(chunks_left - 1),
                        ]
                    with m.Else():
                        m.d.comb += self.i_mask.ready.eq(1)
                        m.d.sync += word.eq(self.i_mask.p.word)
                        with m.If(self.i_mask.valid):
                            m.d.sync += chunks_left.eq(self.i_mask.p.chunks)
                with m.Elif(~run_open):
                    with m.If(bits == 0):
                        next_chunk()
                    with m.Else():
                        # Ones below the start, so that the search for the run's end passes over them.
                        m.d.sync += [run_open.eq(1), run_start.eq(base + zeros), bits.eq(bits | (bits - 1))]
                with m.Else():
                    with m.If(bits.all()):
                        next_chunk()
                    with m.Else():
                        add_run(run_start, base + ones - run_start)
                        m.d.sync += [run_open.eq(0), bits.eq(bits & (bits + 1))]

        index = Signal.like(built)
        valid = Signal()
        advance = Signal()
        m.d.comb += [
            advance.eq(~valid | self.o_run.ready),
            read.addr.eq(index),
            read.en.eq(advance),
            self.o_run.valid.eq(valid),
            self.o_run.payload.eq(read.data),
            self.exhausted.eq(self.done & ~valid & (index == built)),
        ]
        with m.If(self.rewind | self.build):
            m.d.sync += [index.eq(0), valid.eq(0)]
        with m.Elif(advance):
            available = index < built
            m.d.sync += [valid.eq(available), index.eq(index + available)]
        return m
