"""Walks a strip of results in the output buffer: columns, rows, chunks, taps of the pooling window."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .config import EngineConfig
from .descriptor import LAYOUT, OP_VECTOR
from .reader import BURST_BEATS
from .writer import WriteKind, WriteRun

COORDINATE = signed(18)
"""A row or column of results; those before the map are negative."""


def label_layout(columns: int) -> data.StructLayout:
    """Whose score it is: the column of the group, the group's bank; the last one of its group, of a strip that is read
    for its scores alone (``awaited``)."""
    return data.StructLayout({"bank": 1, "column": range(columns), "awaited": 1, "ends_group": 1})


def strip_layout(config: EngineConfig) -> data.StructLayout:
    """What :class:`StripWalker` is to walk.

    ``write``, ``score``: what is done with the results. ``scores``: none, but the ``columns`` scores of bank ``bank``,
    from ``channel`` on, are written. ``first``, ``last``: strip of its slice; ``ends_group``: of its group. ``column``:
    first column of the group, ``channel`` its output channel, ``columns`` how many; bit n of ``keep``: column n is
    written. ``rows``; ``bytes`` of a column's rows or of all scores. Offsets in the ring: ``origin`` of the slice's
    position 0, ``offset`` of the first window's first tap, which may lie before it. ``freed``: positions that nothing
    needs any more behind this strip.
    """
    ring = range(config.output_ring_bytes)
    return data.StructLayout({
        "write": 1, "score": 1, "scores": 1, "first": 1, "last": 1, "ends_group": 1, "bank": 1,
        "column": range(config.columns), "channel": 16, "columns": range(config.columns + 1), "keep": config.columns,
        "rows": 16, "bytes": 32, "origin": ring, "offset": ring, "freed": 24,
    })


def tag_layout(config: EngineConfig) -> data.StructLayout:
    """What has to be known of a read when its bytes come.

    ``column``: that of the first byte; ``first_tap``, ``last_tap`` of a chunk of ``count`` results, the first, last one
    of its run, the first, last one of its channel (``start``, ``end``); the rest as of :func:`strip_layout`,
    :class:`hw.score.ScoreUnit` and :func:`hw.writer.chunk_layout`.
    """
    axi_bytes = config.axi_bytes
    return data.StructLayout({
        "valid": 1, "write": 1, "score": 1, "scores": 1, "column": COORDINATE, "first_tap": 1, "last_tap": 1,
        "count": range(axi_bytes + 1), "run_first": 1, "run_last": 1, "lane": (axi_bytes - 1).bit_length(),
        "beat": range(BURST_BEATS), "start": 1, "end": 1, "resume": 1, "final": 1, "channel": 16,
        "label": label_layout(config.columns),
    })


class StripWalker(wiring.Component):
    """Reads the windows of one strip after the other and announces their runs to the writer.

    A chunk is up to ``axi_bytes`` windows of a row, pooled by one read for each tap of the window (1 without pooling).
    Rows of taps outside the map are not read; columns of taps outside are left to who has the tag.

    Cycles of a strip: 1, and for each column that is written 1 a run and 1 a read, that is only scored 1 a read, that
    is left out 1. Of scores: 2, and 1 for each ``axi_bytes``. More where the writer is not ready or holds.

    Members
    -------
    descriptor:
        The band; stable from ``start`` until ``idle``.
    start:
        Strobe, before the first strip of a descriptor.
    i_strip:
        In the order of channels; the first strips of slices follow each other in memory.
    o_run, hold:
        The writer.
    read_enable, read_ring, read_offset:
        The output buffer's read port.
    tag:
        Of the read in this cycle, or of a piece of scores, which needs none.
    positions_freed:
        The strip's ``freed``, a cycle after its last read, if it was written.
    idle:
        Between strips.
    """

    def __init__(self, *, config: EngineConfig):
        self.config = config
        super().__init__({
            "descriptor": In(LAYOUT), "start": In(1), "i_strip": In(stream.Signature(strip_layout(config))),
            "o_run": Out(stream.Signature(WriteRun)), "hold": In(1),
            "read_enable": Out(1), "read_ring": Out(range(config.columns)),
            "read_offset": Out(range(config.output_ring_bytes)), "tag": Out(tag_layout(config)),
            "positions_freed": Out(24), "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config, descriptor = self.config, self.descriptor
        axi_bytes = config.axi_bytes
        lane_bits = (axi_bytes - 1).bit_length()
        ring = range(config.output_ring_bytes)
        strip, job = Signal(strip_layout(config)), self.i_strip.p

        # Columns and their addresses; of the strip, and of the first column that no strip has been written of.
        columns_left, keep = Signal(range(config.columns + 1)), Signal(config.columns)
        column, channel = Signal(range(config.columns)), Signal(16)
        plane_address, strip_address, column_address, row_address = (
            Signal(32, name=f"{n}_address") for n in ("plane", "strip", "column", "row"))
        # Rows. Offsets are those of the window's first tap (``row``), and of the first one inside the map (the rest).
        rows_left, cols_left = Signal(16), Signal(16)
        row, strip_row, following_row = (Signal(COORDINATE, name=n) for n in ("row", "strip_row", "following_row"))
        row_offset, chunk_offset, tap_row_offset, tap_offset = (
            Signal(ring, name=f"{n}_offset") for n in ("row", "chunk", "tap_row", "tap"))
        # Taps.
        chunk_column, tap_row, pool_col = Signal(COORDINATE), Signal(COORDINATE), Signal(8)
        first_tap, channel_start, run_first = Signal(), Signal(), Signal()

        def first_row(row):
            """The first row of the window that lies inside the map."""
            return Mux(row < 0, 0, row)

        def begin_row(new_row, offset, origin):
            start = Mux(new_row < 0, origin, offset)
            return [
                row.eq(new_row), row_offset.eq(offset), chunk_offset.eq(start), tap_row_offset.eq(start),
                tap_offset.eq(start), tap_row.eq(first_row(new_row)), chunk_column.eq(descriptor.pool_x),
                pool_col.eq(0), first_tap.eq(1),
            ]

        def row_cols(last):
            return Mux(last, descriptor.out_cols_last, descriptor.out_cols)

        next_tap_row = tap_row + 1
        last_pool_col = pool_col == descriptor.pool_w - 1
        last_pool_row = (next_tap_row >= row + descriptor.pool_h) | (next_tap_row >= descriptor.pool_rows)
        last_tap = strip.scores | (last_pool_col & last_pool_row)
        piece = Mux(strip.scores, axi_bytes, descriptor.chunk)
        last_chunk = cols_left <= piece
        last_row = rows_left == 1
        last_column = columns_left == 1
        whole = descriptor.out_contiguous | strip.scores
        go, end_column = Signal(), Signal()

        tag = self.tag
        m.d.comb += [
            self.read_enable.eq(go & ~strip.scores), self.read_offset.eq(tap_offset),
            self.read_ring.eq(Mux(descriptor.op == OP_VECTOR, 0, column)),
            tag.valid.eq(go), tag.write.eq(strip.write), tag.score.eq(strip.score), tag.scores.eq(strip.scores),
            tag.column.eq(chunk_column + pool_col), tag.first_tap.eq(first_tap), tag.last_tap.eq(last_tap),
            tag.count.eq(Mux(last_chunk, cols_left, piece)), tag.run_first.eq(run_first),
            tag.run_last.eq(last_chunk & (last_row | ~whole)), tag.lane.eq(row_address[:lane_bits]),
            tag.beat.eq(row_address[lane_bits:]),
            tag.start.eq(channel_start), tag.end.eq(last_chunk & last_row), tag.channel.eq(channel),
            tag.resume.eq(~strip.first | descriptor.score_resume), tag.final.eq(strip.last & descriptor.score_final),
            tag.label.bank.eq(strip.bank), tag.label.column.eq(column),
            tag.label.awaited.eq(last_column & ~strip.write), tag.label.ends_group.eq(last_column & strip.ends_group),
        ]
        run = self.o_run.p
        m.d.comb += [
            run.address.eq(row_address), run.bytes.eq(Mux(whole, strip.bytes, cols_left)),
            run.kind.eq(Mux(strip.scores, WriteKind.MASK, WriteKind.ACTIVATIONS)),
        ]

        m.d.sync += self.positions_freed.eq(0)
        with m.If(self.start):
            m.d.sync += plane_address.eq(descriptor.out_base)
        with m.FSM():
            with m.State("NEXT"):
                m.d.comb += [self.i_strip.ready.eq(1), self.idle.eq(1)]
                address, new_row = Signal(32), Signal(COORDINATE)
                m.d.comb += [
                    address.eq(Mux(job.first, plane_address, strip_address + descriptor.out_strip_pitch)),
                    new_row.eq(Mux(job.first, descriptor.pool_y, following_row)),
                ]
                with m.If(self.i_strip.valid):
                    m.d.sync += [
                        strip.eq(job), columns_left.eq(job.columns), keep.eq(job.keep), column.eq(job.column),
                        channel.eq(job.channel), rows_left.eq(job.rows), strip_row.eq(new_row), channel_start.eq(1),
                        *begin_row(new_row, job.offset, job.origin),
                    ]
                    with m.If(job.scores):
                        m.d.sync += [row_address.eq(descriptor.score_base + job.channel), cols_left.eq(job.columns)]
                    with m.Else():
                        m.d.sync += [strip_address.eq(address), column_address.eq(address), row_address.eq(address),
                                     cols_left.eq(row_cols(job.last & (job.rows == 1)))]
                    m.next = "READ"
                    with m.If(job.write):
                        m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += [self.o_run.valid.eq(keep[0]), end_column.eq(~keep[0])]
                m.d.sync += run_first.eq(1)
                with m.If(keep[0]):
                    with m.If(self.o_run.ready):
                        m.next = "READ"
                with m.Elif(last_column):
                    m.next = "NEXT"
            with m.State("READ"):
                m.d.comb += go.eq(~(self.hold & strip.write))
                with m.If(go):
                    m.d.sync += first_tap.eq(0)
                    with m.If(~last_tap):
                        m.d.sync += [pool_col.eq(pool_col + 1), tap_offset.eq(tap_offset + 1)]
                        with m.If(last_pool_col):
                            next_row_offset = tap_row_offset + descriptor.out_pitch
                            m.d.sync += [pool_col.eq(0), tap_row.eq(next_tap_row), tap_offset.eq(next_row_offset),
                                         tap_row_offset.eq(next_row_offset)]
                    with m.Else():
                        m.d.sync += [run_first.eq(0), channel_start.eq(0)]
                        with m.If(~last_chunk):
                            next_chunk = chunk_offset + descriptor.chunk_step
                            m.d.sync += [
                                cols_left.eq(cols_left - piece), chunk_offset.eq(next_chunk),
                                tap_row_offset.eq(next_chunk), tap_offset.eq(next_chunk), first_tap.eq(1),
                                chunk_column.eq(chunk_column + descriptor.chunk_step), pool_col.eq(0),
                                tap_row.eq(first_row(row)),
                            ]
                        with m.Elif(strip.scores):
                            m.next = "NEXT"
                        with m.Elif(~last_row):
                            new_row = Signal(COORDINATE)
                            m.d.comb += new_row.eq(row + descriptor.pool_stride_y)
                            m.d.sync += [
                                rows_left.eq(rows_left - 1), row_address.eq(row_address + descriptor.out_row_pitch),
                                cols_left.eq(row_cols(strip.last & (rows_left == 2))),
                                *begin_row(new_row, (row_offset + descriptor.out_row_step)[:len(row_offset)],
                                           strip.origin),
                            ]
                            with m.If(strip.write & ~descriptor.out_contiguous):
                                m.next = "RUN"
                        with m.Else():
                            m.d.comb += end_column.eq(1)
                            with m.If(last_column):
                                m.next = "NEXT"
                            with m.Elif(strip.write):
                                m.next = "RUN"

        with m.If(end_column):
            following = column_address + descriptor.out_plane
            m.d.sync += [
                columns_left.eq(columns_left - 1), keep.eq(keep >> 1), column.eq(column + 1), channel.eq(channel + 1),
                column_address.eq(following), row_address.eq(following), rows_left.eq(strip.rows),
                cols_left.eq(row_cols(strip.last & (strip.rows == 1))), channel_start.eq(1),
                *begin_row(strip_row, strip.offset, strip.origin),
            ]
            with m.If(last_column):
                m.d.sync += following_row.eq(row + descriptor.pool_stride_y)
                with m.If(strip.write):
                    m.d.sync += self.positions_freed.eq(strip.freed)
                    with m.If(strip.first):
                        m.d.sync += plane_address.eq(following)
        return m
