"""The timeline of a convolution on the array."""

from copy import copy
from dataclasses import dataclass

from hw.band import Band
from hw.config import ceil_div
from hw.plan import Plan
from hw.reader import BURST_BEATS

from .costs import (
    ARRAY_SUMS,
    EMPTY_STRIP,
    EMPTY_WALK,
    EMPTY_WEIGHTS,
    ISSUE_TO_BEAT,
    LIST_TO_NEXT,
    LIST_TO_TAP,
    NEXT_JOB,
    NEXT_TILE,
    NO_WEIGHTS,
    ROWS_TO_TAP,
    RUNS_AHEAD,
    TAP_TO_ACCEPT,
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
    load_listed,
    load_mark,
    load_strip,
    take_results,
)
from .loading import StripLoads, column_shifts, weight_beats
from .results import Drained, Strips, write
from .timeline import Timeline, repeat
from .workload import Workload

LONG = 256
"""Cycles of a group that outlast every wait between groups (their constants: about 100)."""


@dataclass(frozen=True)
class Step:
    """What a descriptor of the plan's loop order does besides its band: ``channels`` (first, how many) of the part
    ``part``, ``groups`` of output channels (first, how many)."""

    part: int
    channels: tuple[int, int]
    groups: tuple[int, int]


class GroupCosts:
    """What one group of ``columns`` output channels costs in a band, apart from waiting.

    ``winners`` in ``runs``; sums are complete with ``sum_end``; ``base``: of its weights, from a multiple of a beat.
    """

    def __init__(self, plan: Plan, band: Band, columns: int, winners: float, runs: float, sum_end: bool, base: int):
        shape, config = plan.shape, plan.config
        self.columns, self.rows, self.sum_end = columns, config.rows, sum_end
        self.buffer, self.kept = config.weight_buffer_bytes, plan.weights_kept

        block = shape.taps * columns
        self.block, self.weight_bytes = block, winners * block
        self.weight_beats = weight_beats(winners, runs, block, base, config.axi_bytes)
        self.weight_bursts = max(runs, self.weight_beats / BURST_BEATS)
        self.runs, self.last_bursts = runs, self.weight_bursts / runs if runs else 0
        self.burst_bytes = BURST_BEATS * config.axi_bytes

        # Passes: (bytes of weights, taps).
        self.passes = [(self.weight_bytes, max(1.0, winners * shape.taps))]
        if winners > plan.pass_winners:
            count = ceil_div(int(winners + 0.999), plan.pass_winners)
            last = winners - (count - 1) * plan.pass_winners
            self.passes = [(part * block, part * shape.taps) for part in [plan.pass_winners] * (count - 1) + [last]]

        # Tiles. What bounds one: its taps, its coordinates, the drain of the one before.
        self.drain = columns * config.drain_chunks
        self.last_drain = columns * ceil_div(band.last_rows, config.requantize_lanes)
        self.lead = columns + config.drain_chunks + 5
        self.delay = config.rows + ARRAY_SUMS
        self.fast = max(NEXT_TILE, self.drain, self.delay + max(0, self.drain - self.lead))
        self.rest = band.tiles - 1
        self.period = max(self.fast, self.passes[-1][1])
        self.cycles = band.tiles * sum(max(self.fast, taps) for _, taps in self.passes)
        self.strips = Strips(shape, band, config, columns)


