"""The AXI4 write master: runs of bytes out, packed into full beats and aligned bursts."""

from enum import IntEnum

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from .buffer import rotate_left_bytes
from .reader import BURST_BEATS

FIFO_BEATS = 32
HEADROOM = 10
"""Beats that may still come after ``hold`` has gone high."""


class WriteKind(IntEnum):
    """What a run carries."""

    ACTIVATIONS = 0
    MASK = 1


class WriteRun(data.Struct):
    """``bytes`` consecutive bytes at ``address``, of which ``WriteKind`` ``kind``."""

    address: 32
    bytes: 32
    kind: 1


def chunk_layout(axi_bytes: int) -> data.StructLayout:
    """The lowest ``count`` bytes of ``data``; the first of their run start at lane ``lane`` of beat ``beat``."""
    return data.StructLayout({
        "valid": 1, "data": 8 * axi_bytes, "count": range(axi_bytes + 1), "first": 1, "last": 1,
        "lane": (axi_bytes - 1).bit_length(), "beat": range(BURST_BEATS),
    })


class Packer(wiring.Component):
    """Joins the chunks of a run into beats aligned in memory.

    One chunk a cycle; a run's last chunk may be followed by the next run's first after one idle cycle. Latency 1.

    Members: ``chunk`` (never stalled); ``beat_valid``, ``beat_data``, ``beat_strobe``, ``beat_last`` (last of its
    burst).
    """

    def __init__(self, *, axi_bytes: int):
        self.axi_bytes = axi_bytes
        super().__init__({
            "chunk": In(chunk_layout(axi_bytes)),
            "beat_valid": Out(1), "beat_data": Out(8 * axi_bytes), "beat_strobe": Out(axi_bytes), "beat_last": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        axi_bytes, chunk = self.axi_bytes, self.chunk
        lane_bits = (axi_bytes - 1).bit_length()

        # Stage 1: the chunk's bytes in their lanes, and which lanes these are, of its beat and of the one behind.
        fill, total, held_fill = Signal(lane_bits), Signal(range(2 * axi_bytes)), Signal(lane_bits)
        m.d.comb += [fill.eq(Mux(chunk.first, chunk.lane, held_fill)), total.eq(fill + chunk.count)]
        with m.If(chunk.valid):
            m.d.sync += held_fill.eq(total)
        rotated, lanes = Signal(8 * axi_bytes, reset_less=True), Signal(2 * axi_bytes, reset_less=True)
        valid, first, last, full, left_over = (
            Signal(name=name) for name in ("valid", "first", "last", "full", "left_over"))
        beat = Signal(range(BURST_BEATS))
        m.d.sync += [
            rotated.eq(rotate_left_bytes(m, "rotate", chunk.data, fill, axi_bytes)),
            lanes.eq(Cat((fill <= lane) & (total > lane) for lane in range(2 * axi_bytes))), valid.eq(chunk.valid),
            first.eq(chunk.first), last.eq(chunk.last), full.eq(total >= axi_bytes), left_over.eq(total > axi_bytes),
            beat.eq(chunk.beat),
        ]

        # Stage 2: they join what is held. A full beat leaves, and what is behind it is held; with a run's last chunk
        # all leaves, what is behind its beat in the next cycle.
        held_data, held_strobe, held_beat, flush = (
            Signal(8 * axi_bytes, reset_less=True), Signal(axi_bytes), Signal(range(BURST_BEATS)), Signal())
        merged, strobe, number = Signal(8 * axi_bytes), Signal(axi_bytes), Signal(range(BURST_BEATS))
        m.d.comb += [
            strobe.eq(Mux(first, 0, held_strobe) | lanes[:axi_bytes]), number.eq(Mux(first, beat, held_beat)),
            *(merged.word_select(lane, 8).eq(
                Mux(lanes[lane], rotated.word_select(lane, 8), held_data.word_select(lane, 8)))
              for lane in range(axi_bytes)),
            self.beat_valid.eq(flush | (valid & (full | last))),
            self.beat_data.eq(Mux(flush, held_data, merged)), self.beat_strobe.eq(Mux(flush, held_strobe, strobe)),
            self.beat_last.eq(flush | (last & ~left_over) | (number == BURST_BEATS - 1)),
        ]
        m.d.sync += flush.eq(valid & last & left_over)
        with m.If(valid):
            m.d.sync += [held_data.eq(Mux(full, rotated, merged)), held_beat.eq(number + full),
                         held_strobe.eq(Mux(full, lanes[axi_bytes:], strobe))]
        return m


class Writer(wiring.Component):
    """Issues a run's bursts ahead of its data and sends the beats that their addresses have gone out for.

    Bursts are INCR, of full width, at most 16 beats, and end at multiples of 16 beats. Throughput: one beat a cycle, a
    run every other cycle; a run's first address is offered 3 cycles after the run. Nothing is issued outside the
    window. The chunks of a run must come in full once the run has been taken.

    Members
    -------
    i_run, chunk:
        A run, and then its bytes.
    hold:
        Stop sending chunks; ``HEADROOM`` more are taken.
    aw_*, w_*, b_*:
        AXI4 AW, W and B channels.
    window_base, window_limit, abort, outside, failed, idle:
        As of :class:`hw.reader.Reader`; while ``abort`` is high, what has been issued is completed, and all else that
        comes is discarded.
    issued, issued_kind, issued_bytes, issued_beats:
        The address of a burst is offered from this cycle on (for the counters).
    """

    def __init__(self, *, axi_bytes: int):
        self.axi_bytes = axi_bytes
        super().__init__({
            "i_run": In(stream.Signature(WriteRun)), "chunk": In(chunk_layout(axi_bytes)), "hold": Out(1),
            "aw_valid": Out(1), "aw_ready": In(1), "aw_address": Out(32), "aw_length": Out(8),
            "w_valid": Out(1), "w_ready": In(1), "w_data": Out(8 * axi_bytes), "w_strobe": Out(axi_bytes),
            "w_last": Out(1), "b_valid": In(1), "b_ready": Out(1), "b_response": In(2),
            "window_base": In(32), "window_limit": In(32), "abort": In(1),
            "issued": Out(1), "issued_kind": Out(1), "issued_bytes": Out(range(BURST_BEATS * axi_bytes + 1)),
            "issued_beats": Out(range(BURST_BEATS + 1)),
            "outside": Out(1), "failed": Out(1), "idle": Out(1, init=1),
        })

    def elaborate(self, platform):
        m = Module()
        axi_bytes = self.axi_bytes
        m.submodules.packer = packer = Packer(axi_bytes=axi_bytes)
        m.d.comb += packer.chunk.eq(self.chunk)

        # Runs: one waits; its end and the bytes up to a boundary are known, its place in the window when it moves on.
        burst_bytes, lane_bits = BURST_BEATS * axi_bytes, (axi_bytes - 1).bit_length()
        waiting, waits, end = Signal(WriteRun, reset_less=True), Signal(), Signal(33, reset_less=True)
        room = Signal(range(burst_bytes + 1))
        m.d.comb += self.i_run.ready.eq(~waits)
        with m.If(~waits):
            m.d.sync += [
                waiting.eq(self.i_run.payload), end.eq(self.i_run.p.address + self.i_run.p.bytes),
                room.eq(burst_bytes - self.i_run.p.address[:(burst_bytes - 1).bit_length()]),
            ]

        # Bursts: the next one of ``size`` bytes, ``left`` behind it.
        address, kind, inside, busy = Signal(32, reset_less=True), Signal(), Signal(), Signal()
        size, left, final = Signal(range(burst_bytes + 1)), Signal(32, reset_less=True), Signal()
        go, moves, unanswered = Signal(), Signal(), Signal(16)
        beats = Signal(range(BURST_BEATS + 1))
        starts = ~busy | final
        to_split, most = Mux(starts, waiting.bytes, left), Mux(starts, room, burst_bytes)
        fits = to_split <= most
        m.d.comb += [
            go.eq(busy & inside & (~self.aw_valid | self.aw_ready) & ~unanswered[-1]),
            moves.eq(~busy | (go & final)), beats.eq((address[:lane_bits] + size + axi_bytes - 1) >> lane_bits),
        ]
        m.d.sync += [self.issued.eq(go), waits.eq(Mux(waits, ~moves, self.i_run.valid) & ~self.abort)]
        with m.If(~busy | go):
            m.d.sync += [size.eq(Mux(fits, to_split, most)), left.eq(to_split - most), final.eq(fits)]
        with m.If(self.aw_ready):
            m.d.sync += self.aw_valid.eq(0)
        with m.If(go):
            m.d.sync += [
                self.aw_valid.eq(1), self.aw_address.eq(address & ~(axi_bytes - 1)), self.aw_length.eq(beats - 1),
                self.issued_kind.eq(kind), self.issued_bytes.eq(size), self.issued_beats.eq(beats),
                address.eq(address + size),
            ]
        with m.If(moves):
            m.d.sync += [
                address.eq(waiting.address), kind.eq(waiting.kind), busy.eq(waits),
                inside.eq((waiting.address >= self.window_base) & (end <= self.window_limit)),
            ]
        with m.If(self.abort):
            m.d.sync += busy.eq(0)
        with m.If(busy & ~inside):
            m.d.sync += self.outside.eq(1)

        # Data: only beats whose address has been issued. ``allowed``: how many, less one, so that the sign tells.
        beat = data.StructLayout({"data": 8 * axi_bytes, "strobe": axi_bytes, "last": 1})
        m.submodules.beats = fifo = SyncFIFOBuffered(width=beat.size, depth=FIFO_BEATS)
        head = beat(fifo.r_data)
        allowed, sent = Signal(signed(17), init=-1), Signal()
        m.d.comb += [
            fifo.w_en.eq(packer.beat_valid),
            fifo.w_data.eq(Cat(packer.beat_data, packer.beat_strobe, packer.beat_last)),
            self.w_valid.eq(fifo.r_rdy & (allowed >= 0)),
            self.w_data.eq(head.data), self.w_strobe.eq(head.strobe), self.w_last.eq(head.last),
            sent.eq(self.w_valid & self.w_ready), fifo.r_en.eq(sent),
            self.b_ready.eq(1),
        ]
        m.d.sync += [
            allowed.eq(allowed + Mux(self.issued, self.issued_beats, 0) - sent),
            unanswered.eq(unanswered + (self.issued - self.b_valid)),
            # A beat may come in this cycle.
            self.hold.eq((fifo.level >= FIFO_BEATS - HEADROOM - 1) & ~(self.abort & (allowed < 0))),
            self.idle.eq(~self.i_run.valid & ~waits & ~busy & ~self.aw_valid & ~self.issued
                         & (unanswered[1:] == 0) & (~unanswered[0] | self.b_valid)),
        ]
        with m.If(self.b_valid & (self.b_response != 0)):
            m.d.sync += self.failed.eq(1)
        return m
