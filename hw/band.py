"""The sizes of a layer, and of the rectangles of its results that an engine takes at a time."""

from dataclasses import dataclass
from functools import cached_property
from math import gcd

from .config import VECTOR_TAPS, EngineConfig, ceil_div

MAX_EXTENT = 65535
"""Rows, columns and channels of a map that a descriptor can hold."""
LOAD_BYTES = 64
"""Strips of activations are at least this long, so that bursts stay efficient on real memories."""
STORE_BYTES = 64
"""The same for strips of results that go to memory."""
CHIP_STORE_BYTES = 32
"""Strips of results that stay on chip: what is left to write behind the last tile is short."""
JUDGED_TILES = 16
"""Tiles that the output ring has room for beside a plane that waits for its score."""


@dataclass(frozen=True, kw_only=True)
class LayerShape:
    """A layer's sizes: input [channels, height, width], kernel, stride (y, x), padding (top, bottom, left, right),
    pool (kernel y, x, stride y, x) and its padding, all in pixels.

    ``groups``: of a grouped convolution. ``vector``: each output channel has one input channel (``out_channels`` a
    multiple of ``channels``) and runs on the vector unit; ``operands``: 2 for an addition. ``weighted``: there are
    weights. ``average``: results are divided by the number of pixels inside the window, so they lie in regions of equal
    number. ``blocks``: some blocks of weights (group of output channels, input channel) are zero and left out, by a
    list for each group. ``judged``: planes that cannot win need not be written. ``resident``: the input is on chip
    before the layer begins, plane behind plane. ``stays_on_chip``: the results are for the next layer, which finds them
    on chip. ``one_strip``: all rows are loaded before the weights. ``winners``: input channels that take part at most.
    """

    channels: int
    height: int
    width: int
    out_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    pool: tuple[int, int, int, int] = (1, 1, 1, 1)
    pool_padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    vector: bool = False
    operands: int = 1
    weighted: bool = True
    average: bool = False
    blocks: bool = False
    judged: bool = False
    resident: bool = False
    stays_on_chip: bool = False
    one_strip: bool = False
    winners: int | None = None

    @property
    def taps(self) -> int:
        """Products for each input channel and result."""
        return self.kernel[0] * self.kernel[1]

    @property
    def products(self) -> int:
        """Multiplications by weights, of all channels: 0 for pooling and addition."""
        rows, cols = self.conv_extent
        depth = 1 if self.vector else self.channels // self.groups
        return depth * self.taps * self.out_channels * rows * cols if self.weighted else 0

    @property
    def most_winners(self) -> int:
        """Input channels whose weights the plan makes room for."""
        return self.channels if self.winners is None else self.winners

    @property
    def slabs(self) -> int:
        """Input channels whose activations the plan makes room for."""
        return self.channels if self.blocks or self.resident else self.most_winners

    @property
    def depth_multiplier(self) -> int:
        """Of a vector layer: output channels for each input channel."""
        return self.out_channels // self.channels

    @property
    def tile_steps(self) -> int:
        """Steps of a tile: cycles that it computes, of as many winners as can be."""
        if self.operands == 2:
            return 2
        if self.vector:
            return self.kernel[0] * ceil_div(self.kernel[1], VECTOR_TAPS)
        return self.most_winners * self.taps

    @property
    def lane_step(self) -> int:
        """Bytes on chip from a position's input to that of the next: the vector unit reads past those between."""
        return self.stride[1] if self.vector else 1

    @cached_property
    def conv_extent(self) -> tuple[int, int]:
        """Rows and columns before pooling."""
        top, bottom, left, right = self.padding
        return ((self.height + top + bottom - self.kernel[0]) // self.stride[0] + 1,
                (self.width + left + right - self.kernel[1]) // self.stride[1] + 1)

    @cached_property
    def out_extent(self) -> tuple[int, int]:
        """Rows and columns after pooling."""
        (rows, cols), (top, bottom, left, right) = self.conv_extent, self.pool_padding
        return ((rows + top + bottom - self.pool[0]) // self.pool[2] + 1,
                (cols + left + right - self.pool[1]) // self.pool[3] + 1)


class Span:
    """One dimension of a band: results ``out0 .. out0 + outs - 1`` and the input they need.

    ``convs``: results before pooling; ``pool0``: of these, where the first window starts (below 0 in its padding);
    ``in0``, ``ins``: first input coordinate loaded and how many, each ``step`` from the one before; ``pad``: padding
    before the first; ``stride``: from one result's to the next's of those loaded. Rows that a kernel of one row leaves
    out are not loaded, so ``stride`` is then 1.
    """

    __slots__ = ("conv0", "convs", "in0", "ins", "out0", "outs", "pad", "pool0", "step", "stride")

    def __init__(self, shape: LayerShape, axis: int, out0: int, outs: int):
        self.out0, self.outs = out0, outs
        window, step, pool_pad = shape.pool[axis], shape.pool[2 + axis], shape.pool_padding[2 * axis]
        stride, pad = shape.stride[axis], shape.padding[2 * axis]
        leaves_out = axis == 0 and shape.kernel[0] == 1 and shape.width * stride <= MAX_EXTENT
        self.step, self.stride = (stride, 1) if leaves_out else (1, stride)
        first = out0 * step - pool_pad
        self.conv0 = max(0, first)
        self.pool0 = first - self.conv0
        self.convs = min(shape.conv_extent[axis], first + (outs - 1) * step + window) - self.conv0
        start = self.conv0 * stride - pad
        self.in0, self.pad = max(0, start), max(0, -start)
        extent = (shape.height, shape.width)[axis]
        self.ins = min(extent, start + (self.convs - 1) * stride + shape.kernel[axis]) - self.in0
        if self.step > 1:
            self.ins = self.convs


class Band:
    """A rectangle of results and how it lies on chip; every number a descriptor or the analytical model needs.

    ``pitch``: positions of a row; ``row_bytes``: of input on chip. ``row_phases``, ``column_phases``: sub-planes that
    the rows and columns are dealt to; ``phases``: of the columns', those that are kept. ``tile_positions``: results of
    a channel in a tile; ``tile_bytes``: from a tile's input to that of the next.
    """

    __slots__ = (
        "chunk",
        "cols",
        "column_phases",
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
        "phases",
        "pitch",
        "plane_bytes",
        "positions",
        "ring_positions",
        "row_bytes",
        "row_phases",
        "rows",
        "rows_first_tile",
        "slab_bytes",
        "strip_rows",
        "strips",
        "tile_bytes",
        "tile_positions",
        "tiles",
    )

    def __init__(self, shape: LayerShape, config: EngineConfig, rows: Span, cols: Span):
        pool_y, pool_x, pool_step_y, pool_step_x = shape.pool
        self.rows, self.cols = rows, cols
        self.contiguous = cols.ins == shape.width and rows.step == 1
        self.column_phases = stride_x = cols.stride // shape.lane_step
        tile = config.vector_positions(shape.lane_step) if shape.vector else config.rows
        if self._takes_rows(shape, config, tile):
            # A tile is a row of results. So rows of input need not be dealt: they lie as in memory.
            self.row_phases, self.pitch, self.row_bytes = 1, cols.convs, cols.ins
            tile = self.pitch
            self.tile_bytes = rows.stride * self.row_bytes
        else:
            self.row_phases = rows.stride
            self.pitch = max(ceil_div(cols.ins, cols.stride), cols.convs)
            self.row_bytes = self.pitch * shape.lane_step
            self.tile_bytes = tile * shape.lane_step
        self.tile_positions, stride_y = tile, self.row_phases
        self.plane_bytes = ceil_div(rows.ins, stride_y) * self.row_bytes
        # Columns that no tap needs are not kept.
        self.phases = min(shape.kernel[1], stride_x) if cols.pad == 0 else stride_x
        self.slab_bytes = stride_y * stride_x * self.plane_bytes * shape.operands
        if shape.resident:
            # The layer before has put whole planes there, with rows at their end that no window needs.
            self.slab_bytes = shape.height * shape.width
        self.copy = self.contiguous and stride_x == stride_y == 1 and self.row_bytes == cols.ins

        self.positions = (rows.convs - 1) * self.pitch + cols.convs
        self.tiles = ceil_div(self.positions, tile)
        self.last_rows = self.positions - (self.tiles - 1) * tile
        last_y = min((tile - 1) // self.pitch, rows.convs - 1)
        self.rows_first_tile = min(rows.ins, last_y * stride_y + shape.kernel[0] - rows.pad)
        strip = max(self.rows_first_tile, ceil_div(LOAD_BYTES, cols.ins))
        strip = ceil_div(strip, stride_y) * stride_y
        whole = shape.vector or shape.blocks or shape.resident or shape.one_strip
        if whole or rows.ins < strip + max(1, ceil_div(LOAD_BYTES, cols.ins)):
            strip = ceil_div(rows.ins, stride_y) * stride_y
        self.strip_rows, self.strips = strip, ceil_div(rows.ins, strip)
        self.merge = self.copy and self.strips == shape.operands == 1 and rows.ins == shape.height

        full_width = cols.outs == shape.out_extent[1]
        self.flat = shape.pool == (1, 1, 1, 1) and full_width and self.pitch == cols.convs
        self.chunk = (config.axi_bytes - 1) // pool_step_x + 1 if pool_step_x <= 4 else 1
        # A channel of the vector unit is one strip if two of them fit the ring.
        half = config.output_ring_bytes // 2
        store = half if shape.vector else CHIP_STORE_BYTES if shape.stays_on_chip else STORE_BYTES
        most = half if shape.vector else half // 2
        whole = (rows.outs, cols.outs) == shape.out_extent
        if shape.judged and whole and (self.tiles + JUDGED_TILES) * tile <= config.output_ring_bytes:
            # The whole plane, so that its score is known before it is written.
            store = most = half = config.output_ring_bytes
        if self.flat:
            step = max(1, min(ceil_div(min(store, self.positions), tile), most // tile)) * tile
            self.out_rows, self.out_cols = ceil_div(self.positions, step), min(step, self.positions)
            self.out_cols_last = self.positions - (self.out_rows - 1) * step
            self.out_strip_rows, self.out_strip_need, self.out_strip_step = 1, step, step
            self.ring_positions = step
            self.out_row_step, self.out_contiguous = step, True
        else:
            self.out_rows, self.out_cols, self.out_cols_last = rows.outs, cols.outs, cols.outs
            self.out_row_step = pool_step_y * self.pitch
            # What a row of results needs; the first one may lie in the padding in part.
            across = min(cols.convs, cols.pool0 + (cols.outs - 1) * pool_step_x + pool_x)
            row_need = (min(rows.convs, pool_y) - 1) * self.pitch + across
            room = half - tile - row_need
            wanted = ceil_div(store, cols.outs) - 1
            more = max(0, min(wanted, room // self.out_row_step, rows.outs - 1))
            self.out_strip_rows = 1 + more
            self.ring_positions = more * self.out_row_step + row_need
            last_row = min(rows.convs, rows.pool0 + more * pool_step_y + pool_y) - 1
            self.out_strip_need = last_row * self.pitch + across
            self.out_strip_step = self.out_strip_rows * self.out_row_step
            self.out_contiguous = full_width

    def _takes_rows(self, shape: LayerShape, config: EngineConfig, tile: int) -> bool:
        """Whether tiles of whole rows are faster: they waste lanes, but a beat of input is then one write."""
        rows, cols = self.rows, self.cols
        if not shape.vector or rows.stride == 1 or not self.contiguous:
            return False
        if cols.convs > tile or (cols.convs - 1) * shape.lane_step >= cols.ins:
            return False
        row_steps, steps = (tiles * shape.tile_steps for tiles in (rows.convs, ceil_div(rows.convs * cols.convs, tile)))
        beats = rows.ins * cols.ins / config.axi_bytes
        # What a row's end cuts from a beat is written in a cycle of its own.
        pieces = beats + rows.ins * (1 - gcd(cols.ins, config.axi_bytes) / config.axi_bytes)
        return shape.resident or max(row_steps, beats) < max(steps, pieces)

    def fits(self, config: EngineConfig, winners: int, act_bytes: int) -> bool:
        """The band's winners fit ``act_bytes``, its strips the output ring, its sizes the descriptor."""
        return (winners * self.slab_bytes <= act_bytes and self.slab_bytes < 1 << 24
                and self.ring_positions + config.position_lanes <= config.output_ring_bytes
                and max(self.row_bytes, self.rows.ins) <= MAX_EXTENT
                and self.positions + config.position_lanes < 1 << 24)


def spans(shape: LayerShape, axis: int, size: int, first: int = 0, total: int | None = None) -> list[Span]:
    """Results ``first .. first + total - 1`` along an axis (0 rows, 1 columns), all of them unless given, cut into
    spans of ``size``, the last one shorter."""
    end = first + (shape.out_extent[axis] - first if total is None else total)
    return [Span(shape, axis, start, min(size, end - start)) for start in range(first, end, size)]
