"""Scores of output channels, gathered from the results as they are written."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .delay import delay
from .descriptor import LAYOUT, Score
from .requantize import Requantizer


class ScoreUnit(wiring.Component):
    """Maximum, absolute maximum or sum of a channel's map above the zero point, over as many chunks as it takes.

    Unfinished scores of all channels are kept, so a map may arrive in strips and bands. Scores are 8 bits as in
    docs/numerics.md; a sum is requantized to 8 bits by the score's own multiplier.

    Throughput: one chunk a cycle. The first chunk of a visit comes :attr:`REVISIT` cycles after the last one of the
    visit to the same channel before, at the earliest. Latency from the last chunk to the score: 4 cycles, for the mean
    12.

    Parameters: ``label``, the shape of what comes back with a score.

    Members
    -------
    valid, data, count:
        A chunk: the lowest ``count`` of its int8 results count.
    start, end, resume, final:
        First, last chunk of this visit to the channel; the channel has been visited before; its score is complete
        after this visit.
    channel, label:
        The output channel, and what is to come back with its score.
    score_valid, score_channel, score_label, score:
        A finished score.
    """

    REVISIT = 3

    def __init__(self, *, chunk_bytes: int, max_channels: int, label):
        self.chunk_bytes, self.max_channels, self.label_shape = chunk_bytes, max_channels, label
        super().__init__({
            "descriptor": In(LAYOUT),
            "valid": In(1), "data": In(8 * chunk_bytes), "count": In(range(chunk_bytes + 1)),
            "start": In(1), "end": In(1), "resume": In(1), "final": In(1), "channel": In(16), "label": In(label),
            "score_valid": Out(1), "score_channel": Out(16), "score_label": Out(label), "score": Out(8),
        })

    def elaborate(self, platform):
        m = Module()
        lanes, descriptor = self.chunk_bytes, self.descriptor
        m.submodules.partial = partial = Memory(shape=signed(32), depth=self.max_channels, init=[])
        write, read = partial.write_port(), partial.read_port(domain="sync")
        m.submodules.requantizer = requantizer = Requantizer(lanes=1, width=8)

        whose = data.StructLayout({"channel": 16, "label": self.label_shape})
        control = data.StructLayout({"valid": 1, "start": 1, "end": 1, "resume": 1, "final": 1, "whose": whose})
        stage0 = Signal(control)
        m.d.comb += [
            stage0.valid.eq(self.valid), stage0.start.eq(self.start), stage0.end.eq(self.end),
            stage0.resume.eq(self.resume), stage0.final.eq(self.final), stage0.whose.channel.eq(self.channel),
            stage0.whose.label.eq(self.label),
        ]
        stage1, stage2, stage3 = (Signal(control, name=f"control{n}") for n in (1, 2, 3))
        m.d.sync += [stage1.eq(stage0), stage2.eq(stage1), stage3.eq(stage2)]
        m.d.comb += [read.addr.eq(stage1.whose.channel), read.en.eq(stage1.valid & stage1.start)]

        # Stage 1: values above the zero point. Stage 2: reduce them. Stage 3: gather those of the visit, while what was
        # gathered before arrives; both together are written, or the score.
        mean = descriptor.score_kind == Score.MEAN
        values = []
        for lane in range(lanes):
            above, below = Signal(signed(9), name=f"above{lane}"), Signal(signed(9), name=f"below{lane}")
            magnitude = Signal(8, name=f"magnitude{lane}")
            value, size = Signal(signed(9), name=f"value{lane}"), Signal(8, name=f"size{lane}")
            m.d.comb += [
                above.eq(self.data.word_select(lane, 8).as_signed() - descriptor.out_zero_point),
                below.eq(descriptor.out_zero_point - self.data.word_select(lane, 8).as_signed()),
                magnitude.eq(Mux(above < 0, Mux(descriptor.score_kind == Score.ABSMAX, below, 0), above)),
            ]
            counts = lane < self.count
            with m.If(self.valid):
                m.d.sync += [value.eq(Mux(counts, above, 0)), size.eq(Mux(counts, magnitude, 0))]
            values.append((value, size))
        total, largest = Signal(signed(9 + lanes.bit_length())), Signal(8)
        sums, sizes = [value for value, _ in values], [size for _, size in values]
        level = 0
        while len(sizes) > 1:
            reduced_sizes, reduced_sums = [], []
            for pair in range(0, len(sizes), 2):
                high = Signal(8, name=f"high{level}_{pair}")
                m.d.comb += high.eq(Mux(sizes[pair] > sizes[pair + 1], sizes[pair], sizes[pair + 1]))
                reduced_sizes.append(high)
                reduced_sums.append(sums[pair] + sums[pair + 1])
            sizes, sums, level = reduced_sizes, reduced_sums, level + 1
        with m.If(stage1.valid):
            m.d.sync += [total.eq(sums[0]), largest.eq(sizes[0])]
        gathered, before = Signal(signed(32)), Signal(signed(32))
        sum_of_both, largest_of_both = Signal(signed(32)), Signal(8)
        both = Signal(signed(32))
        with m.If(stage2.valid):
            so_far = Mux(stage2.start, 0, gathered)
            m.d.sync += gathered.eq(Mux(mean, so_far + total, Mux(largest > so_far[:8], largest, so_far[:8])))
            with m.If(stage2.start):
                m.d.sync += before.eq(Mux(stage2.resume, read.data, 0))
        m.d.comb += [
            sum_of_both.eq(gathered + before),
            largest_of_both.eq(Mux(gathered[:8] > before[:8], gathered[:8], before[:8])),
            both.eq(Mux(mean, sum_of_both, largest_of_both)),
            write.addr.eq(stage3.whose.channel), write.data.eq(both),
            write.en.eq(stage3.valid & stage3.end & ~stage3.final),
        ]

        # Finished: a maximum is the score, a sum still has to be scaled.
        finished = stage3.valid & stage3.end & stage3.final
        delayed = Signal(Requantizer.LATENCY)
        scaled = delay(m, stage3.whose, Requantizer.LATENCY, "whose")
        due = Signal(whose)
        m.d.sync += delayed.eq(Cat(finished & mean, delayed))
        m.d.comb += [
            requantizer.sums.eq(sum_of_both),
            requantizer.parameters.bias.eq(0),
            requantizer.parameters.multiplier.eq(descriptor.score_multiplier),
            requantizer.parameters.shift.eq(descriptor.score_shift),
            requantizer.zero_point.eq(0), requantizer.minimum.eq(0), requantizer.maximum.eq(255),
            due.eq(Mux(delayed[-1], scaled.as_value(), stage3.whose.as_value())),
        ]
        m.d.sync += [
            self.score_valid.eq(delayed[-1] | (finished & ~mean)),
            self.score_channel.eq(due.channel), self.score_label.eq(due.label),
            self.score.eq(Mux(delayed[-1], requantizer.results, largest_of_both)),
        ]
        return m
