"""Writes arriving activations into the on-chip plane layout: rows at the plane's pitch, columns sorted by phase."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .descriptor import LAYOUT
from .reader import beat_layout


class Unpacker(wiring.Component):
    """Cuts beats of activations at row ends and deals their bytes to the sub-planes of their phases.

    Throughput: with ``act_copy`` one beat a cycle; otherwise one piece (the part of a beat that lies in one row) for
    each ``load_phases`` cycles. Latency 2 cycles to the buffer's write port.

    Members
    -------
    i_beat:
        Beats of activations only.
    descriptor:
        Stable while its beats arrive.
    stall:
        Take nothing in this cycle: the buffer's write port is not free in the next one.
    write_*:
        The activation buffer's write port.
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
            "strip_loaded": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        axi_bytes, beat, descriptor = self.axi_bytes, self.i_beat.p, self.descriptor
        stride = descriptor.stride_x
        counts = range(axi_bytes + 1)

        # Where the next byte goes: start of its row in the sub-plane of column phase 0, its column as quotient and
        # remainder of the stride, and how many bytes of the beat are done.
        row, row_phase = Signal(24), Signal(2)
        column, quotient, remainder = Signal(16), Signal(16), Signal(2)
        taken, phase = Signal(counts), Signal(2)

        fresh = Signal()
        now_row, now_row_phase = Signal(24), Signal(2)
        now_column, now_quotient, now_remainder = Signal(16), Signal(16), Signal(2)
        m.d.comb += fresh.eq(beat.start & (taken == 0) & (phase == 0))
        for now, held, restart in ((now_row, row, beat.destination), (now_row_phase, row_phase, 0),
                                   (now_column, column, 0), (now_quotient, quotient, 0),
                                   (now_remainder, remainder, 0)):
            m.d.comb += now.eq(Mux(fresh, restart, held))

        # The piece: what is left of the beat, up to the end of the row.
        left_in_beat, left_in_row, piece = Signal(counts), Signal(16), Signal(counts)
        m.d.comb += [
            left_in_beat.eq(beat.count - taken),
            left_in_row.eq(descriptor.in_cols - now_column),
            piece.eq(Mux(left_in_row < left_in_beat, left_in_row, left_in_beat)),
        ]
        # Its bytes of this phase: the first of them, how many, and the column they start at.
        skip, piece_count = Signal(3), Signal(counts)
        span = Signal(range(axi_bytes + 8))
        m.d.comb += [
            skip.eq(Mux(phase >= now_remainder, phase - now_remainder, phase + stride - now_remainder)),
            span.eq(Mux(piece > skip, piece - skip + stride - 1, 0)),
        ]
        carry = Signal(range(axi_bytes + 8))
        next_quotient, next_remainder = Signal(range(axi_bytes + 8)), Signal(2)
        m.d.comb += carry.eq(now_remainder + piece)
        lanes = Signal(8 * axi_bytes)
        source = Signal(range(2 * axi_bytes))
        shifted = Signal(8 * axi_bytes)
        m.d.comb += [source.eq(beat.first + taken + skip), shifted.eq(beat.data >> (source << 3))]
        with m.Switch(stride):
            for s in (1, 2, 3, 4):
                with m.Case(s):
                    m.d.comb += lanes.eq(Cat(shifted.word_select(j * s, 8) for j in range(axi_bytes // s + 1)
                                             if j * s < axi_bytes))
                    with m.Switch(span):
                        for value in range(axi_bytes + 8):
                            with m.Case(value):
                                m.d.comb += piece_count.eq(value // s)
                    with m.Switch(carry):
                        for value in range(axi_bytes + 8):
                            with m.Case(value):
                                m.d.comb += [next_quotient.eq(value // s), next_remainder.eq(value % s)]

        copy = descriptor.act_copy
        row_ends = now_column + piece == descriptor.in_cols
        last_phase = phase == descriptor.load_phases - 1
        beat_ends = taken + piece == beat.count
        phase_offset = Signal(24)
        with m.Switch(phase):
            for p in (1, 2, 3):
                with m.Case(p):
                    m.d.comb += phase_offset.eq(descriptor.plane_bytes * p)
        all_phases = Signal(24)
        with m.Switch(stride):
            for s in (1, 2, 3, 4):
                with m.Case(s):
                    m.d.comb += all_phases.eq(descriptor.plane_bytes * s)
        back_up = Signal(24)
        with m.Switch(descriptor.stride_y):
            for s in (2, 3, 4):
                with m.Case(s):
                    m.d.comb += back_up.eq(all_phases * (s - 1))

        strip_end = Signal(2)
        m.d.comb += self.strip_loaded.eq(strip_end[1])
        m.d.sync += strip_end.eq(Cat(self.i_beat.valid & self.i_beat.ready & beat.strip_end, strip_end[0]))
        m.d.comb += self.i_beat.ready.eq((copy | (last_phase & beat_ends) | (beat.count == 0)) & ~self.stall)
        takes = self.i_beat.valid & (beat.count != 0) & ~self.stall
        m.d.sync += self.write_enable.eq(takes & (copy | (piece_count != 0)))
        with m.If(takes):
            with m.If(copy):
                m.d.sync += [
                    self.write_offset.eq(beat.destination), self.write_data.eq(beat.data),
                    self.write_first.eq(beat.first), self.write_count.eq(beat.count),
                ]
            with m.Else():
                m.d.sync += [
                    self.write_offset.eq(now_row + phase_offset + now_quotient + (phase < now_remainder)),
                    self.write_data.eq(lanes), self.write_first.eq(0), self.write_count.eq(piece_count),
                    row.eq(now_row), row_phase.eq(now_row_phase),
                    column.eq(now_column), quotient.eq(now_quotient), remainder.eq(now_remainder),
                    phase.eq(phase + 1),
                ]
                with m.If(last_phase):
                    m.d.sync += [phase.eq(0), taken.eq(Mux(beat_ends, 0, taken + piece))]
                    with m.If(row_ends):
                        m.d.sync += [column.eq(0), quotient.eq(0), remainder.eq(0)]
                        with m.If(now_row_phase == descriptor.stride_y - 1):
                            m.d.sync += [row_phase.eq(0), row.eq(now_row + descriptor.pitch - back_up)]
                        with m.Else():
                            m.d.sync += [row_phase.eq(now_row_phase + 1), row.eq(now_row + all_phases)]
                    with m.Else():
                        m.d.sync += [column.eq(now_column + piece), quotient.eq(now_quotient + next_quotient),
                                     remainder.eq(next_remainder)]
        return m
