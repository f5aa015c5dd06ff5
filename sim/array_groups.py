"""A group of output channels on the array: its weights, its tiles, its results."""

from bisect import bisect_left
from collections.abc import Callable

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
    LIST_TO_TAP,
    NEXT_JOB,
    NEXT_TILE,
    NO_WEIGHTS,
    RESULT,
    ROWS_TO_TAP,
    RUNS_AHEAD,
    TAP_BEFORE_DRAINED,
    WALK,
    WEIGHTS_TO_TAP,
)
from .descriptors import end_group, load_constants, load_listed, load_mark
from .loading import StripLoads, weight_beats
from .results import Drained, Judged, Strips, write
from .timeline import Timeline
from .workload import Workload

CLAIM_ROUNDS = 8
"""After each of which what rows and results delay each other by is known more exactly, by a factor of two and more."""


class GroupCosts:
    """What one group of ``columns`` output channels costs in a band, apart from waiting.

    ``winners`` in ``runs``; sums are complete with ``sum_end``; ``base``: of its weights, from a multiple of a beat;
    ``kept``: of the columns, where they are scored before they are written.
    """

    def __init__(self, plan: Plan, band: Band, columns: int, winners: float, runs: float, *, sum_end: bool, base: int,
                 judged: Judged | None):
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
        self.lead = columns + config.drain_chunks + TAP_BEFORE_DRAINED
        self.delay = config.rows + ARRAY_SUMS
        self.fast = max(NEXT_TILE, self.drain, self.delay + max(0, self.drain - self.lead))
        self.rest = band.tiles - 1
        self.cycles = band.tiles * sum(max(self.fast, taps) for _, taps in self.passes)
        self.strips = Strips(shape, band, config, columns, judged)


class Weights:
    """A group's weights on their way; ``load``: they are read, not those of the band before.

    ``listed``: when the list of the winners whose blocks are read was begun, and when it was complete, if that is this
    group's own. ``job_end``: the loader goes on. ``ready``: the first tap may be issued.
    """

    def __init__(self, time: Timeline, work: Workload, costs: GroupCosts, *, load: bool,
                 listed: tuple[float, float] | None = None):
        self.time, self.costs = time, costs
        self.loading = load and costs.weight_bytes > 0
        self.arrived, self.ready = 0.0, listed[1] + LIST_TO_TAP if listed else 0.0
        start = load_constants(work, time, costs.columns) if costs.sum_end else time.issue + 1
        if not self.loading:
            self.job_end = start + (EMPTY_WEIGHTS if load else NO_WEIGHTS) - NEXT_JOB
            if listed and load:
                self.job_end = max(self.job_end, listed[1] + 1)
            time.issue = self.job_end + NEXT_JOB
            return
        # As fast as the read channel brings them, and as the ring has room.
        time.issue = start + WALK
        room = time.loaded - costs.buffer
        free = time.weights_freed(room + min(costs.weight_bytes, costs.burst_bytes))
        cost = costs.weight_bursts, costs.weight_beats
        if listed:
            self.first = load_listed(time, cost, max(free, time.issue), (listed[1], listed[1] - listed[0]), costs.runs)
        else:
            self.first = time.load(free, *cost)
        self.ready = max(self.ready, self.first + WEIGHTS_TO_TAP)
        self.rate, self.before = costs.weight_beats / costs.weight_bytes, time.loaded
        if not costs.kept:
            time.loaded += costs.weight_bytes
        if len(costs.passes) == 1:
            self._arrive(costs.weight_bytes)

    def _arrive(self, amount: float):
        """When so many bytes have arrived, and when the loader has ordered them."""
        time, costs = self.time, self.costs
        free = time.weights_freed(self.before + amount - costs.buffer)
        self.arrived = max(self.first + amount * self.rate - 1,
                           free + ISSUE_TO_BEAT + min(costs.weight_beats, BURST_BEATS))
        time.data = max(time.data, self.arrived)
        self.job_end = max(time.issue, free) - costs.last_bursts
        time.issue = max(self.job_end + max(NEXT_JOB, costs.last_bursts), time.issue)

    def taps(self, amount: float, size: float) -> tuple[float, float]:
        """Of a pass that ends with ``amount`` bytes, of them its own ``size``: first and last tap at the earliest."""
        if not self.loading:
            return self.ready, 0.0
        ready = self.ready
        if amount > size:
            begun = amount - size + self.costs.block
            free = self.time.weights_freed(self.before + begun - self.costs.buffer)
            ready = max(ready, self.first + begun * self.rate, free + ISSUE_TO_BEAT + WEIGHTS_TO_TAP)
        if len(self.costs.passes) > 1:
            self._arrive(amount)
        return ready, self.arrived + WEIGHTS_TO_TAP

    def used(self, amount: float, size: float, first: float, last: float):
        """The pass has used its weights for the last time, from its ``first`` to its ``last`` tap of the last tile."""
        if self.loading and not self.costs.kept:
            self.time.on_chip.append((self.before + amount - size, size, first, last))
            del self.time.on_chip[:-6]


