"""The timelines behind the analytical model: when each part of the engine has come how far.

Nothing is simulated: tiles and strips are lines in time (start, rate), and what waits for what is a maximum of sums.
Groups and bands that repeat are followed until they settle into a period, which is then multiplied.
"""

from math import exp
from operator import add, sub

from hw.config import ceil_div
from hw.descriptor import DESCRIPTOR_BYTES
from hw.plan import Band
from hw.reader import BURST_BEATS
from hw.winner_list import CHUNK

from .costs import (
    CHECK,
    ISSUE_TO_BEAT,
    LIST,
    RESULT,
    ROWS_TO_TAP,
    RUN_TO_BURST,
    START_TO_TAP,
    STRIP_GAP,
    WALK,
    WEIGHTS_TO_TAP,
    GroupCosts,
    Layer,
    strip_costs,
)

CLOSE = 1e-6
"""Cycles; times are sums of fractions."""
LONG = 256
"""Cycles of a group that outlast every wait between groups (their constants: about 100)."""
MAX_WALKED = 6
"""Descriptors or groups followed before the period that they have settled into is multiplied."""


class Timeline:
    """When the parts of the engine have come how far, in cycles since the program's start."""

    def __init__(self, start: float):
        self.issue = start
        """The next burst may be issued."""
        self.data = start
        """The last beat has arrived."""
        self.tap = start
        """The last tap has been issued."""
        self.reading, self.read_cycles = start, 0
        """The drain has begun its last tile, and how long that takes."""
        self.next_run = start
        """The write-back's next run may start."""
        self.accepted = start
        """The scheduler has taken its last descriptor."""
        self.group_ends = [start, start]
        """The last two groups have been drained, which frees their constants."""
        self.on_chip = []
        """Weights of the last groups: (bytes loaded before, bytes, first and last cycle of their last use)."""
        self.loaded = 0
        """Bytes of weights loaded in all."""
        self.drained = 0
        """Positions drained in all."""
        self.written = []
        """Groups written: (positions before, positions a strip, strips, last strip's end, cycles a strip)."""

    def load(self, gate: float, bursts: float, beats: float):
        """Order a job's bursts at ``gate`` or later and wait for its beats; the first beat's arrival."""
        start = self.issue if self.issue > gate else gate
        self.issue = start + bursts
        first = start + ISSUE_TO_BEAT
        if first <= self.data:
            first = self.data + 1
        self.data = first + beats - 1
        return first

    def weights_freed(self, amount: float) -> float:
        """When ``amount`` bytes of all weights loaded have been used for the last time."""
        for before, size, begin, end in reversed(self.on_chip):
            if amount > before:
                return begin + min(1.0, (amount - before) / size) * (end - begin)
        return 0.0

    def positions_freed(self, amount: float) -> tuple[float, float]:
        """When ``amount`` of all positions drained have been written, and how many of them only since then."""
        for before, step, strips, end, period in reversed(self.written):
            if amount > before:
                strip = min(strips, ceil_div(int(amount - before), step))
                return end - (strips - strip) * period + 2, amount - before - (strip - 1) * step
        return 0.0, 0.0

    def moments(self) -> tuple[float, ...]:
        """All that grows, for finding a period."""
        return (self.issue, self.data, self.tap, self.reading, self.next_run, self.accepted, *self.group_ends,
                self.loaded, self.drained)

    def shift(self, deltas: tuple[float, ...], times: int):
        """Go on for ``times`` periods of ``deltas``."""
        issue, data, taps, reading, writes, accepted, one, two, loaded, drained = (delta * times for delta in deltas)
        self.issue += issue
        self.data += data
        self.tap += taps
        self.reading += reading
        self.next_run += writes
        self.accepted += accepted
        self.group_ends = [self.group_ends[0] + one, self.group_ends[1] + two]
        self.loaded += loaded
        self.drained += drained
        self.on_chip = [(before + loaded, size, begin + taps, end + taps) for before, size, begin, end in self.on_chip]
        self.written = [(before + drained, step, strips, end + writes, period)
                        for before, step, strips, end, period in self.written]


