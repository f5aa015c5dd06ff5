"""Drains finished tiles: sums of the array or of the vector unit, through the requantizer into the output buffer."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .addition import Addition
from .buffer import BankedBuffer
from .config import EngineConfig
from .counter import Countdown
from .delay import delay
from .descriptor import LAYOUT, OP_VECTOR
from .feed import Feed
from .requantize import Parameters, Requantizer
from .run_stream import Tile
from .technology import BLOCK_RAM


def select(values: list, index):
    """The value of this index, by a tree of multiplexers."""
    for bit in index:
        values = [Mux(bit, values[n + 1], values[n]) if n + 1 < len(values) else values[n]
                  for n in range(0, len(values), 2)]
    return values[0]


class Drain(wiring.Component):
    """Reads a tile's sums while the next one computes.

    A tile takes ``columns * ceil(positions / lanes)`` cycles (the vector unit's: ``ceil(positions / lanes)``) and does
    not stall once begun: it begins when its sums are complete, its constants loaded, and the output ring has room for
    all its positions. Its first column is read :attr:`start_delay` cycles after its last tap was issued, at the
    earliest, those of the vector unit when they come; of a band's first tile 3 cycles behind the descriptor. Tiles
    follow each other without a gap.

    Sums of a pass that is not the last wait in the psum memory, in the order in which they are drained, and are added
    to those of the next.

    Members
    -------
    i_descriptor, o_descriptor:
        The band in work, and the same offered to the write-back (not where its sums go on in the next descriptor).
    array_issued, vector_issued, tile:
        Strobes: the last step of a tile is issued, to the array or the vector unit.
    next_array_free:
        The sums of the tile in work will be read before those of a tile whose last tap is issued in the next cycle
        replace them.
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

    FEED_LATENCY = Feed.LATENCY
    PICK = 2
    """Stages between the choice of a column and the requantizer: the choice, the sum with the psum memory's."""
    TILES = 16
    """Tiles issued and not yet begun, at most: those of the vector unit, one of the array."""

    def __init__(self, *, config: EngineConfig, array_latency: int):
        self.config = config
        self.array_latency = array_latency
        self.start_delay = self.FEED_LATENCY + array_latency + config.rows - 1
        lanes = config.requantize_lanes
        super().__init__({
            "i_descriptor": In(stream.Signature(LAYOUT)), "o_descriptor": Out(stream.Signature(LAYOUT)),
            "array_issued": In(1), "vector_issued": In(1), "tile": In(Tile), "next_array_free": Out(1),
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
        m.submodules.addition = addition = Addition(lanes=lanes, blocks=config.spare_multipliers)
        descriptor, vector = Signal(LAYOUT, reset_less=True), Signal()
        active, offered, open_, settling = Signal(), Signal(), Signal(), Signal(2)
        m.d.comb += [
            self.i_descriptor.ready.eq(~active), self.idle.eq(~active),
            self.o_descriptor.valid.eq(active & ~offered), self.o_descriptor.payload.eq(descriptor),
        ]
        with m.If(self.o_descriptor.valid & self.o_descriptor.ready):
            m.d.sync += offered.eq(1)

        # Tiles whose last step has been issued; the next one, its columns and chunks.
        begin = Signal()
        next_tile = self.build_tiles(m, begin)
        columns, tile_chunks = Signal(range(config.columns + 1)), Signal(range(chunks + 1))
        full_chunks, last_chunks = Signal.like(tile_chunks), Signal.like(tile_chunks)
        m.d.comb += [
            columns.eq(Mux(next_tile.last_group, descriptor.last_columns, descriptor.group_columns)),
            tile_chunks.eq(Mux(next_tile.last, last_chunks, full_chunks)),
        ]
        m.d.sync += [full_chunks.eq(self.chunks_of(descriptor.tile_positions)),
                     last_chunks.eq(self.chunks_of(descriptor.last_rows))]
        due, array_begins = Signal(), Signal()
        self.build_array_free(m, begin=array_begins, due=due, columns=columns, tile_chunks=tile_chunks)

        # The tile being read: chunks, columns.
        tile, reading, writes, final = Signal(Tile), Signal(), Signal(), Signal()
        ends_band, uses_constants = Signal(), Signal()
        column, chunk = Signal(range(config.columns)), Signal(range(chunks))
        columns_left = Countdown(len(columns), name="columns")
        chunks_left, chunks_of_tile = Countdown(len(tile_chunks), name="chunks"), Signal.like(tile_chunks)
        last_read, consumed = Signal(), Signal()
        offset, tile_start, tile_offset = (Signal(range(config.output_ring_bytes), name=n) for n in (
            "offset", "tile_start", "tile_offset"))
        left = Signal.like(descriptor.tile_positions)
        m.d.comb += [
            last_read.eq(reading & chunks_left.last & columns_left.last), consumed.eq(last_read & uses_constants),
        ]
        with m.If(reading):
            m.d.sync += [chunk.eq(chunk + 1), offset.eq(offset + lanes), left.eq(left - lanes), *chunks_left.step()]
            with m.If(chunks_left.last):
                m.d.sync += [
                    chunk.eq(0), offset.eq(tile_start), left.eq(descriptor.tile_positions), column.eq(column + 1),
                    *chunks_left.start(chunks_of_tile), *columns_left.step(),
                ]
            with m.If(last_read):
                m.d.sync += reading.eq(0)
                with m.If(vector & ~tile.last):
                    m.d.sync += column.eq(column)
                with m.Elif(~vector | tile.ends_group):
                    m.d.sync += column.eq(0)
                with m.If(ends_band):
                    m.d.sync += open_.eq(0)

        # Beginning a tile.
        banks_loaded, some_bank, banks_behind = Signal(range(3)), Signal(), Signal(range(3))
        m.d.comb += banks_behind.eq(banks_loaded + self.parameters_loaded - consumed)
        m.d.sync += [banks_loaded.eq(banks_behind), some_bank.eq(banks_behind != 0)]
        # The constants change when the group's last sums enter the requantizer.
        switch = Signal(Addition.LATENCY - 1)
        m.d.sync += switch.eq(Cat(consumed, switch))
        m.d.comb += self.parameters_switch.eq(Mux(descriptor.add, switch[-1], consumed))
        # Room in the ring: what the next cycle will find is known for either case.
        room, has_room = Signal(range(-2 * config.position_lanes, config.output_ring_bytes + 1),
                                init=config.output_ring_bytes), Signal()
        rooms = [Signal.like(room, name=f"room_behind_{n}") for n in range(3)]
        m.d.comb += [one.eq(room + self.positions_freed - n * descriptor.tile_positions)
                     for n, one in enumerate(rooms)]
        m.d.sync += [room.eq(rooms[0]), has_room.eq(rooms[1] >= 0)]
        with m.If(begin & writes):
            m.d.sync += [room.eq(rooms[1]), has_room.eq(rooms[2] >= 0)]
        # Behind nothing, or behind the tile being read, which may use up constants; worked out beside its last read.
        alone, behind, turn = (Signal(name=n) for n in ("alone", "behind", "turn"))
        m.d.comb += [
            writes.eq(next_tile.last_pass & descriptor.sum_end),
            alone.eq(~reading & (~writes | (has_room & some_bank))),
            behind.eq(~ends_band & (~writes | (has_room & Mux(uses_constants, banks_loaded[1], some_bank)))),
            turn.eq(open_ & (alone | (behind & last_read))),
            begin.eq(Mux(vector, self.i_vector.valid, due) & turn), array_begins.eq(~vector & due & turn),
            self.i_vector.ready.eq(vector & turn),
        ]
        # The vector unit's next sums, from the last chunk of those in work on: taken or not, they are there.
        held = Signal(32 * lanes * config.vector_chunks, reset_less=True)
        with m.If(~reading | chunks_left.last):
            m.d.sync += held.eq(self.i_vector.payload)
        with m.If(begin):
            m.d.sync += [
                reading.eq(1), tile.eq(next_tile), final.eq(writes), chunk.eq(0), chunks_of_tile.eq(tile_chunks),
                *chunks_left.start(tile_chunks), *columns_left.start(Mux(vector, 1, columns)),
                left.eq(descriptor.tile_positions), offset.eq(tile_offset), tile_start.eq(tile_offset),
                uses_constants.eq(next_tile.ends_group & descriptor.sum_end),
                ends_band.eq(next_tile.ends_group & next_tile.last_group),
            ]
            with m.If(writes):
                m.d.sync += tile_offset.eq(tile_offset + descriptor.tile_positions)

        # Stage 1: choose lanes of each column and one of some columns beside each other, and lanes of the vector unit;
        # all are 0 but those whose turn it is. Stage 2: add these, and what earlier passes have left. Lanes come first:
        # what leaves a column is as wide as the requantizer, not as high as the array. Each column counts its own
        # chunks, and columns beside each other those that have been read, from 0 to 0: no register chooses for all of
        # the array.
        near = max(0, (config.columns - 1).bit_length() - (config.drain_chunks - 1).bit_length())
        of_columns = []
        for c in range(config.columns):
            own_chunk = Signal(range(config.drain_chunks), name=f"chunk_of_column{c}")
            with m.If(reading & (column == c)):
                m.d.sync += own_chunk.eq(Mux(chunks_left.last, 0, own_chunk + 1))
            of_columns.append(select(self.words(self.sums.word_select(c, 32 * config.rows)), own_chunk))
        picked = [Signal(32 * lanes, name=f"picked{n}", reset_less=True) for n in range(-(-config.columns >> near))]
        for n, one in enumerate(picked):
            own_column, own_turn = Signal(near, name=f"column_of{n}"), ~vector & (column >> near == n)
            with m.If(reading & chunks_left.last & own_turn):
                m.d.sync += own_column.eq(Mux(columns_left.last, 0, own_column + 1))
            m.d.sync += one.eq(Mux(own_turn, select(of_columns[n << near:(n + 1) << near], own_column), 0))
        picked_vector = Signal(32 * lanes, reset_less=True)
        m.d.sync += picked_vector.eq(Mux(vector, select(self.words(held), chunk), 0))
        sums = Signal(32 * lanes, reset_less=True)
        earlier = self.build_psums(m, reading=reading, final=final, first=tile.first_pass,
                                   restart=last_read & tile.last, sums=sums)
        chosen = Signal(32 * lanes)
        m.d.comb += chosen.eq(reduce(or_, picked, picked_vector))
        for lane in range(lanes):
            m.d.sync += sums.word_select(lane, 32).eq(chosen.word_select(lane, 32) + earlier.word_select(lane, 32))
        m.d.comb += [
            addition.operands.eq(picked_vector), addition.multiplier_1.eq(descriptor.add_multiplier_1),
            addition.multiplier_2.eq(descriptor.add_multiplier_2), addition.shift_1.eq(descriptor.add_shift_1),
            addition.shift_2.eq(descriptor.add_shift_2), requantizer.sums.eq(Mux(descriptor.add, addition.sums, sums)),
        ]

        # The results' place and the column of their constants beside them, later where operands are scaled first.
        place = Signal(self._place_layout())
        m.d.comb += [
            place.valid.eq(reading & final), place.end_of_tile.eq(last_read & final),
            place.ring.eq(Mux(vector, 0, column)), place.offset.eq(offset),
            place.count.eq(Mux(left < lanes, left, lanes)),
        ]
        m.d.comb += self.column.eq(Mux(descriptor.parameter_shared, 0, column))
        stages = [place]
        for stage in range(self.PICK + Addition.LATENCY - 1 + Requantizer.LATENCY):
            stages.append(delay(m, stages[-1], 1, f"place{stage}"))
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

        # The band ends when its last result leaves the requantizer, whose constants come from the descriptor. What is
        # worked out from the next one's fields is there when the first tile may begin.
        finishing = Signal(range(len(stages)))
        with m.If(last_read & ends_band):
            m.d.sync += finishing.eq(Mux(descriptor.add, len(stages) - 2, self.PICK + Requantizer.LATENCY - 1))
        with m.Elif((finishing > 1) | ((finishing == 1) & (offered | self.o_descriptor.ready))):
            m.d.sync += finishing.eq(finishing - 1)
            with m.If(finishing == 1):
                m.d.sync += active.eq(0)
        m.d.sync += settling.eq(settling << 1)
        with m.If(settling[-1]):
            m.d.sync += open_.eq(1)
        with m.If(self.i_descriptor.valid & self.i_descriptor.ready):
            m.d.sync += [
                descriptor.eq(self.i_descriptor.payload), vector.eq(self.i_descriptor.p.op == OP_VECTOR), active.eq(1),
                settling.eq(1), offered.eq(~self.i_descriptor.p.sum_end), column.eq(0),
            ]
        return m

    def build_tiles(self, m: Module, taken):
        """The queue of tiles that have been issued; returns its head, from the second cycle behind its issue on."""
        m.submodules.tiles = tiles = SyncFIFOBuffered(width=Shape.cast(Tile).width, depth=self.TILES)
        m.d.comb += [tiles.w_en.eq(self.array_issued | self.vector_issued), tiles.w_data.eq(self.tile),
                     tiles.r_en.eq(taken)]
        return Tile(tiles.r_data)

    def build_array_free(self, m: Module, *, begin, due, columns, tile_chunks):
        """From a tile's last tap until it begins no other last tap may be issued, and while it is read only in time.

        The sums of column c are replaced ``FEED_LATENCY + array latency + c`` cycles after the next last tap.
        """
        config = self.config
        waiting, wait = Signal(), Countdown(self.start_delay.bit_length(), name="wait")
        most = max(1, (config.columns - 1) * (config.drain_chunks - 1))
        ahead, blocking, blocked = Signal(range(most + 1)), Signal(), Countdown(most.bit_length(), name="blocked")
        enough = self.FEED_LATENCY + self.array_latency - 1
        # A cycle for each chunk of each column, but the last column's and the last chunk's are not waited for.
        m.d.sync += [ahead.eq((columns - 1)[:len(columns)] * (tile_chunks - 1)[:len(tile_chunks)]), *wait.step()]
        free = Signal(init=1)
        m.d.comb += self.next_array_free.eq(free)
        m.d.sync += free.eq(self.next_array_free)
        with m.If(waiting & wait.last):
            m.d.sync += [waiting.eq(0), due.eq(1)]
        with m.If(begin):
            m.d.comb += self.next_array_free.eq(ahead <= enough)
            m.d.sync += [due.eq(0), blocking.eq(ahead > enough), *blocked.start(ahead - enough)]
        with m.Elif(blocking):
            m.d.sync += blocked.step()
            with m.If(blocked.last):
                m.d.comb += self.next_array_free.eq(1)
                m.d.sync += blocking.eq(0)
        with m.If(self.array_issued):
            m.d.comb += self.next_array_free.eq(0)
            m.d.sync += [waiting.eq(1), *wait.start(self.start_delay - 2)]

    def chunks_of(self, positions):
        """Cycles that a column of so many positions takes."""
        lanes, most = self.config.requantize_lanes, max(self.config.drain_chunks, self.config.vector_chunks)
        return sum((positions > n * lanes for n in range(1, most)), start=Const(1))

    def words(self, sums):
        """As many as are requantized at once."""
        size = 32 * self.config.requantize_lanes
        return [sums[start:start + size] for start in range(0, len(sums), size)]

    def build_psums(self, m: Module, *, reading, final, first, restart, sums):
        """The psum memory, walked in the order of draining; returns what it adds to the sums of stage 2.

        It is read a cycle ahead, so that stage 2 finds what it has read in a register.
        """
        config = self.config
        depth = max(2, config.psum_tiles * config.columns * config.drain_chunks)
        m.submodules.psums = psums = Memory(shape=32 * config.requantize_lanes, depth=depth, init=[],
                                           attrs=BLOCK_RAM)
        write, read = psums.write_port(), psums.read_port(domain="sync")
        address, following, behind, behind_2 = (
            Signal(range(depth), name=n) for n in ("address", "following", "behind", "behind_2"))
        waits, earlier = Signal(2), Signal(32 * config.requantize_lanes, reset_less=True)
        m.d.comb += [
            following.eq(Mux(reading, Mux(restart, 0, address + 1), address)), read.addr.eq(following), read.en.eq(1),
            write.addr.eq(behind_2), write.en.eq(waits[1]), write.data.eq(sums),
        ]
        m.d.sync += [
            address.eq(following), behind.eq(address), behind_2.eq(behind), waits.eq(Cat(reading & ~final, waits)),
            earlier.eq(Mux(first, 0, read.data)),
        ]
        return earlier

    def _place_layout(self):
        config = self.config
        return data.StructLayout({
            "valid": 1, "end_of_tile": 1, "ring": range(config.columns),
            "offset": range(config.output_ring_bytes), "count": range(config.requantize_lanes + 1),
        })
