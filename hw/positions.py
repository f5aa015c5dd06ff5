"""Coordinates of the positions of a tile."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .descriptor import LAYOUT


def tile_layout(lanes: int) -> data.StructLayout:
    """Coordinates of a tile's positions, and the input rows they need."""
    return data.StructLayout({
        "x": data.ArrayLayout(16, lanes), "y": data.ArrayLayout(16, lanes), "rows_needed": 17,
    })


class PositionGenerator(wiring.Component):
    """Coordinates of consecutive positions, a tile at a time, over and over: ``tiles`` of them, then from the start.

    A position's ``x`` is that of its input on chip, ``lane_step`` from that of the position before.

    The first tile is ready ``ceil(tile_positions / 2) + 2`` cycles after ``start``: its coordinates are counted out
    once, two at a time, and kept. Every other tile is ready 2 cycles after the one before was taken: all coordinates
    move on by a tile at once.

    Members: ``start`` (strobe) with ``descriptor`` stable from then on; ``o_tile``.
    """

    def __init__(self, *, lanes: int):
        self.lanes = lanes
        super().__init__({
            "start": In(1), "descriptor": In(LAYOUT), "o_tile": Out(stream.Signature(tile_layout(lanes))),
        })

    def elaborate(self, platform):
        m = Module()
        lanes, descriptor, out = self.lanes, self.descriptor, self.o_tile
        coordinate = range(4 * lanes)
        first_x = [Signal(coordinate, name=f"first_x{n}") for n in range(lanes)]
        first_y = [Signal(coordinate, name=f"first_y{n}") for n in range(lanes)]
        x, y = Signal(coordinate), Signal(coordinate)
        counted = Signal(range(lanes + 2))
        active, fresh = Signal(), Signal()
        tile = Signal(24)
        last_tile = tile == descriptor.tiles - 1
        last_x = Signal(16)
        m.d.sync += last_x.eq(descriptor.pitch - descriptor.lane_step)

        def following(position, name):
            """The coordinates of the position behind this one."""
            next_x, next_y = Signal(coordinate, name=f"{name}_x"), Signal(coordinate, name=f"{name}_y")
            ends = position[0] == last_x
            m.d.comb += [next_x.eq(Mux(ends, 0, position[0] + descriptor.lane_step)), next_y.eq(position[1] + ends)]
            return next_x, next_y

        even = x, y
        odd = following(even, "odd")
        next_even = following(odd, "next_even")
        with m.If(active & (counted < descriptor.tile_positions)):
            m.d.sync += [counted.eq(counted + 2), x.eq(next_even[0]), y.eq(next_even[1]),
                         fresh.eq(counted + 2 >= descriptor.tile_positions)]
            for n in range(lanes):
                lane_x, lane_y = odd if n % 2 else even
                with m.If(counted == n - n % 2):
                    m.d.sync += [first_x[n].eq(lane_x), first_y[n].eq(lane_y),
                                 out.p.x[n].eq(lane_x), out.p.y[n].eq(lane_y)]

        # The rows that the last of the tile's positions needs, a cycle behind the coordinates.
        last_y = Signal(16)
        with m.Switch(descriptor.tile_positions):
            for n in range(lanes):
                with m.Case(n + 1):
                    m.d.comb += last_y.eq(out.p.y[n])
        row_times_stride = Signal(18)
        needed = Signal(signed(20))
        m.d.comb += [
            row_times_stride.eq(Mux(descriptor.stride_y[0], last_y, 0) + Mux(descriptor.stride_y[1], last_y << 1, 0)
                                + Mux(descriptor.stride_y[2], last_y << 2, 0)),
            needed.eq(row_times_stride + descriptor.rows_ahead),
        ]
        with m.If(fresh):
            m.d.sync += [
                fresh.eq(0), out.valid.eq(1),
                out.p.rows_needed.eq(Mux(needed > descriptor.in_rows, descriptor.in_rows, needed[:17])),
            ]
        with m.If(out.valid & out.ready):
            m.d.sync += [out.valid.eq(0), fresh.eq(1), tile.eq(Mux(last_tile, 0, tile + 1))]
            for n in range(lanes):
                across = Signal(17, name=f"across{n}")
                wraps = across >= descriptor.pitch
                m.d.comb += across.eq(out.p.x[n] + descriptor.tile_cols)
                m.d.sync += [
                    out.p.x[n].eq(Mux(last_tile, first_x[n], Mux(wraps, across - descriptor.pitch, across))),
                    out.p.y[n].eq(Mux(last_tile, first_y[n], out.p.y[n] + descriptor.tile_rows + wraps)),
                ]
        with m.If(self.start):
            m.d.sync += [active.eq(1), counted.eq(0), tile.eq(0), x.eq(0), y.eq(0), out.valid.eq(0), fresh.eq(0)]
        return m
