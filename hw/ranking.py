"""The streaming ranking unit: winners by counting, not by sorting."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .descriptor import LAYOUT, Select
from .multiplier import Multipliers
from .technology import BLOCK_RAM

LEVELS = 4
"""Levels of the histogram: each node has four children, the leaves are the 256 scores."""
SHARES = 3
"""Sums that a node keeps: of its highest child, of the highest two, of the highest three."""
TIE_GROUP = 16


def count_ones(bits):
    """Number of ones in ``bits`` as a balanced tree of adders."""
    if len(bits) == 1:
        return bits[0]
    half = len(bits) // 2
    return count_ones(bits[:half]) + count_ones(bits[half:])


class RankingUnit(wiring.Component):
    """Selects the winners of a layer from its channels' scores.

    Scores enter a 256-bin histogram as they come, kept as a tree of four children a node with counts and energies
    (score to the power 1 or 2), summed from each node's highest child down. One walk from the root finds the score of
    the last winner, and how many channels of that score are admitted; then the stored scores are compared with it,
    ``lanes`` channels a cycle, lower channels first.

    The running threshold of top-k is found by the same walk while scores still come: it only rises, so a channel whose
    score is below it is a certain loser.

    Latency from ``select`` to the first word of winners: at most 32 cycles (fixed k and threshold: 14), then one word
    a cycle and at most ``lanes / 16`` cycles more, whatever the number of channels. After the last word the histogram
    is cleared, in 64 cycles, during which ``ready`` is low.

    Members
    -------
    descriptor:
        ``select``, ``select_value``, ``energy_square``, ``out_channels``; stable from the layer's first score to its
        last word. Scores of a layer whose ``select`` is ``ALL`` count for nothing.
    score_valid, score_channel, score:
        A finished score; only while ``ready``.
    ready:
        Scores may come.
    bound_request:
        Strobe, only while ``ready`` and ``bound_valid``: a score came a cycle before at the latest; the next comes 7
        cycles later at the earliest.
    bound_valid, bound:
        Low for :attr:`BOUND_CYCLES` - 1 cycles from the cycle after a request on. Then ``bound`` is the
        ``select_value``-th highest of all scores since the last layer, 0 if there are fewer; it stands until then.
    select:
        Strobe, only while ``bound_valid``: all scores have come, the last of them two cycles before at the latest.
    o_winners:
        Words of ``lanes`` channels, channel 0 in bit 0 of the first; ``ceil(out_channels / lanes)`` of them. Bits
        behind the last channel are ones: they may belong to a tensor that is joined to this one.
    waiting:
        High from ``select`` to the first word.
    """

    BOUND_CYCLES = 2 * LEVELS + 1

    def __init__(self, *, max_channels: int, lanes: int):
        self.max_channels, self.lanes = max_channels, lanes
        super().__init__({
            "descriptor": In(LAYOUT),
            "score_valid": In(1), "score_channel": In(16), "score": In(8), "ready": Out(1),
            "bound_request": In(1), "bound_valid": Out(1), "bound": Out(8),
            "select": In(1), "o_winners": Out(stream.Signature(lanes)), "waiting": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        lanes, descriptor = self.lanes, self.descriptor
        lane_bits = exact_log2(lanes)
        # Digits of quotients below ``max_channels``; as wide are counts, and ties, of which a whole group fits.
        digits = (self.max_channels - 1).bit_length() + 1
        count_bits = max(digits, exact_log2(TIE_GROUP) + 1)
        energy_bits = (255**2 << digits - 1).bit_length()
        sums = data.StructLayout({"count": count_bits, "energy": energy_bits})
        node = data.ArrayLayout(sums, SHARES)

        m.submodules.scores = scores = Memory(
            shape=data.ArrayLayout(8, lanes), depth=max(2, -(-self.max_channels // lanes)), init=[],
            attrs=BLOCK_RAM)
        score_write, score_read = scores.write_port(granularity=1), scores.read_port(domain="sync")
        m.d.comb += [
            score_write.addr.eq(self.score_channel >> lane_bits),
            score_write.en.eq(Mux(self.score_valid, Const(1, lanes) << self.score_channel[:lane_bits], 0)),
        ]
        m.d.comb += [score_write.data[i].eq(self.score) for i in range(lanes)]

        # Stage 0: the score's energy, and every level's node on its path, which is read. Stage 1: the nodes arrive, and
        # the root counts, which a walk needs a cycle before the other levels. Stage 2: they count and are written.
        entry = data.StructLayout({"counts": 1, "bin": 8, "energy": 16})
        arriving, counting = Signal(entry), Signal(entry)
        total = Signal(energy_bits)
        # Where all win nothing is selected, so nothing would clear the histogram.
        m.d.sync += arriving.counts.eq(self.score_valid & (descriptor.select != Select.ALL))
        m.d.sync += [arriving.energy.eq(0), counting.eq(arriving)]
        with m.If(self.score_valid):
            m.d.sync += [arriving.bin.eq(self.score),
                         arriving.energy.eq(Mux(descriptor.energy_square, self.score * self.score, self.score))]
        # High in the state CLEAR: a flag of its own, because it goes to every level.
        clear, clear_address = Signal(init=1), Signal(range(4 ** (LEVELS - 1)))
        path = Signal(8)
        root = Signal(node)
        for i in range(SHARES):
            with m.If(arriving.counts & (arriving.bin[6:] >= SHARES - i)):
                m.d.sync += [root[i].count.eq(root[i].count + 1), root[i].energy.eq(root[i].energy + arriving.energy)]
        with m.If(clear):
            m.d.sync += root.eq(0)
        read_nodes, chosen = [root], Signal(2)
        for level in range(1, LEVELS):
            m.submodules[f"level{level}"] = memory = Memory(shape=node, depth=4**level, init=[], attrs=BLOCK_RAM)
            write, read = memory.write_port(granularity=1), memory.read_port(domain="sync")
            below = 8 - 2 * level
            child, address = counting.bin.bit_select(below - 2, 2), counting.bin[below:]
            m.d.comb += [
                # The walk goes from the node above to the child that it has chosen.
                read.addr.eq(Mux(self.score_valid, self.score[below:], Cat(chosen, path[below + 2:]))),
                read.en.eq(1), write.addr.eq(Mux(clear, clear_address, address)),
            ]
            # The node as it was before the score in stage 2, and what was written last. A write comes too late for the
            # next score (``before_late``) and for the one behind it, which reads in the same cycle (``read_late``).
            before, written = Signal(node), Signal(node, reset_less=True)
            read_late, before_late = Signal(SHARES), Signal(SHARES)
            m.d.sync += written.eq(write.data)
            for i in range(SHARES):
                writes = counting.counts & (child >= SHARES - i)
                latest = sums(Mux(before_late[i], written[i], before[i]))
                m.d.sync += [
                    read_late[i].eq(writes & (self.score[below:] == address)),
                    before_late[i].eq(writes & (arriving.bin[below:] == address)),
                    # 0 where no score comes, so that zeros are written while the histogram is cleared.
                    before[i].eq(Mux(arriving.counts, Mux(read_late[i], written[i], read.data[i]), 0)),
                ]
                m.d.comb += [
                    write.en[i].eq(clear | writes),
                    write.data[i].count.eq(latest.count + counting.counts),
                    write.data[i].energy.eq(latest.energy + counting.energy),
                ]
            read_nodes.append(read.data)
        with m.If(clear):
            m.d.sync += total.eq(0)
        with m.Elif(arriving.counts):
            m.d.sync += total.eq(total + arriving.energy)

        # The walk. ``short``: what the winners still have to reach, in channels or in energy, less one, so that the
        # sign of one difference tells whether a node's highest children reach it, and the difference is what is then
        # short.
        by_energy = Signal()
        short = Signal(signed(energy_bits + 1), reset_less=True)
        # The energy that is asked for, of 65536: by halves of the whole energy, then together.
        multipliers = Multipliers(m, platform)
        share, whole = descriptor.select_value[:16], descriptor.select_value[16]
        half_products = [multipliers.product(total[start:start + 16], share, name=f"half_product{n}")
                         for n, start in enumerate(range(0, energy_bits, 16))]
        product = Signal(energy_bits + 17, reset_less=True)
        # One bit a level: so two LUTs are behind the memories, one for each level's share and one that joins them.
        level = Signal(LEVELS)
        from_top = Signal(data.ArrayLayout(energy_bits, SHARES), reset_less=True)
        threshold, ties = Signal(8), Signal(count_bits)
        shorter = Signal.like(short)
        shares = [reduce(or_, (Mux(level[n], Mux(by_energy, one[i].energy, one[i].count), 0)
                               for n, one in enumerate(read_nodes))) for i in range(SHARES)]
        without = [Signal.like(short, name=f"without{i}") for i in range(SHARES)]
        m.d.comb += [without[i].eq(short - from_top[i]) for i in range(SHARES)]
        with m.If(without[0] < 0):
            m.d.comb += [chosen.eq(3), shorter.eq(short)]
        with m.Elif(without[1] < 0):
            m.d.comb += [chosen.eq(2), shorter.eq(without[0])]
        with m.Elif(without[2] < 0):
            m.d.comb += [chosen.eq(1), shorter.eq(without[1])]
        with m.Else():
            m.d.comb += [chosen.eq(0), shorter.eq(without[2])]

        # Division of the energy that the ties have to reach by the energy of one, a digit of the quotient a cycle.
        part, digit = Signal(energy_bits), Signal(range(digits))
        remaining = Signal.like(short)
        m.d.comb += remaining.eq(short - part)

        # The read-out: word address, then fetch, then compare, then count the ties, then admit.
        word_count = max(2, -(-self.max_channels // lanes))
        address = Signal(range(word_count + 1))
        words = Signal.like(address)
        flow = Signal()
        asked, fetched, compared, counted = Signal(), Signal(), Signal(), Signal()
        fetched_scores = Signal(data.ArrayLayout(8, lanes), reset_less=True)
        partial = Signal(lane_bits)
        cut_short1, cut_short2 = Signal(), Signal()
        above3, equal3, above4, equal4 = (Signal(lanes, name=n) for n in ("above3", "equal3", "above4", "equal4"))
        groups = max(1, lanes // TIE_GROUP)
        group_lanes = min(TIE_GROUP, lanes)
        group = Signal(range(max(2, groups)))
        ties_before = Signal(
            data.ArrayLayout(data.ArrayLayout(exact_log2(group_lanes), group_lanes), groups), reset_less=True)
        group_ties = Signal(data.ArrayLayout(range(group_lanes + 1), groups))
        ties4 = Signal(range(lanes + 1))
        admitted = Signal(lanes)
        emitted = Signal.like(address)
        out = self.o_winners
        out_free = ~out.valid | out.ready
        m.d.comb += [score_read.addr.eq(address), score_read.en.eq(flow)]
        reading_out, admitting = Signal(), Signal()
        ask = reading_out & (address != words)
        m.d.sync += partial.eq(descriptor.out_channels)
        with m.If(flow):
            m.d.sync += [
                asked.eq(ask), cut_short1.eq((address + 1 == words) & (partial != 0)),
                fetched.eq(asked), cut_short2.eq(cut_short1), fetched_scores.eq(score_read.data),
                compared.eq(fetched), counted.eq(compared), above4.eq(above3), equal4.eq(equal3),
                ties4.eq(count_ones(equal3)),
            ]
            with m.If(ask):
                m.d.sync += address.eq(address + 1)
            for i in range(lanes):
                exists = ~cut_short2 | (i < partial)
                m.d.sync += [
                    above3[i].eq(fetched & (~exists | (fetched_scores[i] > threshold))),
                    equal3[i].eq(fetched & exists & (fetched_scores[i] == threshold)),
                ]
            for g in range(groups):
                equal = equal3[g * group_lanes : (g + 1) * group_lanes]
                m.d.sync += group_ties[g].eq(count_ones(equal))
                m.d.sync += [ties_before[g][i].eq(count_ones(equal[:i])) for i in range(1, group_lanes)]
        # In the word where the ties run out, groups of 16 lanes are admitted one a cycle.
        group_equal, group_admitted = Signal(group_lanes), Signal(group_lanes)
        plenty = Signal()
        m.d.comb += [group_equal.eq(equal4 >> (group * group_lanes)), plenty.eq(ties >= group_lanes)]
        for i in range(group_lanes):
            enough = plenty | (ties_before[group][i] < ties[: exact_log2(group_lanes)])
            m.d.comb += group_admitted[i].eq(group_equal[i] & enough)
        cut = counted & (((ties4 > ties) & (ties != 0)) | (group != 0))
        m.d.comb += flow.eq(reading_out & (~counted | (admitting & out_free & (~cut | (group == groups - 1)))))
        with m.If(out.ready):
            m.d.sync += out.valid.eq(0)
        with m.If(admitting & counted & out_free):
            with m.If(cut):
                so_far = Signal(lanes)
                m.d.comb += so_far.eq(admitted | (group_admitted << (group * group_lanes)))
                m.d.sync += [ties.eq(Mux(ties > group_ties[group], ties - group_ties[group], 0)), group.eq(group + 1),
                             admitted.eq(so_far)]
                with m.If(group == groups - 1):
                    m.d.sync += [group.eq(0), admitted.eq(0), out.valid.eq(1), out.payload.eq(above4 | so_far),
                                 emitted.eq(emitted + 1)]
            with m.Else():
                m.d.sync += [ties.eq(Mux(ties == 0, 0, ties - ties4)), out.valid.eq(1),
                             out.payload.eq(above4 | Mux(ties == 0, 0, equal4)),
                             emitted.eq(emitted + 1)]

        bounding = Signal()
        m.d.comb += self.bound_valid.eq(~bounding)
        with m.If(out.valid):
            m.d.sync += self.waiting.eq(0)
        with m.If(self.select):
            m.d.sync += self.waiting.eq(1)

        with m.FSM(init="CLEAR"):
            with m.State("CLEAR"):
                m.d.sync += [clear_address.eq(clear_address + 1), address.eq(0)]
                with m.If(clear_address == 4 ** (LEVELS - 1) - 1):
                    m.d.sync += clear.eq(0)
                    m.next = "COUNT"
            with m.State("COUNT"):
                m.d.comb += self.ready.eq(1)
                m.d.sync += [
                    level.eq(1), path.eq(0), by_energy.eq(0), short.eq(descriptor.select_value - 1), emitted.eq(0),
                    words.eq((descriptor.out_channels + lanes - 1) >> lane_bits),
                    threshold.eq(descriptor.select_value), ties.eq(2**count_bits - 1),
                ]
                with m.If(self.select):
                    with m.If(descriptor.select == Select.TOPK):
                        m.next = "SUM"
                    with m.Elif(descriptor.select == Select.ENERGY):
                        m.next = "PRODUCT"
                    with m.Else():
                        m.d.comb += reading_out.eq(1)
                        m.next = "READ_OUT"
                with m.Elif(self.bound_request):
                    m.d.sync += bounding.eq(1)
                    m.next = "SUM"
            with m.State("PRODUCT"):
                m.d.sync += product.eq(
                    sum(one << 16 * n for n, one in enumerate(half_products)) + (Mux(whole, total, 0) << 16))
                m.next = "TARGET"
            with m.State("TARGET"):
                # Nothing to reach: the best channel alone.
                m.d.sync += [by_energy.eq(product != 0), short.eq(Mux(product == 0, 0, (product - 1) >> 16))]
                m.next = "SUM"
            with m.State("SUM"):
                m.d.comb += self.ready.eq(bounding)
                m.d.sync += [from_top[i].eq(shares[i]) for i in range(SHARES)]
                m.next = "CHOOSE"
            with m.State("CHOOSE"):
                m.d.comb += self.ready.eq(bounding)
                m.d.sync += [short.eq(shorter), level.eq(level << 1)]
                for n in range(LEVELS):
                    with m.If(level[n]):
                        m.d.sync += path.bit_select(8 - 2 * n - 2, 2).eq(chosen)
                m.next = "SUM"
                with m.If(level[-1]):
                    m.next = "TIES"
                    with m.If(bounding):
                        m.d.sync += [self.bound.eq(Cat(chosen, path[2:])), bounding.eq(0)]
                        m.next = "COUNT"
            with m.State("TIES"):
                m.d.comb += reading_out.eq(1)
                m.d.sync += [
                    threshold.eq(path), ties.eq(short + 1), digit.eq(digits - 1),
                    part.eq(Mux(descriptor.energy_square, path * path, path) << (digits - 1)),
                ]
                m.next = "READ_OUT"
                with m.If(by_energy):
                    m.d.sync += ties.eq(0)
                    m.next = "DIVIDE"
            with m.State("DIVIDE"):
                # Smallest number of ties whose energy reaches the target: count each part below what remains. The
                # read-out fills its stages meanwhile.
                m.d.comb += reading_out.eq(1)
                with m.If(remaining >= 0):
                    m.d.sync += short.eq(remaining)
                m.d.sync += [ties.eq(Cat(remaining >= 0, ties)), part.eq(part >> 1), digit.eq(digit - 1)]
                with m.If(digit == 0):
                    m.next = "ROUND"
            with m.State("ROUND"):
                m.d.comb += reading_out.eq(1)
                m.d.sync += ties.eq(ties + 1)
                m.next = "READ_OUT"
            with m.State("READ_OUT"):
                m.d.comb += [reading_out.eq(1), admitting.eq(1)]
                with m.If((emitted == words) & out_free):
                    m.d.sync += [asked.eq(0), fetched.eq(0), compared.eq(0), counted.eq(0), clear.eq(1)]
                    m.next = "CLEAR"
        return m
