"""The timeline of the vector unit: depthwise convolutions, pooling, additions; their descriptors."""

from hw.band import Band
from hw.reader import BURST_BEATS

from .costs import (
    ADDITION,
    CONSTANTS_FREED,
    EMPTY_WEIGHTS,
    NEXT_JOB,
    NO_WEIGHTS,
    VECTOR_TILES,
    WAIT_TO_LIST,
    WALK,
    WEIGHTS_TO_TAP,
)
from .descriptors import (
    Start,
    accept,
    end_drain,
    end_group,
    end_results,
    fetch,
    first_tap,
    load_constants,
    load_first_strip,
    load_list,
    load_listed,
    load_strip,
    take_results,
)
from .loading import StripLoads, column_shifts, weight_beats
from .timeline import Timeline, repeat
from .vector_channels import ChannelCosts, channel_costs, follow_channel
from .workload import Workload


class ChunkCosts:
    """What a descriptor costs, apart from waiting: ``count`` channels from ``first`` in a band, of ``many`` alike.

    ``number``: which of those.
    """

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
        self.channels = list(channel_costs(work, band, first, count))
        outputs = count * shape.depth_multiplier
        groups = [(config.columns, outputs // config.columns), (outputs % config.columns, 1)]
        self.groups = [(columns, many) for columns, many in groups if columns and many]
        self.weights = None
        if shape.weighted:
            winners, runs = chosen[0]
            block = shape.taps * shape.depth_multiplier
            bursts = max(runs, winners * block / (BURST_BEATS * config.axi_bytes))
            self.weights = bursts, weight_beats(winners, runs, block, 0, config.axi_bytes)

    def follow(self, time: Timeline, start: Start, *, score_final: bool):
        """One such descriptor after its fetch."""
        work, plan = self.work, self.plan
        self.listed, self.arrived, self.loaded = None, 0.0, False
        if start.ahead(time):
            # The first constants and all weights come before the barrier.
            self._first_group(time, min(plan.config.columns, self.count * plan.shape.depth_multiplier))
            listed = start.pass_barrier(time, time.issue - NEXT_JOB)
            if self.loads:
                load_strip(time, self.loads[self.number][0], listed, self.runs[0])
        else:
            listed = self._load(time, 0, start.new_list)
        if plan.shape.operands == 2:
            # The constants of the first group come between the second operand's mask and its activations.
            time.issue += not work.masked[1]
            listed = self._load(time, 1, True)
        arrived = time.data if self.loads else 0.0
        accept(time, listed)
        take_results(time)
        self._groups(time, first_tap(work, self.band, time, arrived), score_final)
        end_drain(time, ADDITION if plan.shape.operands == 2 else 0)
        end_results(work, time)

    def _load(self, time: Timeline, operand: int, new_list: bool) -> float:
        """An operand's list of winners and their activations; when the list is complete."""
        work, runs = self.work, self.runs[operand]
        strips = self.loads[self.number] if self.loads else None
        if new_list and work.masked[operand]:
            if not operand:
                time.issue += WAIT_TO_LIST
            listed = load_list(work, time, self.first, self.count, operand)
            if operand:
                time.issue = self._constants(time, 1) + 2
            if strips:
                load_first_strip(time, strips[operand], listed, runs)
            else:
                self.listed = listed
            return listed[0]
        listed = time.issue + (WAIT_TO_LIST if new_list and not operand else 1 - operand)
        start = self._constants(time, 1) + 1 if operand else listed
        if strips:
            load_strip(time, strips[operand], start, runs)
        else:
            time.issue = listed + WAIT_TO_LIST
        return listed

    def _constants(self, time: Timeline, records: int) -> float:
        """A group's constants; when they are ordered."""
        later = ADDITION if self.plan.shape.operands == 2 else 0
        self.loaded = True
        return load_constants(self.work, time, records, CONSTANTS_FREED + later)

    def _first_group(self, time: Timeline, columns: int):
        """The constants of the first group and the weights of all."""
        weighted = self.plan.shape.weighted
        start = self._constants(time, columns if weighted else 1)
        if not weighted:
            time.issue = start + NO_WEIGHTS
            return
        time.issue = start + (WALK if self.runs[0] else EMPTY_WEIGHTS)
        if self.runs[0]:
            first = (load_listed(time, self.weights, time.issue, self.listed, self.runs[0]) if self.listed
                     else time.load(0.0, *self.weights))
            self.arrived = first + WEIGHTS_TO_TAP
            time.issue += max(0, NEXT_JOB - self.weights[0] / self.runs[0])
        elif self.listed:
            time.issue = max(time.issue, self.listed[0] + 1 + NEXT_JOB)

    def _groups(self, time: Timeline, ready: float, score_final: bool):
        weighted, work = self.plan.shape.weighted, self.work
        fresh = not self.loaded

        def group(columns: int, parts: list[tuple[ChannelCosts, int]]):
            nonlocal fresh
            if fresh:
                self._first_group(time, columns)
            elif self.loaded:
                time.issue += 1
            else:
                time.issue = self._constants(time, columns if weighted else 1) + NO_WEIGHTS
            fresh = self.loaded = False
            for costs, many in parts:
                # Losers need no weights.
                begin = ready if costs.loses else max(ready, self.arrived)
                repeat(time, many, lambda costs=costs, begin=begin: follow_channel(time, costs, begin),
                       least=2 + VECTOR_TILES // (costs.rest + 1))
            time.older_end, time.group_end = time.group_end, time.reading
            end_group(work, time, columns, score_final=score_final,
                      judged=parts[-1][0].strips.judged is not None)

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


def follow_vector(work: Workload, time: Timeline, barrier: float | None):
    """All descriptors of a layer of the vector unit, the first of which has been fetched; ``barrier`` as of
    :class:`sim.descriptors.Start`."""
    plan = work.plan
    classes = plan.band_classes
    started = False
    known = {}
    alike = all(mask is None for mask in work.masks) and not plan.skips_losers

    def chunk(first: int, count: int):
        fresh = True
        last = classes[-1][0][-1][0]
        for row_of_bands, row_count in classes:
            for _ in range(row_count):
                for band, many in row_of_bands:
                    key = id(band), 0 if alike else first, count
                    if key not in known:
                        known[key] = ChunkCosts(work, band, many, first, count)
                    costs = known[key]
                    cycle = max(1, len(costs.loads))

                    def some(bands, costs=costs, final=band is last):
                        nonlocal fresh, started
                        for costs.number in bands:
                            start = Start(work, barrier, new_list=True)
                            if started:
                                fetch(work, time)
                                start = Start(work, time.accepted, new_list=fresh or plan.shape.operands == 2,
                                              first=False)
                            costs.follow(time, start, score_final=final)
                            started, fresh = True, False

                    repeat(time, many // cycle, lambda some=some, cycle=cycle: some(range(cycle)))
                    some(range(many % cycle))

    chunks = plan.chunks
    if alike:
        same = [one for one in chunks if one[1] == chunks[0][1]]
        repeat(time, len(same), lambda: chunk(*same[0]))
        chunks = chunks[len(same):]
    for first, count in chunks:
        chunk(first, count)
