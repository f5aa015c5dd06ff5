"""What the parts of a layer cost, apart from waiting: the constants of the analytical model.

Pipeline stages are counted in the files named, with the memory of sim/fast_memory.sv.
"""

from functools import lru_cache
from math import gcd

import numpy as np

from hw.config import ceil_div
from hw.descriptor import PARAMETER_BYTES, Score, Select
from hw.lowering import Ranking
from hw.plan import Band, Plan
from hw.reader import BURST_BEATS

READ_LATENCY = 16
"""Cycles from an accepted read address to its first beat (sim/fast_memory.sv)."""
WRITE_LATENCY = 8
"""Cycles from a burst's last beat to its response."""


ISSUE_TO_BEAT = READ_LATENCY + 2
"""hw/reader.py: from a burst's issue to its first beat behind the reader's register."""
PROGRAM_START = 3
"""hw/control.py, hw/loader.py: from the first counted cycle to the first descriptor's burst."""
CHECK = 5
"""hw/loader.py: from a descriptor's last beat to WAIT."""
LIST = 1
"""hw/loader.py: from WAIT to the mask's burst or the first job."""
RUN_TO_BURST = 4
"""hw/winner_list.py, hw/loader.py: from a run's end to its burst."""
WALK = 6
"""hw/loader.py: from a job's start to its first burst."""
ROWS_TO_TAP = 5
"""hw/unpacker.py, hw/scheduler.py: from a strip's mark to the first tap that may use it."""
WEIGHTS_TO_TAP = 2
"""hw/engine.py, hw/scheduler.py: from a beat of weights to the tap that uses it."""
START_TO_TAP = 4
"""hw/scheduler.py: from taking a descriptor to its first tap, ``rows`` cycles for the coordinates apart."""
RESULT = 9
"""hw/drain.py: from a tile's last column to its positions being seen by the write-back."""
STRIP_GAP = 8
"""hw/write_back.py: cycles between a strip's last read and the next strip's first run."""
GROUP_GAP = 12
"""hw/write_back.py: the same between groups, scores written."""
MEAN = 7
"""hw/score.py: the requantization of a mean."""
LAYER_END = 23 + WRITE_LATENCY
"""hw/write_back.py, hw/writer.py, hw/control.py: from the last read to the end of a program."""
RANKING = {Select.ALL: 0, Select.TOPK: 17, Select.ENERGY: 29, Select.THRESHOLD: 6}
"""hw/ranking.py: cycles added by the selection, the words of winners apart."""
NEXT_LAYER = 9
"""hw/control.py: from a layer's end to the start of the next."""


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


class Layer:
    """The sizes of a layer that its timeline needs, whatever the band."""

    def __init__(self, plan: Plan, ranking: Ranking, winners, masked: bool):
        self.plan, self.shape, self.config, self.ranking, self.masked = plan, plan.shape, plan.config, ranking, masked
        self.axi = plan.config.axi_bytes
        self.mask = np.asarray(winners, bool) if isinstance(winners, np.ndarray) else None
        self.winners = int(winners.sum()) if self.mask is not None else int(winners)
        self.columns = min(plan.config.columns, plan.shape.out_channels)
        self.mean = MEAN if ranking.score == Score.MEAN else 0

    def chosen(self, first: int, count: int) -> tuple[float, float]:
        """Winners among ``count`` channels from ``first``, and the runs that they form."""
        if self.mask is not None:
            part = self.mask[first:first + count]
            winners = int(part.sum())
            return winners, int(part[0]) + int((part[1:] & ~part[:-1]).sum()) if winners else 0
        rate = self.winners / self.shape.channels
        return count * rate, count * rate * (1 - rate) + rate


