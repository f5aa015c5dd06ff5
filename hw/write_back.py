"""Pools the results of finished tiles, gathers their scores and writes them to memory as they come."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .buffer import BankedBuffer
from .config import EngineConfig
from .descriptor import LAYOUT, Select
from .reader import BURST_BEATS
from .writer import WriteKind, WriteRun, chunk_layout


class WriteBack(wiring.Component):
    """Walks the output buffer strip by strip: groups, strips, columns, rows, chunks, taps of the pooling window.

    A chunk is up to ``axi_bytes`` results of a row, pooled by one read for each tap of the window (1 without
    pooling); the reads of the following chunk follow without a gap. A strip is written as soon as its last position
    has been drained. Scores of a group are written when its last strip is, winners after the layer's last group.

    Members
    -------
    i_descriptor:
        The band.
    tile_drained, positions_freed:
        The drain's progress, and the positions given back to it.
    read_*:
        The output buffer's read port.
    score_*:
        Chunks for the score unit, and whether it is busy; ``score_chunk`` is the chunk itself.
    score_in_*:
        Finished scores.
    select, ranking_ready, i_winners:
        The ranking unit.
    o_run, o_chunk, hold:
        The writer.
    layer_done:
        Strobe: the layer is complete and in memory.
    writer_idle:
        All writes have been answered.
    idle:
        Nothing in work.
    """

    def __init__(self, *, config: EngineConfig):
        self.config = config
        axi_bytes = config.axi_bytes
        super().__init__({
            "i_descriptor": In(stream.Signature(LAYOUT)), "descriptor": Out(LAYOUT),
            "tile_drained": In(1), "positions_freed": Out(24),
            "read_enable": Out(1), "read_ring": Out(range(config.columns)),
            "read_offset": Out(range(config.output_ring_bytes)), "read_data": In(8 * axi_bytes),
            "score_valid": Out(1), "score_start": Out(1), "score_end": Out(1), "score_resume": Out(1),
            "score_final": Out(1), "score_channel": Out(16), "score_data": Out(8 * axi_bytes),
            "score_count": Out(range(axi_bytes + 1)), "score_busy": In(1),
            "score_in_valid": In(1), "score_in": In(8),
            "select": Out(1), "ranking_ready": In(1), "i_winners": In(stream.Signature(config.rank_lanes)),
            "o_run": Out(stream.Signature(WriteRun)), "o_chunk": Out(chunk_layout(axi_bytes)), "hold": In(1),
            "layer_done": Out(1), "writer_idle": In(1), "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config, descriptor = self.config, self.descriptor
        axi_bytes = config.axi_bytes
        lane_bits = (axi_bytes - 1).bit_length()
        ring = range(config.output_ring_bytes)
        run = self.o_run

        group, columns_left = Signal(16), Signal(range(config.columns + 1))
        channel, group_channel = Signal(16), Signal(16)
        strip, rows_left, strip_rows_left = Signal(16), Signal(16), Signal(16)
        column = Signal(range(config.columns))
        need, ready_positions, freed_in_group = Signal(25), Signal(26), Signal(24)
        group_offset, strip_offset, row_offset, chunk_offset, tap_row_offset, tap_offset = (
            Signal(ring, name=f"{n}_offset") for n in ("group", "strip", "row", "chunk", "tap_row", "tap"))
        cols_left, pool_row, pool_col = Signal(16), Signal(8), Signal(8)
        group_address, strip_address, column_address, row_address = (
            Signal(32, name=f"{n}_address") for n in ("group", "strip", "column", "row"))
        column_start = Signal()

        last_group = group == descriptor.out_groups - 1
        columns = Mux(last_group, descriptor.last_columns, descriptor.group_columns)
        last_strip = rows_left <= descriptor.out_strip_rows
        first_strip = strip == 0
        strip_rows = Mux(last_strip, rows_left, descriptor.out_strip_rows)
        # From the sizes that the chunks are cut by: what is announced to the writer is what comes, in any descriptor.
        strip_bytes = Signal(32)
        band_last_row = last_strip & (strip_rows_left == 1)
        row_cols = Mux(band_last_row, descriptor.out_cols_last, descriptor.out_cols)
        wanted = Mux(need > descriptor.positions, descriptor.positions, need)
        spent = Signal()
        m.d.sync += ready_positions.eq(
            ready_positions + Mux(self.tile_drained, config.rows, 0) - Mux(spent, descriptor.span, 0))

        # Reads, and what has to be known of them when their data come.
        tag_layout = data.StructLayout({
            "valid": 1, "first_tap": 1, "last_tap": 1, "count": range(axi_bytes + 1), "run_first": 1, "run_last": 1,
            "column_first": 1, "column_last": 1, "channel": 16, "lane": lane_bits, "beat": range(BURST_BEATS),
            "resume": 1, "final": 1,
        })
        tag = Signal(tag_layout)
        count = Signal(range(axi_bytes + 1))
        last_pool_col = pool_col == descriptor.pool_w - 1
        last_pool_row = pool_row == descriptor.pool_h - 1
        last_tap = last_pool_col & last_pool_row
        last_chunk = cols_left <= descriptor.chunk
        last_row = strip_rows_left == 1
        run_lane, run_beat, run_first = Signal(lane_bits), Signal(range(BURST_BEATS)), Signal()
        run_last = last_chunk & (last_row | ~descriptor.out_contiguous)
        m.d.comb += [
            count.eq(Mux(last_chunk, cols_left, descriptor.chunk)),
            self.read_ring.eq(column), self.read_offset.eq(tap_offset),
            tag.valid.eq(self.read_enable), tag.first_tap.eq((pool_row == 0) & (pool_col == 0)),
            tag.last_tap.eq(last_tap), tag.count.eq(count), tag.run_first.eq(run_first), tag.run_last.eq(run_last),
            tag.column_first.eq(column_start), tag.column_last.eq(last_chunk & last_row), tag.channel.eq(channel),
            tag.lane.eq(run_lane), tag.beat.eq(run_beat),
            tag.resume.eq(~first_strip | descriptor.score_resume), tag.final.eq(last_strip & descriptor.score_final),
        ]
        arrived = tag
        for stage in range(BankedBuffer.READ_LATENCY):
            delayed = Signal(tag_layout, name=f"tag{stage}")
            m.d.sync += delayed.eq(arrived)
            arrived = delayed
        pooled, so_far = Signal(8 * axi_bytes), Signal(8 * axi_bytes)
        for lane in range(axi_bytes):
            new, old = self.read_data.word_select(lane, 8), so_far.word_select(lane, 8)
            m.d.comb += pooled.word_select(lane, 8).eq(
                Mux(arrived.first_tap | (new.as_signed() > old.as_signed()), new, old))
        with m.If(arrived.valid):
            m.d.sync += so_far.eq(pooled)
        thinned = Signal(8 * axi_bytes)
        with m.Switch(descriptor.pool_stride_x):
            for s in (2, 3, 4):
                with m.Case(s):
                    m.d.comb += thinned.eq(Cat(pooled.word_select(j * s, 8) for j in range(-(-axi_bytes // s))))
            with m.Default():
                m.d.comb += thinned.eq(pooled)

        # Chunks, one register behind: to the score unit and the writer.
        in_flight = Signal(BankedBuffer.READ_LATENCY + 2)
        m.d.sync += in_flight.eq(Cat(self.read_enable, in_flight))
        chunk = Signal(chunk_layout(axi_bytes))
        m.d.comb += self.o_chunk.eq(chunk)
        m.d.sync += [
            chunk.valid.eq(arrived.valid & arrived.last_tap), chunk.data.eq(thinned), chunk.count.eq(arrived.count),
            chunk.first.eq(arrived.run_first), chunk.last.eq(arrived.run_last), chunk.lane.eq(arrived.lane),
            chunk.beat.eq(arrived.beat),
            self.score_valid.eq(arrived.valid & arrived.last_tap), self.score_start.eq(arrived.column_first),
            self.score_end.eq(arrived.column_last), self.score_channel.eq(arrived.channel),
            self.score_resume.eq(arrived.resume), self.score_final.eq(arrived.final),
        ]
        m.d.comb += [self.score_data.eq(chunk.data), self.score_count.eq(chunk.count)]

        # Scores of the group in work, in channel order.
        scores = Signal(8 * config.columns)
        scores_in = Signal(range(config.columns + 1))
        with m.If(self.score_in_valid):
            m.d.sync += [scores.word_select(scores_in[:max(1, (config.columns - 1).bit_length())], 8).eq(self.score_in),
                         scores_in.eq(scores_in + 1)]
        bytes_left = Signal(16)
        flushing = Signal()
        m.d.comb += flushing.eq(self.score_busy | in_flight.any() | chunk.valid)

        def start_run(address):
            return [run_lane.eq(address[:lane_bits]), run_beat.eq(address[lane_bits:]), run_first.eq(1)]

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.idle.eq(1), self.i_descriptor.ready.eq(1)]
                m.d.sync += [descriptor.eq(self.i_descriptor.payload), group.eq(0),
                             group_channel.eq(self.i_descriptor.payload.first_channel),
                             group_address.eq(self.i_descriptor.payload.out_base)]
                with m.If(self.i_descriptor.valid):
                    m.next = "GROUP"
            with m.State("GROUP"):
                m.d.sync += [
                    strip.eq(0), rows_left.eq(descriptor.out_rows), need.eq(descriptor.out_strip_need),
                    freed_in_group.eq(0), strip_offset.eq(group_offset), strip_address.eq(group_address),
                    scores_in.eq(0),
                ]
                m.next = "STRIP"
            with m.State("STRIP"):
                m.d.sync += [
                    column.eq(0), columns_left.eq(columns), channel.eq(group_channel),
                    row_offset.eq(strip_offset), chunk_offset.eq(strip_offset), tap_row_offset.eq(strip_offset),
                    tap_offset.eq(strip_offset), strip_rows_left.eq(strip_rows),
                    column_address.eq(strip_address), row_address.eq(strip_address),
                    pool_row.eq(0), pool_col.eq(0), column_start.eq(1),
                    strip_bytes.eq((strip_rows - 1)[:16] * descriptor.out_cols
                                   + Mux(last_strip, descriptor.out_cols_last, descriptor.out_cols)),
                ]
                with m.If((ready_positions >= wanted) & self.ranking_ready & ~flushing):
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += [
                    run.valid.eq(1), run.p.address.eq(row_address), run.p.kind.eq(WriteKind.ACTIVATIONS),
                    run.p.bytes.eq(Mux(descriptor.out_contiguous, strip_bytes, row_cols)),
                ]
                m.d.sync += [*start_run(row_address), cols_left.eq(row_cols)]
                with m.If(run.ready):
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += self.read_enable.eq(~self.hold)
                with m.If(~self.hold):
                    next_tap_row = tap_row_offset + descriptor.out_pitch
                    next_chunk = chunk_offset + descriptor.chunk_step
                    next_row = row_offset + descriptor.out_row_step
                    with m.If(~last_pool_col):
                        m.d.sync += [pool_col.eq(pool_col + 1), tap_offset.eq(tap_offset + 1)]
                    with m.Elif(~last_pool_row):
                        m.d.sync += [pool_col.eq(0), pool_row.eq(pool_row + 1), tap_offset.eq(next_tap_row),
                                     tap_row_offset.eq(next_tap_row)]
                    with m.Else():
                        m.d.sync += [pool_col.eq(0), pool_row.eq(0), run_first.eq(0), column_start.eq(0)]
                        with m.If(~last_chunk):
                            m.d.sync += [
                                cols_left.eq(cols_left - descriptor.chunk), chunk_offset.eq(next_chunk),
                                tap_row_offset.eq(next_chunk), tap_offset.eq(next_chunk),
                            ]
                        with m.Elif(~last_row):
                            following_row = row_address + descriptor.out_row_pitch
                            ends_band = last_strip & (strip_rows_left == 2)
                            m.d.sync += [
                                strip_rows_left.eq(strip_rows_left - 1), row_offset.eq(next_row),
                                chunk_offset.eq(next_row), tap_row_offset.eq(next_row), tap_offset.eq(next_row),
                                row_address.eq(following_row),
                                cols_left.eq(Mux(ends_band, descriptor.out_cols_last, descriptor.out_cols)),
                            ]
                            with m.If(~descriptor.out_contiguous):
                                m.next = "RUN"
                        with m.Else():
                            following = column_address + descriptor.out_plane
                            m.d.sync += [
                                column.eq(column + 1), columns_left.eq(columns_left - 1), channel.eq(channel + 1),
                                column_address.eq(following), row_address.eq(following), row_offset.eq(strip_offset),
                                chunk_offset.eq(strip_offset), tap_row_offset.eq(strip_offset),
                                tap_offset.eq(strip_offset), strip_rows_left.eq(strip_rows), column_start.eq(1),
                            ]
                            m.next = "RUN"
                            with m.If(columns_left == 1):
                                with m.If(first_strip):
                                    m.d.sync += group_address.eq(following)
                                m.next = "STRIP_DONE"
            with m.State("STRIP_DONE"):
                next_offset = strip_offset + descriptor.out_strip_step
                m.d.sync += [
                    strip.eq(strip + 1), rows_left.eq(rows_left - descriptor.out_strip_rows),
                    need.eq(need + descriptor.out_strip_step), strip_offset.eq(next_offset),
                    strip_address.eq(strip_address + descriptor.out_strip_pitch),
                    freed_in_group.eq(freed_in_group + self.positions_freed),
                ]
                m.d.comb += self.positions_freed.eq(descriptor.out_strip_step)
                m.next = "STRIP"
                with m.If(last_strip):
                    m.d.comb += [self.positions_freed.eq(descriptor.span - freed_in_group), spent.eq(1)]
                    m.d.sync += group_offset.eq(group_offset + descriptor.span)
                    m.next = "GROUP_DONE"
                    with m.If(descriptor.score_final):
                        m.next = "SCORES"
            with m.State("SCORES"):
                score_address = Signal(32)
                m.d.comb += score_address.eq(descriptor.score_base + group_channel)
                m.d.sync += [bytes_left.eq(columns), *start_run(score_address)]
                with m.If(~flushing & (scores_in == columns)):
                    m.d.comb += [
                        run.valid.eq(1), run.p.address.eq(score_address), run.p.kind.eq(WriteKind.MASK),
                        run.p.bytes.eq(columns),
                    ]
                    with m.If(run.ready):
                        m.next = "WRITE_SCORES"
            with m.State("WRITE_SCORES"):
                with m.If(~self.hold):
                    m.d.sync += [
                        chunk.valid.eq(1), chunk.data.eq(scores), chunk.first.eq(run_first), run_first.eq(0),
                        chunk.lane.eq(run_lane), chunk.beat.eq(run_beat),
                        chunk.count.eq(Mux(bytes_left > axi_bytes, axi_bytes, bytes_left)),
                        chunk.last.eq(bytes_left <= axi_bytes), bytes_left.eq(bytes_left - axi_bytes),
                        scores.eq(scores >> 8 * axi_bytes), self.score_valid.eq(0),
                    ]
                    with m.If(bytes_left <= axi_bytes):
                        m.next = "GROUP_DONE"
            with m.State("GROUP_DONE"):
                m.d.sync += [group.eq(group + 1), group_channel.eq(group_channel + descriptor.group_columns)]
                m.next = "GROUP"
                with m.If(last_group):
                    m.next = "IDLE"
                    with m.If(descriptor.layer_end):
                        m.next = "COMPLETE"
                        with m.If(descriptor.select != Select.ALL):
                            m.d.comb += self.select.eq(1)
                            m.next = "WINNERS"
            with m.State("WINNERS"):
                winner_bytes = (descriptor.out_channels + 7) >> 3
                m.d.comb += [
                    run.valid.eq(1), run.p.address.eq(descriptor.winner_base), run.p.kind.eq(WriteKind.MASK),
                    run.p.bytes.eq(winner_bytes),
                ]
                m.d.sync += [bytes_left.eq(winner_bytes), *start_run(descriptor.winner_base)]
                with m.If(run.ready):
                    m.next = "WRITE_WINNERS"
            with m.State("WRITE_WINNERS"):
                word_bytes = config.rank_lanes // 8
                m.d.comb += self.i_winners.ready.eq(~self.hold)
                with m.If(self.i_winners.valid & self.i_winners.ready):
                    m.d.sync += [
                        chunk.valid.eq(1), chunk.data.eq(self.i_winners.payload), chunk.first.eq(run_first),
                        chunk.lane.eq(run_lane), chunk.beat.eq(run_beat), run_first.eq(0),
                        chunk.count.eq(Mux(bytes_left > word_bytes, word_bytes, bytes_left)),
                        chunk.last.eq(bytes_left <= word_bytes), bytes_left.eq(bytes_left - word_bytes),
                    ]
                    with m.If(bytes_left <= word_bytes):
                        m.next = "COMPLETE"
            with m.State("COMPLETE"):
                with m.If(self.writer_idle & ~in_flight.any() & ~chunk.valid):
                    m.d.comb += self.layer_done.eq(1)
                    m.next = "IDLE"
        return m
