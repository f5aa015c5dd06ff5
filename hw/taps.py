"""The innermost loops: which bytes of the activation buffer the taps of a tile start at, one step a cycle."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .config import VECTOR_TAPS
from .counter import Countdown
from .descriptor import LAYOUT
from .run_stream import SlabRun


class Step(data.Struct):
    """One read of the activation buffer.

    ``offset``: its first byte for position 0 of the tile. ``x``, ``y``: column and row of that byte's tap in its
    sub-plane, ``phase_x`` and ``phase_y`` which sub-plane. ``taps``: neighbouring taps taken at once. ``operand``: of
    an addition. ``first``, ``last``: of its tile.
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


def as_many(taps):
    """At most as many as a step of the vector unit takes."""
    return Mux(taps >= VECTOR_TAPS, VECTOR_TAPS, taps)


class TapWalk(wiring.Component):
    """Slabs, rows of taps, taps; where there is no slab, one step without taps.

    Convolution: one tap a step. Vector: up to ``VECTOR_TAPS`` neighbouring ones, of one slab at most. An addition has
    one row of one tap for each operand: ``step_y_wrap`` is the distance of the two.

    Throughput: one step a cycle, without a gap between runs; the first one stands at ``o_step`` a cycle behind its run.

    Members
    -------
    descriptor, vector:
        Stable from the third cycle before a band's first run on.
    i_run, o_step:
        The slabs, and the steps over them.
    run:
        That of the step in turn.
    moves, next_weights:
        Strobe: with the next cycle another step comes in turn, or none. It reads so many bytes of weights, none
        reads 0.
    next_last:
        ``last`` of the step that is in turn in the next cycle.
    """

    def __init__(self):
        super().__init__({
            "descriptor": In(LAYOUT), "vector": In(1), "i_run": In(stream.Signature(SlabRun)),
            "o_step": Out(stream.Signature(Step)), "run": Out(SlabRun), "moves": Out(1), "next_weights": Out(7),
            "next_last": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        step, run, next_run, descriptor = self.o_step.p, self.run, self.i_run.p, self.descriptor
        valid = self.o_step.valid

        # The run in work. Behind its last step, or if there is none, comes the one that is offered.
        ends_run, load, empty = Signal(), Signal(), Signal()
        m.d.comb += [
            self.moves.eq(self.o_step.ready | ~valid), load.eq(ends_run | ~valid),
            self.i_run.ready.eq(load & self.moves), empty.eq(next_run.channels == 0),
        ]
        with m.If(self.i_run.ready):
            m.d.sync += [valid.eq(self.i_run.valid), run.eq(next_run)]

        # Taps of the row behind the step: how many, none, as many as a step takes. A row begins with ``row_taps``.
        rest, row_ends = Signal(8), Signal()
        row_taps, row_rest, one_step = Signal(range(VECTOR_TAPS + 1)), Signal(8), Signal()
        at_once = Mux(self.vector, VECTOR_TAPS, 1)
        one_step_now = descriptor.kernel_w <= at_once
        taps = Mux(one_step_now, descriptor.kernel_w, at_once)
        m.d.sync += [row_taps.eq(taps), row_rest.eq(descriptor.kernel_w - taps), one_step.eq(one_step_now)]
        # The step that follows: its taps; weights of as many as it has, or as many as of the run's other steps.
        following, row_following, varies = Signal.like(step.taps), Signal.like(step.taps), Signal()
        following_weights = Signal.like(run.weights)
        m.d.sync += row_following.eq(Mux(one_step, row_taps, as_many(row_rest)))
        m.d.comb += self.next_weights.eq(following_weights)
        with m.If(load):
            m.d.comb += self.next_weights.eq(Mux(self.i_run.valid, next_run.weights, 0))

        # Rows and slabs.
        rows, slabs = Countdown(8, name="row"), Countdown(16, name="slab")
        row_offset, slab = (Signal(24, name=n, reset_less=True) for n in ("row_offset", "slab"))
        one_row = Signal()
        last_phase_x, last_phase_y = Signal.like(step.phase_x), Signal.like(step.phase_y)
        x_wraps, y_wraps = step.phase_x == last_phase_x, step.phase_y == last_phase_y
        row_count = Mux(descriptor.add, 2, descriptor.kernel_h)
        m.d.sync += [one_row.eq(row_count == 1), last_phase_x.eq(descriptor.stride_x - 1),
                     last_phase_y.eq(descriptor.stride_y - 1)]

        def follows(taps, varies=varies, run=run):
            return [following.eq(taps), following_weights.eq(Mux(varies, taps, run.weights))]

        def start_row(offset):
            return [step.offset.eq(offset), row_offset.eq(offset), step.phase_x.eq(descriptor.phase_x),
                    step.x.eq(descriptor.tap_x), step.taps.eq(row_taps), rest.eq(row_rest), row_ends.eq(one_step)]

        def start_slab(offset):
            return [*start_row(offset), slab.eq(offset), step.phase_y.eq(descriptor.phase_y),
                    step.y.eq(descriptor.tap_y), step.operand.eq(0), *rows.start(row_count)]

        m.d.comb += self.next_last.eq(step.last)
        m.d.sync += step.last.eq(self.next_last)

        def ends(condition, run=run):
            m.d.comb += self.next_last.eq(condition & run.last)
            m.d.sync += ends_run.eq(condition)

        with m.If(self.moves):
            m.d.sync += step.first.eq(load & next_run.first)
            with m.If(load):
                ends((one_step & one_row & (next_run.channels == 1)) | empty, next_run)
                now_varies = self.vector & (next_run.weights != 0)
                m.d.sync += [*start_slab(next_run.offset), *slabs.start(next_run.channels), varies.eq(now_varies),
                             *follows(row_following, now_varies, next_run)]
                with m.If(empty):
                    m.d.sync += step.taps.eq(0)
            with m.Elif(~row_ends):
                ends((rest <= at_once) & rows.last & slabs.last)
                m.d.sync += row_ends.eq(rest <= at_once)
                with m.If(self.vector):
                    m.d.sync += [
                        step.offset.eq(step.offset + VECTOR_TAPS), step.x.eq(step.x + VECTOR_TAPS),
                        step.taps.eq(following), rest.eq(rest - VECTOR_TAPS),
                        *follows(Mux(rest <= VECTOR_TAPS, row_taps, as_many(rest - VECTOR_TAPS))),
                    ]
                with m.Else():
                    m.d.sync += [
                        step.offset.eq(step.offset + Mux(x_wraps, descriptor.step_x_wrap, descriptor.step_x)),
                        step.x.eq(step.x + x_wraps), step.phase_x.eq(Mux(x_wraps, 0, step.phase_x + 1)),
                        rest.eq(rest - 1),
                    ]
            with m.Elif(~rows.last):
                ends(one_step & rows.before_last & slabs.last)
                m.d.sync += [
                    *start_row(row_offset + Mux(y_wraps, descriptor.step_y_wrap, descriptor.step_y)), *rows.step(),
                    step.phase_y.eq(Mux(y_wraps, 0, step.phase_y + 1)), step.y.eq(step.y + (y_wraps & ~descriptor.add)),
                    step.operand.eq(descriptor.add), *follows(row_following),
                ]
            with m.Else():
                ends(one_step & one_row & slabs.before_last)
                m.d.sync += [*start_slab(slab + descriptor.slab_bytes), *slabs.step(), *follows(row_following)]
        return m
