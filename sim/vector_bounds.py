"""Lower bounds of a vector layer's cycles and bytes (depthwise, pooling, addition), on many engines at once.

How the vector unit works off a layer depends on few sizes of an engine, so that each kind of engine is planned.
"""

from dataclasses import dataclass, fields, replace

import numpy as np

from hw.config import EngineConfig, ceil_div
from hw.descriptor import DESCRIPTOR_BYTES, PARAMETER_BYTES
from hw.plan import PlanError, make_plan, resident_plan

from .bounds import Cost, Cut, ceiling, finish, first_strip, mask_bytes_written
from .costs import (
    ADDITION,
    DRAIN_TO_DRAIN,
    ISSUE_TO_BEAT,
    NEXT_TILE,
    RESULT,
    ROWS_TO_TAP,
    START_TO_TAP,
    STRIP,
    TAP_TO_ACCEPT,
    VECTOR_SUMS,
)
from .engine_space import MAX_EXTENT, Engines
from .estimate import LayerQuestion
from .loading import StripLoads, column_shifts
from .losers import mean_planes
from .results import Strips
from .traffic import bytes_read
from .workload import Workload


@dataclass(frozen=True, kw_only=True)
class VectorWork:
    """What the parts of an engine do of a vector layer, in cycles where nothing else is said; all 0 of one refused.

    ``records``: of constants of a chunk of channels, of the ``last_records`` of the last one, where these depend on the
    columns; ``bytes``: without these and without ``written``, planes of results. ``strip``: to load the first
    descriptor's activations; ``behind``: to compute the last descriptor's channels; ``tile``: of a tile's results, half
    of them.
    """

    refused: bool = False
    descriptors: int = 1
    bands: int = 1
    chunks: int = 1
    records: int = 0
    last_records: int = 0
    bytes: int = 0
    written: float = 0.0
    computing: float = 0.0
    draining: float = 0.0
    writing: float = 0.0
    loading: float = 0.0
    strip: float = 0.0
    behind: float = 0.0
    tile: int = 0


