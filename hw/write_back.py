"""Pools the results of finished tiles, gathers their scores and writes them to memory as they come."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .config import EngineConfig
from .descriptor import LAYOUT, OP_VECTOR, Select
from .multiplier import Multipliers
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
        banks = [Signal(8 * self.columns, name=f"bank{n}", reset_less=True) for n in range(2)]
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
    single read. Between the last read for scores alone and the same strip again: 10 cycles where the threshold is known
    by then (``Select.THRESHOLD``; a vector descriptor but for its first slice that is read twice), else 19, for the
    mean 7 more. Where nothing follows, scores are announced 11 cycles behind the last read, for the mean 18.

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

        # Of the descriptor, a cycle behind it.
        by_rank, judges, selects = Signal(), Signal(), Signal()
        last_less, winner_bytes = Signal(signed(17), reset_less=True), Signal(14, reset_less=True)
        multipliers = Multipliers(m, platform)
        first_reach = multipliers.product(descriptor.pool_y, descriptor.out_pitch, name="first_reach")
        m.d.sync += [
            by_rank.eq(descriptor.select == Select.TOPK),
            selects.eq(descriptor.layer_end & (descriptor.select != Select.ALL)),
            judges.eq(descriptor.skip_losers
                      & ((descriptor.select == Select.TOPK) | (descriptor.select == Select.THRESHOLD))),
            last_less.eq(descriptor.out_cols - descriptor.out_cols_last),
            winner_bytes.eq((descriptor.out_channels + 7) >> 3),
        ]

        # Groups and slices. ``groups_more``: groups behind this one, less one.
        vector, bank = Signal(), Signal()
        groups_more, group_channel = Signal(signed(17), reset_less=True), Signal(16, reset_less=True)
        columns, group_columns = Signal(range(config.columns + 1)), Signal(range(config.columns + 1))
        slice_column, slice_offset, origin = Signal(range(config.columns)), Signal(ring), Signal(ring)
        channel, next_channel, last_slice = Signal(16, reset_less=True), Signal(17, reset_less=True), Signal()
        last_group = groups_more < 0
        slice_columns = Mux(vector, 1, columns)
        m.d.comb += group_columns.eq(Mux(last_group, descriptor.last_columns, descriptor.group_columns))
        # A group whose scores are still to be written: those of the other bank. ``due``: all of them have come.
        # ``closing``: a group's strips have been taken.
        owed, due, closing = Signal(), Signal(), Signal()
        owed_channel, owed_columns = Signal(16, reset_less=True), Signal(range(config.columns + 1))
        last_score = self.score_in_valid & self.score_in_label.ends_group
        m.d.sync += due.eq(owed & (last_score | Mux(bank, scores.complete[0], scores.complete[1])))

        # The strip to come: the rows that are left with it, the positions up to its last one. A cycle behind them:
        # whether it is the last one, its rows, whether it waits for all positions: behind the last one they are given
        # back, also those that it does not read.
        rows_left, need = Signal(16, reset_less=True), Signal(25, reset_less=True)
        is_last, next_rows, needs_all = Signal(), Signal(16, reset_less=True), Signal()
        ends = rows_left <= descriptor.out_strip_rows
        m.d.sync += [
            is_last.eq(ends), next_rows.eq(Mux(ends, rows_left, descriptor.out_strip_rows)),
            needs_all.eq(ends | (need > descriptor.positions)),
        ]
        # The strip in work. ``next_reach``: position of the first row of taps of the window behind it, negative where
        # that is padding; ``passed``, ``given``: positions that are given back behind it and before it.
        # ``row_bytes``: of its rows, all of full width.
        first_strip, strip_last, strip_rows = Signal(), Signal(), Signal(16, reset_less=True)
        next_strip = Signal()
        row_bytes = multipliers.product(next_rows, descriptor.out_cols, name="row_bytes", enable=next_strip)
        strip_offset, next_reach = Signal(ring, reset_less=True), Signal(signed(27), reset_less=True)
        reach = Signal(signed(27))
        passed, given = Signal(24), Signal(24)
        m.d.comb += [
            reach.eq(Mux(first_strip, first_reach, next_reach)),
            passed.eq(Mux(strip_last, descriptor.span, Mux(next_reach < 0, 0, next_reach))),
        ]
        # Positions drained: of the slice, and beyond those that the strip needs; this without the tile of this cycle.
        ready_positions, surplus, surplus_before, spent = (
            Signal(26), Signal(signed(27)), Signal(signed(27)), Signal())
        drained = Mux(self.tile_drained, descriptor.tile_positions, 0)
        m.d.comb += surplus_before.eq(surplus)
        m.d.sync += [ready_positions.eq(ready_positions + drained - Mux(spent, descriptor.span, 0)), spent.eq(0),
                     surplus.eq(surplus_before + drained)]

        # Losers. ``bound_known``: all channels scored so far are in the bound; from then on each slice is judged.
        all_may_win = by_rank & (next_channel <= descriptor.select_value)
        scoring, judged, lost, bound_known = Signal(), Signal(), Signal(config.columns), Signal()
        m.d.comb += scores.bank.eq(bank)
        with m.If(by_rank):
            m.d.comb += scores.bound.eq(self.bound)
        with m.Else():
            m.d.comb += scores.bound.eq(descriptor.select_value)

        job = walker.i_strip
        m.d.comb += [
            job.p.write.eq(~scoring), job.p.score.eq(~judged), job.p.first.eq(first_strip),
            job.p.ends_group.eq(last_slice), job.p.bank.eq(bank), job.p.column.eq(slice_column),
            job.p.channel.eq(channel), job.p.columns.eq(slice_columns),
            job.p.keep.eq(Mux(judged, ~lost, ~Const(0, config.columns)) >> slice_column), job.p.origin.eq(origin),
            job.p.last.eq(strip_last), job.p.rows.eq(strip_rows), job.p.offset.eq(strip_offset),
            job.p.bytes.eq(row_bytes - Mux(strip_last, last_less, 0)),
            job.p.freed.eq(passed - given),
        ]
        winners, first_winners, takes_words, bytes_left = pooling.other, Signal(), Signal(), Signal(16)
        held, ranking_ready = Signal(), Signal()
        m.d.sync += [held.eq(self.hold), ranking_ready.eq(self.ranking_ready)]
        word_bytes = config.rank_lanes // 8
        # The scores that are owed, in place of a strip.
        scores_taken = due & job.ready
        with m.If(closing):
            m.d.comb += [
                job.valid.eq(due), job.p.scores.eq(1), job.p.write.eq(1), job.p.score.eq(0), job.p.keep.eq(1),
                job.p.channel.eq(owed_channel), job.p.columns.eq(owed_columns), job.p.bytes.eq(owed_columns),
                job.p.bank.eq(~bank),
            ]
            with m.If(scores_taken):
                m.d.sync += [owed.eq(0), due.eq(0)]

        m.d.sync += walker.start.eq(0)
        with m.FSM():
            with m.State("IDLE"):
                new = self.i_descriptor.p
                m.d.comb += [self.idle.eq(1), self.i_descriptor.ready.eq(1)]
                m.d.sync += [
                    descriptor.eq(new), vector.eq(new.op == OP_VECTOR), groups_more.eq(new.out_groups - 2),
                    group_channel.eq(new.first_channel), channel.eq(new.first_channel), slice_column.eq(0),
                    rows_left.eq(new.out_rows), need.eq(new.out_strip_need), bound_known.eq(0),
                    closing.eq(0), walker.start.eq(self.i_descriptor.valid),
                ]
                with m.If(self.i_descriptor.valid):
                    m.next = "SLICE"
            with m.State("SLICE"):
                m.d.sync += [
                    columns.eq(group_columns), next_channel.eq(channel + Mux(vector, 1, group_columns)),
                    last_slice.eq(~vector | (slice_column == group_columns - 1)),
                    origin.eq(slice_offset + descriptor.pool_x), first_strip.eq(1),
                ]
                m.next = "STRIP"
            with m.State("STRIP"):
                m.d.comb += [surplus_before.eq(ready_positions - Mux(needs_all, descriptor.positions, need)),
                             next_strip.eq(1)]
                m.d.sync += [
                    strip_last.eq(is_last), strip_rows.eq(next_rows),
                    strip_offset.eq(origin + reach), next_reach.eq(reach + descriptor.out_strip_step),
                    rows_left.eq(Mux(is_last, descriptor.out_rows, rows_left - descriptor.out_strip_rows)),
                    need.eq(Mux(is_last, descriptor.out_strip_need, need + descriptor.out_strip_step)),
                    scoring.eq(judges & first_strip & is_last & descriptor.score_final & ~all_may_win), judged.eq(0),
                ]
                m.next = "OFFER"
            with m.State("OFFER"):
                offered = (surplus >= 0) & ranking_ready
                m.d.comb += job.valid.eq(offered)
                with m.If(offered & job.ready):
                    with m.If(scoring):
                        m.d.comb += scores.await_slice.eq(1)
                        m.d.sync += scoring.eq(0)
                        m.next = "SCORED"
                    with m.Elif(~strip_last):
                        m.d.sync += [given.eq(passed), first_strip.eq(0)]
                        m.next = "STRIP"
                    with m.Else():
                        m.d.sync += [given.eq(0), spent.eq(1), slice_offset.eq(slice_offset + descriptor.span),
                                     slice_column.eq(Mux(last_slice, 0, slice_column + 1)), channel.eq(next_channel),
                                     closing.eq(last_slice)]
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
                with m.If(~owed | scores_taken):
                    m.d.sync += [
                        owed.eq(descriptor.score_final), owed_channel.eq(group_channel), owed_columns.eq(columns),
                        due.eq(descriptor.score_final & Mux(bank, scores.complete[1], scores.complete[0])),
                        bank.eq(~bank), groups_more.eq(groups_more - 1), group_channel.eq(channel),
                        closing.eq(last_group),
                    ]
                    m.next = "SLICE"
                    with m.If(last_group):
                        m.next = "LAST"
            with m.State("LAST"):
                m.d.comb += self.select.eq(~owed & selects & self.bound_valid)
                with m.If(self.select):
                    m.d.sync += [first_winners.eq(1), bytes_left.eq(winner_bytes)]
                    m.next = "WINNERS"
                with m.Elif(~owed & ~selects & (descriptor.layer_end | walker.idle)):
                    m.next = "IDLE"
                    with m.If(descriptor.layer_end):
                        m.next = "COMPLETE"
            with m.State("WINNERS"):
                with m.If(walker.idle):
                    m.d.comb += self.o_run.valid.eq(1)
                    with m.If(self.o_run.ready):
                        m.d.sync += takes_words.eq(1)
                        m.next = "WRITE_WINNERS"
            with m.State("WRITE_WINNERS"):
                with m.If(winners.valid):
                    m.d.sync += [first_winners.eq(0), bytes_left.eq(bytes_left - word_bytes)]
                    with m.If(winners.last):
                        m.d.sync += takes_words.eq(0)
                        m.next = "COMPLETE"
            with m.State("COMPLETE"):
                with m.If(self.writer_idle & walker.idle & ~pooling.busy):
                    m.d.comb += self.layer_done.eq(1)
                    m.next = "IDLE"

        lane_bits = (config.axi_bytes - 1).bit_length()
        # Between two runs the writer needs an idle cycle: not while the chunk before goes out.
        words = self.i_winners
        m.d.comb += [
            words.ready.eq(takes_words & ~held & ~pooling.busy), winners.valid.eq(words.valid & words.ready),
            winners.data.eq(words.payload), winners.first.eq(first_winners),
            winners.lane.eq(descriptor.winner_base[:lane_bits]), winners.beat.eq(descriptor.winner_base[lane_bits:]),
            winners.last.eq(bytes_left <= word_bytes),
            winners.count.eq(Mux(winners.last, bytes_left, word_bytes)),
        ]
        with m.If(~walker.announces):
            m.d.comb += [self.o_run.p.address.eq(descriptor.winner_base), self.o_run.p.bytes.eq(winner_bytes),
                         self.o_run.p.kind.eq(WriteKind.MASK)]
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
