"""A channel of the vector unit: its tiles, its results."""

from collections.abc import Iterator
from itertools import groupby

from hw.band import Band
from hw.config import ceil_div

from .costs import ADDITION, NEXT_TILE, RESULT, VECTOR_SUMS, VECTOR_TILES
from .descriptors import judge
from .results import Drained, Judged, Strips, write
from .timeline import Timeline
from .workload import Workload


class ChannelCosts:
    """What an output channel of a band costs, apart from waiting; ``steps`` of a tile, 0 of a loser, which takes one;
    ``judged``: it is scored before it is written."""

    def __init__(self, work: Workload, band: Band, steps: float, judged: Judged | None):
        plan, config = work.plan, work.plan.config
        self.loses, self.rest = not steps, band.tiles - 1
        self.steps = steps = steps or 1
        # A tile's coordinates come two cycles behind those of the tile before.
        self.gap = max(0, NEXT_TILE - steps)
        self.period = self.gap + steps
        self.drain = ceil_div(band.tile_positions, config.requantize_lanes)
        self.last_drain = ceil_div(band.last_rows, config.requantize_lanes)
        self.strips = Strips(plan.shape, band, config, 1, judged)
        self.latency = RESULT + (ADDITION if plan.shape.operands == 2 else 0)


def channel_costs(work: Workload, band: Band, first: int, count: int) -> Iterator[tuple[ChannelCosts, int]]:
    """The output channels of ``count`` input channels from ``first`` in order: (costs, how many such)."""
    plan, shape = work.plan, work.plan.shape
    steps, mask = shape.tile_steps, work.masks[0]
    rate = work.winner_counts[0] / shape.channels
    if shape.operands == 1 and mask is None and rate < 1:
        steps = rate * max(NEXT_TILE, steps) + (1 - rate) * NEXT_TILE
    multiplier = shape.depth_multiplier
    known = {}

    def costs(taken: float, judged: Judged | None) -> ChannelCosts:
        if (taken, judged) not in known:
            known[taken, judged] = ChannelCosts(work, band, taken, judged)
        return known[taken, judged]

    if plan.skips_losers or (mask is not None and shape.operands == 1):
        wins = [mask is None or shape.operands == 2 or mask[first + number] for number in range(count)]
        each = (costs(steps if wins[number // multiplier] else 0, judge(work, first * multiplier + number, 1))
                for number in range(count * multiplier))
        for one, alike in groupby(each):
            yield one, len(list(alike))
    else:
        yield costs(steps, None), count * multiplier


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
