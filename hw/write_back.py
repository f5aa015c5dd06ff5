"""Pools the results of finished tiles, gathers their scores and writes them to memory as they come."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .config import EngineConfig
from .descriptor import LAYOUT, OP_VECTOR, Select
from .pooling import Pooling
from .strip_walker import StripWalker, label_layout
from .writer import WriteKind, WriteRun, chunk_layout


class GroupScores(wiring.Component):
    """Keeps the scores of two groups, each in a bank, until they are written.

    Members
    -------
    valid, score, label:
        A finished score.
    bank, bound, lost:
        Bit n of ``lost``: the score of column n of this bank is below ``bound``.
    await_slice, slice_complete:
        Strobe: a slice is about to be read for its scores alone; the last of them has come since.
    complete:
        Bit n: bank n has its group's last score.
    scores, take, take_bank:
        The first scores of a bank, ``bytes`` of them; strobe: go on to those behind. The bank is then not complete.
    """

    def __init__(self, *, columns: int, axi_bytes: int):
        self.columns, self.axi_bytes = columns, axi_bytes
        super().__init__({
            "valid": In(1), "score": In(8), "label": In(label_layout(columns)),
            "bank": In(1), "bound": In(8), "lost": Out(columns), "await_slice": In(1), "slice_complete": Out(1),
            "complete": Out(2), "scores": Out(8 * axi_bytes), "take": In(1), "take_bank": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        label = self.label
        banks = [Signal(8 * self.columns, name=f"bank{n}") for n in range(2)]
        with m.If(self.await_slice):
            m.d.sync += self.slice_complete.eq(0)
        with m.If(self.valid & label.awaited):
            m.d.sync += self.slice_complete.eq(1)
        for n, bank in enumerate(banks):
            with m.If(self.take & (self.take_bank == n)):
                m.d.sync += [bank.eq(bank >> 8 * self.axi_bytes), self.complete[n].eq(0)]
            with m.If(self.valid & (label.bank == n)):
                m.d.sync += bank.word_select(label.column, 8).eq(self.score)
                with m.If(label.ends_group):
                    m.d.sync += self.complete[n].eq(1)
        judged = Mux(self.bank, banks[1], banks[0])
        m.d.comb += [
            self.scores.eq(Mux(self.take_bank, banks[1], banks[0])),
            self.lost.eq(Cat(judged.word_select(n, 8) < self.bound for n in range(self.columns))),
        ]
        return m


class WriteBack(wiring.Component):
    """Follows the drain strip by strip: groups, slices, strips; columns and what is below them is the walker's.

    A *slice* shares its positions: all columns of a group; of a vector descriptor one channel, which is read from
    ring 0. A strip is read as soon as its last position has been drained. The scores of a group are written behind the
    results of the next group, those of the last group of a band behind its own, winners after the layer's last group.

    With ``skip_losers`` a slice is read twice: first for its scores alone, then, when these have come, to write the
    columns whose score is not below the running threshold (:class:`hw.ranking.RankingUnit`). Where no channel can be
    below it, because no more than k have been scored with this slice, it is read once, scored and written.

    Cycles, if the positions are there and the writer is ready: those of :class:`hw.strip_walker.StripWalker`, nothing
    between strips, slices and groups, 4 between descriptors. A strip is offered at the earliest 2 cycles after the one
    before was taken, that of another slice 3, of another group 4: never too late for the walker unless a group is a
    single read. Between the last read for scores alone and the same strip again: 8 cycles where the threshold is known
    by then (``Select.THRESHOLD``; a vector descriptor but for its first slice that is read twice), else 17, for the
    mean 7 more. Where nothing follows, scores are announced 9 cycles behind the last read, for the mean 16.

    Members
    -------
    i_descriptor, descriptor:
        The band.
    tile_drained, positions_freed:
        The drain's progress, ``tile_positions`` positions, and the positions given back to it.
    read_*:
        The output buffer's read port.
    score_*:
        Chunks for the score unit; ``score_data`` is that of the chunk itself.
    score_in_*:
        Finished scores.
    select, ranking_ready, i_winners, bound_request, bound_valid, bound:
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
        label = label_layout(config.columns)
        super().__init__({
            "i_descriptor": In(stream.Signature(LAYOUT)), "descriptor": Out(LAYOUT),
            "tile_drained": In(1), "positions_freed": Out(24),
            "read_enable": Out(1), "read_ring": Out(range(config.columns)),
            "read_offset": Out(range(config.output_ring_bytes)), "read_data": In(8 * axi_bytes),
            "score_valid": Out(1), "score_start": Out(1), "score_end": Out(1), "score_resume": Out(1),
            "score_final": Out(1), "score_channel": Out(16), "score_data": Out(8 * axi_bytes),
            "score_count": Out(range(axi_bytes + 1)), "score_label": Out(label),
            "score_in_valid": In(1), "score_in": In(8), "score_in_label": In(label),
            "select": Out(1), "ranking_ready": In(1), "i_winners": In(stream.Signature(config.rank_lanes)),
            "bound_request": Out(1), "bound_valid": In(1), "bound": In(8),
            "o_run": Out(stream.Signature(WriteRun)), "o_chunk": Out(chunk_layout(axi_bytes)), "hold": In(1),
            "layer_done": Out(1), "writer_idle": In(1), "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config, descriptor = self.config, self.descriptor
        ring = range(config.output_ring_bytes)
        m.submodules.walker = walker = StripWalker(config=config)
        m.submodules.pooling = pooling = Pooling(config=config)
        m.submodules.scores = scores = GroupScores(columns=config.columns, axi_bytes=config.axi_bytes)
        self.connect_parts(m, walker, pooling, scores)

        # Groups and slices.
        vector = descriptor.op == OP_VECTOR
        group, group_channel, bank = Signal(16), Signal(16), Signal()
        slice_column, slice_offset = Signal(range(config.columns)), Signal(ring)
        columns, slice_columns = Signal(range(config.columns + 1)), Signal(range(config.columns + 1))
        channel = Signal(16)
        last_group = group == descriptor.out_groups - 1
        m.d.comb += [
            columns.eq(Mux(last_group, descriptor.last_columns, descriptor.group_columns)),
            slice_columns.eq(Mux(vector, 1, columns)), channel.eq(group_channel + slice_column),
        ]
        last_slice = ~vector | (slice_column == columns - 1)
        # A group whose scores are still to be written.
        owed, owed_channel, owed_columns, owed_bank = (
            Signal(), Signal(16), Signal(range(config.columns + 1)), Signal())

        # Strips. ``reach``: position of the first window's first row of taps, negative where that is padding.
        rows_left, need, reach, first_strip = Signal(16), Signal(25), Signal(signed(27)), Signal()
        last_strip = rows_left <= descriptor.out_strip_rows
        next_reach = reach + descriptor.out_strip_step
        passed, next_passed = (Mux(value < 0, 0, value) for value in (reach, next_reach))
        strip_rows, strip_bytes, strip_last = Signal(16), Signal(32), Signal()
        strip_offset, strip_freed = Signal(ring), Signal(24)
        wanted, ready_positions, spent = Signal(25), Signal(26), Signal()
        m.d.sync += ready_positions.eq(ready_positions + Mux(self.tile_drained, descriptor.tile_positions, 0)
                                       - Mux(spent, descriptor.span, 0))

        # Losers. ``bound_known``: all channels scored so far are in the bound; from then on each slice is judged.
        by_rank = descriptor.select == Select.TOPK
        judges = descriptor.skip_losers & (by_rank | (descriptor.select == Select.THRESHOLD))
        all_may_win = by_rank & (channel + slice_columns <= descriptor.select_value)
        scoring, judged, lost, bound_known = Signal(), Signal(), Signal(config.columns), Signal()
        m.d.comb += scores.bank.eq(bank)
        with m.If(by_rank):
            m.d.comb += scores.bound.eq(self.bound)
        with m.Else():
            m.d.comb += scores.bound.eq(descriptor.select_value)

        job = walker.i_strip
        origin = (slice_offset + descriptor.pool_x)[:len(slice_offset)]
        m.d.comb += [
            job.p.write.eq(~scoring), job.p.score.eq(~judged), job.p.first.eq(first_strip),
            job.p.ends_group.eq(last_slice), job.p.bank.eq(bank), job.p.column.eq(slice_column),
            job.p.channel.eq(channel), job.p.columns.eq(slice_columns),
            job.p.keep.eq(Mux(judged, ~lost, ~Const(0, config.columns)) >> slice_column), job.p.origin.eq(origin),
            job.p.last.eq(strip_last), job.p.rows.eq(strip_rows), job.p.bytes.eq(strip_bytes),
            job.p.offset.eq(strip_offset), job.p.freed.eq(strip_freed),
        ]
        winners, first_winners, bytes_left = pooling.other, Signal(), Signal(16)
        word_bytes = config.rank_lanes // 8

        def offer_scores():
            m.d.comb += [
                job.valid.eq(scores.complete.bit_select(owed_bank, 1)), job.p.scores.eq(1), job.p.write.eq(1),
                job.p.score.eq(0), job.p.keep.eq(1), job.p.channel.eq(owed_channel), job.p.columns.eq(owed_columns),
                job.p.bytes.eq(owed_columns), job.p.rows.eq(1), job.p.bank.eq(owed_bank),
            ]
            with m.If(job.valid & job.ready):
                m.d.sync += owed.eq(0)

        m.d.sync += walker.start.eq(0)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.idle.eq(1), self.i_descriptor.ready.eq(1)]
                m.d.sync += [
                    descriptor.eq(self.i_descriptor.payload), group.eq(0), slice_column.eq(0), bound_known.eq(0),
                    group_channel.eq(self.i_descriptor.p.first_channel), walker.start.eq(self.i_descriptor.valid),
                ]
                with m.If(self.i_descriptor.valid):
                    m.next = "SLICE"
            with m.State("SLICE"):
                m.d.sync += [
                    rows_left.eq(descriptor.out_rows), need.eq(descriptor.out_strip_need), first_strip.eq(1),
                    reach.eq(descriptor.pool_y * descriptor.out_pitch),
                ]
                m.next = "STRIP"
            with m.State("STRIP"):
                rows = Mux(last_strip, rows_left, descriptor.out_strip_rows)
                m.d.sync += [
                    strip_rows.eq(rows), strip_last.eq(last_strip), strip_offset.eq(origin + reach),
                    strip_freed.eq(Mux(last_strip, descriptor.span, next_passed) - passed),
                    # From the sizes that chunks are cut by: what is announced to the writer is what comes.
                    strip_bytes.eq((rows - 1)[:16] * descriptor.out_cols
                                   + Mux(last_strip, descriptor.out_cols_last, descriptor.out_cols)),
                    # Behind the last strip all positions are given back, also those that it does not read.
                    wanted.eq(Mux(last_strip | (need > descriptor.positions), descriptor.positions, need)),
                    scoring.eq(judges & first_strip & last_strip & descriptor.score_final & ~all_may_win),
                    judged.eq(0),
                ]
                m.next = "OFFER"
            with m.State("OFFER"):
                m.d.comb += job.valid.eq((ready_positions >= wanted) & self.ranking_ready)
                with m.If(job.valid & job.ready):
                    with m.If(scoring):
                        m.d.comb += scores.await_slice.eq(1)
                        m.d.sync += scoring.eq(0)
                        m.next = "SCORED"
                    with m.Elif(~strip_last):
                        m.d.sync += [rows_left.eq(rows_left - descriptor.out_strip_rows), reach.eq(next_reach),
                                     need.eq(need + descriptor.out_strip_step), first_strip.eq(0)]
                        m.next = "STRIP"
                    with m.Else():
                        m.d.comb += spent.eq(1)
                        m.d.sync += [slice_offset.eq(slice_offset + descriptor.span),
                                     slice_column.eq(Mux(last_slice, 0, slice_column + 1))]
                        m.next = "SLICE"
                        with m.If(last_slice):
                            m.next = "GROUP_END"
            with m.State("SCORED"):
                with m.If(scores.slice_complete & self.bound_valid):
                    m.d.comb += self.bound_request.eq(by_rank)
                    m.d.sync += [lost.eq(scores.lost), judged.eq(1), bound_known.eq(1)]
                    m.next = "OFFER"
                    # A channel alone is below the bound with its own score if it is below that without.
                    with m.If(by_rank & ~(vector & bound_known)):
                        m.next = "BOUND"
            with m.State("BOUND"):
                m.d.sync += lost.eq(scores.lost)
                with m.If(self.bound_valid):
                    m.next = "OFFER"
            with m.State("GROUP_END"):
                with m.If(owed):
                    offer_scores()
                with m.If(~owed | (job.valid & job.ready)):
                    m.d.sync += [
                        owed.eq(descriptor.score_final), owed_channel.eq(group_channel), owed_columns.eq(columns),
                        owed_bank.eq(bank), bank.eq(~bank), group.eq(group + 1),
                        group_channel.eq(group_channel + descriptor.group_columns),
                    ]
                    m.next = "SLICE"
                    with m.If(last_group):
                        m.next = "LAST"
            with m.State("LAST"):
                with m.If(owed):
                    offer_scores()
                with m.Elif(~descriptor.layer_end):
                    with m.If(walker.idle):
                        m.next = "IDLE"
                with m.Elif(descriptor.select == Select.ALL):
                    m.next = "COMPLETE"
                with m.Elif(self.bound_valid):
                    m.d.comb += self.select.eq(1)
                    m.next = "WINNERS"
            with m.State("WINNERS"):
                winner_bytes = (descriptor.out_channels + 7) >> 3
                with m.If(walker.idle):
                    m.d.comb += [
                        self.o_run.valid.eq(1), self.o_run.p.address.eq(descriptor.winner_base),
                        self.o_run.p.kind.eq(WriteKind.MASK), self.o_run.p.bytes.eq(winner_bytes),
                    ]
                    with m.If(self.o_run.ready):
                        m.next = "WRITE_WINNERS"
                m.d.sync += [bytes_left.eq(winner_bytes), first_winners.eq(1)]
            with m.State("WRITE_WINNERS"):
                words = self.i_winners
                # Between two runs the writer needs an idle cycle.
                apart = ~pooling.busy & ~(first_winners & self.o_chunk.valid)
                m.d.comb += [words.ready.eq(~self.hold & apart), winners.valid.eq(words.valid & words.ready)]
                with m.If(winners.valid):
                    m.d.sync += [first_winners.eq(0), bytes_left.eq(bytes_left - word_bytes)]
                    with m.If(winners.last):
                        m.next = "COMPLETE"
            with m.State("COMPLETE"):
                with m.If(self.writer_idle & walker.idle & ~pooling.busy & ~self.o_chunk.valid):
                    m.d.comb += self.layer_done.eq(1)
                    m.next = "IDLE"

        lane_bits = (config.axi_bytes - 1).bit_length()
        m.d.comb += [
            winners.data.eq(self.i_winners.payload), winners.first.eq(first_winners),
            winners.lane.eq(descriptor.winner_base[:lane_bits]), winners.beat.eq(descriptor.winner_base[lane_bits:]),
            winners.last.eq(bytes_left <= word_bytes),
            winners.count.eq(Mux(winners.last, bytes_left, word_bytes)),
        ]
        return m

    def connect_parts(self, m, walker, pooling, scores):
        """What needs no decision: from the walker to the output buffer, the score unit and the writer, and back."""
        score_names = [name for name in pooling.signature.members if name.startswith("score_")]
        m.d.comb += [
            walker.descriptor.eq(self.descriptor), walker.hold.eq(self.hold),
            walker.o_run.ready.eq(self.o_run.ready), self.o_run.valid.eq(walker.o_run.valid),
            self.o_run.payload.eq(walker.o_run.payload), self.positions_freed.eq(walker.positions_freed),
            self.read_enable.eq(walker.read_enable), self.read_ring.eq(walker.read_ring),
            self.read_offset.eq(walker.read_offset),
            pooling.descriptor.eq(self.descriptor), pooling.tag.eq(walker.tag), pooling.read_data.eq(self.read_data),
            pooling.scores.eq(scores.scores), scores.take.eq(pooling.scores_taken),
            scores.take_bank.eq(pooling.scores_bank), self.o_chunk.eq(pooling.o_chunk),
            *(getattr(self, name).eq(getattr(pooling, name)) for name in score_names),
            scores.valid.eq(self.score_in_valid), scores.score.eq(self.score_in), scores.label.eq(self.score_in_label),
        ]