def repeat(time: Timeline, count: int, step, even: float | None = None):
    """Do ``step`` ``count`` times: the first and the last really, those between by the period they have settled into.

    Groups wait for the constants of the group before the last, so a period is one step or two. Where computing and
    writing go on evenly, and loading at least as fast, how far loading is ahead does not matter. ``even``: the period
    of computing that nothing holds up.
    """
    walked, same, previous = 0, 0, None
    before = time.moments()
    while walked < count:
        step()
        walked += 1
        left = count - walked - 1
        if left <= 0:
            continue
        now = time.moments()
        deltas = tuple(map(sub, now, before))
        tap = deltas[2]
        steady = abs(deltas[3] - tap) < CLOSE and abs(deltas[4] - tap) < CLOSE and deltas[1] < tap + CLOSE
        same = same + 1 if previous and steady and abs(tap - previous[2]) < CLOSE else 0
        if steady and walked > 1 and (same >= 2 or (even is not None and abs(tap - even) < CLOSE)):
            time.shift((*deltas[:2], tap, tap, tap, deltas[5], tap, tap, *deltas[8:]), left)
            walked += left
        elif previous and max(map(abs, map(sub, deltas, previous))) < CLOSE:
            time.shift(deltas, left)
            walked += left
        elif left > 1 and walked == MAX_WALKED:
            time.shift(tuple(map(add, deltas, previous)), left // 2)
            walked += left // 2 * 2
        before, previous = now, deltas


def follow_fetch(layer: Layer, time: Timeline):
    """A descriptor: ordered once the one before has been taken, then checked."""
    time.load(max(time.issue + 2, time.accepted + 3), 1, DESCRIPTOR_BYTES / layer.axi)
    time.issue = time.data + CHECK


def follow_list(layer: Layer, time: Timeline, channels: int, runs: float, first_strip: tuple[float, float]) -> float:
    """The mask and the first strip behind it; when the list of winners is complete."""
    beats = ceil_div(ceil_div(channels, 8), layer.axi)
    # A cycle for each run that ends in a chunk, at least one a chunk; two a beat, taken when the one before is used up.
    chunks = ceil_div(channels, CHUNK)
    scan = runs + chunks * exp(-runs / chunks) + 2 * beats
    done = time.load(0, 1, beats) + scan + 2
    # The read channel is in order: activations come behind the mask's last beat.
    last_beat = (channels - 1) % (8 * layer.axi) + 1
    time.data = max(time.data, done - 2 - scan * last_beat / channels)
    # The first run is found early in the scan, the last one at its end.
    found = done - scan * (1 - 1 / max(1, runs))
    time.load(max(time.issue + WALK - 1, found + RUN_TO_BURST), *first_strip)
    bursts, cycles = (cost / max(1, runs) for cost in first_strip)
    time.issue = max(time.issue, done + RUN_TO_BURST + bursts)
    time.data = max(time.data, done + RUN_TO_BURST + ISSUE_TO_BEAT + cycles)
    return done


class RowArrivals:
    """When the strips of a band's activations arrive, and the tiles that wait for them."""

    def __init__(self, layer: Layer, time: Timeline, band: Band, inner: tuple[float, float],
                 final: tuple[float, float]):
        self.band, self.last = band, band.strips - 1
        self.stride, self.ahead = layer.shape.stride[0], layer.shape.kernel[0] - band.rows.pad
        bursts, cycles = ((self.last - 1) * a + b for a, b in zip(inner, final, strict=True))
        self.begin = time.data
        time.load(time.issue + WALK, bursts + WALK * (self.last - 1), max(cycles, bursts + WALK * self.last))
        self.end = time.data
        self.each = (self.end - self.begin) / cycles * inner[1] if cycles else 0.0

    def arrival(self, strip: int) -> float:
        """Strip 1 or later."""
        return self.end if strip == self.last else self.begin + self.each * strip

    def first_tile(self, strip: int, costs: GroupCosts) -> int:
        """The first tile that needs strip 1 or a later one."""
        y = (strip * self.band.strip_rows - self.ahead) // self.stride + 1
        return min(costs.rest, max(1, max(0, y) * self.band.pitch // costs.rows))

    def last_tap(self, costs: GroupCosts) -> float:
        """Last tap of the band's first group, where rows bound it."""
        return max(self.arrival(strip) + ROWS_TO_TAP + costs.taps - 1
                   + (costs.rest - self.first_tile(strip, costs)) * costs.period
                   for strip in {1, max(1, self.last - 1), self.last})

    def read_out(self, tile: int, costs: GroupCosts) -> float:
        """The drain begins a tile, where its own rows or those of the second strip bound it."""
        y = min(self.band.rows.convs - 1, ((tile + 1) * costs.rows - 1) // self.band.pitch)
        strip = min(self.band.strips, ceil_div(y * self.stride + self.ahead, self.band.strip_rows)) - 1
        if strip < 1:
            return 0.0
        early = self.arrival(1) + (tile - self.first_tile(1, costs)) * costs.period
        return max(self.arrival(strip), early) + ROWS_TO_TAP + costs.taps + costs.rows + 5


def follow_group(time: Timeline, costs: GroupCosts, ready: float, more_rows, load_weights: bool, score_final: bool):
    """One group: its constants and weights, its tiles, its drain and its write-back.

    ``ready``: the first tap may be issued. ``more_rows``: called after the first group's weights, gives the
    :class:`RowArrivals` of the band's other strips; None where there are none or they are there.
    """
    rest, period = costs.rest, costs.period
    if costs.sum_end:
        time.load(time.group_ends[0] + 2, costs.parameter_bursts, costs.parameter_beats)
    constants = time.data + 2
    arrived = 0.0
    if load_weights:
        time.issue += WALK
    if load_weights and costs.weight_bytes:
        # As fast as the read channel brings them, and as the ring has room.
        free = time.weights_freed(time.loaded + min(costs.weight_bytes, costs.burst_bytes) - costs.buffer)
        ready = max(ready, time.load(free, costs.weight_bursts, costs.weight_beats) + WEIGHTS_TO_TAP)
        free = time.weights_freed(time.loaded + costs.weight_bytes - costs.buffer)
        time.data = max(time.data, free + ISSUE_TO_BEAT + min(costs.weight_beats, BURST_BEATS))
        arrived = time.data + WEIGHTS_TO_TAP
    tap = max(max(time.tap + 1, ready) + costs.taps - 1, arrived)
    if costs.sum_end:
        tap = max(tap, time.reading + max(0, time.read_cycles - costs.drain_lead))
    last = tap + rest * period
    arrivals = more_rows() if more_rows else None
    if arrivals:
        last = max(last, arrivals.last_tap(costs))
    if load_weights and costs.weight_bytes:
        if costs.streamed:
            time.load(time.issue + WALK, rest * costs.weight_bursts, rest * costs.weight_beats)
        if costs.streamed or costs.weight_bytes > costs.buffer:
            # What the ring cannot hold is ordered only while the last of it is used.
            ahead = last - costs.buffer / costs.columns
            time.issue, time.data = max(time.issue, ahead), max(time.data, ahead + ISSUE_TO_BEAT)
        if not costs.kept:
            time.on_chip.append((time.loaded, costs.weight_bytes, last - costs.taps + 1, last))
            del time.on_chip[:-4]
            time.loaded += costs.weight_bytes
    time.tap = last
    if costs.sum_end:
        follow_results(time, costs, tap, constants, arrivals, score_final)


def follow_results(time: Timeline, costs: GroupCosts, tap: float, constants: float, arrivals, score_final: bool):
    """A group's drain and write-back, from the last taps of its first tile (``tap``) and its last (``time.tap``)."""
    rows, rest, period, strip = costs.rows, costs.rest, costs.period, costs.strip
    earliest = max(time.reading + time.read_cycles + 1, constants)
    first_reading = max(tap + rows + 6, earliest)
    reading = max(time.tap + rows + 6, earliest)
    excess = costs.span - costs.ring
    if time.drained + excess > 0:
        freed, since = time.positions_freed(time.drained + excess)
        reading = max(reading, freed + 1 + max(0, ceil_div(int(since), rows) - 1) * period)

    def visible(tile: int) -> float:
        """The write-back may start on a strip that ends in ``tile``."""
        if tile == rest:
            return reading + costs.last_drain + RESULT + 1
        if arrivals:
            return max(first_reading + tile * period, arrivals.read_out(tile, costs)) + costs.drain + RESULT + 1
        return first_reading + tile * (reading - first_reading) / rest + costs.drain + RESULT + 1

    begin = max(time.next_run, visible(costs.first_strip_tile))
    if excess > 0:
        # The last tile waits until the strips before it have been written.
        waited = ceil_div(excess, costs.strip_step)
        freed = begin + waited * strip - STRIP_GAP + 2
        if not costs.tight:
            freed += max(0, ceil_div(excess - (waited - 1) * costs.strip_step, rows) - 1) * period
        reading = max(reading, freed)
        time.tap = max(time.tap, reading - rows - 6 - period)
    time.reading, time.read_cycles = reading, costs.last_drain
    time.group_ends = [time.group_ends[1], reading + costs.last_drain]

    start_of_last = begin
    if costs.strips > 1:
        start_of_last = max(begin + (costs.strips - 1) * strip, visible(costs.late_strip_tile) + strip, visible(rest))
    end = start_of_last + costs.last_strip
    written = (time.drained, costs.strip_step, costs.strips, end, max(strip, (end - begin) / costs.strips))
    time.written.append(written)
    del time.written[:-4]
    time.drained += costs.span
    time.next_run = end + (costs.group_gap if score_final else STRIP_GAP)


class DescriptorCosts:
    """What a descriptor costs, apart from waiting: shared by all that differ only in where they lie."""

    def __init__(self, layer: Layer, band: Band, groups, channels: tuple[int, int], sum_end: bool):
        self.layer, self.band, self.channels = layer, band, channels[1]
        winners, self.runs = layer.chosen(*channels)
        self.first_strip, *self.other_strips = strip_costs(layer, band, winners, self.runs)
        self.groups = [(GroupCosts(layer, band, columns, winners, self.runs, sum_end), count)
                       for columns, count in groups]

    def follow(self, time: Timeline, *, gate: float, new_list: bool, load_weights: bool, score_final: bool):
        """One such descriptor after its fetch; its activations are ordered at ``gate`` or later."""
        layer, band = self.layer, self.band
        time.issue = max(time.issue, gate)
        list_done = time.issue + 2
        time.issue += LIST
        if new_list and layer.masked:
            list_done = follow_list(layer, time, self.channels, self.runs, self.first_strip)
        else:
            time.load(time.issue + WALK - 1, *self.first_strip)
        rows_arrived = time.data
        # The scheduler takes the descriptor when it is free and the winners are known.
        time.accepted = max(time.accepted, time.tap + 2, list_done)
        ready = max(time.accepted + START_TO_TAP + layer.config.rows, rows_arrived + ROWS_TO_TAP)
        pending = [lambda: RowArrivals(layer, time, band, *self.other_strips)] if band.strips > 1 else []
        for costs, count in self.groups:
            repeat(time, count, lambda costs=costs: follow_group(
                time, costs, ready, pending.pop() if pending else None, load_weights, score_final),
                   even=costs.span_cycles if costs.span_cycles >= LONG else None)


def flat(classes) -> list[tuple[Band, int]]:
    """Bands of different geometry and how many there are of each, whatever their order."""
    return [(band, count * row_count) for row_of_bands, row_count in classes for band, count in row_of_bands]


def follow_layer(layer: Layer, time: Timeline):
    """All descriptors of a layer; ``time.next_run`` is then ``GROUP_GAP`` behind its last read."""
    plan = layer.plan
    groups = [(plan.last_columns, 1)]
    if plan.last_columns == layer.columns:
        groups = [(layer.columns, plan.groups)]
    elif plan.groups > 1:
        groups.insert(0, (layer.columns, plan.groups - 1))
    classes = plan.band_classes
    chunks = plan.chunks
    first = [True]

    def descriptor(costs: DescriptorCosts, *, load_weights=True, score_final=True):
        if not first[0]:
            follow_fetch(layer, time)
        gate = 0.0 if first[0] else time.accepted if plan.double else time.tap + 3
        costs.follow(time, gate=gate, new_list=first[0] or len(chunks) > 1, load_weights=load_weights,
                     score_final=score_final)
        first[0] = False

    def bands(groups):
        """All bands one behind the other; weights that are kept are loaded with the first."""
        weights = [True]
        for row_of_bands, row_count in classes:
            costs = [(DescriptorCosts(layer, band, groups, chunks[0], True), count) for band, count in row_of_bands]
            final = row_of_bands is classes[-1][0]

            def row_after_row(costs=costs, final=final):
                for one, count in costs:
                    def band_after_band(one=one, final=final and one is costs[-1][0]):
                        descriptor(one, load_weights=weights[0] or not plan.weights_kept, score_final=final)
                        weights[0] = False

                    repeat(time, count, band_after_band)

            repeat(time, row_count, row_after_row)

    if len(chunks) > 1:
        for band, count in flat(classes):
            for columns, group_count in groups:
                costs = [DescriptorCosts(layer, band, [(columns, 1)], chunk, chunk == chunks[-1]) for chunk in chunks]

                def chunk_after_chunk(costs=costs):
                    for one in costs:
                        descriptor(one)

                repeat(time, count * group_count, chunk_after_chunk)
    elif plan.groups_outside:
        for columns, group_count in groups:
            repeat(time, group_count, lambda columns=columns: bands([(columns, 1)]))
    else:
        bands(groups)
