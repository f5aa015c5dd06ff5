"""The channel-skip scheduler: walks groups, tiles, winners and taps, one tap a cycle."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .config import EngineConfig
from .descriptor import LAYOUT


def tile_layout(rows: int) -> data.StructLayout:
    """Coordinates of a tile's positions, and the input rows they need."""
    return data.StructLayout({
        "x": data.ArrayLayout(16, rows), "y": data.ArrayLayout(16, rows), "rows_needed": 16,
    })


class PositionGenerator(wiring.Component):
    """Coordinates of consecutive positions, a tile at a time, for every group anew.

    One position a cycle: a tile is ready ``rows + 2`` cycles after the one before was taken.

    Members: ``start`` (strobe) with ``descriptor`` stable from then on; ``o_tile``.
    """

    def __init__(self, *, rows: int):
        self.rows = rows
        super().__init__({
            "start": In(1), "descriptor": In(LAYOUT), "o_tile": Out(stream.Signature(tile_layout(rows))),
        })

    def elaborate(self, platform):
        m = Module()
        rows, descriptor, out = self.rows, self.descriptor, self.o_tile
        x, y = Signal(16), Signal(16)
        lanes_x, lanes_y = Signal(16 * rows), Signal(16 * rows)
        filled = Signal(range(rows + 1))
        tile = Signal(24)
        active = Signal()
        needed = Signal(signed(20))
        row_times_stride = Signal(18)
        last_row = lanes_y[16 * (rows - 1):]
        m.d.comb += [
            out.p.x.eq(lanes_x), out.p.y.eq(lanes_y),
            row_times_stride.eq(Mux(descriptor.stride_y[0], last_row, 0) + Mux(descriptor.stride_y[1], last_row << 1, 0)
                                + Mux(descriptor.stride_y[2], last_row << 2, 0)),
            needed.eq(row_times_stride + descriptor.rows_ahead),
        ]
        with m.If(self.start):
            m.d.sync += [active.eq(1), filled.eq(0), tile.eq(0), x.eq(0), y.eq(0), out.valid.eq(0)]
        with m.Elif(active & (filled != rows)):
            m.d.sync += [
                filled.eq(filled + 1),
                lanes_x.eq(Cat(lanes_x[16:], x)), lanes_y.eq(Cat(lanes_y[16:], y)),
                x.eq(x + 1),
            ]
            with m.If(x == descriptor.pitch - 1):
                m.d.sync += [x.eq(0), y.eq(y + 1)]
        with m.Elif(active & ~out.valid):
            m.d.sync += [
                out.valid.eq(1),
                out.p.rows_needed.eq(Mux(needed > descriptor.in_rows, descriptor.in_rows, needed[:16])),
            ]
        with m.Elif(out.ready):
            m.d.sync += [out.valid.eq(0), filled.eq(0), tile.eq(tile + 1)]
            with m.If(tile == descriptor.tiles - 1):
                m.d.sync += [tile.eq(0), x.eq(0), y.eq(0)]
        return m


