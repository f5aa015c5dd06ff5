"""The AXI4 read master: segments of bytes in, beats with their lanes and destinations out."""

from enum import IntEnum

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect

from .skid_buffer import SkidBuffer

BURST_BEATS = 16


class Kind(IntEnum):
    """What a segment carries."""

    DESCRIPTOR = 0
    MASK = 1
    PARAMETERS = 2
    ACTIVATIONS = 3
    WEIGHTS = 4


class Segment(data.Struct):
    """``bytes`` consecutive bytes from ``address``; of length 0 with ``strip_end`` as a mark in the order of the data.

    ``destination``: offset of the first byte on chip (activations only). ``start``: the first of a channel's strip.
    """

    kind: 3
    address: 32
    bytes: 32
    destination: 24
    start: 1
    strip_end: 1


def beat_layout(axi_bytes: int) -> data.StructLayout:
    """A beat's payload: lanes ``first .. first + count - 1`` of ``data``, the first of them for ``destination``."""
    return data.StructLayout({
        "kind": 3, "data": 8 * axi_bytes, "first": range(axi_bytes), "count": range(axi_bytes + 1),
        "destination": 24, "start": 1, "strip_end": 1,
    })


class Reader(wiring.Component):
    """Splits segments into aligned bursts, keeps several in flight, and labels the beats that come back.

    Bursts are INCR, of full width, at most 16 beats, and end at multiples of 16 beats: so they never cross 4 KiB.
    All of one ID, so data return in order. Throughput: one burst issued and one beat returned a cycle. Latency: a
    segment's first address stands on AXI 4 cycles after the segment is offered, a beat at the output 1 cycle after its
    data. A burst of weights is issued only when the weight buffer has room for it, a burst of any kind only inside the
    window.

    Members
    -------
    i_segment, o_beat:
        What to read, and the beats.
    ar_*, r_*:
        AXI4 AR and R channels.
    window_base, window_limit:
        Addresses allowed; stable while running.
    weights_freed:
        Bytes of the weight buffer freed in this cycle.
    abort:
        From the second cycle in which it is high: issue nothing more and discard what arrives.
    issued, issued_kind, issued_bytes, issued_beats:
        One burst was issued in this cycle (for the counters).
    outside, failed:
        Level, until reset: a burst outside the window was asked for (and not issued); an error response came.
    idle:
        Nothing is outstanding at the AXI port.
    """

    def __init__(self, *, axi_bytes: int, outstanding: int, weight_buffer_bytes: int):
        self.axi_bytes, self.outstanding, self.weight_buffer_bytes = axi_bytes, outstanding, weight_buffer_bytes
        super().__init__({
            "i_segment": In(stream.Signature(Segment)),
            "o_beat": Out(stream.Signature(beat_layout(axi_bytes))),
            "ar_valid": Out(1), "ar_ready": In(1), "ar_address": Out(32), "ar_length": Out(8),
            "r_valid": In(1), "r_ready": Out(1), "r_data": In(8 * axi_bytes), "r_response": In(2),
            "window_base": In(32), "window_limit": In(32),
            "weights_freed": In(range(weight_buffer_bytes + 1)),
            "abort": In(1),
            "issued": Out(1), "issued_kind": Out(3), "issued_bytes": Out(range(BURST_BEATS * axi_bytes + 1)),
            "issued_beats": Out(range(BURST_BEATS + 1)),
            "outside": Out(1), "failed": Out(1), "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        axi_bytes = self.axi_bytes
        lane_bits = (axi_bytes - 1).bit_length()

        # Stage 1: what is offered. Stage 2: the segment that follows, with the size of its first burst, which is up to
        # the next boundary, and what of it goes to the weight buffer. Stage 3: the segment in work, with the size of
        # the burst in turn and what is left behind it.
        m.submodules.segments = segments = SkidBuffer(Segment)
        connect(m, wiring.flipped(self.i_segment), segments.i)
        offered = segments.o.p
        burst_bytes, boundary = BURST_BEATS * axi_bytes, (BURST_BEATS * axi_bytes - 1).bit_length()
        waiting, following, moves = Signal(), Signal(Segment, reset_less=True), Signal()
        first_size, first_fills = (
            Signal(range(burst_bytes + 1), name=n, reset_less=True) for n in ("first_size", "first_fills"))
        first_final, end = Signal(), Signal(33, reset_less=True)
        # From the boundary before its first byte on, so that what is left behind each burst is less by a whole one.
        from_boundary = Signal(33, reset_less=True)
        busy, segment, left = Signal(), Signal(Segment, reset_less=True), Signal(32, reset_less=True)
        size, final, whole = Signal.like(first_size), Signal(), Signal()
        is_mark, inside, abort = Signal(), Signal(), Signal()
        m.d.sync += abort.eq(self.abort)

        room, one_burst = Signal.like(first_size), Signal()
        m.d.comb += [
            room.eq(burst_bytes - offered.address[:boundary]),
            one_burst.eq((offered.bytes[boundary:] == 0) & (offered.bytes[:boundary] <= room)),
            segments.o.ready.eq(~waiting | moves),
        ]
        split = Signal.like(first_size)
        m.d.comb += split.eq(Mux(one_burst, offered.bytes[:boundary], room))
        with m.If(segments.o.ready):
            m.d.sync += [
                waiting.eq(segments.o.valid & ~abort), following.eq(offered), first_size.eq(split),
                first_fills.eq(Mux(offered.kind == Kind.WEIGHTS, split, 0)), end.eq(offered.address + offered.bytes),
                first_final.eq(offered.bytes == split),
                from_boundary.eq(offered.bytes + offered.address[:boundary]),
            ]

        # Bursts whose data are still to come.
        label = data.StructLayout({
            "kind": 3, "first": lane_bits, "bytes": len(size), "one_beat": 1, "destination": 24, "start": 1,
            "strip_end": 1,
        })
        # Of the FIFO's places one is behind a register: with two in all the second label could not come at once.
        m.submodules.labels = labels = SyncFIFOBuffered(width=label.size, depth=max(3, self.outstanding))
        pushed, head = label(labels.w_data), label(labels.r_data)

        # Free bytes of the weight buffer beyond those that the burst in turn fills, fewer than none where it does not
        # fit. What the burst behind it fills is known before it is known whether this one goes.
        beyond = Signal(signed(self.weight_buffer_bytes.bit_length() + 1), init=self.weight_buffer_bytes)
        next_size, next_fills = Signal.like(size), Signal.like(size)
        go, first_lane, full = Signal(), segment.address[:lane_bits], Signal()
        m.d.comb += [
            next_size.eq(Mux(whole, burst_bytes, left[:boundary])),
            next_fills.eq(Mux(busy & ~final, Mux(segment.kind == Kind.WEIGHTS, next_size, 0),
                              Mux(waiting, first_fills, 0))),
            go.eq(busy & inside & (beyond >= 0) & ~full & (~self.ar_valid | self.ar_ready | is_mark) & ~abort),
            moves.eq(~busy | (go & final) | abort),
            labels.w_en.eq(go),
            pushed.kind.eq(segment.kind),
            pushed.first.eq(first_lane),
            pushed.bytes.eq(size),
            pushed.one_beat.eq(first_lane + size <= axi_bytes),
            pushed.destination.eq(segment.destination),
            pushed.start.eq(segment.start),
            pushed.strip_end.eq(segment.strip_end & final),
            self.issued.eq(go & ~is_mark),
            self.issued_kind.eq(segment.kind),
            self.issued_bytes.eq(size),
            self.issued_beats.eq((first_lane + size + axi_bytes - 1) >> lane_bits),
        ]
        # One that comes back in this cycle counts in the next.
        m.d.sync += full.eq((labels.level == self.outstanding) | ((labels.level == self.outstanding - 1) & go))
        with m.If(busy & ~inside):
            m.d.sync += self.outside.eq(1)
        with m.If(self.ar_valid & self.ar_ready):
            m.d.sync += self.ar_valid.eq(0)
        with m.If(go):
            # Bursts behind the first begin at a boundary; behind the last nothing counts any more.
            m.d.sync += [
                segment.address.eq(segment.address + size),
                segment.destination.eq(segment.destination + size),
                segment.start.eq(0),
                size.eq(next_size),
                final.eq(left <= burst_bytes),
                left.eq(left - burst_bytes),
                whole.eq(left >= 2 * burst_bytes),
            ]
            with m.If(~is_mark):
                m.d.sync += [
                    self.ar_valid.eq(1),
                    self.ar_address.eq(segment.address & ~(axi_bytes - 1)),
                    self.ar_length.eq((first_lane + size - 1) >> lane_bits),
                ]
        with m.If(moves):
            m.d.sync += [
                busy.eq(waiting & ~abort), segment.eq(following), size.eq(first_size), final.eq(first_final),
                left.eq(from_boundary - burst_bytes), whole.eq(from_boundary >= 2 * burst_bytes),
                is_mark.eq(following.bytes == 0),
                inside.eq((following.bytes == 0)
                          | ((following.address >= self.window_base) & (end <= self.window_limit))),
            ]
        m.d.sync += beyond.eq(beyond + self.weights_freed)
        with m.If(go | ~busy):
            m.d.sync += beyond.eq(beyond + self.weights_freed - next_fills)

        # Beats back: label each with its lanes, one register stage before it is distributed.
        begun = Signal()
        rest, destination = Signal(len(size), reset_less=True), Signal(24, reset_less=True)
        first, bytes_left, room, count = (Signal(lane_bits), Signal(len(size)), Signal(range(axi_bytes + 1)),
                                          Signal(range(axi_bytes + 1)))
        take = Signal()
        is_last, rest_is_last = Signal(), Signal()
        empty = Signal()
        m.submodules.beats = beats_back = SkidBuffer(beat_layout(axi_bytes))
        beat = beats_back.i.p
        m.d.comb += [
            first.eq(Mux(begun, 0, head.first)),
            bytes_left.eq(Mux(begun, rest, head.bytes)),
            room.eq(axi_bytes - first),
            is_last.eq(Mux(begun, rest_is_last, head.one_beat)),
            count.eq(Mux(is_last, bytes_left, room)),
            empty.eq(head.bytes == 0),
            take.eq(labels.r_rdy & (self.r_valid | empty) & beats_back.i.ready),
            self.r_ready.eq(labels.r_rdy & ~empty & beats_back.i.ready),
            beats_back.i.valid.eq(take & ~abort), beats_back.o.ready.eq(self.o_beat.ready | abort),
            self.o_beat.valid.eq(beats_back.o.valid), self.o_beat.payload.eq(beats_back.o.payload),
            beat.kind.eq(head.kind), beat.data.eq(self.r_data), beat.first.eq(first), beat.count.eq(count),
            beat.destination.eq(Mux(begun, destination, head.destination)), beat.start.eq(head.start & ~begun),
            beat.strip_end.eq(head.strip_end & is_last),
            labels.r_en.eq(take & is_last),
            self.idle.eq(~labels.r_rdy & ~self.ar_valid & (labels.level == 0)),
        ]
        with m.If(take):
            m.d.sync += [
                destination.eq(Mux(begun, destination, head.destination) + count),
                rest.eq(bytes_left - room), rest_is_last.eq(bytes_left <= room + axi_bytes),
                begun.eq(~is_last),
            ]
            with m.If(~empty & (self.r_response != 0)):
                m.d.sync += self.failed.eq(1)
        return m
