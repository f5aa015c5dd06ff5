"""Coordinates of the positions of a tile."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .counter import Countdown
from .descriptor import LAYOUT

ROWS = signed(20)
"""Input rows that a tile needs: more than there are, or less than none, where its rows lie in the padding."""


class PositionGenerator(wiring.Component):
    """Coordinates of consecutive positions, a tile at a time, over and over: ``tiles`` of them, then from the start.

    A position's ``x`` is that of its input on chip, ``lane_step`` from that of the position before.

    The first tile is offered ``ceil(tile_positions / 2) + 2`` cycles after ``start``: its coordinates are counted out
    once, two at a time, and kept. Every other tile is offered 2 cycles after the one before was taken. All coordinates
    move on by a tile at once, behind the last position's, which tells the rows that are needed.

    Members
    -------
    start, descriptor:
        Strobe; stable from then on.
    o_tile:
        The rows that the next tile needs.
    x, y:
        Coordinates of the tile taken last, from the second cycle behind its being taken on; 16 bits a position.
    """

    def __init__(self, *, lanes: int):
        self.lanes = lanes
        super().__init__({
            "start": In(1), "descriptor": In(LAYOUT), "o_tile": Out(stream.Signature(ROWS)),
            "x": Out(16 * lanes), "y": Out(16 * lanes),
        })

    def elaborate(self, platform):
        m = Module()
        lanes, descriptor, out = self.lanes, self.descriptor, self.o_tile

        # The first tile: two neighbouring positions at a time, each two positions on from its last coordinates. Rows of
        # a single position (``narrow``) end twice in that.
        coordinate = range(4 * lanes)
        first_x = [Signal(coordinate, name=f"first_x{n}", reset_less=True) for n in range(lanes)]
        first_y = [Signal(coordinate, name=f"first_y{n}", reset_less=True) for n in range(lanes)]
        pair = [tuple(Signal(coordinate, name=f"{n}_{axis}", reset_less=True) for axis in "xy")
                for n in ("even", "odd")]
        lane_pair = Signal((lanes + 1) // 2)
        left = Signal.like(descriptor.tile_positions)
        narrow, back_two = Signal(), Signal(signed(18), reset_less=True)
        last, first_last = (
            [Signal(16, name=f"{n}_{axis}", reset_less=True) for axis in "xy"] for n in ("last", "first_last"))
        fresh = Signal()
        with m.If(left != 0):
            m.d.sync += [left.eq(left - 2), lane_pair.eq(lane_pair << 1)]
            for n in range(lanes):
                with m.If(lane_pair[n // 2]):
                    m.d.sync += [first_x[n].eq(pair[n % 2][0]), first_y[n].eq(pair[n % 2][1])]
            for x, y in pair:
                back = Signal(signed(18), name=f"back_{x.name}")
                wraps = narrow | (back >= 0)
                m.d.comb += back.eq(x + back_two)
                m.d.sync += [y.eq(y + wraps + narrow), x.eq(Mux(back >= 0, back, x + (descriptor.lane_step << 1)))]
                with m.If(narrow):
                    m.d.sync += x.eq(0)
            with m.If(left <= 2):
                m.d.sync += [left.eq(0), fresh.eq(1)]
                for axis in range(2):
                    position = Mux(left[0], pair[0][axis], pair[1][axis])
                    m.d.sync += [last[axis].eq(position), first_last[axis].eq(position)]

        # The tile to be offered: its last position, the rows that this one needs.
        tile, is_first, offers_first = Countdown(len(descriptor.tiles), name="tile"), Signal(), Signal()
        back_tile = Signal(signed(18), reset_less=True)
        m.d.sync += back_tile.eq(descriptor.tile_cols - descriptor.pitch)

        def a_tile_on(x, y, name):
            """The coordinates of the position a tile behind this one."""
            back = Signal(signed(18), name=f"back_{name}")
            wraps = back >= 0
            m.d.comb += back.eq(x + back_tile)
            return Mux(wraps, back, x + descriptor.tile_cols)[:16], (y + descriptor.tile_rows + wraps)[:16]

        def times_stride(y):
            few = Mux(descriptor.stride_y[0], y, 0) + Mux(descriptor.stride_y[1], y << 1, 0)
            return Mux(descriptor.stride_y[2], y << 2, few)

        with m.If(fresh):
            m.d.sync += [
                fresh.eq(0), out.valid.eq(1), out.payload.eq(times_stride(last[1]) + descriptor.rows_ahead),
                offers_first.eq(is_first), is_first.eq(tile.last), *tile.step(),
                *(axis.eq(moved) for axis, moved in zip(last, a_tile_on(*last, "last"), strict=True)),
            ]
            with m.If(tile.last):
                m.d.sync += [*tile.start(descriptor.tiles), *(a.eq(b) for a, b in zip(last, first_last, strict=True))]
        moving, to_first = Signal(), Signal()
        m.d.sync += [moving.eq(out.valid & out.ready), to_first.eq(offers_first)]
        with m.If(out.valid & out.ready):
            m.d.sync += [out.valid.eq(0), fresh.eq(1)]

        # The tile taken, a cycle later.
        of_lanes = [Signal(16 * lanes, name=f"lanes_{axis}", reset_less=True) for axis in "xy"]
        m.d.comb += [self.x.eq(of_lanes[0]), self.y.eq(of_lanes[1])]
        with m.If(moving):
            for n in range(lanes):
                x, y = (axis.word_select(n, 16) for axis in of_lanes)
                next_x, next_y = a_tile_on(x, y, n)
                m.d.sync += [x.eq(Mux(to_first, first_x[n], next_x)), y.eq(Mux(to_first, first_y[n], next_y))]

        with m.If(self.start):
            odd_x, odd_y = pair[1]
            is_narrow = descriptor.pitch == descriptor.lane_step
            m.d.sync += [
                left.eq(descriptor.tile_positions), lane_pair.eq(1), out.valid.eq(0), fresh.eq(0), is_first.eq(1),
                narrow.eq(is_narrow), back_two.eq((descriptor.lane_step << 1) - descriptor.pitch),
                *(axis.eq(0) for axis in pair[0]), odd_x.eq(Mux(is_narrow, 0, descriptor.lane_step)),
                odd_y.eq(is_narrow), *tile.start(descriptor.tiles),
            ]
        return m
