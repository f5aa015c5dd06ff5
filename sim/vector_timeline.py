"""The timeline of the vector unit: depthwise convolutions, pooling, additions."""

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
    ROWS_TO_TAP,
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
from .loading import StripLoads
from .results import Drained, Strips, write
from .timeline import Timeline, repeat
from .workload import Workload


class ChannelCosts:
    """What a channel of a band costs, apart from waiting; ``steps`` of a tile: those of a winner, or of a loser."""

    def __init__(self, work: Workload, band: Band, steps: float):
        plan, config = work.plan, work.plan.config
        self.steps, self.rest = steps, band.tiles - 1
        self.period = max(NEXT_TILE, steps)
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
    tap = max(time.tap + period, ready + costs.steps - 1, sums_read(time, time.tiles - VECTOR_TILES))
    first = max(tap + VECTOR_SUMS, time.reading)
    drained = Drained(lambda tile: max(tap + tile * period + VECTOR_SUMS, first + tile * costs.drain),
                      fast=costs.drain, behind=VECTOR_TILES, period=period, delay=VECTOR_SUMS - period + costs.steps)
    drained.stall(0, max(time.constants, time.drain_taken + 2))
    write(time, costs.strips, drained, costs.drain, costs.last_drain, costs.latency)
    begun, ended = drained.at(0), drained.at(rest)
    time.read.append((time.tiles, rest + 1, begun, ended))
    del time.read[:-VECTOR_TILES - 1]
    time.tap = max(tap + rest * period, sums_read(time, time.tiles + rest - VECTOR_TILES))
    time.tiles += rest + 1
    time.reading = ended + costs.last_drain


class ChunkCosts:
    """What a descriptor costs, apart from waiting: ``count`` channels from ``first`` in a band."""

    def __init__(self, work: Workload, band: Band, first: int, count: int):
        plan = self.plan = work.plan
        shape, config = plan.shape, plan.config
        self.work, self.band, self.first, self.count = work, band, first, count
        self.loads, self.runs = [], []
        for operand in range(shape.operands):
            winners, runs = work.chosen(first, count, operand)
            self.runs.append(runs)
            if not shape.resident:
                self.loads.append(StripLoads(plan, band, winners, runs).first)
        # Channels in order: (costs, how many such).
        steps = vector_steps(plan)
        mask = work.masks[0]
        if shape.operands == 2:
            classes = [(steps, count)]
        elif mask is None:
            rate = work.winner_counts[0] / shape.channels
            classes = [(rate * max(NEXT_TILE, steps) + (1 - rate) * NEXT_TILE if rate < 1 else steps, count)]
        else:
            classes = []
            for wins in mask[first:first + count]:
                taken = steps if wins else 1
                if classes and classes[-1][0] == taken:
                    classes[-1][1] += 1
                else:
                    classes.append([taken, 1])
        known = {taken: ChannelCosts(work, band, taken) for taken in {taken for taken, _ in classes}}
        self.channels = [(known[taken], many * shape.depth_multiplier) for taken, many in classes]
        outputs = count * shape.depth_multiplier
        self.groups = [(config.columns, outputs // config.columns), (outputs % config.columns, 1)]
        self.groups = [(columns, many) for columns, many in self.groups if columns and many]
        self.weight_beats = None
        if shape.weighted:
            winners, runs = work.chosen(first, count)
            axi, block = config.axi_bytes, shape.taps * shape.depth_multiplier
            self.weight_runs = max(1, runs, winners * block / (16 * axi))
            self.weight_beats = (winners * block + runs * (axi - 1)) / axi
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
        ready = max(first_tap(work, time), arrived + ROWS_TO_TAP)
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
                load_strip(time, self.loads[operand], start, runs)
            return listed
        if not operand:
            time.issue += WAIT_TO_LIST
        listed = load_list(work, time, self.first, self.count, operand)
        if operand:
            time.issue = self._constants(time, 1) + 2
        if self.loads:
            load_first_strip(time, self.loads[operand], listed, runs)
        return listed[0]

    def _constants(self, time: Timeline, records: int) -> float:
        """A group's constants; when they are ordered."""
        later = ADDITION if self.plan.shape.operands == 2 else 0
        return load_constants(self.work, time, records, CONSTANTS_FREED + later)

    def _groups(self, time: Timeline, ready: float, score_final: bool):
        work, shape = self.work, self.plan.shape
        weights = [self.weight_beats]
        loaded = [shape.operands == 2]

        def group(columns: int, parts):
            begin = ready
            if loaded[0]:
                time.issue += 1
            else:
                start = self._constants(time, columns if shape.weighted else 1)
                time.issue = start + (NO_WEIGHTS if weights[0] is None else WALK if weights[0] else EMPTY_WEIGHTS)
            loaded[0] = False
            if weights[0]:
                begin = max(begin, time.load(0, self.weight_runs, weights[0]) + WEIGHTS_TO_TAP)
                time.issue += max(0, NEXT_JOB - self.last_bursts)
            weights[0] = None
            for costs, many in parts:
                repeat(time, many, lambda costs=costs: follow_channel(time, costs, begin),
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
                        known[key] = ChunkCosts(work, band, first, count)

                    def one(costs=known[key], final=band is last):
                        nonlocal fresh
                        gate = 0.0
                        if started[0]:
                            fetch(work, time)
                            gate = time.accepted
                        costs.follow(time, gate=gate, new_list=fresh or plan.shape.operands == 2, score_final=final)
                        started[0], fresh = True, False

                    repeat(time, many, one)

    chunks = plan.chunks
    if not known_channels:
        same = [one for one in chunks if one[1] == chunks[0][1]]
        repeat(time, len(same), lambda: chunk(*same[0]))
        chunks = chunks[len(same):]
    for first, count in chunks:
        chunk(first, count)
