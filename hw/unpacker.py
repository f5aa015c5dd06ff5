"""Writes arriving activations into the on-chip plane layout: rows at the plane's pitch, columns sorted by phase."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .descriptor import LAYOUT
from .reader import beat_layout


class Unpacker(wiring.Component):
    """Cuts beats of activations at row ends and deals their bytes to the sub-planes of their phases.

    Throughput: with ``act_copy`` one beat a cycle; otherwise one piece (the part of a beat that lies in one row) for
    each ``load_phases`` cycles. Latency 4 cycles to the buffer's write port.

    Members
    -------
    i_beat:
        Beats of activations only.
    descriptor:
        Stable from three cycles before its beats arrive until ``idle``.
    stall:
        Nothing moves in this cycle: the buffer's write port is not free in the next one.
    write_*:
        The activation buffer's write port.
    idle:
        No beat is on its way to the buffer.
    strip_loaded:
        Strobe: all bytes up to a strip's end are readable.
    """

    def __init__(self, *, axi_bytes: int):
        self.axi_bytes = axi_bytes
        super().__init__({
            "i_beat": In(stream.Signature(beat_layout(axi_bytes))),
            "descriptor": In(LAYOUT), "stall": In(1),
            "write_enable": Out(1), "write_offset": Out(24), "write_data": Out(8 * axi_bytes),
            "write_first": Out(range(axi_bytes)), "write_count": Out(range(axi_bytes + 1)),
            "idle": Out(1), "strip_loaded": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        axi_bytes, beat, descriptor = self.axi_bytes, self.i_beat.p, self.descriptor
        # Copies beside those who ask for them in every cycle.
        stride, copy, in_cols = Signal(3), Signal(), Signal(16, reset_less=True)
        m.d.sync += [stride.eq(descriptor.stride_x), copy.eq(descriptor.act_copy), in_cols.eq(descriptor.in_cols)]
        counts, spans = range(axi_bytes + 1), range(axi_bytes + 8)

        # Distances of the sub-planes, before the first beat comes.
        phase_offsets = [Signal(24, name=f"phase_offset{p}", reset_less=True) for p in range(4)]
        all_phases, back_up, to_next_pitch = (
            Signal(24, name=n, reset_less=True) for n in ("all_phases", "back_up", "to_next_pitch"))
        m.d.sync += [offset.eq(descriptor.plane_bytes * p) for p, offset in enumerate(phase_offsets)]
        with m.Switch(descriptor.stride_x):
            for s in (1, 2, 3, 4):
                with m.Case(s):
                    m.d.sync += all_phases.eq(descriptor.plane_bytes * s)
        with m.Switch(descriptor.stride_y):
            for s in (1, 2, 3, 4):
                with m.Case(s):
                    m.d.sync += back_up.eq(all_phases * (s - 1))
        m.d.sync += to_next_pitch.eq(descriptor.pitch - back_up)

        # Stage 1: the piece, which is what is left of the beat, up to the end of the row.
        piece = Signal(data.StructLayout({
            "data": 8 * axi_bytes, "source": range(axi_bytes), "count": counts, "destination": 24,
            "row_ends": 1, "strip_end": 1}), reset_less=True)
        piece_valid, piece_done, restarts = Signal(), Signal(), Signal()
        # ``whole``: nothing of the beat has been taken.
        taken, whole, left_in_row = Signal(counts), Signal(init=1), Signal(16, reset_less=True)
        fresh, now_left, left_in_beat, beyond = Signal(), Signal(16), Signal(counts), Signal(signed(17))
        # ``far``: more is left in the row than any beat has; known with what is left, so that few bits are compared.
        low = len(left_in_beat)
        far, far_whole = Signal(), Signal()
        now_far, now_low = Mux(fresh, far_whole, far), Mux(fresh, in_cols[:low], left_in_row[:low])
        row_ends, beat_ends = Signal(), Signal()
        mark = beat.count == 0
        piece_free = ~piece_valid | piece_done
        moves = ~self.stall
        m.d.sync += far_whole.eq(descriptor.in_cols[low:].any())
        m.d.comb += [
            fresh.eq(beat.start & whole),
            now_left.eq(Mux(fresh, in_cols, left_in_row)),
            left_in_beat.eq(beat.count - taken),
            beyond.eq(now_left - left_in_beat),
            row_ends.eq(~now_far & (now_low <= left_in_beat)),
            beat_ends.eq(now_far | (now_low >= left_in_beat) | copy | mark),
            self.i_beat.ready.eq(beat_ends & piece_free),
        ]
        with m.If(moves):
            m.d.sync += restarts.eq(0)
        with m.If(piece_free):
            m.d.sync += [
                piece_valid.eq(self.i_beat.valid), piece.data.eq(beat.data),
                piece.source.eq(beat.first + taken), piece.destination.eq(beat.destination), restarts.eq(fresh),
                piece.count.eq(Mux(row_ends & ~copy & ~mark, now_left, left_in_beat)), piece.row_ends.eq(row_ends),
                piece.strip_end.eq(beat.strip_end & beat_ends),
            ]
            with m.If(self.i_beat.valid & ~copy & ~mark):
                m.d.sync += [
                    left_in_row.eq(Mux(row_ends, in_cols, beyond)),
                    far.eq(Mux(row_ends, far_whole, beyond[low:16].any())),
                    taken.eq(Mux(beat_ends, 0, taken + now_left)), whole.eq(beat_ends),
                ]

        # Stage 2: its bytes of one phase after the other. Kept: start of the row in the sub-plane of column phase 0,
        # the column of the next byte as quotient and remainder of the stride, and the bytes that the phase skips; from
        # the start in the first phase of a strip's first piece (``restarts``).
        row, row_phase = Signal(24, reset_less=True), Signal(2)
        quotient, remainder, phase = Signal(16, reset_less=True), Signal(2), Signal(2)
        now_row, now_row_phase, now_quotient, now_remainder = Signal(24), Signal(2), Signal(16), Signal(2)
        # ``pending``: what the piece before adds to the quotient.
        pending = Signal(spans)
        # The first of them, how many columns from there to the piece's end, and where the next piece starts: by a
        # table, as a sum and its quotient would take one behind the other.
        skip_held, skip, span = Signal(2), Signal(2), Signal(spans)
        next_quotient, next_remainder, next_skip = Signal(spans), Signal(2), Signal(2)
        for now, held, restart in (
                (now_row, row, piece.destination), (now_row_phase, row_phase, 0),
                (now_quotient, quotient + pending, 0), (now_remainder, remainder, 0), (skip, skip_held, 0)):
            m.d.comb += now.eq(Mux(restarts, restart, held))
        m.d.comb += span.eq(Mux(piece.count > skip, piece.count - skip + stride - 1, 0))
        with m.Switch(stride):
            for s in (1, 2, 3, 4):
                with m.Case(s), m.Switch(Cat(piece.count, now_remainder)):
                    for first in range(s):
                        for count in counts:
                            with m.Case(count | first << len(piece.count)):
                                m.d.comb += [next_quotient.eq((first + count) // s),
                                             next_remainder.eq((first + count) % s), next_skip.eq(-(first + count) % s)]
        next_phase, last_phase = Signal(2), Signal()
        m.d.comb += next_phase.eq(phase)
        m.d.sync += [phase.eq(next_phase), last_phase.eq(next_phase == descriptor.load_phases - 1)]
        m.d.comb += piece_done.eq(moves & (copy | last_phase | (piece.count == 0)))

        dealt = Signal(data.StructLayout({
            "valid": 1, "data": 8 * axi_bytes, "first": range(axi_bytes), "span": spans, "base": 24, "column": 16,
            "strip_end": 1}), reset_less=True)
        source = Signal(range(2 * axi_bytes))
        m.d.comb += source.eq(piece.source + skip)
        with m.If(moves):
            m.d.sync += [
                dealt.valid.eq(piece_valid), dealt.strip_end.eq(piece_valid & piece.strip_end & piece_done),
                dealt.span.eq(Mux(copy, piece.count, span)), dealt.first.eq(Mux(copy, piece.source, 0)),
                dealt.data.eq(Mux(copy, piece.data, piece.data >> (source << 3))),
                dealt.base.eq(Mux(copy, piece.destination, now_row + Array(phase_offsets)[phase])),
                # In a single carry chain.
                dealt.column.eq(Mux(copy | restarts, 0, (Cat(1, quotient) + Cat(phase < remainder, pending))[1:])),
            ]
            with m.If(piece_valid & ~copy & (piece.count != 0)):
                m.d.comb += next_phase.eq(Mux(last_phase, 0, phase + 1))
                m.d.sync += [row.eq(now_row), row_phase.eq(now_row_phase), quotient.eq(now_quotient), pending.eq(0),
                             remainder.eq(now_remainder), skip_held.eq(Mux(skip == stride - 1, 0, skip + 1))]
                with m.If(last_phase):
                    with m.If(piece.row_ends):
                        m.d.sync += [quotient.eq(0), remainder.eq(0), skip_held.eq(0)]
                        with m.If(now_row_phase == descriptor.stride_y - 1):
                            m.d.sync += [row_phase.eq(0), row.eq(now_row + to_next_pitch)]
                        with m.Else():
                            m.d.sync += [row_phase.eq(now_row_phase + 1), row.eq(now_row + all_phases)]
                    with m.Else():
                        m.d.sync += [pending.eq(next_quotient), remainder.eq(next_remainder),
                                     skip_held.eq(next_skip)]

        # Stage 3: every byte of that phase; the write port. Stage 4: written.
        lanes, number = Signal(8 * axi_bytes), Signal(counts)
        m.d.comb += [lanes.eq(dealt.data), number.eq(dealt.span)]
        with m.If(~copy):
            with m.Switch(stride):
                for s in (1, 2, 3, 4):
                    with m.Case(s):
                        m.d.comb += lanes.eq(Cat(dealt.data.word_select(lane, 8) for lane in range(0, axi_bytes, s)))
                        with m.Switch(dealt.span):
                            for value in spans:
                                with m.Case(value):
                                    m.d.comb += number.eq(value // s)
        strip_written = Signal()
        m.d.comb += self.idle.eq(~piece_valid & ~dealt.valid)
        m.d.sync += [
            self.write_enable.eq(moves & dealt.valid & (number != 0)),
            strip_written.eq(moves & dealt.strip_end), self.strip_loaded.eq(strip_written),
        ]
        with m.If(moves):
            m.d.sync += [
                self.write_offset.eq(dealt.base + dealt.column), self.write_data.eq(lanes),
                self.write_first.eq(dealt.first), self.write_count.eq(number),
            ]
        return m