class Scheduler(wiring.Component):
    """Issues the taps of every tile: one read of the activation and weight buffers a cycle.

    Only winners are walked: their slabs and blocks lie one behind the other on chip, so a loser costs nothing, and a
    layer takes ``winners * kernel_h * kernel_w`` cycles a tile. A tap waits until its weights have arrived, a tile
    until its rows have, the last tap of a tile until its sums may overwrite those of the tile before.

    Members
    -------
    i_descriptor, winners:
        The next band.
    o_descriptor:
        The band in work, offered to the drain until taken (not where its sums go on in the next descriptor).
    strip_loaded, weights_loaded:
        Strobe and byte count of what has arrived on chip.
    weights_freed:
        Bytes of the weight ring used for the last time in this cycle.
    issue, first, last:
        A tap is issued in this cycle; it starts, completes the sums of its tile.
    act_offset, weight_offset, lane_inside:
        Where its operands start on chip, and which rows' inputs lie inside the image (of the same cycle).
    drain_free:
        The next tile's last tap may be issued.
    idle:
        No band in work.
    waits_activations, waits_weights, waits_drain:
        Why no tap is issued in this cycle, exactly one of them while a band is in work.
    """

    def __init__(self, *, config: EngineConfig):
        self.config = config
        super().__init__({
            "i_descriptor": In(stream.Signature(LAYOUT)), "winners": In(16),
            "o_descriptor": Out(stream.Signature(LAYOUT)),
            "strip_loaded": In(1), "weights_loaded": In(range(config.axi_bytes + 1)),
            "weights_freed": Out(range(config.columns + 1)),
            "issue": Out(1), "first": Out(1), "last": Out(1),
            "act_offset": Out(24), "weight_offset": Out(range(config.weight_buffer_bytes)),
            "lane_inside": Out(config.rows),
            "drain_free": In(1), "idle": Out(1),
            "waits_activations": Out(1), "waits_weights": Out(1), "waits_drain": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.positions = positions = PositionGenerator(rows=config.rows)
        descriptor = Signal(LAYOUT)
        winners = Signal(16)
        active, offered = Signal(), Signal()
        start, finish = Signal(), Signal()
        m.d.comb += [
            self.idle.eq(~active), start.eq(self.i_descriptor.valid & self.i_descriptor.ready),
            self.i_descriptor.ready.eq(~active),
            self.o_descriptor.valid.eq(active & ~offered), self.o_descriptor.payload.eq(descriptor),
            positions.descriptor.eq(descriptor),
        ]
        m.d.sync += positions.start.eq(start)
        with m.If(self.o_descriptor.valid & self.o_descriptor.ready):
            m.d.sync += offered.eq(1)

        # Loop counters and the tile in work.
        group, tile, channel = Signal(16), Signal(24), Signal(16)
        tap_row, tap_col = Signal(4), Signal(4)
        tile_valid, done = Signal(), Signal()
        xs, ys = Signal(16 * config.rows), Signal(16 * config.rows)
        last_group = group == descriptor.out_groups - 1
        last_tile = tile == descriptor.tiles - 1
        columns = Signal(range(config.columns + 1))
        m.d.comb += columns.eq(Mux(last_group, descriptor.last_columns, descriptor.group_columns))
        no_winner = winners == 0
        row_ends = no_winner | (tap_col == descriptor.kernel_w - 1)
        block_ends = row_ends & (no_winner | (tap_row == descriptor.kernel_h - 1))
        ends_tile, tile_ends = Signal(), Signal()
        m.d.comb += [
            ends_tile.eq(block_ends & (no_winner | (channel == winners - 1))),
            self.last.eq(ends_tile & descriptor.sum_end),
            tile_ends.eq(self.issue & ends_tile),
            finish.eq(active & done & (offered | self.o_descriptor.ready)),
        ]

        # Rows that have arrived.
        strips_waiting, rows_ready = Signal(16), Signal(17)
        needed = positions.o_tile.p.rows_needed
        rows_missing = rows_ready < needed
        take_strip = Signal()
        m.d.comb += take_strip.eq(active & ~done & positions.o_tile.valid & rows_missing & (strips_waiting != 0))
        m.d.sync += strips_waiting.eq(strips_waiting + self.strip_loaded - take_strip)
        with m.If(take_strip):
            m.d.sync += rows_ready.eq(rows_ready + descriptor.strip_rows)

        # Weights that have arrived, as a ring read over and over until the group's last tile frees it.
        available = Signal(range(config.weight_buffer_bytes + 1))
        offset, used = Signal(range(config.weight_buffer_bytes)), Signal(range(config.weight_buffer_bytes + 1))
        group_offset, band_offset = Signal.like(offset), Signal.like(offset)
        band_used = Signal.like(used)
        weights_ready = no_winner | (available >= columns)
        consume = Signal()
        rewind_tile = tile_ends & ~last_tile & ~descriptor.weight_stream
        next_offset = Signal(range(config.weight_buffer_bytes + config.columns + 1))
        wrapped = Signal.like(offset)
        m.d.comb += [
            consume.eq(self.issue & ~no_winner),
            next_offset.eq(offset + Mux(no_winner, 0, columns)),
            wrapped.eq(Mux(next_offset >= config.weight_buffer_bytes,
                           next_offset - config.weight_buffer_bytes, next_offset)),
            self.weight_offset.eq(offset),
            self.weights_freed.eq(Mux(consume & ~descriptor.weight_keep & (last_tile | descriptor.weight_stream),
                                      columns, 0)),
        ]
        returned = Signal.like(used)
        with m.If(rewind_tile):
            m.d.comb += returned.eq(used + Mux(consume, columns, 0))
        with m.Elif(finish & descriptor.weight_keep):
            m.d.comb += returned.eq(band_used)
        m.d.sync += available.eq(available + self.weights_loaded + returned - Mux(consume, columns, 0))
        with m.If(self.issue):
            m.d.sync += [offset.eq(wrapped), used.eq(used + Mux(no_winner, 0, columns))]
            with m.If(consume & (last_tile | descriptor.weight_stream)):
                m.d.sync += band_used.eq(band_used + columns)
            with m.If(tile_ends):
                m.d.sync += used.eq(0)
                with m.If(rewind_tile):
                    m.d.sync += offset.eq(group_offset)
                with m.Else():
                    m.d.sync += group_offset.eq(wrapped)
        with m.If(finish & descriptor.weight_keep):
            m.d.sync += [offset.eq(band_offset), group_offset.eq(band_offset)]

        # Coordinates and offset of the tap in work.
        tap_x, tap_y = Signal(signed(9)), Signal(signed(9))
        phase_x, phase_y = Signal(2), Signal(2)
        tap_offset, row_offset, channel_offset, tile_offset = (Signal(24, name=n) for n in (
            "tap_offset", "row_offset", "channel_offset", "tile_offset"))
        next_row_offset = Signal(24)
        next_channel_offset = channel_offset + descriptor.slab_bytes
        band_start = Signal(24)
        m.d.comb += band_start.eq(descriptor.act_base + descriptor.tap_base)
        next_tile_offset = Mux(last_tile, band_start, tile_offset + config.rows)
        x_wraps = phase_x == descriptor.stride_x - 1
        y_wraps = phase_y == descriptor.stride_y - 1
        m.d.comb += [
            next_row_offset.eq(row_offset + Mux(y_wraps, descriptor.step_y_wrap, descriptor.step_y)),
            self.act_offset.eq(tap_offset),
        ]

        def start_taps(at):
            return [tap_offset.eq(at), row_offset.eq(at), *start_columns(), tap_row.eq(0),
                    phase_y.eq(descriptor.phase_y), tap_y.eq(descriptor.tap_y)]

        def start_columns():
            return [tap_col.eq(0), phase_x.eq(descriptor.phase_x), tap_x.eq(descriptor.tap_x)]

        with m.If(self.issue):
            with m.If(~row_ends):
                m.d.sync += [
                    tap_col.eq(tap_col + 1),
                    tap_offset.eq(tap_offset + Mux(x_wraps, descriptor.step_x_wrap, descriptor.step_x)),
                    phase_x.eq(Mux(x_wraps, 0, phase_x + 1)), tap_x.eq(tap_x + x_wraps),
                ]
            with m.Elif(~block_ends):
                m.d.sync += [
                    tap_row.eq(tap_row + 1), *start_columns(),
                    tap_offset.eq(next_row_offset), row_offset.eq(next_row_offset),
                    phase_y.eq(Mux(y_wraps, 0, phase_y + 1)), tap_y.eq(tap_y + y_wraps),
                ]
            with m.Elif(~ends_tile):
                m.d.sync += [channel.eq(channel + 1), channel_offset.eq(next_channel_offset),
                             *start_taps(next_channel_offset)]
            with m.Else():
                m.d.sync += [
                    channel.eq(0), channel_offset.eq(next_tile_offset), tile_offset.eq(next_tile_offset),
                    *start_taps(next_tile_offset), tile.eq(tile + 1),
                ]
                with m.If(last_tile):
                    m.d.sync += [tile.eq(0), group.eq(group + 1)]
                    with m.If(last_group):
                        m.d.sync += done.eq(1)

        # Lanes whose input lies inside the image: lo <= x < hi with the limits of the tap's sub-plane.
        low_x, high_x, low_y, high_y = (Signal(signed(18), name=n) for n in ("low_x", "high_x", "low_y", "high_y"))
        m.d.comb += [
            low_x.eq(-tap_x), low_y.eq(-tap_y),
            high_x.eq(descriptor.phase_cols + (phase_x < descriptor.phase_cols_more) - tap_x),
            high_y.eq(descriptor.phase_rows + (phase_y < descriptor.phase_rows_more) - tap_y),
        ]
        for row in range(config.rows):
            x, y = xs.word_select(row, 16), ys.word_select(row, 16)
            m.d.comb += self.lane_inside[row].eq(
                (x >= low_x) & (x < high_x) & (y >= low_y) & (y < high_y) & ~no_winner)

        # Issue.
        take_tile = Signal()
        m.d.comb += [
            self.first.eq((channel == 0) & (tap_row == 0) & (tap_col == 0) & descriptor.sum_start),
            self.issue.eq(tile_valid & weights_ready & (~self.last | self.drain_free)),
            take_tile.eq(positions.o_tile.valid & ~rows_missing & (~tile_valid | tile_ends)
                         & ~(tile_ends & last_tile & last_group) & active & ~done),
            positions.o_tile.ready.eq(take_tile),
            self.waits_activations.eq(active & ~tile_valid & ~done),
            self.waits_weights.eq(tile_valid & ~weights_ready),
            self.waits_drain.eq((tile_valid & weights_ready & ~self.issue) | (active & done)),
        ]
        with m.If(take_tile):
            m.d.sync += [tile_valid.eq(1), xs.eq(positions.o_tile.p.x), ys.eq(positions.o_tile.p.y)]
        with m.Elif(tile_ends):
            m.d.sync += tile_valid.eq(0)

        prepare = Signal()
        m.d.sync += prepare.eq(start)
        with m.If(start):
            m.d.sync += [
                descriptor.eq(self.i_descriptor.payload), winners.eq(self.winners), active.eq(1),
                offered.eq(~self.i_descriptor.p.sum_end),
                done.eq(0), group.eq(0), tile.eq(0), channel.eq(0), rows_ready.eq(0), band_offset.eq(offset),
                group_offset.eq(offset), used.eq(0), band_used.eq(0), tile_valid.eq(0),
            ]
        with m.If(prepare):
            m.d.sync += [channel_offset.eq(band_start), tile_offset.eq(band_start), *start_taps(band_start)]
        with m.If(finish):
            m.d.sync += active.eq(0)
        return m
