"""The timeline of the vector unit: depthwise convolutions, pooling, additions."""

from itertools import groupby

from hw.band import Band
from hw.config import ceil_div
from hw.lowering import vector_steps

from .costs import (
    ADDITION,
    CONSTANTS_FREED,
    EMPTY_WEIGHTS,
    NEXT_JOB,
    NEXT_TILE,
    NO_WEIGHTS,
    RESULT,
    VECTOR_SUMS,
    VECTOR_TILES,
    WAIT_TO_LIST,
    WALK,
    WEIGHTS_TO_TAP,
)
from .descriptors import (
    accept,
    end_drain,
    end_group,
    end_results,
    fetch,
    first_tap,
    load_constants,
    load_first_strip,
    load_list,
    load_strip,
    take_results,
)
from .loading import StripLoads, column_shifts, weight_beats
from .results import Drained, Strips, write
from .timeline import Timeline, repeat
from .workload import Workload


class ChannelCosts:
    """What a channel of a band costs, apart from waiting; ``steps`` of a tile, 0 of a loser, which takes one."""

    def __init__(self, work: Workload, band: Band, steps: float):
        plan, config = work.plan, work.plan.config
        self.loses, self.rest = not steps, band.tiles - 1
        self.steps = steps = steps or 1
        # A tile's coordinates come two cycles behind those of the tile before.
        self.gap = max(0, NEXT_TILE - steps)
        self.period = self.gap + steps
        self.drain = config.vector_chunks
        self.last_drain = ceil_div(band.last_rows, config.requantize_lanes)
        self.strips = Strips(plan.shape, band, config, 1)
        self.latency = RESULT + (ADDITION if plan.shape.operands == 2 else 0)


def sums_read(time: Timeline, tile: float) -> float:
    """When the sums of a tile, counted over all channels, were read; only the last ones are known."""
    for before, tiles, first, last in reversed(time.read):
        if tile >= before:
            return first + (last - first) * (tile - before) / max(1, tiles - 1)
    return 0.0


def follow_channel(time: Timeline, costs: ChannelCosts, ready: float):
    """A channel: its tiles, its drain and its write-back; ``ready``: its first step may be issued."""
    rest, period = costs.rest, costs.period
    early = time.tap + time.gap + costs.steps
    tap = max(early, ready + costs.steps - 1, sums_read(time, time.tiles - VECTOR_TILES))
    # The coordinates of the tile behind one that had to wait are there already.
    gap = max(0, costs.gap - tap + early)
    following = tap - costs.gap + gap
    first = max(tap + VECTOR_SUMS, time.reading)
    drained = Drained(lambda tile: max((following if tile else tap) + tile * period + VECTOR_SUMS,
                                       first + tile * costs.drain),
                      fast=costs.drain, behind=VECTOR_TILES, period=period, delay=VECTOR_SUMS - costs.gap)
    drained.stall(0, max(time.constants, time.drain_taken + 2))
    write(time, costs.strips, drained, costs.drain, costs.last_drain, costs.latency)
    begun, ended = drained.at(0), drained.at(rest)
    time.read.append((time.tiles, rest + 1, begun, ended))
    del time.read[:-VECTOR_TILES - 1]
    last = following + rest * period if rest else tap
    time.gap = costs.gap if rest else gap
    time.tap = max(last, sums_read(time, time.tiles + rest - VECTOR_TILES))
    time.tiles += rest + 1
    time.reading = ended + costs.last_drain


