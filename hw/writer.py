"""The AXI4 write master: runs of bytes out, packed into full beats and aligned bursts."""

from enum import IntEnum

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from .buffer import rotate_left_bytes
from .reader import BURST_BEATS, burst_split

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
        held_data, held_strobe = Signal(8 * axi_bytes), Signal(axi_bytes)
        held_fill, held_beat, flush = Signal(lane_bits), Signal(range(BURST_BEATS)), Signal()
        fill, beat = Signal(lane_bits), Signal(range(BURST_BEATS))
        total = Signal(range(2 * axi_bytes + 1))
        m.d.comb += [
            fill.eq(Mux(chunk.first, chunk.lane, held_fill)), beat.eq(Mux(chunk.first, chunk.beat, held_beat)),
            total.eq(fill + chunk.count),
        ]
        rotated = rotate_left_bytes(m, "rotate", chunk.data, fill, axi_bytes)
        lanes = Signal(2 * axi_bytes)
        m.d.comb += lanes.eq(((Const(1, axi_bytes + 1) << chunk.count) - 1)[:axi_bytes] << fill)
        merged = Signal(8 * axi_bytes)
        strobe = Signal(axi_bytes)
        old_strobe = Mux(chunk.first, 0, held_strobe)
        m.d.comb += strobe.eq(old_strobe | lanes[:axi_bytes])
        for lane in range(axi_bytes):
            m.d.comb += merged.word_select(lane, 8).eq(
                Mux(lanes[lane], rotated.word_select(lane, 8), held_data.word_select(lane, 8)))
        full = total >= axi_bytes
        left_over = total > axi_bytes
        m.d.sync += [self.beat_valid.eq(0), flush.eq(0)]
        with m.If(flush):
            m.d.sync += [
                self.beat_valid.eq(1), self.beat_data.eq(held_data), self.beat_strobe.eq(held_strobe),
                self.beat_last.eq(1),
            ]
        with m.Elif(chunk.valid):
            m.d.sync += [held_fill.eq(total), flush.eq(chunk.last & left_over)]
            with m.If(full | chunk.last):
                m.d.sync += [
                    self.beat_valid.eq(1), self.beat_data.eq(merged), self.beat_strobe.eq(strobe),
                    self.beat_last.eq((chunk.last & ~left_over) | (beat == BURST_BEATS - 1)),
                    held_data.eq(rotated), held_strobe.eq(lanes[axi_bytes:]), held_beat.eq(beat + 1),
                ]
            with m.Else():
                m.d.sync += [held_data.eq(merged), held_strobe.eq(strobe), held_beat.eq(beat)]
        return m


class Writer(wiring.Component):
    """Issues a run's bursts ahead of its data and sends the beats that their addresses have gone out for.

    Bursts are INCR, of full width, at most 16 beats, and end at multiples of 16 beats. Throughput: one beat a cycle.
    Nothing is issued outside the window. The chunks of a run must come in full once the run has been taken.

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
        One burst was issued in this cycle (for the counters).
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
            "outside": Out(1), "failed": Out(1), "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        axi_bytes = self.axi_bytes
        m.submodules.packer = packer = Packer(axi_bytes=axi_bytes)
        m.d.comb += packer.chunk.eq(self.chunk)

        # Addresses.
        run, busy = Signal(WriteRun), Signal()
        size, beats = burst_split(m, address=run.address, left=run.bytes, axi_bytes=axi_bytes)
        unanswered = Signal(16)
        inside, go, final = Signal(), Signal(), Signal()
        end = Signal(33)
        m.d.comb += [
            end.eq(run.address + run.bytes),
            inside.eq((run.address >= self.window_base) & (end <= self.window_limit)),
            go.eq(busy & inside & (~self.aw_valid | self.aw_ready) & ~self.abort & ~unanswered[-1]),
            final.eq(run.bytes == size),
            self.i_run.ready.eq(~busy | (go & final) | self.abort),
            self.issued.eq(go), self.issued_kind.eq(run.kind), self.issued_bytes.eq(size),
            self.issued_beats.eq(beats),
        ]
        with m.If(busy & ~inside):
            m.d.sync += self.outside.eq(1)
        with m.If(self.aw_valid & self.aw_ready):
            m.d.sync += self.aw_valid.eq(0)
        with m.If(go):
            m.d.sync += [
                self.aw_valid.eq(1), self.aw_address.eq(run.address & ~(axi_bytes - 1)), self.aw_length.eq(beats - 1),
                run.address.eq(run.address + size), run.bytes.eq(run.bytes - size),
            ]
            with m.If(final):
                m.d.sync += busy.eq(0)
        with m.If(self.i_run.valid & self.i_run.ready):
            m.d.sync += [run.eq(self.i_run.payload), busy.eq(1)]
        with m.If(self.abort):
            m.d.sync += busy.eq(0)

        # Data: only beats whose address has been issued.
        beat = data.StructLayout({"data": 8 * axi_bytes, "strobe": axi_bytes, "last": 1})
        m.submodules.beats = fifo = SyncFIFOBuffered(width=beat.size, depth=FIFO_BEATS)
        head = beat(fifo.r_data)
        allowed = Signal(16)
        sent = Signal()
        m.d.comb += [
            fifo.w_en.eq(packer.beat_valid),
            fifo.w_data.eq(Cat(packer.beat_data, packer.beat_strobe, packer.beat_last)),
            self.hold.eq((fifo.level >= FIFO_BEATS - HEADROOM) & ~(self.abort & (allowed == 0))),
            self.w_valid.eq(fifo.r_rdy & (allowed != 0)),
            self.w_data.eq(head.data), self.w_strobe.eq(head.strobe), self.w_last.eq(head.last),
            sent.eq(self.w_valid & self.w_ready), fifo.r_en.eq(sent),
            self.b_ready.eq(1),
            self.idle.eq(~busy & ~self.aw_valid & (allowed == 0) & (unanswered == 0) & ~self.i_run.valid),
        ]
        m.d.sync += [
            allowed.eq(allowed + Mux(go, beats, 0) - sent),
            unanswered.eq(unanswered + go - self.b_valid),
        ]
        with m.If(self.b_valid & (self.b_response != 0)):
            m.d.sync += self.failed.eq(1)
        return m
