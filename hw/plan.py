"""How a layer is cut to fit an engine: bands, strips, loop order, weight residency.

The plan holds everything that descriptors and the analytical model share; neither decides anything itself.
"""

import itertools
from dataclasses import dataclass
from functools import cached_property

from .config import EngineConfig, ceil_div

MAX_EXTENT = 65535
"""Rows, columns and channels of a map that a descriptor can hold."""
MAX_POOL = 255
CHUNK = 16
"""Input channels are divided in multiples of this."""
LOAD_BYTES = 64
"""Strips of activations are at least this long, so that bursts stay efficient on real memories."""
STORE_BYTES = 64
"""The same for strips of results."""


class PlanError(ValueError):
    """A layer that this engine cannot run; the message is one line naming the cause."""


@dataclass(frozen=True, kw_only=True)
class LayerShape:
    """A layer's sizes: input [channels, height, width], kernel, stride (y, x), padding (top, bottom, left, right),
    pool (kernel y, x, stride y, x), all in pixels; ``winners``: input channels that take part at most."""

    channels: int
    height: int
    width: int
    out_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    pool: tuple[int, int, int, int] = (1, 1, 1, 1)
    winners: int | None = None

    @property
    def taps(self) -> int:
        """Products for each input channel and result."""
        return self.kernel[0] * self.kernel[1]

    @property
    def most_winners(self) -> int:
        """Input channels that the plan makes room for."""
        return self.channels if self.winners is None else self.winners

    @cached_property
    def conv_extent(self) -> tuple[int, int]:
        """Rows and columns before pooling."""
        top, bottom, left, right = self.padding
        return ((self.height + top + bottom - self.kernel[0]) // self.stride[0] + 1,
                (self.width + left + right - self.kernel[1]) // self.stride[1] + 1)

    @cached_property
    def out_extent(self) -> tuple[int, int]:
        """Rows and columns after pooling."""
        rows, cols = self.conv_extent
        return (rows - self.pool[0]) // self.pool[2] + 1, (cols - self.pool[1]) // self.pool[3] + 1


class Span:
    """One dimension of a band: results ``out0 .. out0 + outs - 1`` and the input they need.

    ``convs``: results before pooling; ``in0``, ``ins``: first input coordinate and how many; ``pad``: padding before
    the first.
    """

    __slots__ = ("conv0", "convs", "in0", "ins", "out0", "outs", "pad")

    def __init__(self, out0: int, outs: int, extent: int, kernel: int, stride: int, pad: int, window: int, step: int):
        self.out0, self.outs = out0, outs
        self.conv0, self.convs = out0 * step, (outs - 1) * step + window
        start = self.conv0 * stride - pad
        self.in0, self.pad = max(0, start), max(0, -start)
        self.ins = min(extent, start + (self.convs - 1) * stride + kernel) - self.in0


class Band:
    """A rectangle of results and how it lies on chip; every number a descriptor or the analytical model needs."""

    __slots__ = (
        "chunk",
        "cols",
        "contiguous",
        "copy",
        "flat",
        "last_rows",
        "merge",
        "out_cols",
        "out_cols_last",
        "out_contiguous",
        "out_row_step",
        "out_rows",
        "out_strip_need",
        "out_strip_rows",
        "out_strip_step",
        "pitch",
        "plane_bytes",
        "positions",
        "rows",
        "rows_first_tile",
        "slab_bytes",
        "strip_rows",
        "strips",
        "tiles",
    )

    def __init__(self, shape: LayerShape, config: EngineConfig, rows: Span, cols: Span):
        stride_y, stride_x = shape.stride
        pool_y, pool_x, pool_step_y, pool_step_x = shape.pool
        self.rows, self.cols = rows, cols
        self.pitch = max(ceil_div(cols.ins, stride_x), cols.convs)
        self.plane_bytes = ceil_div(rows.ins, stride_y) * self.pitch
        self.slab_bytes = stride_y * stride_x * self.plane_bytes
        self.contiguous = cols.ins == shape.width
        self.copy = self.contiguous and stride_x == stride_y == 1 and self.pitch == cols.ins

        self.positions = (rows.convs - 1) * self.pitch + cols.convs
        self.tiles = ceil_div(self.positions, config.rows)
        self.last_rows = self.positions - (self.tiles - 1) * config.rows
        last_y = min((config.rows - 1) // self.pitch, rows.convs - 1)
        self.rows_first_tile = min(rows.ins, last_y * stride_y + shape.kernel[0] - rows.pad)
        strip = max(self.rows_first_tile, ceil_div(LOAD_BYTES, cols.ins))
        strip = ceil_div(strip, stride_y) * stride_y
        if rows.ins < strip + max(1, ceil_div(LOAD_BYTES, cols.ins)):
            strip = ceil_div(rows.ins, stride_y) * stride_y
        self.strip_rows, self.strips = strip, ceil_div(rows.ins, strip)
        self.merge = self.copy and self.strips == 1 and rows.ins == shape.height

        full_width = cols.outs == shape.out_extent[1]
        self.flat = shape.pool == (1, 1, 1, 1) and full_width and self.pitch == cols.convs
        self.chunk = (config.axi_bytes - 1) // pool_step_x + 1 if pool_step_x <= 4 else 1
        if self.flat:
            step = max(1, min(ceil_div(STORE_BYTES, config.rows), config.output_ring_bytes // 4 // config.rows))
            step *= config.rows
            self.out_rows, self.out_cols = ceil_div(self.positions, step), min(step, self.positions)
            self.out_cols_last = self.positions - (self.out_rows - 1) * step
            self.out_strip_rows, self.out_strip_need, self.out_strip_step = 1, step, step
            self.out_row_step, self.out_contiguous = step, True
        else:
            self.out_rows, self.out_cols, self.out_cols_last = rows.outs, cols.outs, cols.outs
            self.out_row_step = pool_step_y * self.pitch
            row_need = (pool_y - 1) * self.pitch + (cols.outs - 1) * pool_step_x + pool_x
            room = config.output_ring_bytes // 2 - config.rows - row_need
            wanted = ceil_div(STORE_BYTES, cols.outs) - 1
            more = max(0, min(wanted, room // self.out_row_step, rows.outs - 1))
            self.out_strip_rows = 1 + more
            self.out_strip_need = more * self.out_row_step + row_need
            self.out_strip_step = self.out_strip_rows * self.out_row_step
            self.out_contiguous = full_width

    def fits(self, config: EngineConfig, winners: int, act_bytes: int) -> bool:
        """The band's winners fit ``act_bytes``, its strips the output ring, its sizes the descriptor."""
        return (winners * self.slab_bytes <= act_bytes and self.slab_bytes < 1 << 24
                and self.out_strip_need + config.rows <= config.output_ring_bytes
                and max(self.pitch, self.rows.ins) <= MAX_EXTENT and self.positions + config.rows < 1 << 24)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A layer cut for an engine.

    ``band_rows`` and ``band_cols``: results of a band (the last ones have fewer); bands run along rows of results
    first. ``double``: bands alternate between the halves of the activation buffer. ``groups_outside``: loop order
    group, band (weights once) instead of band, group (activations once). ``weights_resident``: a group's blocks stay on
    chip for all tiles of a band; ``weights_kept``: for all bands. ``chunk_channels``: input channels whose slabs fit
    at a time; where these are not all, a band is one tile, and its sums are built up chunk by chunk, for each group.
    """

    shape: LayerShape
    config: EngineConfig
    band_rows: int
    band_cols: int
    double: bool
    groups_outside: bool
    weights_resident: bool
    weights_kept: bool
    chunk_channels: int

    @cached_property
    def chunks(self) -> list[tuple[int, int]]:
        """Input channels taken together: (first, how many)."""
        size = self.chunk_channels
        return [(start, min(size, self.shape.channels - start)) for start in range(0, self.shape.channels, size)]

    @cached_property
    def descriptor_count(self) -> int:
        """Descriptors of the layer."""
        by_group = self.groups_outside or len(self.chunks) > 1
        return self.band_count * len(self.chunks) * (self.groups if by_group else 1)

    @cached_property
    def groups(self) -> int:
        """Groups of output channels."""
        return ceil_div(self.shape.out_channels, self.config.columns)

    @cached_property
    def last_columns(self) -> int:
        """Output channels of the last group."""
        return self.shape.out_channels - (self.groups - 1) * self.config.columns

    @cached_property
    def band_count(self) -> int:
        """Bands of the layer."""
        rows, cols = self.shape.out_extent
        return ceil_div(rows, self.band_rows) * ceil_div(cols, self.band_cols)

    def bands(self):
        """All bands in order."""
        return [Band(self.shape, self.config, rows, cols)
                for rows in spans(self.shape, 0, self.band_rows) for cols in spans(self.shape, 1, self.band_cols)]

    @cached_property
    def band_classes(self):
        """Bands of different geometry in order: ([(band, how many such side by side)], how many such rows)."""
        def classes(axis, size):
            found = {}
            for one in spans(self.shape, axis, size):
                found.setdefault((one.outs, one.ins, one.pad), [one, 0])[1] += 1
            return found.values()
        columns = list(classes(1, self.band_cols))
        return [([(Band(self.shape, self.config, rows, cols), n_cols) for cols, n_cols in columns], n_rows)
                for rows, n_rows in classes(0, self.band_rows)]


def span(shape: LayerShape, axis: int, out0: int, outs: int) -> Span:
    """The span of ``outs`` results from ``out0`` along an axis (0 rows, 1 columns)."""
    return Span(out0, outs, (shape.height, shape.width)[axis], shape.kernel[axis], shape.stride[axis],
                shape.padding[2 * axis], shape.pool[axis], shape.pool[2 + axis])


def spans(shape: LayerShape, axis: int, size: int) -> list[Span]:
    """An axis cut into spans of ``size`` results, the last one shorter."""
    total = shape.out_extent[axis]
    return [span(shape, axis, start, min(size, total - start)) for start in range(0, total, size)]


def make_plan(shape: LayerShape, config: EngineConfig) -> Plan:
    """Cut a layer for an engine: the fewest bytes first, then the fewest bands.

    Raises :class:`PlanError` for a layer that cannot run.
    """
    _check(shape, config)
    rows, cols = shape.out_extent
    winners = shape.most_winners

    def largest(axis: int, other: int, limit: int, act_bytes: int) -> int:
        """Most results along an axis, at most ``limit``, whose band fits (0: none). Band sizes grow with it."""
        low, high = 0, limit
        while low < high:
            middle = (low + high + 1) // 2
            sizes = (middle, other) if axis == 0 else (other, middle)
            if _worst_fits(shape, config, sizes, winners, act_bytes):
                low = middle
            else:
                high = middle - 1
        return low

    half = config.act_buffer_bytes // 2
    chunk = shape.channels
    band_rows, band_cols, double = rows, cols, False
    if not _worst_fits(shape, config, (rows, cols), winners, config.act_buffer_bytes):
        for act_bytes in (half, config.act_buffer_bytes):
            double = act_bytes == half
            band_cols = cols
            band_rows = largest(0, cols, rows, act_bytes)
            if band_rows == 0:
                band_cols = largest(1, 1, cols, act_bytes)
                band_rows = largest(0, band_cols, rows, act_bytes) if band_cols else 0
            if band_rows:
                break
        else:
            band_rows, band_cols, chunk = _one_tile(shape, config)
            double = chunk * _slab_bytes(shape, config, (band_rows, band_cols)) <= half
    if chunk == shape.channels:
        # As many bands, but of equal size: what one loads hides behind what another computes.
        even = ceil_div(rows, ceil_div(rows, band_rows)), ceil_div(cols, ceil_div(cols, band_cols))
        if _worst_fits(shape, config, even, winners, half if double else config.act_buffer_bytes):
            band_rows, band_cols = even
    columns = min(config.columns, shape.out_channels)
    group_bytes = winners * shape.taps * columns
    all_bytes = winners * shape.taps * shape.out_channels
    resident = group_bytes <= config.weight_buffer_bytes
    resident = resident and chunk == shape.channels
    bands = ceil_div(rows, band_rows) * ceil_div(cols, band_cols)
    kept, groups_outside = False, False
    if bands > 1 and resident:
        act_bytes = winners * shape.height * shape.width
        groups = ceil_div(shape.out_channels, config.columns)
        if all_bytes <= config.weight_buffer_bytes:
            kept = True
        elif act_bytes * (groups - 1) < all_bytes * (bands - 1):
            kept = groups_outside = True
    return Plan(shape=shape, config=config, band_rows=band_rows, band_cols=band_cols, double=double,
                groups_outside=groups_outside, weights_resident=resident, weights_kept=kept, chunk_channels=chunk)


def _one_tile(shape: LayerShape, config: EngineConfig) -> tuple[int, int, int]:
    """Rows and columns of the largest bands of one tile, and input channels that fit with them, 16 at least."""
    rows, cols = shape.out_extent
    candidates = [(n, cols) for n in range(min(rows, config.rows), 0, -1)]
    candidates += [(1, n) for n in range(min(cols, config.rows), 0, -1)]
    least = min(CHUNK, shape.channels)
    for sizes in candidates:
        slab = _slab_bytes(shape, config, sizes)
        one_tile = all(Band(shape, config, row, col).tiles == 1
                       for row, col in itertools.product(*_extremes(shape, sizes)))
        if one_tile and _worst_fits(shape, config, sizes, least, config.act_buffer_bytes):
            half = config.act_buffer_bytes // 2
            room = half if least * slab <= half else config.act_buffer_bytes
            return *sizes, min(shape.channels, room // slab // CHUNK * CHUNK or least)
    raise PlanError(
        f"act_buffer_bytes: {least} channels of one result need {least * _slab_bytes(shape, config, (1, 1))} bytes in "
        f"a buffer of {config.act_buffer_bytes}, and its pooling window {shape.pool[:2]} one tile of {config.rows} "
        f"positions and {config.output_ring_bytes} bytes of output ring")


def _extremes(shape: LayerShape, sizes: tuple[int, int]):
    """Spans of these sizes along rows and columns, among them those with the most padding and with the most input.

    The input of a span grows as it leaves the padding before the image and shrinks where it enters the one behind.
    """
    for axis, size in enumerate(sizes):
        total = shape.out_extent[axis]
        padded = shape.padding[2 * axis] / (shape.stride[axis] * shape.pool[2 + axis] * size)
        starts = {0, *(min(int(n) * size, max(0, total - size)) for n in (padded, padded + 1))}
        yield [span(shape, axis, start, min(size, total - start)) for start in starts]


def _slab_bytes(shape: LayerShape, config: EngineConfig, sizes: tuple[int, int]) -> int:
    """Most bytes of a channel in a band of this size."""
    return max(Band(shape, config, row, col).slab_bytes for row, col in itertools.product(*_extremes(shape, sizes)))


def _worst_fits(shape, config, sizes, winners, act_bytes) -> bool:
    """A band of this size fits wherever it lies: interior ones have the most input, the first one the least."""
    return all(Band(shape, config, row, col).fits(config, winners, act_bytes)
               for row, col in itertools.product(*_extremes(shape, sizes)))


def _check(shape: LayerShape, config: EngineConfig):
    if max(shape.channels, shape.out_channels) > config.max_channels:
        raise PlanError(f"max_channels: the layer has {shape.channels} input and {shape.out_channels} output channels, "
                        f"the engine was built for {config.max_channels}")
    if max(shape.height, shape.width, *shape.conv_extent) > MAX_EXTENT:
        raise PlanError(f"input: expected maps of at most {MAX_EXTENT} rows and columns")
    if max(shape.pool) > MAX_POOL:
        raise PlanError(f"pool: expected windows and strides of at most {MAX_POOL}, got {shape.pool}")