class ChunkCosts:
    """What a descriptor costs, apart from waiting: ``count`` channels from ``first`` in a band, of ``many`` alike."""

    def __init__(self, work: Workload, band: Band, many: int, first: int, count: int):
        plan = self.plan = work.plan
        shape, config = plan.shape, plan.config
        self.work, self.band, self.first, self.count = work, band, first, count
        chosen = [work.chosen(first, count, operand) for operand in range(shape.operands)]
        self.runs = [runs for _, runs in chosen]
        # Of each operand, for bands of this geometry in turn.
        self.loads = [[StripLoads(plan, band, winners, runs, shift).first for winners, runs in chosen]
                      for shift in ([] if shape.resident else column_shifts(plan, band, many))]
        self.number = 0
        # Channels in order: (costs, how many such).
        steps, mask = vector_steps(plan), work.masks[0]
        rate = work.winner_counts[0] / shape.channels
        classes = [(steps, count)]
        if shape.operands == 1 and mask is None and rate < 1:
            classes = [(rate * max(NEXT_TILE, steps) + (1 - rate) * NEXT_TILE, count)]
        elif shape.operands == 1 and mask is not None:
            classes = [(steps if wins else 0, len(list(some))) for wins, some in groupby(mask[first:first + count])]
        known = {taken: ChannelCosts(work, band, taken) for taken, _ in classes}
        self.channels = [(known[taken], many * shape.depth_multiplier) for taken, many in classes]
        outputs = count * shape.depth_multiplier
        self.groups = [(config.columns, outputs // config.columns), (outputs % config.columns, 1)]
        self.groups = [(columns, many) for columns, many in self.groups if columns and many]
        self.weight_beats = None
        if shape.weighted:
            winners, runs = work.chosen(first, count)
            axi, block = config.axi_bytes, shape.taps * shape.depth_multiplier
            self.weight_runs = max(1, runs, winners * block / (16 * axi))
            self.weight_beats = weight_beats(winners, runs, block, 0, axi)
            self.last_bursts = self.weight_runs / max(1, runs)

    def follow(self, time: Timeline, *, gate: float, new_list: bool, score_final: bool):
        """One such descriptor after its fetch; its lists and activations are ordered at ``gate`` or later."""
        work, plan = self.work, self.plan
        time.issue = max(time.issue, gate)
        listed = self._load(time, 0, new_list)
        if plan.shape.operands == 2:
            # The constants of the first group come between the second operand's mask and its activations.
            time.issue += not work.masked[1]
            listed = self._load(time, 1, True)
        arrived = time.data if self.loads else 0.0
        accept(time, listed)
        take_results(time)
        ready = first_tap(work, time, arrived)
        self._groups(time, ready, score_final)
        end_drain(time, ADDITION if plan.shape.operands == 2 else 0)
        end_results(work, time)

    def _load(self, time: Timeline, operand: int, new_list: bool) -> float:
        """An operand's list of winners and their activations; when the list is complete."""
        work, runs = self.work, self.runs[operand]
        if not (new_list and work.masked[operand]):
            listed = time.issue + (WAIT_TO_LIST if new_list and not operand else 1 - operand)
            start = listed if not operand else self._constants(time, 1) + 1
            if self.loads:
                load_strip(time, self.loads[self.number][operand], start, runs)
            return listed
        if not operand:
            time.issue += WAIT_TO_LIST
        listed = load_list(work, time, self.first, self.count, operand)
        if operand:
            time.issue = self._constants(time, 1) + 2
        if self.loads:
            load_first_strip(time, self.loads[self.number][operand], listed, runs)
        return listed[0]

    def _constants(self, time: Timeline, records: int) -> float:
        """A group's constants; when they are ordered."""
        later = ADDITION if self.plan.shape.operands == 2 else 0
        return load_constants(self.work, time, records, CONSTANTS_FREED + later)

    def _groups(self, time: Timeline, ready: float, score_final: bool):
        work, shape = self.work, self.plan.shape
        weights = [self.weight_beats]
        loaded = [shape.operands == 2]

        arrived = [0.0]

        def group(columns: int, parts):
            if loaded[0]:
                time.issue += 1
            else:
                start = self._constants(time, columns if shape.weighted else 1)
                time.issue = start + (NO_WEIGHTS if weights[0] is None else WALK if weights[0] else EMPTY_WEIGHTS)
            loaded[0] = False
            if weights[0]:
                arrived[0] = time.load(0, self.weight_runs, weights[0]) + WEIGHTS_TO_TAP
                time.issue += max(0, NEXT_JOB - self.last_bursts)
            weights[0] = None
            for costs, many in parts:
                # Losers need no weights.
                begin = max(ready, arrived[0]) if not costs.loses else ready
                repeat(time, many, lambda costs=costs, begin=begin: follow_channel(time, costs, begin),
                       least=2 + VECTOR_TILES // (costs.rest + 1))
            time.older_end, time.group_end = time.group_end, time.reading
            end_group(work, time, columns, score_final)

        if len(self.channels) == 1:
            costs = self.channels[0][0]
            for columns, many in self.groups:
                repeat(time, many, lambda columns=columns: group(columns, [(costs, columns)]))
            return
        rest = [list(one) for one in self.channels]
        for columns, many in self.groups:
            for _ in range(many):
                parts, room = [], columns
                while room:
                    taken = min(room, rest[0][1])
                    parts.append((rest[0][0], taken))
                    room -= taken
                    rest[0][1] -= taken
                    if not rest[0][1]:
                        rest.pop(0)
                group(columns, parts)


def follow_vector(work: Workload, time: Timeline):
    """All descriptors of a layer of the vector unit, the first of which has been fetched."""
    plan = work.plan
    classes = plan.band_classes
    started = [False]
    known = {}
    known_channels = any(mask is not None for mask in work.masks)

    def chunk(first: int, count: int):
        fresh = True
        last = classes[-1][0][-1][0]
        for row_of_bands, row_count in classes:
            for _ in range(row_count):
                for band, many in row_of_bands:
                    key = id(band), first if known_channels else 0, count
                    if key not in known:
                        known[key] = ChunkCosts(work, band, many, first, count)

                    costs = known[key]
                    cycle = max(1, len(costs.loads))

                    def some(bands, costs=costs, final=band is last):
                        nonlocal fresh
                        for costs.number in bands:
                            gate = 0.0
                            if started[0]:
                                fetch(work, time)
                                gate = time.accepted
                            costs.follow(time, gate=gate, new_list=fresh or plan.shape.operands == 2, score_final=final)
                            started[0], fresh = True, False

                    repeat(time, many // cycle, lambda some=some, cycle=cycle: some(range(cycle)))
                    some(range(many % cycle))

    chunks = plan.chunks
    if not known_channels:
        same = [one for one in chunks if one[1] == chunks[0][1]]
        repeat(time, len(same), lambda: chunk(*same[0]))
        chunks = chunks[len(same):]
    for first, count in chunks:
        chunk(first, count)
