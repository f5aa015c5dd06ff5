"""What the loading of a band's activations takes of the read channel."""

from functools import lru_cache
from math import gcd

from hw.config import ceil_div
from hw.plan import Band, Plan
from hw.reader import BURST_BEATS


@lru_cache(maxsize=8192)
def mean_pieces(rows: int, cols: int, base: int, step: int, axi_bytes: int) -> tuple[float, float]:
    """Beats of ``rows * cols`` bytes, and the pieces that beats and row ends cut them into.

    The mean over the starts ``base + i * step`` modulo a beat; ``step`` divides ``axi_bytes``.
    """
    starts = range(base % step, axi_bytes, step)
    beats = sum(ceil_div(start + rows * cols, axi_bytes) for start in starts) / len(starts)
    # Row ends that fall on the end of a beat cut nothing more.
    aligned = sum((base + row * cols) % step == 0 for row in range(1, rows)) * step / axi_bytes
    return beats, beats + rows - 1 - aligned


class StripLoads:
    """(bursts, cycles of the read channel) of a band's strips; ``first``, an ``inner`` one, the ``last``.

    A strip's mark, which follows its data, is one of both. ``shift``: bytes from the band to the one that is meant, of
    the same geometry.
    """

    def __init__(self, plan: Plan, band: Band, winners: float, runs: float, shift: int = 0):
        self.plan, self.band, self.winners, self.runs, self.shift = plan, band, winners, runs, shift
        strip, last = band.strip_rows, band.strips - 1
        self.first = self._cost(min(strip, band.rows.ins), 0)
        self.inner = self._cost(strip, strip) if last > 1 else self.first
        self.last = self._cost(band.rows.ins - last * strip, last * strip) if last else self.first

    def _cost(self, rows: int, first_row: int) -> tuple[float, float]:
        plan, band, axi = self.plan, self.band, self.plan.config.axi_bytes
        shape = plan.shape
        width, cols = shape.width, band.cols.ins
        plane, row_pitch = shape.height * width, width * band.rows.step
        # Where segments start within a beat: differs by channels, and by bands of the same geometry.
        step = gcd(plane, axi)
        if band.merge:
            size, runs = self.winners * plane, self.runs
            bursts, bytes_read = max(runs, size / (BURST_BEATS * axi)), size + runs * (axi - step)
            return bursts + 1, bytes_read / axi + 1
        if plan.band_rows < shape.out_extent[0]:
            step = gcd(step, plan.band_rows * shape.pool[2] * shape.stride[0] * width)
        start = band.rows.in0 * width + first_row * row_pitch + band.cols.in0 + self.shift
        if first_row:
            step = gcd(step, first_row * row_pitch)
        if band.contiguous:
            size, segments = rows * cols, self.winners
            beats, pieces = mean_pieces(rows, cols, start % axi, step, axi)
        else:
            size, segments = cols, self.winners * rows
            beats, pieces = mean_pieces(1, cols, start % axi, gcd(step, row_pitch) if rows > 1 else step, axi)
        # Each piece of a beat that lies in one row takes a cycle for every phase of its columns.
        cycles = beats if band.copy else pieces * band.phases
        return segments * max(1, ceil_div(size, BURST_BEATS * axi)) + 1, segments * cycles + 1


def column_shifts(plan: Plan, band: Band, count: int) -> list[int]:
    """Of bands side by side: bytes from the first to each, as far as their starts within a beat differ."""
    shape = plan.shape
    step = plan.band_cols * shape.pool[3] * shape.stride[1]
    divisor = gcd(shape.height * shape.width, shape.width * band.rows.step, plan.config.axi_bytes)
    return [number * step for number in range(min(count, divisor // gcd(step, divisor)))]


def weight_beats(winners: float, runs: float, block: int, base: int, axi_bytes: int) -> float:
    """Mean beats of the blocks of ``winners`` in ``runs``, which start at ``base`` and whole blocks behind it."""
    divisor = gcd(block, axi_bytes)
    # A run that may start and end on a whole beat saves one at times.
    spared = 0 if base % divisor else divisor
    return (winners * block + runs * (axi_bytes - spared)) / axi_bytes