class RowArrivals:
    """When the strips of a band's activations arrive, and the tiles that wait for them."""

    def __init__(self, plan: Plan, time: Timeline, band: Band, loads: StripLoads):
        self.band, self.last = band, band.strips - 1
        self.rows = plan.config.rows
        self.stride, self.ahead = band.rows.stride, plan.shape.kernel[0] - band.rows.pad
        bursts, cycles = ((self.last - 1) * a + b for a, b in zip(loads.inner, loads.last, strict=True))
        self.begin = time.data
        if loads.winners:
            time.load(time.issue + WALK, bursts + WALK * (self.last - 1), max(cycles, bursts + WALK * self.last))
        else:
            load_mark(time, time.issue + EMPTY_WALK + EMPTY_STRIP * (self.last - 1))
        self.end = time.data
        self.each = (self.end - self.begin) / cycles * loads.inner[1]

    def arrival(self, strip: int) -> float:
        """Strip 1 or later."""
        return self.end if strip == self.last else self.begin + self.each * strip

    def first_tile(self, strip: int, rest: int) -> int:
        """The first tile that needs strip 1 or a later one."""
        y = (strip * self.band.strip_rows - self.ahead) // self.stride + 1
        return min(rest, max(1, max(0, y) * self.band.pitch // self.rows))

    def last_tap(self, tile: int, taps: float, period: float, rest: int) -> float:
        """Last tap of a tile of the band's first group, where rows bound it."""
        y = min(self.band.rows.convs - 1, ((tile + 1) * self.rows - 1) // self.band.pitch)
        last = min(self.band.strips, ceil_div(y * self.stride + self.ahead, self.band.strip_rows)) - 1
        return max((self.arrival(strip) + ROWS_TO_TAP + taps - 1 + (tile - self.first_tile(strip, rest)) * period
                    for strip in {1, last - 1, last} if 1 <= strip <= last), default=0.0)


def follow_group(time: Timeline, work: Workload, costs: GroupCosts, ready: float, more_rows, load_weights: bool,
                 score_final: bool, load_blocks=None):
    """One group: its constants and weights, its tiles, its drain and its write-back.

    ``ready``: the first tap may be issued. ``more_rows``: called after the first group's weights, gives the
    :class:`RowArrivals` of the band's other strips; None where there are none or they are there. ``load_blocks``:
    loads the list of the winners whose blocks the group uses.
    """
    listed = load_blocks() if load_blocks else None
    if listed:
        ready = max(ready, listed[1] + LIST_TO_TAP)
    rest, fast = costs.rest, costs.fast
    start = load_constants(work, time, costs.columns) if costs.sum_end else time.issue + 1
    loading = load_weights and costs.weight_bytes
    loaded = arrived = 0.0
    time.issue = start + (WALK if loading else EMPTY_WEIGHTS if load_weights else NO_WEIGHTS)
    if listed and load_weights:
        time.issue = max(time.issue, listed[1] + LIST_TO_NEXT)
    if loading:
        time.issue = start + WALK
        # As fast as the read channel brings them, and as the ring has room.
        free = time.weights_freed(time.loaded + min(costs.weight_bytes, costs.burst_bytes) - costs.buffer)
        if listed:
            first = load_listed(time, (costs.weight_bursts, costs.weight_beats), max(free, start + WALK),
                                (listed[1], listed[1] - listed[0]), costs.runs)
        else:
            first = time.load(free, costs.weight_bursts, costs.weight_beats)
        ready = max(ready, first + WEIGHTS_TO_TAP)
        rate = costs.weight_beats / costs.weight_bytes
    for number, (size, taps) in enumerate(costs.passes):
        final = number == len(costs.passes) - 1
        if loading:
            loaded += size
            free = time.weights_freed(time.loaded + loaded - costs.buffer)
            arrived = max(first + loaded * rate - 1, free + ISSUE_TO_BEAT + min(costs.weight_beats, BURST_BEATS))
            if number:
                begun = time.weights_freed(time.loaded + loaded - size + costs.block - costs.buffer)
                ready = max(ready, first + (loaded - size + costs.block) * rate, begun + ISSUE_TO_BEAT + 2)
            arrived += WEIGHTS_TO_TAP
        tap = max(max(time.tap + 1, ready) + taps - 1, arrived)
        # The sums of the tile before are read first.
        tap = max(tap, time.reading - min(costs.lead, time.last_read))
        period = max(fast, taps)
        if number == 0 and more_rows:
            if loading:
                time.data = max(time.data, arrived - WEIGHTS_TO_TAP)
                time.issue = max(time.issue, free) - costs.last_bursts
            else:
                time.issue -= NEXT_JOB
            arrivals = more_rows()
        else:
            arrivals = None
        if arrivals:
            def last_tap(tile, tap=tap, taps=taps, period=period, arrivals=arrivals):
                return max(tap + tile * period, arrivals.last_tap(tile, taps, period, rest))
        else:
            def last_tap(tile, tap=tap, period=period):
                return tap + tile * period
        earliest = max(time.reading, time.drain_taken + 2)
        if final and costs.sum_end:
            earliest = max(earliest, time.constants)
        drained = Drained(lambda tile, last_tap=last_tap: last_tap(tile) + costs.delay,
                          fast=fast, behind=1, period=period, delay=fast)
        drained.stall(0, earliest)
        end = last_tap(rest)
        if final and costs.sum_end:
            write(time, costs.strips, drained, costs.drain, costs.last_drain)
        read = drained.at(rest)
        if read > end + costs.delay:
            # The sums had to wait for the drain, and with them the last tap of the tile behind them.
            end = max(end, (drained.at(rest - 1) + fast if rest else 0) - costs.delay)
        time.tap, time.reading, time.last_read = end, read + costs.last_drain, costs.last_drain
        time.walked = end - RUNS_AHEAD * taps / max(1, costs.runs)
        if loading and not costs.kept:
            time.on_chip.append((time.loaded + loaded - size, size, end - taps + 1, end))
            del time.on_chip[:-6]
    if loading:
        time.data = max(time.data, arrived - WEIGHTS_TO_TAP)
        time.issue = max(time.issue, free) + max(0, NEXT_JOB - costs.last_bursts)
        if not costs.kept:
            time.loaded += costs.weight_bytes
    if costs.sum_end:
        time.older_end, time.group_end = time.group_end, time.reading
        end_group(work, time, costs.columns, score_final)


class DescriptorCosts:
    """What a descriptor costs, apart from waiting: shared by all that differ only in where they lie."""

    def __init__(self, work: Workload, band: Band, step: Step, sum_end: bool):
        plan = self.plan = work.plan
        self.work, self.band, self.step, self.sum_end = work, band, step, sum_end
        self.first_channel = step.part * plan.shape.channels + step.channels[0]
        winners, self.runs = work.chosen(self.first_channel, step.channels[1])
        self.winners = winners
        self.loads = None if plan.shape.resident else StripLoads(plan, band, winners, self.runs)
        first, count = step.groups
        if plan.shape.blocks:
            self.groups = [(self._group(group, *work.listed(step.part, group)), 1)
                           for group in range(first, first + count)]
        elif count == 1 or first + count < plan.groups or plan.last_columns == columns_of(plan, first):
            self.groups = [(self._group(first, winners, self.runs), count)]
        else:
            self.groups = [(self._group(first, winners, self.runs), count - 1),
                           (self._group(first + count - 1, winners, self.runs), 1)]

    def shifted(self, shift: int) -> "DescriptorCosts":
        """The same for a band of the same geometry, whose rows start ``shift`` bytes further."""
        if not shift or not self.loads:
            return self
        other = copy(self)
        other.loads = StripLoads(self.plan, self.band, self.winners, self.runs, shift)
        return other

    def _group(self, group: int, winners: float, runs: float) -> GroupCosts:
        plan, shape = self.plan, self.plan.shape
        columns = columns_of(plan, group)
        first = self.step.part * shape.out_channels + group * columns_of(plan, 0)
        base = (first * shape.channels + self.step.channels[0] * columns) * shape.taps
        return GroupCosts(plan, self.band, columns, winners, runs, self.sum_end, base)

    def follow(self, time: Timeline, *, gate: float, new_list: bool, load_weights: bool, score_final: bool):
        """One such descriptor after its fetch; its list and activations are ordered at ``gate`` or later."""
        work, plan, band = self.work, self.plan, self.band
        time.issue = max(time.issue, gate, time.listed)
        first, count = self.first_channel, self.step.channels[1]
        if new_list and work.masked[0]:
            time.issue += WAIT_TO_LIST
            new = load_list(work, time, first, count)
            if self.loads:
                load_first_strip(time, self.loads.first, new, self.runs)
            listed = new[0]
        else:
            listed = time.issue + (WAIT_TO_LIST if new_list else 1)
            if self.loads:
                load_strip(time, self.loads.first, listed, self.runs)
        rows_arrived = time.data if self.loads else 0.0
        group = self.step.groups[0]
        lists = self._first_lists(time, listed)
        for begun, done in lists:
            # A descriptor is not offered while a list is built.
            if max(listed, time.tap + TAP_TO_ACCEPT, time.drain_taken + 1) >= begun:
                listed = max(listed, done)
        accept(time, listed)
        if self.sum_end:
            take_results(time)
        ready = first_tap(work, time, rows_arrived)
        pending = []
        if band.strips > 1 and self.loads:
            pending.append(lambda: RowArrivals(plan, time, band, self.loads))
        for costs, many in self.groups:
            load_blocks = None
            if plan.shape.blocks:
                def load_blocks(group=group):
                    return lists.pop(0) if lists else self._load_blocks(time, group)
            repeat(time, many, lambda costs=costs, load_blocks=load_blocks: follow_group(
                time, work, costs, ready, pending.pop() if pending else None, load_weights, score_final, load_blocks),
                   even=costs.cycles if costs.cycles >= LONG else None)
            group += many
        end_drain(time)
        if self.sum_end:
            end_results(work, time)

    def _first_lists(self, time: Timeline, listed: float) -> list[tuple[float, float]]:
        """The lists of the groups that the loader comes to before the scheduler takes the descriptor."""
        lists = []
        if self.plan.shape.blocks:
            first, count = self.step.groups
            lists.append(self._load_blocks(time, first))
            if count > 1 and time.older_list <= max(listed, time.tap + TAP_TO_ACCEPT) and time.issue < time.tap:
                lists.append(self._load_blocks(time, first + 1))
        return lists

    def _load_blocks(self, time: Timeline, group: int) -> tuple[float, float]:
        """The list of the winners whose blocks a group uses, in the place of that of the group before the last.

        When it is begun, and when it is complete.
        """
        work = self.work
        time.issue = max(time.issue, time.older_list, time.listed + WAIT_TO_LIST)
        time.older_list = time.walked
        begun = time.issue - WAIT_TO_LIST
        time.listed, _ = load_list(work, time, self.first_channel, self.step.channels[1],
                                   listed=work.blocks[self.step.part, group])
        return begun, time.listed


def columns_of(plan: Plan, group: int) -> int:
    """Output channels of a group."""
    return plan.last_columns if group == plan.groups - 1 else plan.config.columns


def follow_convolution(work: Workload, time: Timeline):
    """All descriptors of a convolution, the first of which has been fetched."""
    plan = work.plan
    classes, chunks = plan.band_classes, plan.chunks
    started = [False]

    def descriptor(costs: DescriptorCosts, *, load_weights=True, score_final=True, new_list=False):
        gate = 0.0
        if started[0]:
            fetch(work, time)
            gate = time.accepted if plan.double else max(time.tap + 2, time.drain_taken + 1)
        costs.follow(time, gate=gate, new_list=new_list, load_weights=load_weights, score_final=score_final)
        started[0] = True

    def bands(part: int, groups: tuple[int, int], fresh: list[bool]):
        """All bands one behind the other; weights that are kept are loaded with the first."""
        weights = [True]
        for row_of_bands, row_count in classes:
            costs = [(DescriptorCosts(work, band, Step(part, chunks[0], groups), True), count)
                     for band, count in row_of_bands]
            last_row = row_of_bands is classes[-1][0]

            def row_after_row(costs=costs, last_row=last_row):
                for one, count in costs:
                    alike = [one.shifted(shift) for shift in column_shifts(plan, one.band, count)]

                    def bands_after_bands(alike=alike, final=last_row and one is costs[-1][0]):
                        for each in alike:
                            descriptor(each, load_weights=weights[0] or not plan.weights_kept, score_final=final,
                                       new_list=fresh[0] or plan.shape.blocks)
                            weights[0] = fresh[0] = False

                    repeat(time, count // len(alike), bands_after_bands)
                    if count % len(alike):
                        bands_after_bands(alike[:count % len(alike)])

            repeat(time, row_count, row_after_row)

    def one_part(part: int):
        fresh = [True]
        if len(chunks) > 1:
            for row_of_bands, row_count in classes:
                for band, count in row_of_bands:
                    for groups, group_count in _group_classes(plan):
                        costs = [DescriptorCosts(work, band, Step(part, chunk, groups), chunk == chunks[-1])
                                 for chunk in chunks]

                        def chunk_after_chunk(costs=costs):
                            for one in costs:
                                descriptor(one, new_list=True)

                        repeat(time, count * row_count * group_count, chunk_after_chunk)
        elif plan.groups_outside:
            for groups, group_count in _group_classes(plan):
                repeat(time, group_count, lambda groups=groups: bands(part, groups, fresh))
        else:
            bands(part, (0, plan.groups), fresh)

    parts = plan.layer.groups
    if work.masks[0] is None and not plan.shape.blocks:
        repeat(time, parts, lambda: one_part(0))
    else:
        for part in range(parts):
            one_part(part)


def _group_classes(plan: Plan) -> list[tuple[tuple[int, int], int]]:
    """Groups of output channels one by one: ((first of them, 1), how many of this width)."""
    if plan.last_columns == columns_of(plan, 0):
        return [((0, 1), plan.groups)]
    return [((0, 1), plan.groups - 1), ((plan.groups - 1, 1), 1)]
