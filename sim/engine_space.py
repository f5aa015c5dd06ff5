"""Many engines at once: their sizes as arrays, and the multipliers they are made of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hw.config import ConfigError, EngineConfig

MAX_EXTENT = 64
"""Rows and columns of an array at most (:class:`hw.config.EngineConfig`)."""
REQUANTIZER_MULTIPLIERS = 4
"""Of a requantization lane (hw/requantize.py)."""
OTHER_MULTIPLIERS = 16
"""Of the scores' requantizer, of addresses (hw/loader.py, hw/run_stream.py), strips (hw/write_back.py) and energies
(hw/ranking.py)."""


def multiplier_count(rows, columns):
    """Multiplier blocks of engines of these sizes (integers or arrays): those that :mod:`hw.boards.resources` counts.

    One a PE, four a requantization lane, sixteen others. The vector unit and the addition have theirs of logic.
    """
    lanes = np.minimum(rows, EngineConfig().requantize_lanes)
    return rows * columns + REQUANTIZER_MULTIPLIERS * lanes + OTHER_MULTIPLIERS


@dataclass(frozen=True, kw_only=True, eq=False)
class Engines:
    """Engines, all sizes that are not named as in ``base``: int64 [P] each.

    ``act_bytes`` and ``weight_bytes``: of the buffers; ``axi_bytes``: of a beat.
    """

    base: EngineConfig
    rows: np.ndarray
    columns: np.ndarray
    act_bytes: np.ndarray
    weight_bytes: np.ndarray
    axi_bytes: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, which) -> "Engines":
        """Those of a slice, of numbers, or of a mask."""
        return Engines(base=self.base, rows=self.rows[which], columns=self.columns[which],
                       act_bytes=self.act_bytes[which], weight_bytes=self.weight_bytes[which],
                       axi_bytes=self.axi_bytes[which])

    def config(self, number: int) -> EngineConfig:
        """One of them."""
        return _config(self.base, self.rows[number], self.columns[number], self.act_bytes[number],
                       self.weight_bytes[number], self.axi_bytes[number])

    @property
    def multipliers(self) -> np.ndarray:
        """Of each engine."""
        return multiplier_count(self.rows, self.columns)

    @property
    def lanes(self) -> np.ndarray:
        """Results requantized a cycle."""
        return np.minimum(self.rows, self.base.requantize_lanes)


def _config(base: EngineConfig, rows, columns, act_bytes, weight_bytes, axi_bytes) -> EngineConfig:
    return replace(base, rows=int(rows), columns=int(columns), act_buffer_bytes=int(act_bytes),
                   weight_buffer_bytes=int(weight_bytes), axi_data_bits=8 * int(axi_bytes))


def engine_space(base: EngineConfig, macs: int, buffers: Sequence[tuple[int, int]],
                 widths: Sequence[int]) -> tuple[Engines, int]:
    """Every array of at most ``macs`` PEs with every pair of ``buffers`` (activations, weights; bytes) and every bus
    width (bits); and how many more there would be if the engine had no rules for its buffers.
    """
    rows, columns = (axis.ravel() for axis in np.mgrid[1:MAX_EXTENT + 1, 1:MAX_EXTENT + 1])
    small = rows * columns <= macs
    shapes = np.stack([rows[small], columns[small]], 1)
    rest = np.array([(act, weight, width // 8) for act, weight in buffers for width in widths])
    points = np.concatenate([np.repeat(shapes, len(rest), 0), np.tile(rest, (len(shapes), 1))], 1)
    rows, columns, act, weight, axi = points.T
    # Rules bind a buffer to the array's rows or columns and to the bus, so they are asked for these alone.
    allowed = (_allowed(np.stack([rows, act, axi], 1), lambda row, act, axi: _config(
                   base, row, 1, act, base.weight_buffer_bytes, axi))
               & _allowed(np.stack([columns, weight, axi], 1), lambda column, weight, axi: _config(
                   base, 1, column, base.act_buffer_bytes, weight, axi)))
    found = points[allowed].T
    engines = Engines(base=base, rows=found[0], columns=found[1], act_bytes=found[2], weight_bytes=found[3],
                      axi_bytes=found[4])
    return engines, len(points) - len(engines)


def _allowed(sizes: np.ndarray, build) -> np.ndarray:
    """Which of these sizes [P, 3] an engine can have (bool [P])."""
    kinds, inverse = np.unique(sizes, axis=0, return_inverse=True)
    holds = []
    for one in kinds:
        try:
            build(*one)
        except ConfigError:
            holds.append(False)
        else:
            holds.append(True)
    return np.array(holds)[inverse.ravel()]
