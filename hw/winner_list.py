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

    Latency: ``ALL``: 2 cycles. From a mask: at most 1 cycle a run, 1 a chunk of 16 channels, 2 a word, and 2
    more. Throughput of a walk: one run a cycle.

    Members
    -------
    build, build_all, skip, channels:
        Strobe: start a new list of channels ``skip .. channels - 1`` (``skip`` below ``CHUNK``); all of them, or those
        of the words that follow at ``i_mask``.
    i_mask:
        The mask in channel order, channel 0 in bit 0; bits beyond ``channels`` are ignored.
    rewind:
        Strobe: the walk starts over.
    o_run:
        The runs in channel order, counted from channel ``skip``.
    exhausted:
        The list is complete and every run has been taken since ``rewind``.
    done, winners:
        The list is complete; the number of winners.
    chunk_taken, chunk_base, chunk_bits:
        Strobe: the flags of ``CHUNK`` channels from ``chunk_base`` on have entered the list.
    limit:
        Of the channels of the chunk at ``chunk_base`` only these may win.
    run_added, added, completed:
        Strobes: a run has entered the list; it is complete.
    """

    def __init__(self, *, max_channels: int, word_bits: int):
        self.max_channels, self.word_bits = max_channels, word_bits
        super().__init__({
            "build": In(1),
            "build_all": In(1),
            "skip": In(4),
            "channels": In(16),
            "i_mask": In(stream.Signature(mask_layout(word_bits))),
            "rewind": In(1),
            "o_run": Out(stream.Signature(Run)),
            "exhausted": Out(1),
            "done": Out(1, init=1),
            "winners": Out(16),
            "chunk_taken": Out(1),
            "chunk_base": Out(16),
            "chunk_bits": Out(CHUNK),
            "limit": In(CHUNK),
            "run_added": Out(1),
            "added": Out(Run),
            "completed": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.runs = runs = Memory(shape=Run, depth=max(2, (self.max_channels + 1) // 2), init=[])
        write, read = runs.write_port(), runs.read_port(domain="sync")
        built = Signal(range(max(2, (self.max_channels + 1) // 2) + 1))

        channels, skip = Signal(16), Signal(4)
        base = Signal(17)
        word = Signal(self.word_bits)
        chunks_left = Signal(range(self.word_bits // CHUNK + 1))
        bits = Signal(CHUNK)
        bits_valid = Signal()
        run_open = Signal()
        run_start = Signal(16)

        m.d.comb += write.addr.eq(built)

        def add_run(start, length):
            m.d.comb += [write.en.eq(1), write.data.start.eq(start - skip), write.data.length.eq(length)]
            m.d.sync += [built.eq(built + 1), self.winners.eq(self.winners + length)]

        # The chunk in work holds the winners not yet listed. ``filled``: ones also below the first of them (an open run
        # goes on from below), so that the first zero is the run's end.
        filled, ended = Signal(CHUNK), Signal(CHUNK)
        start, end = first_set(m, "first_winner", bits), first_set(m, "first_loser", ~filled)
        m.d.comb += [
            filled.eq(Mux(run_open, bits, bits | (bits - 1))),
            ended.eq(bits & ~(filled & ~(filled + 1))),
        ]

        # The chunk that follows, with what lies beyond the last channel cut off.
        next_base, left = Signal(17), Signal(17)
        next_bits = Signal(CHUNK)
        m.d.comb += [
            next_base.eq(Mux(bits_valid, base + CHUNK, base)), left.eq(channels - next_base),
            self.run_added.eq(write.en), self.added.eq(write.data),
            next_bits.eq(word[:CHUNK] & self.limit & Mux(left >= CHUNK, Const(2**CHUNK - 1, CHUNK),
                                            (Const(1, CHUNK + 1) << left[:5]) - 1)
                         & Mux(next_base == 0, Const(2**CHUNK - 1, CHUNK) << skip, 2**CHUNK - 1)),
            self.chunk_base.eq(next_base), self.chunk_bits.eq(next_bits),
        ]

        def next_chunk():
            m.d.sync += base.eq(next_base)
            with m.If((chunks_left != 0) & (next_base < channels)):
                m.d.comb += self.chunk_taken.eq(1)
                m.d.sync += [bits.eq(next_bits), bits_valid.eq(1), word.eq(word >> CHUNK),
                             chunks_left.eq(chunks_left - 1)]
            with m.Else():
                m.d.sync += bits_valid.eq(0)

        with m.FSM():
            with m.State("COMPLETE"):
                with m.If(self.build):
                    m.d.sync += [
                        self.done.eq(0), built.eq(0), self.winners.eq(0), channels.eq(self.channels),
                        skip.eq(self.skip), base.eq(0),
                        bits_valid.eq(0), chunks_left.eq(0), run_open.eq(0),
                    ]
                    with m.If(self.build_all):
                        m.next = "ALL"
                    with m.Else():
                        m.next = "MASK"
            with m.State("ALL"):
                add_run(skip, channels - skip)
                m.d.comb += self.completed.eq(1)
                m.d.sync += self.done.eq(1)
                m.next = "COMPLETE"
            with m.State("MASK"):
                with m.If(~bits_valid):
                    with m.If(base >= channels):
                        with m.If(run_open):
                            add_run(run_start, channels - run_start)
                        m.d.comb += self.completed.eq(1)
                        m.d.sync += self.done.eq(1)
                        m.next = "COMPLETE"
                    with m.Elif(chunks_left != 0):
                        next_chunk()
                    with m.Else():
                        m.d.comb += self.i_mask.ready.eq(1)
                        m.d.sync += word.eq(self.i_mask.p.word)
                        with m.If(self.i_mask.valid):
                            m.d.sync += chunks_left.eq(self.i_mask.p.chunks)
                with m.Elif((bits == 0) & ~run_open):
                    next_chunk()
                with m.Elif(filled.all()):
                    # The run goes on in the next chunk.
                    m.d.sync += run_open.eq(1)
                    with m.If(~run_open):
                        m.d.sync += run_start.eq(base + start)
                    next_chunk()
                with m.Else():
                    first = Mux(run_open, run_start, base + start)
                    add_run(first, base + end - first)
                    m.d.sync += [run_open.eq(0), bits.eq(ended)]
                    with m.If(ended == 0):
                        next_chunk()

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