class VectorBounds:
    """A vector layer on many engines."""

    def __init__(self, question: LayerQuestion):
        self.question, shape = question, question.shape
        self.shape = shape
        block = shape.taps * shape.depth_multiplier if shape.weighted else 1
        self._all_weights = block * shape.channels
        self.works: list[VectorWork] = []
        self.numbers: dict[tuple, int] = {}
        rate = question.counts[0] / shape.channels
        self.steps = shape.tile_steps
        if shape.operands == 1 and rate < 1:
            self.steps = rate * max(NEXT_TILE, self.steps) + (1 - rate) * NEXT_TILE

    # How it is cut

    def cut(self, engines: Engines, room: np.ndarray) -> Cut:
        """As :func:`hw.plan.make_plan` for ``room`` bytes of the activation buffer."""
        return self._cut(engines, room, lambda config, room: make_plan(self.shape, config, act_bytes=room))

    def resident(self, engines: Engines) -> tuple[np.ndarray, Cut]:
        """Which engines can find the input on chip (:func:`hw.plan.resident_plan`), and how those cut the layer."""
        cut = self._cut(engines, engines.act_bytes, lambda config, _: resident_plan(
            self.shape, config, masked=self.question.winners[0] is not None), resident=True)
        return ~cut.refused, cut

    def _cut(self, engines: Engines, room: np.ndarray, plan, *, resident: bool = False) -> Cut:
        sizes = np.stack([_alike(engines.base)[engines.rows], engines.axi_bytes, room,
                          np.minimum(engines.weight_bytes, self._all_weights)], 1)
        # One number for each row of sizes, which numpy then sorts much faster.
        keys = ((sizes[:, 0] * 32 + sizes[:, 1]) << 48) + (sizes[:, 2] << 24) + sizes[:, 3]
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        numbers = []
        for index in first:
            key = (resident, *map(int, sizes[index]))
            if key not in self.numbers:
                config = replace(engines.config(index), rows=key[1], columns=1)
                self.numbers[key] = len(self.works)
                self.works.append(self._work(config, int(room[index]), plan))
            numbers.append(self.numbers[key])
        kind = np.array(numbers)[inverse]
        refused, descriptors = (self._of(kind, name) for name in ("refused", "descriptors"))
        one = np.ones(len(kind), np.int64)
        return Cut(kind=kind, bands=one, descriptors=descriptors, repeats=one, kept=one == 0, passes=one == 0,
                   refused=refused, loose=one == 0)

    def _of(self, kind: np.ndarray, name: str) -> np.ndarray:
        """A field of the work of each engine."""
        return np.array([getattr(work, name) for work in self.works])[kind]

    def _work(self, config: EngineConfig, room: int, plan) -> VectorWork:
        try:
            plan = plan(config, room)
        except PlanError:
            plan = None
        if plan is None:
            return VectorWork(refused=True)
        question, shape, axi = self.question, plan.shape, config.axi_bytes
        winners = [shape.channels if one is None else one for one in question.winners]
        work = Workload(plan=plan, ranking=question.ranking, winners=winners, scores=question.scores,
                        masked=tuple(one is not None for one in question.winners))
        bands = [(band, count, rows) for row, rows in plan.band_classes for band, count in row]
        chunks, multiplier = plan.chunks, shape.depth_multiplier
        records = [0 if shape.weighted else count * multiplier for _, count in (chunks[0], chunks[-1])]
        moved = sum(bytes_read(work).values()) - (0 if shape.weighted else
                                                  PARAMETER_BYTES * shape.out_channels * plan.band_count)

        period = max(NEXT_TILE, self.steps)
        computing = [self.steps + (band.tiles - 1) * period for band, *_ in bands]
        draining = [(band.tiles - 1) * ceil_div(band.tile_positions, config.requantize_lanes)
                    + ceil_div(band.last_rows, config.requantize_lanes) for band, *_ in bands]
        writing = []
        for band, *_ in bands:
            strips = Strips(shape, band, config, 1)
            writing.append(sum(strips.cycles(strip) for strip in range(strips.count)))
        times = [count * rows for _, count, rows in bands]
        tile = min(-(-band.tile_positions // 2) for band, *_ in bands)
        later = plan.descriptor_count - 1
        sums = [sum(one * many for one, many in zip(each, times, strict=True)) * shape.out_channels
                for each in (computing, draining, writing)]

        loading = strip = 0.0
        for first, count in (chunks if len(chunks) <= 2 else [chunks[0], chunks[-1]]):
            alike = len(chunks) - 1 if first == 0 and len(chunks) > 1 else 1
            strips = [self._strips(work, band, many, first, count) for band, many, _ in bands]
            strip = strip if first else strips[0]
            rest = self._weights(work, first, count) / axi
            loading += alike * sum(many * (own + rest) for own, many in zip(strips, times, strict=True))
        loading += later * DESCRIPTOR_BYTES / axi - self._weights(work, *chunks[-1]) / axi
        return VectorWork(
            descriptors=plan.descriptor_count, bands=plan.band_count, chunks=len(chunks), records=records[0],
            last_records=records[1], bytes=moved, written=mean_planes(plan, question.ranking, question.scores),
            computing=sums[0] + later * (TAP_TO_ACCEPT + START_TO_TAP - 1 + tile),
            draining=sums[1] + later * (DRAIN_TO_DRAIN + 1), writing=sums[2], loading=loading, strip=strip,
            behind=chunks[-1][1] * multiplier * min(computing), tile=tile)

    def _strips(self, work: Workload, band, many: int, first: int, count: int) -> float:
        """Cycles to load a descriptor's activations, where they lie best."""
        if work.plan.shape.resident:
            return 0.0
        total = 0.0
        for operand in range(self.shape.operands):
            winners, runs = work.chosen(first, count, operand)
            total += min(StripLoads(work.plan, band, winners, runs, shift).first[1]
                         for shift in column_shifts(work.plan, band, many))
        return total

    def _weights(self, work: Workload, first: int, count: int) -> float:
        """Bytes of a descriptor's weights, and constants of each channel."""
        if not self.shape.weighted:
            return 0.0
        winners, _ = work.chosen(first, count)
        multiplier = self.shape.depth_multiplier
        return winners * self.shape.taps * multiplier + PARAMETER_BYTES * count * multiplier

    def weight_bytes(self, engines: Engines, cut: Cut) -> np.ndarray:
        """The weight buffer beyond which more of it changes nothing: for all channels of a descriptor."""
        return np.full(len(engines), self._all_weights)

    # What it costs

    def cost(self, engines: Engines, cut: Cut, resident: np.ndarray, on_chip: np.ndarray) -> Cost:
        """With the input (``resident``) or the output on chip, bool [P] each."""
        work = {one.name: self._of(cut.kind, one.name) for one in fields(VectorWork)}
        records = ((work["chunks"] - 1) * ceiling(work["records"], engines.columns)
                   + ceiling(work["last_records"], engines.columns)) * work["bands"]
        rows, cols = self.shape.out_extent
        moved = (work["bytes"] + PARAMETER_BYTES * records + mask_bytes_written(self.question)
                 + np.where(on_chip, 0, np.round(work["written"] * rows * cols)))
        return Cost(cycles=self._cycles(engines, work, resident), bytes=moved)

    def _cycles(self, engines: Engines, work: dict[str, np.ndarray], resident: np.ndarray) -> np.ndarray:
        # Before the first step: the list and the activations of a channel at least.
        listed, marked = first_strip(self.question, work["strip"], 1)
        listed = listed + START_TO_TAP + work["tile"]
        begun = np.where(resident, listed, marked + ROWS_TO_TAP)
        summed = begun - 1 + self.steps + VECTOR_SUMS
        result = RESULT + (ADDITION if self.shape.operands == 2 else 0)
        last = 1 + result + STRIP + 2
        done = np.maximum.reduce([
            begun - 1 + work["computing"] + VECTOR_SUMS + last,
            summed + work["draining"] + last - 1,
            summed + result + work["writing"],
            np.where(resident, 0, ISSUE_TO_BEAT + work["loading"] + ROWS_TO_TAP - 1 + work["behind"]) + VECTOR_SUMS
            + last])
        return done + finish(self.question, engines, 1)


def _alike(base: EngineConfig) -> np.ndarray:
    """By the rows of an array the fewest that an equal vector unit has: int [MAX_EXTENT + 1]."""
    found = {}
    configs = [replace(base, rows=rows) for rows in range(1, MAX_EXTENT + 1)]
    return np.array([0] + [found.setdefault((one.requantize_lanes, one.vector_lanes, one.act_banks), one.rows)
                           for one in configs])
