"""The winners as runs of consecutive channels, built once from a mask and walked many times."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .skid_buffer import SkidBuffer

CHUNK = 16


def encode(one_hot):
    """Index of the one bit of ``one_hot`` that is set (0 where there is none)."""
    bits = (len(one_hot) - 1).bit_length()
    return Cat(Cat(one_hot[i] for i in range(len(one_hot)) if i >> bit & 1).any() for bit in range(bits))


def without_first(bits):
    """Without the lowest bit that is set."""
    return bits & bits - 1


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

    Latency: ``ALL``: 2 cycles. From a mask: at most 1 cycle a run, 1 a chunk of 16 channels, 2 a word, and 4
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
        The list is complete and every run has been taken since ``rewind``, a cycle later.
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

        # Stage 1: a chunk of the mask, with what lies beyond the last channel cut off.
        channels, skip = Signal(16, reset_less=True), Signal(4)
        word, chunks_left = Signal(self.word_bits, reset_less=True), Signal(range(self.word_bits // CHUNK + 1))
        # ``left`` channels behind ``next_base``: whether there are any, a chunk of them, is known a chunk ahead.
        next_base, left = (Signal(16, name=n, reset_less=True) for n in ("next_base", "left"))
        more, whole, is_first = Signal(), Signal(), Signal()
        next_bits = Signal(CHUNK)
        m.submodules.chunks = chunks = SkidBuffer(data.StructLayout({"base": 16, "bits": CHUNK}))
        chunk, chunk_valid, take_chunk, listing = chunks.o.p, chunks.o.valid, chunks.o.ready, Signal()
        every = 2**CHUNK - 1
        m.d.comb += [
            next_bits.eq(word[:CHUNK] & self.limit
                         & Mux(whole, every, (Const(1, CHUNK + 1) << left[:4]) - 1)
                         & Mux(is_first, Const(every, CHUNK) << skip, every)),
            self.chunk_base.eq(next_base), self.chunk_bits.eq(next_bits),
            self.chunk_taken.eq(chunks.i.valid & chunks.i.ready),
            chunks.i.valid.eq(listing & (chunks_left != 0) & more),
            chunks.i.p.base.eq(next_base), chunks.i.p.bits.eq(next_bits),
            self.i_mask.ready.eq(listing & (chunks_left == 0) & more),
        ]
        with m.If(self.chunk_taken):
            m.d.sync += [
                next_base.eq(next_base + CHUNK), left.eq(left - CHUNK), more.eq(left > CHUNK),
                whole.eq(left >= 2 * CHUNK), is_first.eq(0), word.eq(word >> CHUNK), chunks_left.eq(chunks_left - 1),
            ]
        with m.If(self.i_mask.ready):
            m.d.sync += word.eq(self.i_mask.p.word)
            with m.If(self.i_mask.valid):
                m.d.sync += chunks_left.eq(self.i_mask.p.chunks)

        # Stage 2: the chunk in work. Of its runs not listed yet, the ``firsts`` and ``lasts`` channels; of these all
        # but the first run's, ``more_firsts`` and ``more_lasts``: registers, because the next chunk comes behind the
        # last run. An open run began in a chunk before.
        base, bits_valid = Signal(16, reset_less=True), Signal()
        firsts, lasts, more_firsts, more_lasts = (
            Signal(CHUNK, name=n, reset_less=True) for n in ("firsts", "lasts", "more_firsts", "more_lasts"))
        # Of these, beside them: there is no last, only that of the chunk's end, none behind the first.
        no_last, goes_on, no_more = Signal(), Signal(), Signal()
        run_open, run_start = Signal(), Signal(16, reset_less=True)
        start, end, ends_before = Signal(16), Signal(16), Signal()
        m.d.comb += [
            ends_before.eq(run_open & ~firsts[0]),
            start.eq(Mux(run_open, run_start, Cat(encode(firsts & ~more_firsts), base[4:]))),
            end.eq(Cat(Mux(ends_before, 0, encode(((lasts & ~more_lasts) << 1)[:CHUNK])), base[4:])),
        ]
        # Stage 3: the run that enters the list.
        run = Signal(data.StructLayout({"start": 16, "end": 16, "counts": 1, "last": 1}), reset_less=True)
        run_valid = Signal()
        m.d.comb += [
            write.addr.eq(built), write.data.start.eq(run.start - skip), write.data.length.eq(run.end - run.start),
            write.en.eq(run_valid & run.counts), self.completed.eq(run_valid & run.last),
            self.run_added.eq(write.en), self.added.eq(write.data),
        ]
        m.d.sync += run_valid.eq(0)
        with m.If(write.en):
            m.d.sync += [built.eq(built + 1), self.winners.eq(self.winners + write.data.length)]
        with m.If(self.completed):
            m.d.sync += self.done.eq(1)

        def add_run(start, end, *, counts=1, last=0):
            m.d.sync += [run_valid.eq(1), run.start.eq(start), run.end.eq(end), run.counts.eq(counts),
                         run.last.eq(last)]

        chunk_firsts, chunk_lasts = (chunk.bits & ~Cat(beside) for beside in (
            (Const(0, 1), chunk.bits[:-1]), (chunk.bits[1:], Const(0, 1))))

        def about(lasts):
            return [no_last.eq(lasts == 0), goes_on.eq(lasts == 1 << CHUNK - 1), no_more.eq(without_first(lasts) == 0)]

        def next_chunk():
            m.d.comb += take_chunk.eq(1)
            m.d.sync += [
                base.eq(chunk.base), bits_valid.eq(chunk_valid), firsts.eq(chunk_firsts), lasts.eq(chunk_lasts),
                more_firsts.eq(without_first(chunk_firsts)), more_lasts.eq(without_first(chunk_lasts)),
                *about(chunk_lasts),
            ]

        with m.FSM():
            with m.State("COMPLETE"):
                with m.If(self.build):
                    m.d.sync += [
                        self.done.eq(0), built.eq(0), self.winners.eq(0), channels.eq(self.channels),
                        skip.eq(self.skip), next_base.eq(0), left.eq(self.channels), more.eq(self.channels != 0),
                        whole.eq(self.channels >= CHUNK), is_first.eq(1), bits_valid.eq(0), chunks_left.eq(0),
                        run_open.eq(0),
                    ]
                    with m.If(self.build_all):
                        add_run(self.skip, self.channels, last=1)
                    with m.Else():
                        m.next = "MASK"
            with m.State("MASK"):
                m.d.comb += listing.eq(1)
                with m.If(~bits_valid):
                    next_chunk()
                    with m.If(~chunk_valid & ~more):
                        add_run(run_start, channels, counts=run_open, last=1)
                        m.next = "COMPLETE"
                with m.Elif(ends_before):
                    add_run(start, end)
                    m.d.sync += run_open.eq(0)
                    with m.If(no_last):
                        next_chunk()
                with m.Elif(no_last):
                    next_chunk()
                with m.Elif(goes_on):
                    # The run goes on in the next chunk.
                    m.d.sync += [run_open.eq(1), run_start.eq(start)]
                    next_chunk()
                with m.Else():
                    add_run(start, end)
                    m.d.sync += [
                        run_open.eq(0), firsts.eq(more_firsts), lasts.eq(more_lasts),
                        more_firsts.eq(without_first(more_firsts)), more_lasts.eq(without_first(more_lasts)),
                        *about(more_lasts),
                    ]
                    with m.If(no_more):
                        next_chunk()

        # The walk: index, then read, then offered from registers, as multipliers follow.
        index, reading, out = Signal.like(built), Signal(), self.o_run
        reads, offers = ~reading | ~out.valid | out.ready, ~out.valid | out.ready
        m.d.comb += [
            read.addr.eq(index), read.en.eq(reads),
        ]
        m.d.sync += self.exhausted.eq(
            self.done & ~reading & ~out.valid & (index == built) & ~self.rewind & ~self.build)
        with m.If(offers):
            m.d.sync += [out.valid.eq(reading), out.payload.eq(read.data)]
        with m.If(reads):
            available = index < built
            m.d.sync += [reading.eq(available), index.eq(index + available)]
        with m.If(self.rewind | self.build):
            m.d.sync += [index.eq(0), reading.eq(0), out.valid.eq(0)]
        return m
