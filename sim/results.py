"""Draining and writing of results: strip by strip, with the output ring between them."""

from collections.abc import Callable
from dataclasses import dataclass
from math import gcd

from hw.band import Band, LayerShape
from hw.config import EngineConfig, ceil_div

from .costs import FREED, RESULT, STRIP
from .timeline import Timeline

FOLLOWED = 4
"""Strips followed before their period is multiplied, and as many behind, besides those at both ends that differ."""


@dataclass(frozen=True)
class Judged:
    """A group (of a vector band: a channel) that is read twice: ``kept`` columns are written, ``wait`` cycles after the
    last read for scores alone."""

    kept: float
    wait: float


class Strips:
    """How the results of a group (of a vector band: of a channel) are written.

    ``count`` strips, each complete with the tile ``tile_of(strip)`` of ``tiles``; ``cycles(strip)`` of the walker, in
    ``columns`` columns; ``span``: positions in whole tiles; ``chunks``: pieces of a beat that are written.
    """

    def __init__(self, shape: LayerShape, band: Band, config: EngineConfig, columns: int,
                 judged: Judged | None = None):
        self.judged = judged
        self.columns, self.tile, self.tiles = columns, band.tile_positions, band.tiles
        self.span = self.tile * self.tiles
        self.count = ceil_div(band.out_rows, band.out_strip_rows)
        self.need, self.step, self.positions = band.out_strip_need, band.out_strip_step, band.positions
        self.reach = 0 if band.flat else band.rows.pool0 * band.pitch
        self.ring = config.output_ring_bytes
        self.rows, self.rows_of_strip = band.out_rows, band.out_strip_rows
        self.contiguous, self.flat = band.out_contiguous, band.flat
        self.row_reads = ceil_div(band.out_cols, band.chunk) * shape.pool[1]
        self.last_row_reads = ceil_div(band.out_cols_last, band.chunk) * shape.pool[1]
        self.pool, self.pool_step = shape.pool[0], shape.pool[2]
        self.pool0, self.convs = band.rows.pool0, band.rows.convs
        # Strips at both ends whose windows lie in the padding in part; those between are alike.
        last = self.pool0 + (self.rows - 1) * self.pool_step + self.pool - self.convs
        clipped = (0, 0) if band.flat else (-self.pool0, last)
        self.top, self.bottom = (max(1, ceil_div(ceil_div(over, self.pool_step), self.rows_of_strip) + 1)
                                 for over in clipped)
        rows, flat = (self.rows - 1, -(-band.out_cols_last // band.chunk)) if band.flat else (self.rows, 0)
        kept = judged.kept if judged else columns
        self.chunks = kept * (rows * ceil_div(band.out_cols, band.chunk) + flat)
        self.inner = self.cycles(self.count // 2) if self.count > self.top + self.bottom else 0

    def tile_of(self, strip: int) -> int:
        """The tile with a strip's last position."""
        if strip == self.count - 1:
            return self.tiles - 1
        return -(-min(self.need + strip * self.step, self.positions) // self.tile) - 1

    def freed(self, strip: int) -> int:
        """Positions that nothing needs any more before a strip."""
        return max(0, self.reach + strip * self.step)

    def _reads(self, first: int, rows: int) -> int:
        """Reads of a column: one for each chunk and tap of its windows; rows of taps outside the map are left out."""
        if self.flat:
            last = self.last_row_reads if first + rows == self.rows else self.row_reads
            return (rows - 1) * self.row_reads + last
        taps = rows * self.pool
        row = first
        while row < first + rows and (start := self.pool0 + row * self.pool_step) < 0:
            taps += max(start, -self.pool)
            row += 1
        row = first + rows - 1
        while row >= first and (over := self.pool0 + row * self.pool_step + self.pool - self.convs) > 0:
            taps -= min(over, self.pool)
            row -= 1
        return taps * self.row_reads

    def cycles(self, strip: int) -> float:
        """Of the walker: a strip, a run for each piece that is contiguous in memory, the reads.

        Where columns are judged first, these are read for their scores, and of those left out a cycle each is lost.
        """
        first = strip * self.rows_of_strip
        rows = min(self.rows_of_strip, self.rows - first)
        runs, reads = 1 if self.contiguous else rows, self._reads(first, rows)
        if self.judged:
            kept = self.judged.kept
            return 2 * STRIP + self.columns * (1 + reads) + self.judged.wait + kept * (runs + reads - 1)
        return STRIP + self.columns * (runs + reads)


class Drained:
    """When the sums of each tile of a group are read: by what computing allows, and as the output ring has room.

    ``computed(tile)``: when they have been computed, ``after`` cycles before they are there. Behind a tile that had to
    wait the following ones are read every ``fast`` cycles, as far as they have been computed meanwhile: the tile
    ``behind`` tiles later starts the computing anew, ``period`` cycles a tile, its sums ``delay`` cycles later.
    """

    __slots__ = ("after", "behind", "computed", "delay", "fast", "period", "stalled", "tile", "until")

    def __init__(self, computed: Callable[[int], float], *, after: float = 0.0, fast: float, behind: int,
                 period: float, delay: float):
        self.computed, self.after = computed, after
        self.fast, self.behind, self.period, self.delay = fast, behind, period, delay
        self.tile, self.until, self.stalled = 0, 0.0, False

    def at(self, tile: int) -> float:
        """When the sums of a tile are read."""
        time = self.computed(tile) + self.after
        if self.stalled:
            later = tile - self.tile
            time = max(time, self.until + later * self.fast)
            if later > self.behind:
                time = max(time, self.until + (later - self.behind) * self.period + self.delay)
        return time

    def stall(self, tile: int, until: float) -> bool:
        """A tile cannot be read before ``until``; whether it has to wait for that."""
        waits = until > self.at(tile)
        if waits:
            self.tile, self.until, self.stalled = tile, until, True
        return waits


def write(time: Timeline, strips: Strips, drained: Drained, cycles: int, last_cycles: int, latency: int = RESULT):
    """Follow the strips of a group or channel; a tile is read in ``cycles`` cycles, the last one in ``last_cycles``."""
    ring, tile, positions, last_tile = strips.ring, strips.tile, time.positions, strips.tiles - 1
    freed, count = time.freed, strips.count
    followed, alike = strips.top + FOLLOWED, tile // gcd(strips.step, tile)
    strip, used, full, waited, before, begun = 0, 0, False, False, None, 0.0
    while strip < count:
        number = strips.tile_of(strip)
        room = positions + (number + 1) * tile - ring
        while used < len(freed) and freed[used][0] < room:
            amount, until = freed[used]
            used += 1
            full |= drained.stall(max(0, (amount + ring - positions) // tile), until)
        visible = drained.at(number) + (last_cycles if number == last_tile else cycles) + latency
        waits = visible > time.next_run
        start = visible if waits else time.next_run
        if strip == 0:
            begun = start
        duration = strips.inner if strips.top <= strip < count - strips.bottom else strips.cycles(strip)
        time.next_run = start + duration
        freed.append((positions + strips.freed(strip), time.next_run + FREED))
        strip += 1
        skipped = count - strips.bottom - strip - FOLLOWED
        if strip == followed and skipped > 0:
            rate = max(drained.period, drained.fast)
            if waits and waited and not full and strips.inner <= rate * strips.step / tile:
                # Computing or draining bounds all that follow.
                strip += skipped
            else:
                before = time.next_run
        if strip == followed + alike and before is not None and (skipped := skipped // alike * alike) > 0:
            # Strips wait for each other in the same way when as many tiles have gone as strips end within one.
            gone, step = (time.next_run - before) / alike, strips.step
            if drained.stalled:
                drained.tile, drained.until = drained.tile + skipped * step // tile, drained.until + skipped * gone
            time.next_run += skipped * gone
            recent = min(skipped, ring // step + 1)
            time.freed = freed = [
                (positions + strips.freed(strip + skipped - back), time.next_run + FREED - (back - 1) * gone)
                for back in range(recent, 0, -1)]
            used, strip = 0, strip + skipped
        waited = waits
    del freed[:used]
    time.positions = positions + strips.span
    time.chunks += strips.chunks
    if time.claiming:
        time.claim(begun)
