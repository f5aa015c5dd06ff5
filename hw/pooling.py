"""From the bytes of windows' taps to chunks of pooled results, for the score unit and for the writer."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .buffer import BankedBuffer
from .config import EngineConfig
from .delay import delay
from .descriptor import LAYOUT
from .strip_walker import label_layout, tag_layout
from .writer import chunk_layout

LEAST = 0x80
"""The int8 -128: what a tap outside the map counts as."""


def larger(newer, new, old):
    """Lane by lane the byte of ``new`` where ``newer`` says so, or that of ``old``."""
    return Cat(Mux(bit, new.word_select(lane, 8), old.word_select(lane, 8)) for lane, bit in enumerate(newer))


class Pooling(wiring.Component):
    """Takes the largest tap of each window.

    Latency :attr:`LATENCY` cycles from a read of the output buffer to its chunk; one read a cycle, never stalls.

    Members
    -------
    descriptor:
        ``pool_cols``; ``pool_stride_x``, which may change only while nothing is on its way.
    tag, read_data:
        A read in this cycle (or scores), and the bytes of the read ``BankedBuffer.READ_LATENCY`` cycles before.
    scores, scores_taken, scores_bank:
        The bytes that a tag of scores takes in this cycle, and their bank.
    o_chunk, other:
        For the writer; a chunk of something else that it is to get, only while not ``busy``.
    score_valid, score_data, score_count, score_start, score_end, score_resume, score_final, score_channel, score_label:
        For the score unit.
    busy:
        A tag of an earlier cycle is on its way, or its chunk is going out.
    """

    LATENCY = BankedBuffer.READ_LATENCY + 1

    def __init__(self, *, config: EngineConfig):
        self.config = config
        axi_bytes = config.axi_bytes
        super().__init__({
            "descriptor": In(LAYOUT), "tag": In(tag_layout(config)), "read_data": In(8 * axi_bytes),
            "scores": In(8 * axi_bytes), "scores_taken": Out(1), "scores_bank": Out(1),
            "o_chunk": Out(chunk_layout(axi_bytes)),
            "other": In(chunk_layout(axi_bytes)),
            "score_valid": Out(1), "score_data": Out(8 * axi_bytes), "score_count": Out(range(axi_bytes + 1)),
            "score_start": Out(1), "score_end": Out(1), "score_resume": Out(1), "score_final": Out(1),
            "score_channel": Out(16), "score_label": Out(label_layout(config.columns)), "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config, descriptor = self.config, self.descriptor
        axi_bytes = config.axi_bytes

        # Stage 1: columns of the map that are left. Stage 2: how many lanes lie before the map, and how many before its
        # end. Stage 3: lane by lane.
        tags = [self.tag]
        for stage in range(BankedBuffer.READ_LATENCY):
            tags.append(Signal(tag_layout(config), name=f"tag{stage}", reset_less=True))
            m.d.sync += tags[-1].eq(tags[-2])
        arrived = tags[-1]
        before, until = Signal(range(axi_bytes + 1)), Signal(range(axi_bytes + 1))
        column, left = Signal.like(self.tag.column, reset_less=True), Signal(signed(19), reset_less=True)
        m.d.sync += [
            column.eq(self.tag.column), left.eq(descriptor.pool_cols - self.tag.column),
            before.eq(Mux(column >= 0, 0, Mux(column < -axi_bytes, axi_bytes, -column))),
            until.eq(Mux(left < 0, 0, Mux(left > axi_bytes, axi_bytes, left))),
        ]
        inside = (((Const(1, axi_bytes + 1) << until) - 1) & ~((Const(1, axi_bytes + 1) << before) - 1))[:axi_bytes]
        inside = delay(m, inside, BankedBuffer.READ_LATENCY - 2, "inside")

        # Stage 3: the largest so far. Bytes are compared without a sign, in the order of int8. Which is larger is known
        # last: what the stride chooses is chosen of it, and of both bytes, before they meet.
        new, so_far, newer = Signal(8 * axi_bytes), Signal(8 * axi_bytes, reset_less=True), Signal(axi_bytes)
        for lane in range(axi_bytes):
            byte, old = self.read_data.word_select(lane, 8), so_far.word_select(lane, 8)
            m.d.comb += [
                new.word_select(lane, 8).eq(Mux(inside[lane], byte, LEAST)),
                newer[lane].eq(arrived.first_tap | (inside[lane] & ((byte ^ LEAST) > (old ^ LEAST)))),
            ]
        with m.If(arrived.valid):
            m.d.sync += so_far.eq(larger(newer, new, so_far))
        chosen_new, chosen_old, chosen_newer = (
            Signal.like(one, name=f"chosen_{name}") for name, one in (("new", new), ("old", so_far), ("newer", newer)))

        def choose(stride):
            """Of every so many lanes one."""
            lanes = range(0, axi_bytes, stride)
            return [chosen_new.eq(Cat(new.word_select(lane, 8) for lane in lanes)),
                    chosen_old.eq(Cat(so_far.word_select(lane, 8) for lane in lanes)),
                    chosen_newer.eq(Cat(newer[lane] for lane in lanes))]

        with m.Switch(descriptor.pool_stride_x):
            for stride in (2, 3, 4):
                with m.Case(stride):
                    m.d.comb += choose(stride)
            with m.Default():
                m.d.comb += choose(1)
        pooled = larger(chosen_newer, chosen_new, chosen_old)

        # Stage 4: the chunk.
        chunk, complete = self.o_chunk, arrived.valid & arrived.last_tap
        m.d.sync += [
            chunk.valid.eq(complete & arrived.write), chunk.count.eq(arrived.count), chunk.lane.eq(arrived.lane),
            chunk.beat.eq(arrived.beat), chunk.first.eq(arrived.run_first), chunk.last.eq(arrived.run_last),
            self.score_valid.eq(complete & arrived.score), self.score_start.eq(arrived.start),
            self.score_end.eq(arrived.end), self.score_resume.eq(arrived.resume), self.score_final.eq(arrived.final),
            self.score_channel.eq(arrived.channel), self.score_label.eq(arrived.label),
        ]
        # What else the writer gets comes only while no tag is on its way.
        with m.If(~self.busy):
            m.d.sync += chunk.eq(self.other)
        aside = Mux(self.busy, self.scores, self.other.data)
        m.d.sync += [chunk.data.eq(Mux(self.busy & ~arrived.scores, pooled, aside)),
                     self.busy.eq(Cat(tag.valid for tag in tags).any())]
        m.d.comb += [
            self.scores_taken.eq(arrived.valid & arrived.scores), self.scores_bank.eq(arrived.label.bank),
            self.score_data.eq(chunk.data), self.score_count.eq(chunk.count),
        ]
        return m
