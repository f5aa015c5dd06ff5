"""Drains finished tiles: sums through the requantizer into the output buffer, a column at a time."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .buffer import BankedBuffer
from .config import EngineConfig
from .descriptor import LAYOUT
from .requantize import Parameters, Requantizer


class Drain(wiring.Component):
    """Reads the array's waiting sums while the next tile computes.

    A tile takes ``columns * ceil(positions / lanes)`` cycles and never stalls once begun: it begins when its sums are
    complete, its constants loaded, and the output ring has room for all its positions. Its first column is read
    :attr:`start_delay` cycles after its last tap was issued, at the earliest.

    Members
    -------
    i_descriptor, o_descriptor:
        The band in work, and the same offered to the writer.
    tile_issued:
        Strobe: the last tap of a tile is issued.
    free:
        The sums of the tile in work will be read before those of a tile whose last tap is issued now replace them.
    sums:
        The array's.
    column, parameters, parameters_loaded, parameters_switch:
        The parameter store's read side.
    write_*:
        The output buffer's write port: ``write_count`` results of column ``write_ring`` from position ``write_offset``.
    tile_drained:
        Strobe: ``rows`` positions more of every column can be read from the output buffer.
    positions_freed:
        Positions of the ring that the writer has finished with, in this cycle.
    idle:
        Nothing in work.
    """

    FEED_LATENCY = 4

    def __init__(self, *, config: EngineConfig, array_latency: int):
        self.config = config
        self.start_delay = self.FEED_LATENCY + array_latency + config.rows - 1
        lanes = config.requantize_lanes
        super().__init__({
            "i_descriptor": In(stream.Signature(LAYOUT)), "o_descriptor": Out(stream.Signature(LAYOUT)),
            "tile_issued": In(1), "free": Out(1),
            "sums": In(32 * config.rows * config.columns),
            "column": Out(range(config.columns)), "parameters": In(Parameters),
            "parameters_loaded": In(1), "parameters_switch": Out(1),
            "write_enable": Out(1), "write_ring": Out(range(config.columns)),
            "write_offset": Out(range(config.output_ring_bytes)), "write_data": Out(8 * lanes),
            "write_count": Out(range(lanes + 1)),
            "tile_drained": Out(1), "positions_freed": In(24), "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        rows, lanes, chunks = config.rows, config.requantize_lanes, config.drain_chunks
        m.submodules.requantizer = requantizer = Requantizer(lanes=lanes)
        descriptor = Signal(LAYOUT)
        active, offered = Signal(), Signal()
        m.d.comb += [
            self.i_descriptor.ready.eq(~active), self.idle.eq(~active),
            self.o_descriptor.valid.eq(active & ~offered), self.o_descriptor.payload.eq(descriptor),
        ]
        with m.If(self.o_descriptor.valid & self.o_descriptor.ready):
            m.d.sync += offered.eq(1)

        # A tile is pending from its last tap until its first column is read, due when its sums are complete.
        delay = Signal(self.start_delay - 1)
        pending, due = Signal(), Signal()
        begin = Signal()
        m.d.sync += delay.eq(Cat(self.tile_issued, delay))
        with m.If(delay[-1]):
            m.d.sync += due.eq(1)
        with m.If(self.tile_issued):
            m.d.sync += pending.eq(1)

        banks_loaded = Signal(range(3))
        m.d.sync += banks_loaded.eq(banks_loaded + self.parameters_loaded - self.parameters_switch)
        room = Signal(26, init=config.output_ring_bytes)
        m.d.sync += room.eq(room + self.positions_freed - Mux(begin, rows, 0))

        group, tile = Signal(16), Signal(24)
        column, chunk = Signal(range(config.columns)), Signal(range(chunks))
        last_group = group == descriptor.out_groups - 1
        last_tile = tile == descriptor.tiles - 1
        columns = Mux(last_group, descriptor.last_columns, descriptor.group_columns)
        tile_chunks = Signal(range(chunks + 1))
        with m.If(last_tile):
            for n in reversed(range(chunks)):
                with m.If(descriptor.last_rows <= (n + 1) * lanes):
                    m.d.comb += tile_chunks.eq(n + 1)
        with m.Else():
            m.d.comb += tile_chunks.eq(chunks)
        last_chunk = chunk == tile_chunks - 1
        last_column = column == columns - 1
        remaining = Signal(range(config.columns * chunks + 1))
        finishing = Signal(range(Requantizer.LATENCY + 3))
        slack = Signal(range(config.columns + chunks + 8))
        offset, tile_offset = Signal(range(config.output_ring_bytes)), Signal(range(config.output_ring_bytes))
        reading = Signal()
        m.d.comb += [
            begin.eq(active & (due | delay[-1]) & ~reading & (finishing == 0) & (banks_loaded != 0) & (room >= rows)),
            # The sums of column c are replaced FEED_LATENCY + array latency + c cycles after the next last tap.
            slack.eq(columns + tile_chunks + self.start_delay - rows - 1),
            self.free.eq(~pending & (~reading | (remaining <= slack))),
            self.column.eq(column),
        ]
        with m.If(begin):
            m.d.sync += [reading.eq(1), due.eq(0), pending.eq(0), column.eq(0), chunk.eq(0), offset.eq(tile_offset),
                         tile_offset.eq(tile_offset + rows)]
            total = Signal.like(remaining)
            m.d.comb += total.eq(columns * tile_chunks)
            m.d.sync += remaining.eq(total)

        # Stage 0: choose a column's lanes. Then the requantizer, and the results' place beside it.
        chosen = Signal(32 * lanes)
        for lane in range(lanes):
            with m.Switch(Cat(chunk, column) if chunks > 1 else column):
                for c in range(config.columns):
                    for n in range(chunks):
                        if n * lanes + lane < rows:
                            with m.Case(c << chunk.shape().width | n if chunks > 1 else c):
                                m.d.comb += chosen.word_select(lane, 32).eq(
                                    self.sums.word_select(c * rows + n * lanes + lane, 32))
        m.d.sync += requantizer.sums.eq(chosen)
        end_of_tile, end_of_group = Signal(), Signal()
        with m.If(reading):
            m.d.sync += [chunk.eq(chunk + 1), offset.eq(offset + lanes), remaining.eq(remaining - 1)]
            with m.If(last_chunk):
                m.d.sync += [chunk.eq(0), column.eq(column + 1), offset.eq(tile_offset - rows)]
                with m.If(last_column):
                    m.d.comb += end_of_tile.eq(1)
                    m.d.sync += [reading.eq(0), tile.eq(tile + 1)]
                    with m.If(last_tile):
                        m.d.comb += end_of_group.eq(1)
                        m.d.sync += [tile.eq(0), group.eq(group + 1)]
        m.d.comb += self.parameters_switch.eq(end_of_group)

        place = Signal(self._place_layout())
        m.d.comb += [
            place.valid.eq(reading), place.end_of_tile.eq(end_of_tile), place.column.eq(column),
            place.offset.eq(offset),
            place.count.eq(Mux(chunk == chunks - 1, rows - (chunks - 1) * lanes, lanes)),
        ]
        for stage in range(Requantizer.LATENCY + 1):
            delayed = Signal(place.shape(), name=f"place{stage}")
            m.d.sync += delayed.eq(place)
            place = delayed
        drained = Signal(BankedBuffer.WRITE_LATENCY)
        m.d.sync += drained.eq(Cat(place.end_of_tile & place.valid, drained))
        m.d.comb += [
            requantizer.parameters.eq(self.parameters),
            requantizer.zero_point.eq(descriptor.out_zero_point),
            requantizer.minimum.eq(descriptor.activation_min), requantizer.maximum.eq(descriptor.activation_max),
            self.write_enable.eq(place.valid), self.write_ring.eq(place.column),
            self.write_offset.eq(place.offset), self.write_count.eq(place.count),
            self.write_data.eq(requantizer.results),
            self.tile_drained.eq(drained[-1]),
        ]

        # The band ends when its last result has left the requantizer, whose constants come from the descriptor.
        with m.If(end_of_group & last_group):
            m.d.sync += finishing.eq(Requantizer.LATENCY + 2)
        with m.Elif((finishing > 1) | ((finishing == 1) & (offered | self.o_descriptor.ready))):
            m.d.sync += finishing.eq(finishing - 1)
            with m.If(finishing == 1):
                m.d.sync += active.eq(0)
        with m.If(self.i_descriptor.valid & self.i_descriptor.ready):
            m.d.sync += [descriptor.eq(self.i_descriptor.payload), active.eq(1), offered.eq(0), group.eq(0),
                         tile.eq(0)]
        return m

    def _place_layout(self):
        config = self.config
        return data.StructLayout({
            "valid": 1, "end_of_tile": 1, "column": range(config.columns),
            "offset": range(config.output_ring_bytes), "count": range(config.requantize_lanes + 1),
        })