class RowArrivals:
    """When the strips of a band's activations arrive, and the tiles that wait for them; ordered at ``start``."""

    def __init__(self, plan: Plan, time: Timeline, band: Band, loads: StripLoads, start: float):
        self.band, self.last = band, band.strips - 1
        self.rows = plan.config.rows
        self.stride, self.ahead = band.rows.stride, plan.shape.kernel[0] - band.rows.pad
        bursts, cycles = ((self.last - 1) * a + b for a, b in zip(loads.inner, loads.last, strict=True))
        self.begin = time.data
        if loads.winners:
            time.load_rows(start + WALK, bursts + WALK * (self.last - 1), max(cycles, bursts + WALK * self.last))
        else:
            load_mark(time, start + EMPTY_WALK + EMPTY_STRIP * (self.last - 1))
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


def claim_rows(time: Timeline, costs: GroupCosts, arrivals: RowArrivals, drained: Drained):
    """Results that are written on chip before all rows of the band have come delay the rest of these.

    The rows that come later let more results be written before them, which delays them again.
    """
    delay, strips = 0.0, costs.strips

    def written(strip: int) -> float:
        return drained.at(strips.tile_of(strip)) + costs.drain + RESULT + strips.cycles(strip)

    for _ in range(CLAIM_ROUNDS):
        more = strips.chunks * bisect_left(range(strips.count), arrivals.end, key=written) / strips.count - delay
        if more < 1:
            break
        delay += more
        arrivals.end += more
        arrivals.each += more / arrivals.last
    time.data += delay


def follow_group(time: Timeline, work: Workload, costs: GroupCosts, weights: Weights, *, ready: float,
                 score_final: bool, arrivals: RowArrivals | None = None):
    """One group, whose weights have been ordered: its tiles, its drain and its write-back.

    ``ready``: the first tap may be issued, weights apart. ``arrivals``: of rows that are not there yet.
    """
    rest, fast = costs.rest, costs.fast
    amount = 0.0
    for number, (size, taps) in enumerate(costs.passes):
        final = costs.sum_end and number == len(costs.passes) - 1
        amount += size
        begin, end = weights.taps(amount, size)
        # The sums of the tile before are read first.
        tap = max(max(time.tap + 1, ready, begin) + taps - 1, end, time.reading - min(costs.lead, time.last_read))
        period = max(fast, taps)
        last_tap = _last_taps(tap, taps, period, rest, arrivals if number == 0 else None)
        drained = Drained(last_tap, after=costs.delay, fast=fast, behind=1, period=period, delay=fast)
        drained.stall(0, max(time.reading, time.drain_taken + 2, time.constants if final else 0.0))
        if arrivals and time.claiming and number == 0:
            claim_rows(time, costs, arrivals, drained)
        last = last_tap(rest)
        if final:
            write(time, costs.strips, drained, costs.drain, costs.last_drain)
        read = drained.at(rest)
        if read > last + costs.delay and rest:
            # The sums had to wait for the drain, and with them the last tap of the tile behind them.
            last = max(last, drained.at(rest - 1) + fast - costs.delay)
        time.tap, time.reading, time.last_read = last, read + costs.last_drain, costs.last_drain
        weights.used(amount, size, last - taps + 1, last)
    time.walked = time.tap - RUNS_AHEAD * costs.passes[-1][1] / max(1, costs.runs)
    if costs.sum_end:
        time.older_end, time.group_end = time.group_end, time.reading
        end_group(work, time, costs.columns, score_final=score_final, judged=costs.strips.judged is not None)


def _last_taps(tap: float, taps: float, period: float, rest: int,
               arrivals: RowArrivals | None) -> Callable[[int], float]:
    """The last tap of each tile, from that of the first."""
    if arrivals:
        return lambda tile: max(tap + tile * period, arrivals.last_tap(tile, taps, period, rest))
    return lambda tile: tap + tile * period
