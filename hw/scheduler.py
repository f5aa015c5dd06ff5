"""The channel-skip scheduler: walks groups, passes or channels, tiles, winners and taps, one step a cycle."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .config import VECTOR_TAPS, EngineConfig
from .descriptor import LAYOUT, OP_VECTOR
from .positions import PositionGenerator
from .run_stream import RunStream, SlabRun
from .taps import ConvolutionTaps, Step, VectorTaps
from .winner_list import Run


class WeightRing(wiring.Component):
    """Where the weights in work lie: a ring read over and over until its last use frees it.

    Members
    -------
    loaded, need, consume:
        Bytes that have arrived in this cycle; bytes that the step in turn reads; it is issued.
    restart:
        Strobe: the next step starts what is read over and over.
    again, keep:
        The step in turn ends a tile, and the next one reads the same weights; they are not freed.
    free:
        These weights are read for the last time, and no later band needs them.
    band_start, band_again:
        Strobes: a band whose weights are kept starts; it has ended, and the next one reads the same.
    ready, offset, freed:
        The step's weights are there; where they start; bytes freed in this cycle.
    """

    def __init__(self, *, buffer_bytes: int, read_bytes: int, axi_bytes: int):
        self.buffer_bytes = buffer_bytes
        count = range(read_bytes + 1)
        super().__init__({
            "loaded": In(range(axi_bytes + 1)), "need": In(count), "consume": In(1), "last_use": In(1),
            "tile_ends": In(1), "again": In(1), "keep": In(1), "band_start": In(1), "band_again": In(1),
            "ready": Out(1), "offset": Out(range(buffer_bytes)), "freed": Out(count),
        })

    def elaborate(self, platform):
        m = Module()
        size = self.buffer_bytes
        available, used, band_used = (Signal(range(size + 1), name=n) for n in ("available", "used", "band_used"))
        start, band_start = Signal(range(size)), Signal(range(size))
        following, wrapped = Signal(range(2 * size)), Signal(range(size))
        taken, returned = Signal.like(self.need), Signal.like(used)
        m.d.comb += [
            self.ready.eq(available >= self.need), taken.eq(Mux(self.consume, self.need, 0)),
            following.eq(self.offset + self.need),
            wrapped.eq(Mux(following >= size, following - size, following)),
            self.freed.eq(Mux(self.last_use & ~self.keep, taken, 0)),
        ]
        with m.If(self.tile_ends & self.again):
            m.d.comb += returned.eq(used + taken)
        with m.Elif(self.band_again):
            m.d.comb += returned.eq(band_used)
        m.d.sync += available.eq(available + self.loaded + returned - taken)
        with m.If(self.consume):
            m.d.sync += [self.offset.eq(wrapped), used.eq(used + self.need)]
            with m.If(self.last_use):
                m.d.sync += band_used.eq(band_used + self.need)
        with m.If(self.tile_ends):
            m.d.sync += used.eq(0)
            with m.If(self.again):
                m.d.sync += self.offset.eq(start)
            with m.Else():
                m.d.sync += start.eq(Mux(self.consume, wrapped, self.offset))
        with m.If(self.band_start):
            m.d.sync += [band_start.eq(self.offset), start.eq(self.offset), used.eq(0), band_used.eq(0)]
        with m.If(self.band_again):
            m.d.sync += [self.offset.eq(band_start), start.eq(band_start)]
        return m


class Scheduler(wiring.Component):
    """Issues the steps of every tile: one read of the activation and weight buffers a cycle.

    Convolution: group, pass, tile, winner, tap. Only winners are walked, in the runs of :class:`RunStream`; their
    blocks lie one behind the other on chip, so a loser costs nothing, and a tile takes ``winners * kernel_h *
    kernel_w`` cycles, over all passes. Vector: group, channel, tile, row of taps, up to ``VECTOR_TAPS`` neighbouring
    taps at once.

    A step waits until its weights have arrived, a tile until its rows have, the last step of a tile until its sums may
    follow those of the tile before.

    Members
    -------
    i_descriptor, winners, slot:
        The next band, the number of its winners, and which of the flags are its own.
    o_descriptor:
        The band in work, offered to the drain until taken.
    flag_slot, flag_channel, flags:
        Whether a channel wins, as first and as second operand: asked for, answered in the next cycle.
    run_valid, run, list_done, list_free:
        The lists of :class:`RunStream`.
    strip_loaded, weights_loaded:
        Strobe and byte count of what has arrived on chip.
    weights_freed:
        Bytes of the weight ring used for the last time in this cycle.
    issue, vector, first, last, operand, taps, first_pass, last_pass:
        A step is issued in this cycle, for the vector unit or for the array; it starts, ends its tile; there are no
        sums of it from before, no more passes over it in this band; of an addition's second operand; neighbouring
        taps.
    act_offset, weight_offset:
        Where its operands start on chip.
    lane_inside:
        Which positions' inputs lie inside the image, lanes of the first tap in the low bits (of the same cycle).
    array_free, vector_free:
        The next tile's last step may be issued.
    idle:
        No band in work.
    waits_activations, waits_weights, waits_drain:
        Why no step is issued in this cycle, exactly one of them while a band is in work.
    """

    def __init__(self, *, config: EngineConfig):
        self.config = config
        super().__init__({
            "i_descriptor": In(stream.Signature(LAYOUT)), "winners": In(16), "slot": In(1),
            "o_descriptor": Out(stream.Signature(LAYOUT)),
            "flag_slot": Out(1), "flag_channel": Out(16), "flags": In(2),
            "run_valid": In(1), "run": In(Run), "list_done": In(1), "list_free": Out(1),
            "strip_loaded": In(1), "weights_loaded": In(range(config.axi_bytes + 1)),
            "weights_freed": Out(range(max(config.columns, VECTOR_TAPS) + 1)),
            "issue": Out(1), "vector": Out(1), "first": Out(1), "last": Out(1), "operand": Out(1),
            "taps": Out(range(VECTOR_TAPS + 1)), "first_pass": Out(1), "last_pass": Out(1),
            "act_offset": Out(24), "weight_offset": Out(range(config.weight_buffer_bytes)),
            "lane_inside": Out(VECTOR_TAPS * config.position_lanes),
            "array_free": In(1), "vector_free": In(1), "idle": Out(1),
            "waits_activations": Out(1), "waits_weights": Out(1), "waits_drain": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.positions = positions = PositionGenerator(lanes=config.position_lanes)
        m.submodules.convolution = convolution = ConvolutionTaps()
        m.submodules.vector_taps = vector_taps = VectorTaps()
        m.submodules.weights = weights = WeightRing(
            buffer_bytes=config.weight_buffer_bytes, read_bytes=max(config.columns, VECTOR_TAPS),
            axi_bytes=config.axi_bytes)
        descriptor = Signal(LAYOUT)
        active, offered, start, prepare = Signal(), Signal(), Signal(), Signal()
        winners = Signal(16)
        vector = self.vector
        m.d.comb += [
            self.idle.eq(~active), start.eq(self.i_descriptor.valid & self.i_descriptor.ready),
            self.i_descriptor.ready.eq(~active),
            self.o_descriptor.valid.eq(active & ~offered), self.o_descriptor.payload.eq(descriptor),
        ]
        m.d.sync += [positions.start.eq(start), prepare.eq(start)]
        with m.If(self.o_descriptor.valid & self.o_descriptor.ready):
            m.d.sync += offered.eq(1)
        for walk in (positions, convolution, vector_taps):
            m.d.comb += walk.descriptor.eq(descriptor)

        # The runs of a convolution's tiles: that in work, and the one that follows.
        m.submodules.runs = runs = RunStream(max_channels=config.max_channels)
        run, run_valid, next_run = Signal(SlabRun), Signal(), runs.o_run
        m.d.comb += [
            runs.start.eq(prepare & ~vector), runs.descriptor.eq(descriptor), runs.winners.eq(winners),
            runs.run_valid.eq(self.run_valid), runs.run.eq(self.run), runs.list_done.eq(self.list_done),
            self.list_free.eq(runs.list_free),
        ]

        # The step in turn.
        step, first, last = Signal(Step), Signal(), Signal()
        m.d.comb += step.eq(Mux(vector, vector_taps.step.as_value(), convolution.step.as_value()))
        tile_valid, done = Signal(), Signal()
        tile_ends, run_ends = Signal(), Signal()
        m.d.comb += [
            first.eq(step.first & (vector | run.tile_first)), last.eq(step.last & (vector | run.tile_last)),
            tile_ends.eq(self.issue & last), run_ends.eq(self.issue & step.last & ~vector),
            convolution.advance.eq(self.issue & ~vector), vector_taps.advance.eq(self.issue & vector),
        ]

        # The loops around the tile: groups and passes of a convolution, groups and channels of the vector unit.
        group, tile, column = Signal(16), Signal(24), Signal(range(config.columns + 1))
        columns = Signal(range(config.columns + 1))
        last_group, last_tile = Signal(), Signal()
        ends_group, ends_band = Signal(), Signal()
        m.d.comb += [
            last_group.eq(group == descriptor.out_groups - 1), last_tile.eq(tile == descriptor.tiles - 1),
            columns.eq(Mux(last_group, descriptor.last_columns, descriptor.group_columns)),
            self.last_pass.eq(run.last_pass), self.first_pass.eq(run.first_pass & descriptor.sum_start),
            ends_group.eq(last_tile & Mux(vector, column == columns - 1, run.last_pass)),
            ends_band.eq(ends_group & last_group),
        ]
        with m.If(tile_ends):
            m.d.sync += tile.eq(tile + 1)
            with m.If(last_tile):
                m.d.sync += [tile.eq(0), column.eq(column + 1)]
                with m.If(ends_group):
                    m.d.sync += [column.eq(0), group.eq(group + 1), done.eq(last_group)]

        # Where the next tile's slabs start; a vector channel's is behind that of the channel before.
        band_base, part_base, tile_base, next_base = (
            Signal(24, name=n) for n in ("band_base", "part_base", "tile_base", "next_base"))
        repeats = Signal(8)
        next_input = repeats == descriptor.depth_multiplier - 1
        next_part = Signal(24)
        m.d.comb += [
            band_base.eq(descriptor.act_base + descriptor.tap_base),
            next_part.eq(Mux(vector & next_input, part_base + descriptor.slab_bytes, part_base)),
            next_base.eq(Mux(prepare, band_base, Mux(
                tile_ends, Mux(last_tile, next_part, tile_base + descriptor.tile_bytes), tile_base))),
            vector_taps.load.eq(prepare | tile_ends), vector_taps.base.eq(next_base),
        ]
        m.d.sync += tile_base.eq(next_base)
        with m.If(prepare):
            m.d.sync += part_base.eq(band_base)
        with m.Elif(tile_ends & last_tile):
            m.d.sync += part_base.eq(next_part)
        m.d.comb += [
            next_run.ready.eq(~run_valid | run_ends), convolution.load.eq(next_run.valid & next_run.ready),
            convolution.base.eq(next_base + next_run.p.offset), convolution.channels.eq(next_run.p.channels),
        ]
        with m.If(next_run.ready):
            m.d.sync += [run_valid.eq(next_run.valid), run.eq(next_run.payload)]

        # Whether the channel in work wins, asked for a cycle ahead.
        channel, next_channel = Signal(16), Signal(16)
        moves_on = tile_ends & last_tile & next_input
        m.d.comb += [
            next_channel.eq(channel + moves_on), self.flag_channel.eq(Mux(prepare, descriptor.mask_skip, next_channel)),
            vector_taps.empty.eq(~self.flags[0]),
        ]
        with m.If(prepare):
            m.d.sync += [channel.eq(descriptor.mask_skip), repeats.eq(0)]
        with m.Elif(tile_ends & last_tile):
            m.d.sync += [channel.eq(next_channel), repeats.eq(Mux(next_input, 0, repeats + 1))]
        operand_loses = Mux(step.operand, ~self.flags[1], ~self.flags[0])

        # Rows that have arrived.
        strips_waiting, rows_ready = Signal(16), Signal(18)
        needed = positions.o_tile.p.rows_needed
        rows_missing = (rows_ready < needed) & ~descriptor.act_resident
        take_strip = Signal()
        m.d.comb += take_strip.eq(active & ~done & positions.o_tile.valid & rows_missing & (strips_waiting != 0))
        m.d.sync += strips_waiting.eq(strips_waiting + self.strip_loaded - take_strip)
        with m.If(take_strip):
            m.d.sync += rows_ready.eq(rows_ready + descriptor.strip_rows)

        # Weights.
        finish, reads_weights = Signal(), Signal()
        m.d.comb += [
            finish.eq(active & done & (offered | self.o_descriptor.ready)),
            reads_weights.eq((step.taps != 0) & (descriptor.unit_weight == 0) & ~descriptor.add),
            weights.loaded.eq(self.weights_loaded),
            weights.need.eq(Mux(reads_weights, Mux(vector, step.taps, columns), 0)),
            weights.consume.eq(self.issue), weights.last_use.eq(last_tile), weights.tile_ends.eq(tile_ends),
            weights.again.eq(~last_tile), weights.keep.eq(descriptor.weight_keep), weights.band_start.eq(start),
            weights.band_again.eq(finish & descriptor.weight_keep),
            self.weight_offset.eq(weights.offset), self.weights_freed.eq(weights.freed),
        ]

        self.build_inside(m, step=step, descriptor=descriptor, tile=positions.o_tile,
                          outside=(step.taps == 0) | (vector & operand_loses))

        # Issue.
        take_tile, free, there = Signal(), Signal(), Signal()
        m.d.comb += [
            free.eq(~last | Mux(vector, self.vector_free, self.array_free)),
            there.eq(weights.ready & (vector | run_valid)), self.issue.eq(tile_valid & there & free),
            self.first.eq(first), self.last.eq(last), self.taps.eq(step.taps), self.operand.eq(step.operand),
            self.act_offset.eq(step.offset),
            take_tile.eq(positions.o_tile.valid & ~rows_missing & (~tile_valid | tile_ends)
                         & ~(tile_ends & ends_band) & active & ~done & ~prepare),
            positions.o_tile.ready.eq(take_tile),
            self.waits_activations.eq(active & ~tile_valid & ~done),
            self.waits_weights.eq(tile_valid & ~there),
            self.waits_drain.eq((tile_valid & there & ~free) | (active & done)),
        ]
        with m.If(take_tile):
            m.d.sync += tile_valid.eq(1)
        with m.Elif(tile_ends):
            m.d.sync += tile_valid.eq(0)

        with m.If(start):
            m.d.sync += [
                descriptor.eq(self.i_descriptor.payload), vector.eq(self.i_descriptor.p.op == OP_VECTOR),
                winners.eq(self.winners), run_valid.eq(0), self.flag_slot.eq(self.slot), active.eq(1),
                offered.eq(0), done.eq(0), group.eq(0), tile.eq(0), column.eq(0), rows_ready.eq(0), tile_valid.eq(0),
            ]
        with m.If(finish):
            m.d.sync += active.eq(0)
        return m

    def build_inside(self, m: Module, *, step, descriptor, tile, outside):
        """Lanes whose input lies inside the image: lo <= x < hi with the limits of the step's sub-plane."""
        lanes = self.config.position_lanes
        xs, ys = Signal(16 * lanes), Signal(16 * lanes)
        with m.If(tile.ready):
            m.d.sync += [xs.eq(Cat(*tile.p.x)), ys.eq(Cat(*tile.p.y))]
        low_x, high_x, low_y, high_y = (Signal(signed(18), name=n) for n in ("low_x", "high_x", "low_y", "high_y"))
        m.d.comb += [
            low_x.eq(-step.x), low_y.eq(-step.y),
            high_x.eq(descriptor.phase_cols + (step.phase_x < descriptor.phase_cols_more) - step.x),
            high_y.eq(descriptor.phase_rows + (step.phase_y < descriptor.phase_rows_more) - step.y),
        ]
        for lane in range(lanes):
            x, y = xs.word_select(lane, 16), ys.word_select(lane, 16)
            row_inside = Signal(name=f"row_inside{lane}")
            m.d.comb += row_inside.eq((y >= low_y) & (y < high_y) & ~outside)
            for tap in range(VECTOR_TAPS):
                m.d.comb += self.lane_inside[tap * lanes + lane].eq(
                    row_inside & (x >= low_x - tap) & (x < high_x - tap) & (tap < step.taps))
