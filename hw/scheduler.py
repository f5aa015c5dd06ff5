"""The channel-skip scheduler: walks groups, passes or channels, tiles, winners and taps, one step a cycle."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect

from .config import VECTOR_TAPS, EngineConfig
from .descriptor import LAYOUT, OP_VECTOR
from .positions import PositionGenerator
from .run_stream import RunStream, Tile
from .taps import TapWalk
from .winner_list import Run


class WeightRing(wiring.Component):
    """Where the weights in work lie: a ring read over and over until its last use frees it.

    Members
    -------
    loaded:
        Bytes that have arrived in this cycle.
    moves, next_need:
        A step comes in turn with the next cycle that reads so many bytes; or none, which reads 0.
    issue, tile_ends, again, keep:
        The step in turn is issued. It ends its tile; other tiles will read the same weights; they are not freed.
    band_start, band_again:
        Strobes: a band whose weights are kept starts; it has ended, and the next one reads the same.
    ready, offset, freed:
        The weights of the step in turn are there; where they start; bytes freed in this cycle.
    """

    def __init__(self, *, buffer_bytes: int, read_bytes: int, axi_bytes: int):
        self.buffer_bytes = buffer_bytes
        count = range(read_bytes + 1)
        super().__init__({
            "loaded": In(range(axi_bytes + 1)), "moves": In(1), "next_need": In(count), "issue": In(1),
            "tile_ends": In(1), "again": In(1), "keep": In(1), "band_start": In(1), "band_again": In(1),
            "ready": Out(1, init=1), "offset": Out(range(buffer_bytes)), "freed": Out(count),
        })

    def elaborate(self, platform):
        m = Module()
        size = self.buffer_bytes
        need = Signal.like(self.next_need)
        m.d.comb += self.freed.eq(Mux(self.issue & ~self.again & ~self.keep, need, 0))

        # Bytes on chip: from the weights of the tile in work on, from those of the band on, and beyond those of the
        # step in turn; fewer than none where these have not come.
        of_tile, of_band = Signal(range(size + 1)), Signal(range(size + 1))
        beyond = Signal(signed(len(of_tile) + 1))
        before = Mux(self.band_again, of_band, Mux(self.tile_ends & self.again, of_tile, beyond))
        m.d.comb += self.ready.eq(beyond >= 0)
        m.d.sync += [
            of_band.eq(Mux(self.band_start, of_tile, of_band) + self.loaded),
            of_tile.eq(of_tile + self.loaded), beyond.eq(beyond + self.loaded),
        ]
        with m.If(self.issue & self.tile_ends & ~self.again):
            m.d.sync += of_tile.eq(beyond + self.loaded)
        with m.If(self.band_again):
            m.d.sync += of_tile.eq(of_band + self.loaded)
        with m.If(self.moves):
            m.d.sync += [need.eq(self.next_need), beyond.eq(before + self.loaded - self.next_need)]

        # Where they start: the step in turn, the tile, the band.
        tile_start, band_start = Signal(range(size)), Signal(range(size))
        following, wrapped = Signal(range(2 * size)), Signal(range(size))
        m.d.comb += [
            following.eq(self.offset + need), wrapped.eq(Mux(following >= size, following - size, following)),
        ]
        with m.If(self.issue):
            m.d.sync += self.offset.eq(wrapped)
            with m.If(self.tile_ends & self.again):
                m.d.sync += self.offset.eq(tile_start)
            with m.Elif(self.tile_ends):
                m.d.sync += tile_start.eq(wrapped)
        with m.If(self.band_start):
            m.d.sync += band_start.eq(self.offset)
        with m.If(self.band_again):
            m.d.sync += [self.offset.eq(band_start), tile_start.eq(band_start)]
        return m


def reaches(value, steps: int):
    """``value >= -steps`` of a signed value, from its bits alone."""
    if not steps:
        return value >= 0
    low = (steps - 1).bit_length()
    return (value >= 0) | (value[low:].all() & (value[:low] >= (1 << low) - steps))


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
    ask, flag_slot, flag_channel, flags:
        Whether a channel wins, as first and as second operand: the answer of three cycles with ``ask`` before.
    run_valid, run, list_done, list_free:
        The lists of :class:`RunStream`.
    strip_loaded, weights_loaded:
        Strobe and byte count of what has arrived on chip.
    weights_freed:
        Bytes of the weight ring used for the last time in this cycle.
    issue, vector, first, last, operand, taps:
        A step is issued in this cycle, for the vector unit or for the array; it starts, ends its tile; of an addition's
        second operand; neighbouring taps.
    act_offset, weight_offset:
        Where its operands start on chip.
    lane_inside:
        Which positions' inputs lie inside the image, lanes of the first tap in the low bits: of the step issued two
        cycles before.
    array_issued, vector_issued, tile:
        Strobes: a tile's last step is issued; the tile. Its ``first_pass`` says that there are no sums of it from
        before.
    next_array_free, next_vector_free:
        A tile's last step may be issued in the next cycle.
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
            "ask": Out(1), "flag_slot": Out(1), "flag_channel": Out(16), "flags": In(2),
            "run_valid": In(1), "run": In(Run), "list_done": In(1), "list_free": Out(1),
            "strip_loaded": In(1), "weights_loaded": In(range(config.axi_bytes + 1)),
            "weights_freed": Out(range(max(config.columns, VECTOR_TAPS) + 1)),
            "issue": Out(1), "vector": Out(1), "first": Out(1), "last": Out(1), "operand": Out(1),
            "taps": Out(range(VECTOR_TAPS + 1)),
            "act_offset": Out(24), "weight_offset": Out(range(config.weight_buffer_bytes)),
            "lane_inside": Out(VECTOR_TAPS * config.position_lanes),
            "array_issued": Out(1), "vector_issued": Out(1), "tile": Out(Tile),
            "next_array_free": In(1), "next_vector_free": In(1), "idle": Out(1),
            "waits_activations": Out(1), "waits_weights": Out(1), "waits_drain": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config, vector = self.config, self.vector
        m.submodules.positions = positions = PositionGenerator(lanes=config.position_lanes)
        m.submodules.runs = runs = RunStream(max_channels=config.max_channels)
        m.submodules.walk = walk = TapWalk()
        m.submodules.weights = weights = WeightRing(
            buffer_bytes=config.weight_buffer_bytes, read_bytes=max(config.columns, VECTOR_TAPS),
            axi_bytes=config.axi_bytes)

        # The band in work.
        descriptor = Signal(LAYOUT, reset_less=True)
        active, offered, done, start, prepare, finish = (
            Signal(name=n) for n in ("active", "offered", "done", "start", "prepare", "finish"))
        m.d.comb += [
            self.idle.eq(~active), self.i_descriptor.ready.eq(~active),
            start.eq(self.i_descriptor.valid & self.i_descriptor.ready),
            self.o_descriptor.valid.eq(active & ~offered), self.o_descriptor.payload.eq(descriptor),
            finish.eq(active & done & (offered | self.o_descriptor.ready)),
        ]
        m.d.sync += prepare.eq(start)
        with m.If(self.o_descriptor.valid & self.o_descriptor.ready):
            m.d.sync += offered.eq(1)
        for part in (positions, runs, walk):
            m.d.comb += part.descriptor.eq(descriptor)
        for part in (runs, walk):
            m.d.comb += part.vector.eq(vector)

        # The step in turn.
        connect(m, runs.o_run, walk.i_run)
        step, run = walk.o_step.p, walk.run
        tile_valid, there, held, tile_ends = (Signal(name=n) for n in ("tile_valid", "there", "held", "tile_ends"))
        # What the drain and the vector unit say is asked a cycle ahead: who issues has it in a register of his own.
        m.d.sync += held.eq(walk.next_last & ~(self.next_array_free & self.next_vector_free))
        m.d.comb += [
            self.first.eq(step.first), self.last.eq(step.last), self.operand.eq(step.operand), self.taps.eq(step.taps),
            self.act_offset.eq(step.offset), walk.o_step.ready.eq(self.issue),
            there.eq(walk.o_step.valid & weights.ready),
            self.issue.eq(tile_valid & there & ~held), tile_ends.eq(self.issue & step.last),
            self.array_issued.eq(tile_ends & ~vector), self.vector_issued.eq(tile_ends & vector),
            self.tile.eq(run.tile), self.tile.first_pass.eq(run.tile.first_pass & descriptor.sum_start),
            self.waits_activations.eq(active & ~tile_valid & ~done), self.waits_weights.eq(tile_valid & ~there),
            self.waits_drain.eq((tile_valid & there & held) | (active & done)),
        ]
        m.d.comb += [
            runs.start.eq(start), runs.starting.eq(self.i_descriptor.p), runs.winners.eq(self.winners),
            runs.run_valid.eq(self.run_valid), runs.run.eq(self.run),
            runs.list_done.eq(self.list_done), self.list_free.eq(runs.list_free),
            self.ask.eq(runs.ask), self.flag_channel.eq(runs.channel), runs.flags.eq(self.flags),
        ]
        m.d.comb += [
            weights.loaded.eq(self.weights_loaded), weights.moves.eq(walk.moves),
            weights.next_need.eq(walk.next_weights), weights.issue.eq(self.issue),
            weights.tile_ends.eq(walk.o_step.valid & step.last), weights.again.eq(~run.tile.last),
            weights.keep.eq(descriptor.weight_keep), weights.band_start.eq(start),
            weights.band_again.eq(finish & descriptor.weight_keep),
            self.weight_offset.eq(weights.offset), self.weights_freed.eq(weights.freed),
        ]

        # The tile in turn, whose rows have arrived.
        strips_waiting, rows_ready, all_rows = Signal(16), Signal(18), Signal()
        walking, rows_missing, take_strip = Signal(), Signal(), Signal()
        next_tile, rows_with_strip = positions.o_tile, rows_ready + descriptor.strip_rows
        m.d.comb += [
            positions.start.eq(prepare), rows_missing.eq((rows_ready < next_tile.payload) & ~all_rows),
            take_strip.eq(active & ~done & next_tile.valid & rows_missing & (strips_waiting != 0)),
            next_tile.ready.eq(walking & ~rows_missing & (~tile_valid | tile_ends)),
        ]
        # Whether one is taken is known last: the count stands ready for both.
        more_strips, fewer_strips = strips_waiting + 1, strips_waiting - 1
        m.d.sync += strips_waiting.eq(Mux(take_strip, Mux(self.strip_loaded, strips_waiting, fewer_strips),
                                          Mux(self.strip_loaded, more_strips, strips_waiting)))
        with m.If(take_strip):
            m.d.sync += [rows_ready.eq(rows_with_strip), all_rows.eq(rows_with_strip >= descriptor.in_rows)]
        with m.If(prepare):
            m.d.sync += walking.eq(1)
        with m.If(tile_ends):
            m.d.sync += tile_valid.eq(0)
        with m.If(next_tile.valid & next_tile.ready):
            m.d.sync += tile_valid.eq(1)
        with m.If(tile_ends & run.tile.ends_group & run.tile.last_group):
            m.d.sync += [tile_valid.eq(0), walking.eq(0), done.eq(1)]
        self.build_inside(m, step=step, descriptor=descriptor, positions=positions, loses=run.loses)

        with m.If(start):
            m.d.sync += [
                descriptor.eq(self.i_descriptor.payload), vector.eq(self.i_descriptor.p.op == OP_VECTOR),
                self.flag_slot.eq(self.slot), active.eq(1), offered.eq(0), done.eq(0),
                rows_ready.eq(0), all_rows.eq(self.i_descriptor.p.act_resident),
            ]
        with m.If(finish):
            m.d.sync += active.eq(0)
        return m

    def build_inside(self, m: Module, *, step, descriptor, positions, loses):
        """Lanes whose input lies inside the image: its column and row are not negative, those left of the end are."""
        config, lanes = self.config, self.config.position_lanes
        # Stage 1: what a step adds to a position's coordinates for both. Stage 2: the lanes, whose coordinates are
        # those of the step's tile by then.
        columns = descriptor.phase_cols + (step.phase_x < descriptor.phase_cols_more)
        rows = descriptor.phase_rows + (step.phase_y < descriptor.phase_rows_more)
        add_x, add_y, sub_x, sub_y = (
            Signal(signed(18), name=n, reset_less=True) for n in ("add_x", "add_y", "sub_x", "sub_y"))
        taps = Signal.like(step.taps)
        outside = self.vector & Mux(step.operand, loses[1], loses[0])
        m.d.sync += [add_x.eq(step.x), add_y.eq(step.y), sub_x.eq(step.x - columns), sub_y.eq(step.y - rows),
                     taps.eq(Mux(outside, 0, step.taps))]
        for lane in range(lanes):
            x, x_left, y, y_left = (Signal(signed(19), name=f"{n}{lane}") for n in ("x", "x_left", "y", "y_left"))
            lane_x, lane_y = positions.x.word_select(lane, 16), positions.y.word_select(lane, 16)
            m.d.comb += [x.eq(lane_x + add_x), x_left.eq(lane_x + sub_x), y.eq(lane_y + add_y),
                         y_left.eq(lane_y + sub_y)]
            for tap in range(VECTOR_TAPS if lane < config.vector_lanes else 1):
                m.d.sync += self.lane_inside[tap * lanes + lane].eq(
                    (y >= 0) & (y_left < 0) & reaches(x, tap) & ~reaches(x_left, tap) & (taps > tap))
