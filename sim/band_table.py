"""What a convolution costs by the height of its bands and the rows of the array: tables, for bounds to look up."""

from dataclasses import replace

import numpy as np

from hw.band import Band, LayerShape
from hw.config import EngineConfig, ceil_div
from hw.plan import EVERY_WINNER, JUDGE_CYCLES, Plan

from .bounds import ceiling
from .engine_space import MAX_EXTENT
from .loading import StripLoads

ROWS = np.arange(MAX_EXTENT + 1).clip(1)
"""Rows of an array by themselves: entry 0 of such tables means nothing."""
WIDTHS = (8, 16)
"""Bytes of a beat, in the order of tables."""


class BandTable:
    """A convolution in whole rows, in as many bands as ``band_rows`` results make; ``winners`` take part, in ``runs``.

    Of all bands together: ``pixels`` of an input channel; by rows of the array int [MAX_EXTENT + 1] ``tiles``, and
    ``last_chunks``, cycles to drain the last tiles of a column; by :data:`WIDTHS` ``loads``, cycles of the read
    channel, and ``reads``, cycles to write a column. Of the largest: ``slab_bytes`` of a channel, ``positions``, and
    those that the output ``ring`` holds at least. Of the smallest: ``fewest_tiles``. ``first``: the first one.
    """

    def __init__(self, shape: LayerShape, band_rows: int, winners: float, runs: float):
        classes = _classes(_plan(shape, EngineConfig(rows=MAX_EXTENT), band_rows))
        self.first = classes[0][0]
        self.count = sum(count for _, count in classes)
        self.slab_bytes = max(band.slab_bytes for band, _ in classes)
        self.positions = max(band.positions for band, _ in classes)
        self.ring = max(_ring_positions(shape, band) for band, _ in classes)
        self.pixels = sum(band.rows.ins * band.cols.ins * count for band, count in classes)
        lanes = np.minimum(ROWS, EngineConfig().requantize_lanes)
        tiles = [ceiling(band.positions, ROWS) for band, _ in classes]
        self.tiles = sum(own * count for own, (_, count) in zip(tiles, classes, strict=True))
        self.last_chunks = sum(ceiling(band.positions - (own - 1) * ROWS, lanes) * count
                               for own, (band, count) in zip(tiles, classes, strict=True))
        self.fewest_tiles = np.minimum.reduce(tiles)
        self.loads, self.reads = np.zeros((2, len(WIDTHS)))
        for number, axi in enumerate(WIDTHS):
            # A band loaded at once takes no longer than strip by strip.
            plan = _plan(replace(shape, one_strip=True), EngineConfig(axi_data_bits=8 * axi), band_rows)
            for band, count in _classes(plan):
                self.loads[number] += count * StripLoads(plan, band, winners, runs).first[1]
                self.reads[number] += count * _reads(shape, band)


def band_tables(shape: LayerShape, winners: float, runs: float) -> list[BandTable]:
    """A table for every number of bands of equal height, from one band on."""
    rows = shape.out_extent[0]
    heights = dict.fromkeys(ceil_div(rows, count) for count in range(1, rows + 1))
    return [BandTable(shape, height, winners, runs) for height in heights]


def judged_tables(shape: LayerShape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of a layer in one band whose losers' planes need not be written (:attr:`hw.plan.Plan.skips_losers`), by rows of
    the array and :data:`WIDTHS`: whether its planes are whole strips, its tiles, and the cycles of a channel that hide
    the scoring.
    """
    whole, tiles, needed = np.zeros((3, MAX_EXTENT + 1, len(WIDTHS)))
    for rows in range(1, MAX_EXTENT + 1):
        for number, axi in enumerate(WIDTHS):
            plan = _plan(replace(shape, judged=True), EngineConfig(rows=rows, axi_data_bits=8 * axi),
                         shape.out_extent[0])
            band = plan.bands()[0]
            reads = band.out_rows * ceil_div(band.out_cols, band.chunk) * shape.pool[0] * shape.pool[1]
            whole[rows, number] = plan.skips_losers
            tiles[rows, number], needed[rows, number] = band.tiles, 2 * reads + JUDGE_CYCLES
    return whole.astype(bool), tiles, needed


def _plan(shape: LayerShape, config: EngineConfig, band_rows: int) -> Plan:
    """A convolution in bands of this height, as far as its bands and their loading ask for a plan."""
    return Plan(layer=shape, shape=shape, config=config, act_bytes=0, band_rows=band_rows,
                band_cols=shape.out_extent[1], double=False, groups_outside=False, weights_kept=False,
                pass_winners=EVERY_WINNER, chunk_channels=shape.channels)


def _classes(plan: Plan) -> list[tuple[Band, int]]:
    """Bands of different geometry, and how many there are of each."""
    return [(band, count * rows) for bands, rows in plan.band_classes for band, count in bands]


def _ring_positions(shape: LayerShape, band: Band) -> int:
    """Positions that the output ring holds at least: a row of windows; without pooling any strip will do."""
    if band.flat:
        return 0
    across = min(band.cols.convs, band.cols.pool0 + (band.cols.outs - 1) * shape.pool[3] + shape.pool[1])
    return (min(band.rows.convs, shape.pool[0]) - 1) * band.pitch + across


def _reads(shape: LayerShape, band: Band) -> int:
    """Cycles of the write-back for a column: its reads, and one to begin to write."""
    if band.flat:
        return ceil_div(band.positions, band.chunk) + 1
    starts = [band.rows.pool0 + row * shape.pool[2] for row in range(band.rows.outs)]
    taps = sum(max(0, min(band.rows.convs, start + shape.pool[0]) - max(0, start)) for start in starts)
    return taps * ceil_div(band.cols.outs, band.chunk) * shape.pool[1] + 1