def strip_costs(layer: Layer, band: Band, winners: float, runs: float):
    """(bursts, cycles of the read channel) of the first strip, of an inner one and of the last."""
    shape, axi, plan = layer.shape, layer.axi, layer.plan
    width, cols = shape.width, band.cols.ins
    plane = shape.height * width
    # Where segments start within a beat: differs by channels, and by bands of the same geometry.
    base, step = band.rows.in0 * width + band.cols.in0, gcd(plane, axi)
    if plan.band_rows < shape.out_extent[0]:
        step = gcd(step, plan.band_rows * shape.pool[2] * shape.stride[0] * width)
    if plan.band_cols < shape.out_extent[1]:
        step = gcd(step, plan.band_cols * shape.pool[3] * shape.stride[1])

    def cost(rows: int, start: int, step: int):
        if band.merge:
            size = winners * plane
            return max(runs, size / (BURST_BEATS * axi)) + 1, (size + runs * (axi - gcd(plane, axi))) / axi + 1
        start += base
        if band.contiguous:
            size, segments = rows * cols, winners
            beats, pieces = mean_pieces(rows, cols, start % axi, step, axi)
        else:
            size, segments = cols, winners * rows
            beats, pieces = mean_pieces(1, cols, start % axi, gcd(step, width) if rows > 1 else step, axi)
        # Each piece of a beat that lies in one row takes a cycle for every phase.
        cycles = segments * (beats if band.copy else pieces * shape.stride[1])
        # The strip's mark follows, a cycle later than behind a single segment.
        return segments * max(1, ceil_div(size, BURST_BEATS * axi)) + 1, cycles + 2

    strip, last = band.strip_rows, band.strips - 1
    return (cost(min(strip, band.rows.ins), 0, step), cost(strip, strip * width, gcd(step, strip * width)),
            cost(band.rows.ins - last * strip, last * strip * width, step))


class GroupCosts:
    """What one group of ``columns`` output channels costs in a band, apart from waiting."""

    def __init__(self, layer: Layer, band: Band, columns: int, winners: float, runs: float, sum_end: bool):
        shape, config, axi = layer.shape, layer.config, layer.axi
        self.band, self.columns, self.rows = band, columns, config.rows
        self.ring, self.buffer = config.output_ring_bytes, config.weight_buffer_bytes
        self.sum_end, self.kept = sum_end, layer.plan.weights_kept
        self.parameter_bursts = ceil_div(columns, BURST_BEATS * axi // PARAMETER_BYTES)
        self.parameter_beats = columns * PARAMETER_BYTES / axi

        # Weights. A run starts and ends on a multiple of the block's divisor.
        block = shape.taps * columns
        self.weight_bytes = winners * block
        self.weight_beats = (self.weight_bytes + runs * (axi - gcd(block, axi))) / axi
        self.weight_bursts = max(runs, self.weight_beats / BURST_BEATS)
        self.burst_bytes = BURST_BEATS * axi

        # Tiles. What bounds one: its taps, its coordinates, the drain of the one before, or streamed weights.
        chunks = config.drain_chunks
        self.taps = max(1.0, winners * shape.taps)
        self.drain = columns * chunks
        self.last_drain = columns * ceil_div(band.last_rows, config.requantize_lanes)
        self.drain_lead = columns + chunks + 5
        period = max(self.taps, config.rows + 2)
        if sum_end:
            period = max(period, config.rows + 6 + max(0, self.drain - self.drain_lead), self.drain + 1)
        self.streamed = not layer.plan.weights_resident and band.tiles > 1
        if self.streamed and self.weight_bytes:
            period = max(period, self.weight_beats, WALK + self.weight_bursts)
        self.period = period
        self.rest = band.tiles - 1
        self.span, self.span_cycles = band.tiles * config.rows, band.tiles * period

        # Write-back of a strip: a cycle for each run, one for each read.
        taps = shape.pool[0] * shape.pool[1]
        reads, last_reads = (ceil_div(cols, band.chunk) * taps for cols in (band.out_cols, band.out_cols_last))
        self.strips = ceil_div(band.out_rows, band.out_strip_rows)
        last_rows = band.out_rows - (self.strips - 1) * band.out_strip_rows
        need, step = band.out_strip_need, band.out_strip_step
        self.strip_step = step
        self.first_strip_tile, self.late_strip_tile = (
            ceil_div(min(need + strip * step, band.positions), config.rows) - 1 for strip in (0, self.strips - 2))
        strip_runs, last_runs = (1, 1) if band.out_contiguous else (band.out_strip_rows, last_rows)
        self.strip = columns * (strip_runs + band.out_strip_rows * reads) + STRIP_GAP
        self.last_strip = columns * (last_runs + (last_rows - 1) * reads + last_reads)
        slack = self.ring - band.out_strip_need - config.rows
        self.tight = slack < band.out_strip_step
        if self.tight:
            # The ring cannot take a strip while another is written: all but the two tiles in the array follow later.
            tiles = max(0, ceil_div(band.out_strip_step - slack, config.rows) - 2)
            self.strip += tiles * period + self.drain + RESULT + 2
        self.group_gap = GROUP_GAP + ceil_div(columns, axi) - 1 + layer.mean
