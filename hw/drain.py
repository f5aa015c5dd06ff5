"""Drains finished tiles: sums of the array or of the vector unit, through the requantizer into the output buffer."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .addition import Addition
from .buffer import BankedBuffer
from .config import EngineConfig
from .descriptor import LAYOUT, OP_VECTOR
from .requantize import Parameters, Requantizer


class Drain(wiring.Component):
    """Reads a tile's sums while the next one computes.

    A tile takes ``columns * ceil(positions / lanes)`` cycles (the vector unit's: ``ceil(positions / lanes)``) and does
    not stall once begun: it begins when its sums are complete, its constants loaded, and the output ring has room for
    all its positions. Its first column is read :attr:`start_delay` cycles after its last tap was issued, at the
    earliest, those of the vector unit when they come. Tiles follow each other without a gap.

    Sums of a pass that is not the last wait in the psum memory, in the order in which they are drained, and are added
    to those of the next.

    Members
    -------
    i_descriptor, o_descriptor:
        The band in work, and the same offered to the write-back (not where its sums go on in the next descriptor).
    tile_issued, first_pass, last_pass:
        Strobe: the last step of a tile of the array is issued, in its first, last pass.
    array_free:
        The sums of the tile in work will be read before those of a tile whose last tap is issued now replace them.
    sums:
        The array's.
    i_vector:
        The vector unit's, a tile at a time.
    column, parameters, parameters_loaded, parameters_switch:
        The parameter store's read side.
    write_*:
        The output buffer's write port: ``write_count`` results of column ``write_ring`` from position ``write_offset``.
    tile_drained:
        Strobe: a tile's positions more (of every column, of the vector unit's channel) can be read from the buffer.
    positions_freed:
        Positions of the ring that the write-back has finished with, in this cycle.
    idle:
        Nothing in work.
    """

    FEED_LATENCY = 4
    PICK = 2
    """Stages between the choice of a column and the requantizer: the choice, the sum with the psum memory's."""

    def __init__(self, *, config: EngineConfig, array_latency: int):
        self.config = config
        self.start_delay = self.FEED_LATENCY + array_latency + config.rows - 1
        lanes = config.requantize_lanes
        super().__init__({
            "i_descriptor": In(stream.Signature(LAYOUT)), "o_descriptor": Out(stream.Signature(LAYOUT)),
            "tile_issued": In(1), "first_pass": In(1), "last_pass": In(1), "array_free": Out(1),
            "sums": In(32 * config.rows * config.columns),
            "i_vector": In(stream.Signature(32 * config.vector_lanes)),
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
        lanes, chunks = config.requantize_lanes, max(config.drain_chunks, config.vector_chunks)
        m.submodules.requantizer = requantizer = Requantizer(lanes=lanes)
        m.submodules.addition = addition = Addition(lanes=lanes)
        descriptor = Signal(LAYOUT)
        active, offered = Signal(), Signal()
        vector = Signal()
        m.d.comb += [
            vector.eq(descriptor.op == OP_VECTOR),
            self.i_descriptor.ready.eq(~active), self.idle.eq(~active),
            self.o_descriptor.valid.eq(active & ~offered), self.o_descriptor.payload.eq(descriptor),
        ]
        with m.If(self.o_descriptor.valid & self.o_descriptor.ready):
            m.d.sync += offered.eq(1)

        # A tile of the array is pending from its last tap until its first column is read, due when its sums are there.
        delay = Signal(self.start_delay - 1)
        pending, due = Signal(), Signal()
        pending_first, pending_last = Signal(), Signal()
        begin = Signal()
        m.d.sync += delay.eq(Cat(self.tile_issued, delay))
        with m.If(delay[-1]):
            m.d.sync += due.eq(1)
        with m.If(self.tile_issued):
            m.d.sync += [pending.eq(1), pending_first.eq(self.first_pass), pending_last.eq(self.last_pass)]

        # The loops: a convolution's tiles come column after column, a vector group's channel after channel.
        group, tile = Signal(16), Signal(24)
        column, chunk = Signal(range(config.columns)), Signal(range(chunks))
        first, final_pass, reading = Signal(), Signal(), Signal()
        last_group = group == descriptor.out_groups - 1
        last_tile = tile == descriptor.tiles - 1
        columns, tile_chunks = Signal(range(config.columns + 1)), Signal(range(chunks + 1))
        m.d.comb += columns.eq(Mux(last_group, descriptor.last_columns, descriptor.group_columns))
        self.build_tile_chunks(m, descriptor, last_tile, tile_chunks)
        last_chunk = chunk == tile_chunks - 1
        last_column = column == columns - 1
        end_of_tile, end_of_part, end_of_group, end_of_band = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            end_of_tile.eq(reading & last_chunk & (vector | last_column)),
            end_of_part.eq(end_of_tile & last_tile),
            end_of_group.eq(end_of_part & Mux(vector, last_column, final_pass)),
            end_of_band.eq(end_of_group & last_group),
        ]
        remaining, remaining_now = (Signal(range(config.columns * chunks + 1), name=n) for n in (
            "remaining", "remaining_now"))
        begun = Signal()
        m.d.comb += remaining_now.eq(Mux(begun, columns * tile_chunks, remaining))
        m.d.sync += begun.eq(begin)
        offset, tile_start, tile_offset = (Signal(range(config.output_ring_bytes), name=n) for n in (
            "offset", "tile_start", "tile_offset"))
        left = Signal.like(descriptor.tile_positions)
        with m.If(reading):
            m.d.sync += [chunk.eq(chunk + 1), offset.eq(offset + lanes), left.eq(left - lanes),
                         remaining.eq(remaining_now - 1)]
            with m.If(last_chunk):
                m.d.sync += [chunk.eq(0), offset.eq(tile_start), left.eq(descriptor.tile_positions)]
            with m.If(Mux(vector, end_of_part, last_chunk)):
                m.d.sync += column.eq(Mux(last_column, 0, column + 1))
            with m.If(end_of_tile):
                m.d.sync += [reading.eq(0), tile.eq(Mux(last_tile, 0, tile + 1))]
            with m.If(end_of_group):
                m.d.sync += group.eq(group + 1)

        # Beginning a tile.
        banks_loaded = Signal(range(3))
        consumed = end_of_group & descriptor.sum_end
        # The constants change when the group's last sums enter the requantizer.
        switch = Signal(Addition.LATENCY)
        m.d.sync += [
            banks_loaded.eq(banks_loaded + self.parameters_loaded - consumed), switch.eq(Cat(consumed, switch)),
        ]
        m.d.comb += self.parameters_switch.eq(Mux(descriptor.add, switch[-1], switch[0]))
        room = Signal(26, init=config.output_ring_bytes)
        finishing = Signal(range(Requantizer.LATENCY + self.PICK + Addition.LATENCY + 2))
        final = final_pass & descriptor.sum_end
        writes = vector | (pending_last & descriptor.sum_end)
        can_write = (room >= descriptor.tile_positions) & Mux(consumed, banks_loaded > 1, banks_loaded != 0)
        slack = Signal(range(config.columns + chunks + self.start_delay + 8))
        m.d.sync += room.eq(room + self.positions_freed - Mux(begin & writes, descriptor.tile_positions, 0))
        m.d.comb += [
            begin.eq(active & (finishing == 0) & ~end_of_band & (~reading | end_of_tile)
                     & Mux(vector, self.i_vector.valid, due | delay[-1]) & (~writes | can_write)),
            self.i_vector.ready.eq(begin & vector),
            # The sums of column c are replaced FEED_LATENCY + array latency + c cycles after the next last tap.
            slack.eq(columns + tile_chunks + self.start_delay - config.rows - 1),
            self.array_free.eq(~pending & (~reading | (remaining_now <= slack))),
        ]
        held = Signal(32 * config.vector_lanes)
        with m.If(begin):
            m.d.sync += [
                reading.eq(1), chunk.eq(0), left.eq(descriptor.tile_positions),
                offset.eq(tile_offset), tile_start.eq(tile_offset),
                first.eq(vector | pending_first), final_pass.eq(vector | pending_last),
            ]
            with m.If(vector):
                m.d.sync += held.eq(self.i_vector.payload)
            with m.Else():
                m.d.sync += [due.eq(0), pending.eq(0)]
            with m.If(writes):
                m.d.sync += tile_offset.eq(tile_offset + descriptor.tile_positions)

        # Stage 1: choose a column's lanes. Stage 2: add what earlier passes have left.
        picked, sums = Signal(32 * lanes), Signal(32 * lanes)
        m.d.sync += picked.eq(Mux(vector, self.pick_vector(m, held, chunk), self.pick_column(m, column, chunk)))
        earlier = self.build_psums(m, reading=reading, final=final, first=first, restart=end_of_part, sums=sums)
        for lane in range(lanes):
            m.d.sync += sums.word_select(lane, 32).eq(
                picked.word_select(lane, 32) + earlier.word_select(lane, 32))
        m.d.comb += [
            addition.operands.eq(picked), addition.multiplier_1.eq(descriptor.add_multiplier_1),
            addition.multiplier_2.eq(descriptor.add_multiplier_2), addition.shift_1.eq(descriptor.add_shift_1),
            addition.shift_2.eq(descriptor.add_shift_2), requantizer.sums.eq(Mux(descriptor.add, addition.sums, sums)),
        ]

        # The results' place and the column of their constants beside them, later where operands are scaled first.
        place = Signal(self._place_layout())
        count = Signal(range(lanes + 1))
        m.d.comb += [
            count.eq(lanes),
            place.valid.eq(reading & final), place.end_of_tile.eq(end_of_tile & final),
            place.ring.eq(Mux(vector, 0, column)), place.offset.eq(offset), place.count.eq(count),
        ]
        with m.If(left < lanes):
            m.d.comb += count.eq(left)
        m.d.sync += self.column.eq(Mux(descriptor.parameter_shared, 0, column))
        stages = [place]
        for stage in range(self.PICK + Addition.LATENCY - 1 + Requantizer.LATENCY):
            delayed = Signal(place.shape(), name=f"place{stage}")
            m.d.sync += delayed.eq(stages[-1])
            stages.append(delayed)
        place = Signal(self._place_layout(), name="place_of_results")
        m.d.comb += place.eq(Mux(descriptor.add, stages[-1].as_value(),
                                 stages[self.PICK + Requantizer.LATENCY].as_value()))
        drained = Signal(BankedBuffer.WRITE_LATENCY)
        m.d.sync += drained.eq(Cat(place.end_of_tile & place.valid, drained))
        m.d.comb += [
            requantizer.parameters.eq(self.parameters),
            requantizer.zero_point.eq(descriptor.result_zero_point),
            requantizer.minimum.eq(descriptor.activation_min), requantizer.maximum.eq(descriptor.activation_max),
            self.write_enable.eq(place.valid), self.write_ring.eq(place.ring),
            self.write_offset.eq(place.offset), self.write_count.eq(place.count),
            self.write_data.eq(requantizer.results),
            self.tile_drained.eq(drained[-1]),
        ]

        # The band ends when its last result has left the requantizer, whose constants come from the descriptor.
        with m.If(end_of_band):
            m.d.sync += finishing.eq(Mux(descriptor.add, len(stages), self.PICK + Requantizer.LATENCY + 1))
        with m.Elif((finishing > 1) | ((finishing == 1) & (offered | self.o_descriptor.ready))):
            m.d.sync += finishing.eq(finishing - 1)
            with m.If(finishing == 1):
                m.d.sync += active.eq(0)
        with m.If(self.i_descriptor.valid & self.i_descriptor.ready):
            m.d.sync += [descriptor.eq(self.i_descriptor.payload), active.eq(1),
                         offered.eq(~self.i_descriptor.p.sum_end), group.eq(0), tile.eq(0), column.eq(0)]
        return m

    def build_tile_chunks(self, m: Module, descriptor, last_tile, tile_chunks):
        """Cycles that a column of the tile takes."""
        config, lanes = self.config, self.config.requantize_lanes
        most = max(config.drain_chunks, config.vector_chunks)
        positions = Signal.like(descriptor.tile_positions)
        m.d.comb += [positions.eq(Mux(last_tile, descriptor.last_rows, descriptor.tile_positions)),
                     tile_chunks.eq(most)]
        for n in reversed(range(most - 1)):
            with m.If(positions <= (n + 1) * lanes):
                m.d.comb += tile_chunks.eq(n + 1)

    def pick_column(self, m: Module, column, chunk):
        """``lanes`` sums of one column of the array."""
        config, lanes, chunks = self.config, self.config.requantize_lanes, self.config.drain_chunks
        chosen = Signal(32 * lanes)
        for lane in range(lanes):
            with m.Switch(Cat(chunk, column)):
                for c in range(config.columns):
                    for n in range(chunks):
                        if n * lanes + lane < config.rows:
                            with m.Case(c << len(chunk) | n):
                                m.d.comb += chosen.word_select(lane, 32).eq(
                                    self.sums.word_select(c * config.rows + n * lanes + lane, 32))
        return chosen

    def pick_vector(self, m: Module, held, chunk):
        """``lanes`` sums of a tile of the vector unit."""
        lanes = self.config.requantize_lanes
        chosen = Signal(32 * lanes)
        for n in range(self.config.vector_chunks):
            with m.If(chunk == n):
                m.d.comb += chosen.eq(held[32 * n * lanes:])
        return chosen

    def build_psums(self, m: Module, *, reading, final, first, restart, sums):
        """The psum memory, walked in the order of draining; returns what it adds to the sums of stage 2."""
        config = self.config
        depth = max(2, config.psum_tiles * config.columns * config.drain_chunks)
        m.submodules.psums = psums = Memory(shape=32 * config.requantize_lanes, depth=depth, init=[])
        write, read = psums.write_port(), psums.read_port(domain="sync")
        address, behind, behind_2 = (Signal(range(depth), name=n) for n in ("address", "behind", "behind_2"))
        waits, adds = Signal(2), Signal()
        m.d.sync += [behind.eq(address), behind_2.eq(behind), waits.eq(Cat(reading & ~final, waits)), adds.eq(~first)]
        with m.If(reading):
            m.d.sync += address.eq(Mux(restart, 0, address + 1))
        earlier = Signal(32 * config.requantize_lanes)
        m.d.comb += [
            read.addr.eq(address), read.en.eq(reading), write.addr.eq(behind_2), write.en.eq(waits[1]),
            write.data.eq(sums), earlier.eq(Mux(adds, read.data, 0)),
        ]
        return earlier

    def _place_layout(self):
        config = self.config
        return data.StructLayout({
            "valid": 1, "end_of_tile": 1, "ring": range(config.columns),
            "offset": range(config.output_ring_bytes), "count": range(config.requantize_lanes + 1),
        })
