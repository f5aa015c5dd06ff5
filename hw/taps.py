"""The innermost loops: which bytes of the activation buffer the taps of a tile start at, one step a cycle."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .config import VECTOR_TAPS
from .descriptor import LAYOUT


class Step(data.Struct):
    """One read of the activation buffer.

    ``offset``: its first byte for position 0 of the tile. ``x``, ``y``: column and row of that byte's tap in its
    sub-plane, ``phase_x`` and ``phase_y`` which sub-plane. ``taps``: neighbouring taps taken at once. ``operand``: of
    an addition. ``first``, ``last``: of the tile.
    """

    offset: 24
    x: signed(9)
    y: signed(9)
    phase_x: 2
    phase_y: 2
    taps: range(VECTOR_TAPS + 1)
    operand: 1
    first: 1
    last: 1


class TapWalk(wiring.Component):
    """What the walks of the array and of the vector unit have in common: the rows of taps of a slab.

    Members
    -------
    descriptor:
        Stable while walking.
    load, base:
        Strobe: the walk starts with the next cycle, for a tile whose slab starts at ``base``.
    advance:
        Strobe: the step has been issued; the next one stands at ``step`` in the next cycle.
    step:
        The step in turn.
    """

    members = {"descriptor": In(LAYOUT), "load": In(1), "base": In(24), "advance": In(1), "step": Out(Step)}

    def build_rows(self, m: Module, *, row_ends, block_ends, next_slab):
        """Walk from row to row, through the phases, and on to ``next_slab``.

        An addition has one row of one tap for each operand: step_y_wrap is then the distance of the two.
        """
        step, descriptor = self.step, self.descriptor
        row_offset, next_row = Signal(24), Signal(24)
        y_wraps = step.phase_y == descriptor.stride_y - 1
        m.d.comb += next_row.eq(row_offset + Mux(y_wraps, descriptor.step_y_wrap, descriptor.step_y))

        def start_row(offset):
            return [step.offset.eq(offset), row_offset.eq(offset), step.phase_x.eq(descriptor.phase_x),
                    step.x.eq(descriptor.tap_x)]

        def start_block(offset):
            return [*start_row(offset), step.phase_y.eq(descriptor.phase_y), step.y.eq(descriptor.tap_y)]

        with m.If(self.advance & row_ends):
            with m.If(~block_ends):
                m.d.sync += [*start_row(next_row), step.phase_y.eq(Mux(y_wraps, 0, step.phase_y + 1)),
                             step.y.eq(step.y + (y_wraps & ~descriptor.add))]
            with m.Else():
                m.d.sync += start_block(next_slab)
        with m.If(self.load):
            m.d.sync += start_block(self.base)


class ConvolutionTaps(TapWalk):
    """Slabs, rows of taps, taps: ``channels * kernel_h * kernel_w`` steps; one empty step where there is no channel.

    ``step.first`` and ``step.last`` are those of the slabs walked. Members beside those of :class:`TapWalk`:
    ``channels`` (slabs to walk, from ``load`` on).
    """

    def __init__(self):
        super().__init__(self.members | {"channels": In(16)})

    def elaborate(self, platform):
        m = Module()
        step, descriptor = self.step, self.descriptor
        tap_row, tap_col, left = Signal(8), Signal(8), Signal(16)
        slab, next_slab = Signal(24), Signal(24)
        empty, fresh = Signal(), Signal()
        row_ends = empty | (tap_col == descriptor.kernel_w - 1)
        block_ends = row_ends & (empty | (tap_row == descriptor.kernel_h - 1))
        m.d.comb += [
            step.taps.eq(~empty), step.first.eq(fresh), step.last.eq(block_ends & (empty | (left == 1))),
            next_slab.eq(slab + descriptor.slab_bytes),
        ]
        self.build_rows(m, row_ends=row_ends, block_ends=block_ends, next_slab=next_slab)
        x_wraps = step.phase_x == descriptor.stride_x - 1
        with m.If(self.advance):
            m.d.sync += fresh.eq(0)
            with m.If(~row_ends):
                m.d.sync += [
                    tap_col.eq(tap_col + 1), step.phase_x.eq(Mux(x_wraps, 0, step.phase_x + 1)),
                    step.x.eq(step.x + x_wraps),
                    step.offset.eq(step.offset + Mux(x_wraps, descriptor.step_x_wrap, descriptor.step_x)),
                ]
            with m.Else():
                m.d.sync += [tap_col.eq(0), tap_row.eq(tap_row + 1)]
                with m.If(block_ends):
                    m.d.sync += [tap_row.eq(0), left.eq(left - 1), slab.eq(next_slab)]
        with m.If(self.load):
            m.d.sync += [tap_row.eq(0), tap_col.eq(0), left.eq(self.channels), empty.eq(self.channels == 0),
                         fresh.eq(1), slab.eq(self.base)]
        return m


class VectorTaps(TapWalk):
    """Rows of taps, ``VECTOR_TAPS`` neighbouring ones at once; or the operands of an addition.

    Members beside those of :class:`TapWalk`: ``empty`` (a loser's slab: one step without taps; stable).
    """

    def __init__(self):
        super().__init__(self.members | {"empty": In(1)})

    def elaborate(self, platform):
        m = Module()
        step, descriptor = self.step, self.descriptor
        tap_row, left, fresh = Signal(8), Signal(8), Signal()
        empty = self.empty & ~descriptor.add
        row_ends = Signal()
        m.d.comb += row_ends.eq(empty | descriptor.add | (left <= VECTOR_TAPS))
        block_ends = row_ends & (empty | Mux(descriptor.add, step.operand, tap_row == descriptor.kernel_h - 1))
        m.d.comb += [
            step.taps.eq(Mux(empty, 0, Mux(descriptor.add, 1, Mux(row_ends, left[:2], VECTOR_TAPS)))),
            step.first.eq(fresh), step.last.eq(block_ends),
        ]
        self.build_rows(m, row_ends=row_ends, block_ends=block_ends, next_slab=self.base)
        with m.If(self.advance):
            m.d.sync += fresh.eq(0)
            with m.If(~row_ends):
                m.d.sync += [left.eq(left - VECTOR_TAPS), step.offset.eq(step.offset + VECTOR_TAPS),
                             step.x.eq(step.x + VECTOR_TAPS)]
            with m.Else():
                m.d.sync += [left.eq(descriptor.kernel_w), tap_row.eq(tap_row + 1), step.operand.eq(descriptor.add)]
        with m.If(self.load):
            m.d.sync += [left.eq(descriptor.kernel_w), tap_row.eq(0), step.operand.eq(0), fresh.eq(1)]
        return m
