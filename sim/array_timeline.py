"""The timeline of a convolution on the array: its descriptors."""

from copy import copy
from dataclasses import dataclass

from hw.band import Band
from hw.plan import Plan

from .array_groups import GroupCosts, RowArrivals, Weights, follow_group
from .costs import TAP_TO_ACCEPT, WAIT_TO_LIST
from .descriptors import (
    Start,
    accept,
    end_drain,
    end_results,
    fetch,
    first_tap,
    judge,
    load_first_strip,
    load_list,
    load_strip,
    take_results,
)
from .loading import StripLoads, column_shifts
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


class DescriptorCosts:
    """What a descriptor costs, apart from waiting: shared by all that differ only in where they lie."""

    def __init__(self, work: Workload, band: Band, step: Step, sum_end: bool):
        plan = self.plan = work.plan
        self.work, self.band, self.step, self.sum_end = work, band, step, sum_end
        self.first_channel = step.part * plan.shape.channels + step.channels[0]
        winners, self.runs = work.chosen(self.first_channel, step.channels[1])
        self.winners = winners
        self.loads = None if plan.shape.resident else StripLoads(plan, band, winners, self.runs)
        self.listed = plan.shape.resident and work.masked[0]
        first, count = step.groups
        if plan.shape.blocks:
            self.groups = [(self._group(group, *work.listed(step.part, group)), 1)
                           for group in range(first, first + count)]
        elif plan.skips_losers:
            self.groups = [(self._group(group, winners, self.runs), 1) for group in range(first, first + count)]
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
        return GroupCosts(plan, self.band, columns, winners, runs, sum_end=self.sum_end, base=base,
                          judged=judge(self.work, first, columns))

    def follow(self, time: Timeline, start: Start, *, load_weights: bool, score_final: bool):
        """One such descriptor after its fetch."""
        work, plan, band = self.work, self.plan, self.band
        group, ahead = self.step.groups[0], None
        time.issue = max(time.issue, time.listed)
        if start.ahead(time):
            # Constants and weights come before the barrier, all rows behind it.
            ahead = Weights(time, work, self.groups[0][0], load=load_weights)
            listed = start.pass_barrier(time, ahead.job_end)
            if self.loads:
                load_strip(time, self.loads.first, listed, self.runs)
        else:
            listed = self._load(time, start.new_list)
        rows_arrived = time.data if self.loads else 0.0
        lists = self._first_lists(time, listed)
        for begun, done in lists:
            # A descriptor is not offered while a list is built.
            if max(listed, time.tap + TAP_TO_ACCEPT, time.drain_taken + 1) >= begun:
                listed = max(listed, done)
        accept(time, listed)
        if self.sum_end:
            take_results(time)
        ready = first_tap(work, self.band, time, rows_arrived)
        rows_left = [band] if band.strips > 1 and self.loads else []
        if self.listed:
            lists.append((listed - self.scan, listed))

        def one_group(costs: GroupCosts, group: int):
            nonlocal ahead
            own = None
            if lists:
                own = lists.pop(0)
            elif plan.shape.blocks:
                own = self._load_blocks(time, group)
            weights = ahead or Weights(time, work, costs, load=load_weights, listed=own)
            arrivals = None
            if rows_left:
                arrivals = RowArrivals(plan, time, rows_left.pop(), self.loads,
                                       time.issue if ahead else weights.job_end)
            ahead = None
            follow_group(time, work, costs, weights, ready=ready, score_final=score_final, arrivals=arrivals)

        for costs, many in self.groups:
            repeat(time, many, lambda costs=costs, group=group: one_group(costs, group),
                   even=costs.cycles if costs.cycles >= LONG else None)
            group += many
        end_drain(time)
        if self.sum_end:
            end_results(work, time)

    def _load(self, time: Timeline, new_list: bool) -> float:
        """The list of winners and the first strip; when the list is complete."""
        if new_list and self.work.masked[0]:
            time.issue += WAIT_TO_LIST
            listed, self.scan = load_list(self.work, time, self.first_channel, self.step.channels[1])
            if self.loads:
                load_first_strip(time, self.loads.first, (listed, self.scan), self.runs)
            return listed
        listed = time.issue + (WAIT_TO_LIST if new_list else 1)
        if self.loads:
            load_strip(time, self.loads.first, listed, self.runs)
        else:
            time.issue = listed + WAIT_TO_LIST
        return listed

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


def follow_convolution(work: Workload, time: Timeline, barrier: float | None):
    """All descriptors of a convolution, the first of which has been fetched; ``barrier`` as of :class:`Start`."""
    plan = work.plan
    classes, chunks = plan.band_classes, plan.chunks
    blocks = plan.shape.blocks
    started = False

    def descriptor(costs: DescriptorCosts, *, new_list: bool, load_weights=True, score_final=True):
        nonlocal started
        start = Start(work, barrier, new_list=True)
        if started:
            fetch(work, time)
            gate = time.accepted if plan.double else max(time.tap + TAP_TO_ACCEPT, time.drain_taken + 1)
            start = Start(work, gate, new_list=new_list, first=False)
        costs.follow(time, start, load_weights=load_weights, score_final=score_final)
        started = True

    def bands(part: int, groups: tuple[int, int], fresh: list[bool]):
        """All bands one behind the other; weights that are kept are loaded with the first."""
        first = True
        for row_of_bands, row_count in classes:
            costs = [(DescriptorCosts(work, band, Step(part, chunks[0], groups), True), count)
                     for band, count in row_of_bands]
            last_row = row_of_bands is classes[-1][0]

            def row_after_row(costs=costs, last_row=last_row):
                for one, count in costs:
                    alike = [one.shifted(shift) for shift in column_shifts(plan, one.band, count)]

                    def bands_after_bands(alike=alike, final=last_row and one is costs[-1][0]):
                        nonlocal first
                        for each in alike:
                            descriptor(each, load_weights=first or not plan.weights_kept, score_final=final,
                                       new_list=fresh[0] or blocks)
                            first = fresh[0] = False

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
    if work.masks[0] is None and not blocks and not plan.skips_losers:
        repeat(time, parts, lambda: one_part(0))
    else:
        for part in range(parts):
            one_part(part)


def _group_classes(plan: Plan) -> list[tuple[tuple[int, int], int]]:
    """Groups of output channels one by one: ((first of them, 1), how many of this width)."""
    if plan.last_columns == columns_of(plan, 0):
        return [((0, 1), plan.groups)]
    return [((0, 1), plan.groups - 1), ((plan.groups - 1, 1), 1)]
