"""Lower bounds of a convolution's cycles and bytes, on many engines at once."""

from dataclasses import dataclass, replace

import numpy as np

from hw.band import Band, spans
from hw.config import VECTOR_TAPS, EngineConfig, ceil_div
from hw.descriptor import DESCRIPTOR_BYTES, PARAMETER_BYTES, Select
from hw.winner_list import CHUNK

from .band_table import ROWS, WIDTHS, band_tables, judged_tables
from .bounds import Cost, Cut, ceiling, finish, first_strip, mask_bytes_written
from .costs import (
    ARRAY_SUMS,
    DRAIN_TO_DRAIN,
    ISSUE_TO_BEAT,
    NEXT_TILE,
    RESULT,
    ROWS_TO_TAP,
    START_TO_TAP,
    STRIP,
    TAP_BEFORE_DRAINED,
    TAP_TO_ACCEPT,
    WEIGHTS_TO_TAP,
)
from .engine_space import MAX_EXTENT, Engines
from .estimate import LayerQuestion

UNLIMITED = 1 << 32
"""Tiles of a band whose sums need not be kept."""


class ArrayBounds:
    """A convolution on many engines.

    ``shares``: where blocks of weights are left out, the share of them that is not, by the columns of the array (float
    [MAX_EXTENT + 1]). Bands narrower than the map and chunks of input channels are not followed: a layer cut so counts
    as read once (weights, too), and as computed tile by tile without a wait.
    """

    def __init__(self, question: LayerQuestion, shares: np.ndarray | None = None):
        self.question, self.shares = question, shares
        layer, self.parts = question.shape, question.shape.groups
        depth = layer.channels // self.parts
        most = None if layer.winners is None else min(layer.winners, depth)
        self.shape = shape = replace(layer, channels=depth, winners=most, groups=1, blocks=False, judged=False,
                                     out_channels=layer.out_channels // self.parts)
        rate = question.counts[0] / layer.channels
        self.winners, self.runs = depth * rate, depth * rate * (1 - rate) + rate
        self.tables = tables = band_tables(shape, self.winners, self.runs)
        # What grows with the height of a band, from single rows on.
        self.heights = {name: np.array([getattr(table, name) for table in reversed(tables)])
                        for name in ("slab_bytes", "positions", "ring")}
        self.result = Band(shape, EngineConfig(), *(max(spans(shape, axis, 1), key=lambda span: span.ins)
                                                    for axis in (0, 1)))
        # By the kind of cut: a table each, and what is not followed.
        whole = tables[0].first
        loose = ceiling(whole.rows.convs * whole.cols.convs, ROWS)
        self.bands = np.array([*(table.count for table in tables), 1])
        self.pixels = np.array([*(table.pixels for table in tables), tables[0].pixels])
        self.loads = np.array([*(table.loads for table in tables), tables[0].loads])
        self.reads = np.array([*(table.reads for table in tables), 0 * tables[0].reads])
        self.tiles = np.array([*(table.tiles for table in tables), loose])
        self.firsts = np.array([*(table.count + 0 * loose for table in tables), loose])
        self.last_tiles = np.array([*(table.fewest_tiles for table in tables), 1 + 0 * loose])
        lanes = np.minimum(ROWS, EngineConfig().requantize_lanes)
        self.last_chunks = np.array([*(table.last_chunks for table in tables),
                                     ceiling(whole.rows.convs * whole.cols.convs, lanes)])
        self.strips = self._first_strips()
        self.copied = self.parts == 1 and whole.copy
        self.judged = judged_tables(shape) if layer.judged else None
        self.planes = np.array([self._planes(max(1, columns)) for columns in range(MAX_EXTENT + 1)])

    def _first_strips(self) -> np.ndarray:
        """Cycles to load the strip before the first tile: [kind of cut, rows of the array, beat], at least."""
        found = np.zeros((len(self.tables) + 1, MAX_EXTENT + 1, len(WIDTHS)))
        for number, table in enumerate(self.tables):
            band, rows = table.first, table.first.rows
            last_row = np.minimum((ROWS - 1) // band.pitch, rows.convs - 1)
            needed = np.clip(last_row * band.row_phases + self.shape.kernel[0] - rows.pad, 0, rows.ins)
            for width, axi in enumerate(WIDTHS):
                row = band.cols.ins / axi if band.copy else ceil_div(band.cols.ins, axi) * band.phases
                found[number, :, width] = self.winners * needed * row
        return found

    # How it is cut

    def cut(self, engines: Engines, room: np.ndarray) -> Cut:
        """As :func:`hw.plan.make_plan` for ``room`` bytes of the activation buffer."""
        shape, other = self.shape, len(self.tables)
        columns = np.minimum(engines.columns, shape.out_channels)
        block = shape.taps * columns
        one_pass = shape.most_winners * block <= engines.weight_bytes
        kept_tiles = np.where(block > engines.weight_bytes, 1, engines.base.psum_tiles)
        tile_limit = np.where(one_pass, UNLIMITED, kept_tiles) * engines.rows
        slabs = self._slabs(engines, one_pass)
        full, half = (self._first_fitting(engines, part // slabs, tile_limit) for part in (room, room // 2))
        kind = np.where(half < other, half, full)
        if self.parts == 1:
            kind = np.where(full == 0, 0, kind)
        if shape.channels > engines.base.max_channels:
            kind = np.full_like(kind, other)

        # Of what is not followed: narrower bands, else chunks of channels, else nothing.
        ring = self._ring_room(engines)
        window, slab = self.result.positions, self.result.slab_bytes
        narrow = (slabs * slab <= room) & (window <= tile_limit) & (shape.channels <= engines.base.max_channels)
        chunked = (min(CHUNK, shape.channels) * slab <= room) & (window <= kept_tiles * engines.rows)
        refused = (kind == other) & ~((narrow | chunked) & (window <= ring))

        bands, groups = self.bands[kind], ceiling(shape.out_channels, engines.columns)
        act_bytes = shape.most_winners * shape.height * shape.width
        all_bytes = shape.most_winners * shape.taps * shape.out_channels
        several = (bands > 1) & one_pass
        outside = several & (all_bytes > engines.weight_bytes) & (act_bytes * (groups - 1) < all_bytes * (bands - 1))
        kept = several & ((all_bytes <= engines.weight_bytes) | outside)
        return Cut(kind=kind, bands=bands, repeats=np.where(outside, groups, 1), kept=kept, refused=refused,
                   descriptors=bands * np.where(outside, groups, 1) * self.parts, loose=kind == other,
                   passes=~one_pass)

    def resident(self, engines: Engines) -> tuple[np.ndarray, Cut]:
        """Which engines can find the input on chip (:func:`hw.plan.resident_plan`), and how those cut the layer."""
        shape, cut = self.shape, self.cut(engines, engines.act_bytes)
        tile_limit = np.where(cut.passes, engines.base.psum_tiles, UNLIMITED)
        tile_limit = np.where(shape.taps * np.minimum(engines.columns, shape.out_channels) > engines.weight_bytes, 1,
                              tile_limit)
        fits = (self.tiles[0][engines.rows] <= tile_limit) & (self.heights["ring"][-1] <= self._ring_room(engines))
        fits &= shape.channels * shape.height * shape.width <= engines.act_bytes
        if self.question.winners[0] is not None:
            # The list is of all winners at once.
            fits &= ~cut.passes | (tile_limit == 1)
        if not self.copied or shape.channels > engines.base.max_channels:
            fits &= False
        one = np.ones(len(engines), np.int64)
        return fits, Cut(kind=0 * one, bands=one, repeats=one, kept=one == 0, descriptors=one, refused=one == 0,
                         loose=one == 0, passes=cut.passes)

    def _slabs(self, engines: Engines, one_pass: np.ndarray) -> np.ndarray:
        """Input channels that a band makes room for: all of them with lists of blocks."""
        most = np.full(len(engines), max(1, self.shape.most_winners))
        if self.shares is None:
            return most
        return np.where(one_pass & (self.shares[engines.columns] < 1), self.shape.channels, most)

    def _first_fitting(self, engines: Engines, slab_room: np.ndarray, tile_limit: np.ndarray) -> np.ndarray:
        """The number of the first table whose bands fit: that of the fewest bands."""
        limits = {"slab_bytes": slab_room, "positions": tile_limit, "ring": self._ring_room(engines)}
        return len(self.tables) - np.minimum.reduce([
            np.searchsorted(self.heights[name], limit, side="right") for name, limit in limits.items()])

    def _ring_room(self, engines: Engines) -> np.ndarray:
        """Positions of the output ring beside those of a tile."""
        lanes = np.minimum(engines.base.vector_lanes, VECTOR_TAPS * engines.lanes)
        return engines.base.output_ring_bytes - np.maximum(engines.rows, lanes)

    def weight_bytes(self, engines: Engines, cut: Cut) -> np.ndarray:
        """The weight buffer beyond which more of it changes nothing."""
        shape, own = self.shape, engines.weight_bytes
        columns = np.minimum(engines.columns, shape.out_channels)
        # A group's weights are not ordered before all groups but the last one have been drained.
        needed = 2 * shape.most_winners * shape.taps * columns
        # All of a group's are read ahead where they fit, and all of a part's are kept.
        for amount, counts in ((shape.channels * shape.taps * columns, self.question.winners[0] is None),
                               (shape.most_winners * shape.taps * shape.out_channels, cut.bands > 1)):
            needed = np.where(counts & (amount <= own), np.maximum(needed, amount), needed)
        return np.where(cut.passes | cut.loose, own, needed)

    # What it costs

    def cost(self, engines: Engines, cut: Cut, resident: np.ndarray, on_chip: np.ndarray) -> Cost:
        """With the input (``resident``) or the output on chip, bool [P] each."""
        traffic = self._bytes(engines, cut, resident, on_chip)
        return Cost(cycles=self._cycles(engines, cut, resident), bytes=traffic)

    def _bytes(self, engines: Engines, cut: Cut, resident: np.ndarray, on_chip: np.ndarray) -> np.ndarray:
        shape, question = self.shape, self.question
        winners = question.counts[0]
        activations = np.where(resident, 0, winners * self.pixels[cut.kind] * cut.repeats)
        weights = winners * shape.taps * shape.out_channels * np.where(cut.kept, 1, cut.bands)
        if self.shares is not None:
            weights = np.round(weights * np.where(cut.passes, 1.0, self.shares[engines.columns]))
        # A mask is read in whole chunks of channels.
        chunk_bytes = sum(ceil_div(shape.channels + part * shape.channels % CHUNK, 8) for part in range(self.parts))
        masks = chunk_bytes if question.winners[0] is not None else 0
        if self.shares is not None:
            # There is a mask of blocks for each group, which takes the place of the list.
            groups = cut.bands * ceiling(shape.out_channels, engines.columns)
            lists = np.where(cut.repeats > 1, groups, cut.bands)
            listed = ~cut.passes & ~cut.loose & (self.shares[engines.columns] < 1)
            masks = np.where(listed, masks * lists + chunk_bytes * groups, masks)
        parameters = PARAMETER_BYTES * question.shape.out_channels * cut.bands + masks
        planes = question.shape.out_channels
        if self.judged:
            planes = np.where(self._skips_losers(engines, cut), self.planes[engines.columns], planes)
        rows, cols = shape.out_extent
        written = np.where(on_chip, 0, np.round(planes * rows * cols))
        return (activations + weights + parameters + DESCRIPTOR_BYTES * cut.descriptors + written
                + mask_bytes_written(question))

    def _skips_losers(self, engines: Engines, cut: Cut) -> np.ndarray:
        whole, tiles, needed = self.judged
        place = engines.rows, np.searchsorted(WIDTHS, engines.axi_bytes)
        columns = np.minimum(engines.columns, self.shape.out_channels)
        a_tile = np.maximum(self.shape.tile_steps / columns, ceiling(engines.rows, engines.lanes))
        return whole[place] & (tiles[place] * a_tile >= needed[place]) & ((cut.bands == 1) | cut.loose)

    def _planes(self, columns: int) -> float:
        """Planes written where losers are judged by the group, in the mean (:func:`sim.losers.mean_planes`)."""
        ranking, outputs = self.question.ranking, self.shape.out_channels
        if ranking.select == Select.THRESHOLD:
            return self.question.shape.out_channels if self.question.scores is None else self.question.scores
        ends = [part * outputs + min(first + columns, outputs) for part in range(self.parts)
                for first in range(0, outputs, columns)]
        return sum(min(1.0, ranking.value / end) * (end - start)
                   for start, end in zip([0, *ends], ends, strict=False)) if ranking.select == Select.TOPK else outputs

    def _cycles(self, engines: Engines, cut: Cut, resident: np.ndarray) -> np.ndarray:
        shape, parts, question = self.shape, self.parts, self.question
        rows, axi = engines.rows, engines.axi_bytes
        place, beat = (cut.kind, rows), np.searchsorted(WIDTHS, axi)
        others = ceiling(shape.out_channels, engines.columns) - 1
        last_width = shape.out_channels - others * engines.columns
        width = np.where(others > 0, engines.columns, last_width)
        whole, last = self._group(engines, cut, width), self._group(engines, cut, last_width)
        later, after = cut.descriptors - 1, rows + ARRAY_SUMS
        computing = (parts * (others * whole.computing + last.computing)
                     + later * (TAP_TO_ACCEPT + START_TO_TAP - 1 + ceiling(rows, 2)))
        draining = parts * (others * whole.draining + last.draining) + later * (DRAIN_TO_DRAIN + 1)

        # Before the first tap: the list and the first strip. Before the last one of the first tile: the first group's
        # constants and weights, where they are of one pass; without a list they may come before the layer begins.
        constants = width * PARAMETER_BYTES / axi
        listed, marked = first_strip(question, self.strips[cut.kind, rows, beat], shape.channels)
        begun = np.where(resident, listed + START_TO_TAP + ceiling(rows, 2), marked + ROWS_TO_TAP)
        alike = ~(cut.passes | cut.loose) & (self.shares is None)
        masked = question.winners[0] is not None
        weighted = np.where(resident, ISSUE_TO_BEAT, marked) + constants + whole.loading + WEIGHTS_TO_TAP
        first = np.where(alike, np.maximum(begun + whole.taps - 1, weighted * masked), begun)

        # All that is loaded; behind its last weights come their group's other tiles.
        repeats, times = np.where(resident, 0, cut.repeats), np.where(cut.kept, 1, cut.bands)
        loading = (parts * (self.loads[cut.kind, beat] * repeats + (others * whole.loading + last.loading) * times)
                   + question.shape.out_channels * cut.bands * PARAMETER_BYTES / axi + later * DESCRIPTOR_BYTES / axi)
        if not masked:
            loading = loading - whole.loading - constants
        follows = (others > 0) & ~cut.kept & alike
        loading = ISSUE_TO_BEAT + loading + np.where(follows, (self.last_tiles[place] - 1) * last.period, 0)

        # Behind the last tap, sum and strip.
        strip = STRIP + 2 * last_width
        to_strip = after + last_width + RESULT
        done = np.maximum.reduce([
            np.where(alike, first - whole.taps, begun - 1) + computing + to_strip + strip,
            np.where(cut.loose, 0, first + after + draining + RESULT + strip),
            first + to_strip + question.shape.out_channels * self.reads[cut.kind, beat],
            loading + to_strip + strip])
        return done + finish(question, engines, last_width)

    def _group(self, engines: Engines, cut: Cut, width: np.ndarray) -> "GroupWork":
        """A group of ``width`` output channels in all bands."""
        place, axi = (cut.kind, engines.rows), engines.axi_bytes
        share = 1.0 if self.shares is None else np.where(cut.passes, 1.0, self.shares[engines.columns])
        taps = np.maximum(1.0, self.winners * self.shape.taps * share)
        # The sums of the tile before are drained meanwhile, and those of this one are taken behind them.
        chunks = ceiling(engines.rows, engines.lanes)
        drain = width * chunks
        fast = np.maximum(np.maximum(NEXT_TILE, drain),
                          engines.rows + ARRAY_SUMS + np.maximum(0, drain - (width + chunks + TAP_BEFORE_DRAINED)))
        if self.shares is not None:
            # Groups differ, and only together they have these taps.
            fast = np.full(len(engines), NEXT_TILE)
        period = np.maximum(fast, taps)
        firsts = self.firsts[place]
        rest = self.tiles[place] - firsts
        block = self.shape.taps * width
        return GroupWork(
            taps=taps, period=period, computing=firsts * taps + rest * period,
            draining=rest * fast + width * self.last_chunks[place],
            loading=share * (self.winners * block + self.runs * (axi - np.gcd(block, axi))) / axi)


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupWork:
    """Cycles of a group of output channels, [P] each: the ``taps`` of a tile, the ``period`` of its tiles, and what is
    computed, drained, and loaded of weights."""

    taps: np.ndarray
    period: np.ndarray
    computing: np.ndarray
    draining: np.ndarray
    loading: np.ndarray
