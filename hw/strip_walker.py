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
    o_run, announces, hold:
        The writer. ``announces``: a run is or may be offered.
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
            "positions_freed": Out(24), "announces": Out(1), "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config, descriptor = self.config, self.descriptor
        axi_bytes = config.axi_bytes
        lane_bits = (axi_bytes - 1).bit_length()
        ring = range(config.output_ring_bytes)
        strip, job = Signal(strip_layout(config), reset_less=True), self.i_strip.p

        # How many are left behind the one in work, less one: negative with the last, so that the sign tells.
        columns_more, rows_more, cols_more, tap_cols_more, window_more, map_more = (
            Signal(signed(bits), name=f"{name}_more", reset_less=True) for name, bits in (
                ("columns", config.columns.bit_length() + 1), ("rows", 17), ("cols", 17), ("tap_cols", 9),
                ("window", 10), ("map", 18)))
        # Columns and their addresses; of the strip, and of the first column that no strip has been written of.
        keep, column, channel = Signal(config.columns), Signal(range(config.columns)), Signal(16)
        read_ring = Signal(range(config.columns))
        plane_address, strip_address, column_address, row_address = (
            Signal(32, name=f"{n}_address", reset_less=True) for n in ("plane", "strip", "column", "row"))
        # Rows: the strip's first one (between strips the next strip's), and the one behind that in work. ``top``: the
        # first row of its windows; ``room``: rows of the map from there on, less two; ``offset`` of the first tap.
        strip_top, next_top = (Signal(COORDINATE, name=f"{n}_top", reset_less=True) for n in ("strip", "next"))
        strip_room, next_room = (Signal(COORDINATE, name=f"{n}_room", reset_less=True) for n in ("strip", "next"))
        next_offset, single_row, short_row = Signal(ring, reset_less=True), Signal(), Signal()
        # Chunks and taps. Rows of taps end with the window or with the map. Offsets of the first taps inside it.
        row_window, row_map = Signal.like(window_more, reset_less=True), Signal.like(map_more, reset_less=True)
        chunk_offset, tap_row_offset, tap_offset = (
            Signal(ring, name=f"{n}_offset", reset_less=True) for n in ("chunk", "tap_row", "tap"))
        chunk_column, tap_column = (Signal(COORDINATE, name=f"{n}_column", reset_less=True) for n in ("chunk", "tap"))
        first_tap, channel_start, run_first, whole = Signal(), Signal(), Signal(), Signal()

        last_column, last_row, last_chunk, last_tap_col = (
            more < 0 for more in (columns_more, rows_more, cols_more, tap_cols_more))
        # The last tap of a chunk, of the last row of taps and the last column: known when it comes in turn.
        last_tap, one_tap_col, last_tap_row = Signal(), Signal(), (window_more < 0) | (map_more < 0)
        m.d.sync += one_tap_col.eq(descriptor.pool_w == 1)
        piece = Mux(strip.scores, axi_bytes, descriptor.chunk)
        first_room = descriptor.pool_rows - 2 - descriptor.pool_y
        # Of the two states but idle each has a flag of its own: they choose between many registers.
        reading, announcing = Signal(), self.announces
        go, end_column, onward, held, frees = Signal(), Signal(), Signal(), Signal(), Signal()

        cols_more_last, cols_more_full = (
            Signal.like(cols_more, name=f"cols_more_{n}", reset_less=True) for n in ("last", "full"))
        m.d.sync += [more.eq(cols - descriptor.chunk - 1) for more, cols in (
            (cols_more_last, descriptor.out_cols_last), (cols_more_full, descriptor.out_cols))]

        def begin_cols(last):
            """Those of a row, the slice's ``last`` one or another."""
            return [short_row.eq(last), cols_more.eq(Mux(last, cols_more_last, cols_more_full))]

        def begin_taps(offset, column, is_last):
            """A row of taps, the last one or another."""
            return [tap_offset.eq(offset), tap_row_offset.eq(offset), tap_column.eq(column),
                    tap_cols_more.eq(descriptor.pool_w - 2),
                    last_tap.eq(Mux(self.idle, job.scores, strip.scores) | (is_last & one_tap_col))]

        def begin_chunk(offset, column, window, rows_of_map):
            return [*begin_taps(offset, column, (window < 0) | (rows_of_map < 0)),
                    chunk_offset.eq(offset), chunk_column.eq(column), first_tap.eq(1),
                    window_more.eq(window), map_more.eq(rows_of_map)]

        # The row that begins: the next one, or the strip's first.
        top, room, offset, origin = Signal(COORDINATE), Signal(COORDINATE), Signal(ring), Signal(ring)
        start, window, rows_of_map = Signal(ring), Signal.like(window_more), Signal.like(map_more)
        m.d.comb += [
            top.eq(Mux(onward, next_top, strip_top)), room.eq(Mux(onward, next_room, strip_room)),
            offset.eq(Mux(self.idle, job.offset, Mux(onward, next_offset, strip.offset))),
            origin.eq(Mux(self.idle, job.origin, strip.origin)),
            start.eq(Mux(top < 0, origin, offset)), window.eq(descriptor.pool_h - 2 + Mux(top < 0, top, 0)),
            rows_of_map.eq(Mux(top < 0, descriptor.pool_rows - 2, room)),
        ]
        begin_row = [
            *begin_chunk(start, descriptor.pool_x, window, rows_of_map), row_window.eq(window), row_map.eq(rows_of_map),
            next_top.eq(top + descriptor.pool_stride_y), next_room.eq(room - descriptor.pool_stride_y),
            next_offset.eq(offset + descriptor.out_row_step),
        ]

        tag = self.tag
        m.d.comb += [
            self.read_enable.eq(go & ~strip.scores), self.read_offset.eq(tap_offset), self.read_ring.eq(read_ring),
            tag.valid.eq(go), tag.write.eq(strip.write), tag.score.eq(strip.score), tag.scores.eq(strip.scores),
            tag.column.eq(tap_column), tag.first_tap.eq(first_tap), tag.last_tap.eq(last_tap),
            tag.count.eq(Mux(last_chunk, cols_more + piece + 1, piece)), tag.run_first.eq(run_first),
            tag.run_last.eq(last_chunk & (last_row | strip.scores | ~descriptor.out_contiguous)),
            tag.lane.eq(row_address[:lane_bits]), tag.beat.eq(row_address[lane_bits:]),
            tag.start.eq(channel_start), tag.end.eq(last_chunk & last_row), tag.channel.eq(channel),
            tag.resume.eq(~strip.first | descriptor.score_resume), tag.final.eq(strip.last & descriptor.score_final),
            tag.label.bank.eq(strip.bank), tag.label.column.eq(column),
            tag.label.awaited.eq(last_column & ~strip.write), tag.label.ends_group.eq(last_column & strip.ends_group),
        ]
        run = self.o_run.p
        m.d.comb += [
            self.o_run.valid.eq(announcing & keep[0]), run.address.eq(row_address),
            run.bytes.eq(Mux(whole, strip.bytes, Mux(short_row, descriptor.out_cols_last, descriptor.out_cols))),
            run.kind.eq(Mux(strip.scores, WriteKind.MASK, WriteKind.ACTIVATIONS)),
        ]

        m.d.comb += self.positions_freed.eq(Mux(frees, strip.freed, 0))
        m.d.sync += [frees.eq(end_column & last_column & strip.write), held.eq(self.hold & strip.write)]
        with m.If(self.start):
            m.d.sync += [plane_address.eq(descriptor.out_base), strip_top.eq(descriptor.pool_y),
                         strip_room.eq(first_room)]
        m.d.comb += [self.idle.eq(~reading & ~announcing), self.i_strip.ready.eq(self.idle)]
        with m.If(reading):
            m.d.comb += [go.eq(~held), onward.eq(~last_row)]
            with m.If(go):
                m.d.sync += first_tap.eq(0)
                with m.If(~last_tap):
                    m.d.sync += [tap_cols_more.eq(tap_cols_more - 1), tap_column.eq(tap_column + 1),
                                 tap_offset.eq(tap_offset + 1), last_tap.eq((tap_cols_more == 0) & last_tap_row)]
                    with m.If(last_tap_col):
                        m.d.sync += [window_more.eq(window_more - 1), map_more.eq(map_more - 1),
                                     *begin_taps(tap_row_offset + descriptor.out_pitch, chunk_column,
                                                 (window_more <= 0) | (map_more <= 0))]
                with m.Elif(~last_chunk):
                    next_chunk, next_column = (at + descriptor.chunk_step for at in (chunk_offset, chunk_column))
                    m.d.sync += [run_first.eq(0), channel_start.eq(0), cols_more.eq(cols_more - piece),
                                 *begin_chunk(next_chunk, next_column, row_window, row_map)]
                with m.Else():
                    m.d.sync += [
                        run_first.eq(0), channel_start.eq(last_row),
                        row_address.eq(row_address + descriptor.out_row_pitch),
                        rows_more.eq(Mux(last_row, strip.rows - 2, rows_more - 1)), *begin_row,
                        *begin_cols(strip.last & Mux(last_row, single_row, rows_more == 0)),
                    ]
                    m.d.comb += end_column.eq(last_row & ~strip.scores)
                    ends = strip.scores | (last_row & last_column)
                    starts_run = ~ends & strip.write & (last_row | ~descriptor.out_contiguous)
                    m.d.sync += [reading.eq(~ends & ~starts_run), announcing.eq(starts_run)]
        with m.Elif(announcing):
            m.d.comb += end_column.eq(~keep[0])
            m.d.sync += run_first.eq(1)
            with m.If(Mux(keep[0], self.o_run.ready, last_column)):
                m.d.sync += [announcing.eq(0), reading.eq(keep[0])]
        with m.Else():
            address, rows_behind = Signal(32), Signal.like(rows_more)
            m.d.comb += [address.eq(Mux(job.first, plane_address, strip_address)), rows_behind.eq(job.rows - 2)]
            m.d.sync += [
                strip.eq(job), columns_more.eq(job.columns - 2), keep.eq(job.keep), column.eq(job.column),
                read_ring.eq(Mux(descriptor.op == OP_VECTOR, 0, job.column)), channel.eq(job.channel),
                column_address.eq(address), row_address.eq(address), rows_more.eq(rows_behind),
                single_row.eq(rows_behind < 0), whole.eq(descriptor.out_contiguous | job.scores),
                channel_start.eq(1), *begin_row, *begin_cols(job.last & (rows_behind < 0)),
            ]
            with m.If(job.scores):
                m.d.sync += [row_address.eq(descriptor.score_base + job.channel),
                             cols_more.eq(job.columns - (axi_bytes + 1))]
            # Unless there is a strip, all this is for nothing.
            with m.If(self.i_strip.valid):
                m.d.sync += [announcing.eq(job.write), reading.eq(~job.write)]
                with m.If(~job.scores):
                    m.d.sync += strip_address.eq(address + descriptor.out_strip_pitch)

        with m.If(end_column):
            following = column_address + descriptor.out_plane
            m.d.sync += [
                columns_more.eq(columns_more - 1), keep.eq(keep >> 1), column.eq(column + 1),
                read_ring.eq(read_ring + 1), channel.eq(channel + 1), column_address.eq(following),
                row_address.eq(following),
            ]
            with m.If(strip.first & strip.write):
                m.d.sync += plane_address.eq(following)
            with m.If(last_column):
                m.d.sync += [strip_top.eq(Mux(strip.last, descriptor.pool_y, next_top)),
                             strip_room.eq(Mux(strip.last, first_room, next_room))]
        return m
