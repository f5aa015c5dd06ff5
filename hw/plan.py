"""How a layer is cut to fit an engine: bands, strips, passes, loop order, weight residency.

The plan holds everything that descriptors and the analytical model share; neither decides anything itself.
"""

import itertools
from dataclasses import dataclass, replace
from functools import cached_property

from .band import MAX_EXTENT, Band, LayerShape, Span, spans
from .config import EngineConfig, ceil_div
from .winner_list import CHUNK

MAX_WINDOW = 255
"""Rows and columns of a pooling window, and its strides."""
EVERY_WINNER = 65535
"""Winners of a pass where one pass takes all."""
PASS_SHARE = 0.75
"""Part of the weight buffer that a pass takes at most, where there are several: the next one loads into the rest."""
VECTOR_LOAD_CYCLES = 512
"""Cycles that a descriptor of the vector unit loads for, at least one channel: the next one's load meanwhile."""
JUDGE_CYCLES = 17
"""Cycles from the last read for a channel's score to the first one that writes it (hw/write_back.py, hw/ranking.py)."""


class PlanError(ValueError):
    """A layer that this engine cannot run; the message is one line naming the cause."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A layer cut for an engine.

    ``layer``: all of it; ``shape``: of one part, of which a grouped convolution has ``layer.groups``, one behind the
    other. ``act_bytes``: what it uses of the activation buffer at most. ``band_rows`` and ``band_cols``: results of a
    band (the last ones have fewer); bands run along rows of results first. ``double``: descriptors alternate between
    the halves of the activation buffer. ``groups_outside``: loop order group, band (weights once) instead of band,
    group (activations once). ``weights_kept``: a group's blocks stay on chip for all bands, not only for all tiles of
    one. ``pass_winners``: winners whose blocks fit on chip at a time; where these are not all, the sums of all tiles of
    a band are built up pass by pass, in each group. ``chunk_channels``: input channels whose slabs fit at a time, chunk
    by chunk likewise, in each group. Of the vector unit: channels of a descriptor.
    """

    layer: LayerShape
    shape: LayerShape
    config: EngineConfig
    act_bytes: int
    band_rows: int
    band_cols: int
    double: bool
    groups_outside: bool
    weights_kept: bool
    pass_winners: int
    chunk_channels: int

    @cached_property
    def chunks(self) -> list[tuple[int, int]]:
        """Input channels taken together: (first, how many)."""
        size = self.chunk_channels
        return [(start, min(size, self.shape.channels - start)) for start in range(0, self.shape.channels, size)]

    @cached_property
    def descriptor_count(self) -> int:
        """Descriptors of the layer."""
        by_group = not self.shape.vector and (self.groups_outside or len(self.chunks) > 1)
        return self.band_count * len(self.chunks) * (self.groups if by_group else 1) * self.layer.groups

    @cached_property
    def skips_losers(self) -> bool:
        """Planes whose score shows that they cannot win are not written: each is one strip of one band."""
        return self.shape.judged and self.band_count == 1 and all(
            band.out_strip_rows >= band.out_rows for band in self.bands())

    @cached_property
    def groups(self) -> int:
        """Groups of output channels in a part."""
        return ceil_div(self.shape.out_channels, self.config.columns)

    @cached_property
    def last_columns(self) -> int:
        """Output channels of the last group."""
        return self.shape.out_channels - (self.groups - 1) * self.config.columns

    @cached_property
    def regions(self) -> list[list[tuple[int, int, int]]]:
        """Rows and columns of results whose windows hold equally many pixels: (first, how many, pixels) of each axis.

        One region for all but averages with padding.
        """
        return [_regions(self.shape, axis) for axis in (0, 1)]

    @cached_property
    def band_count(self) -> int:
        """Bands of a part."""
        rows, cols = (sum(ceil_div(count, size) for _, count, _ in regions)
                      for regions, size in zip(self.regions, (self.band_rows, self.band_cols), strict=True))
        return rows * cols

    def bands(self) -> list[Band]:
        """All bands of a part in order."""
        rows, cols = ([one for first, count, _ in regions for one in spans(self.shape, axis, size, first, count)]
                      for axis, (regions, size) in enumerate(zip(self.regions, (self.band_rows, self.band_cols),
                                                                 strict=True)))
        return [Band(self.shape, self.config, row, col) for row in rows for col in cols]

    @cached_property
    def band_classes(self):
        """Bands of different geometry in order: ([(band, how many such side by side)], how many such rows)."""
        def classes(axis, size):
            found = {}
            for first, count, pixels in self.regions[axis]:
                for one in spans(self.shape, axis, size, first, count):
                    found.setdefault((one.outs, one.ins, one.pad, one.pool0, one.convs, pixels), [one, 0])[1] += 1
            return found.values()
        columns = list(classes(1, self.band_cols))
        return [([(Band(self.shape, self.config, rows, cols), n_cols) for cols, n_cols in columns], n_rows)
                for rows, n_rows in classes(0, self.band_rows)]


def _regions(shape: LayerShape, axis: int) -> list[tuple[int, int, int]]:
    total = shape.out_extent[axis]
    if not shape.average:
        return [(0, total, shape.kernel[axis])]
    extent = (shape.height, shape.width)[axis]
    found = []
    for out in range(total):
        start = out * shape.pool[2 + axis] * shape.stride[axis] - shape.padding[2 * axis]
        pixels = min(extent, start + shape.kernel[axis]) - max(0, start)
        if found and found[-1][2] == pixels:
            found[-1] = (found[-1][0], found[-1][1] + 1, pixels)
        else:
            found.append((out, 1, pixels))
    return found


def make_plan(layer: LayerShape, config: EngineConfig, *, act_bytes: int | None = None) -> Plan:
    """Cut a layer for an engine: the fewest bytes first, then the fewest bands.

    ``act_bytes``: what the layer may use of the activation buffer, from its start; all of it unless given.

    Raises :class:`PlanError` for a layer that cannot run.
    """
    _check(layer, config)
    plan = _make_plan(layer, config, act_bytes)
    if layer.judged and (layer.stays_on_chip or not _judging_hides(plan)):
        plan = _make_plan(replace(layer, judged=False), config, act_bytes)
    return plan


def _judging_hides(plan: Plan) -> bool:
    """A channel's results are computed no faster than they are read for their score and again to be written."""
    if not plan.skips_losers:
        return False
    shape, config, band = plan.shape, plan.config, plan.bands()[0]
    reads = band.out_rows * ceil_div(band.out_cols, band.chunk) * shape.pool[0] * shape.pool[1]
    chunks = ceil_div(band.tile_positions, config.requantize_lanes)
    steps = shape.tile_steps / (1 if shape.vector else min(config.columns, shape.out_channels))
    return band.tiles * max(steps, chunks) >= 2 * reads + JUDGE_CYCLES


def _make_plan(layer: LayerShape, config: EngineConfig, act_bytes: int | None) -> Plan:
    room = config.act_buffer_bytes if act_bytes is None else act_bytes
    if layer.vector:
        return _vector_plan(layer, config, room)
    plan = _convolution_plan(layer, config, room)
    if layer.blocks and (plan.pass_winners != EVERY_WINNER or len(plan.chunks) > 1):
        # Lists are of all input channels at once: without them zeros are computed, with the same result.
        return _convolution_plan(replace(layer, blocks=False), config, room)
    return plan


def resident_plan(layer: LayerShape, config: EngineConfig, *, masked: bool) -> Plan | None:
    """The plan of a layer whose input is on chip, plane behind plane, before it begins; None where that cannot be.

    On chip planes must lie as in memory (not dealt by phases, rows no longer than the input's), and all of the layer
    must be one band; the lists of winners that a mask then needs are of all channels at once.
    """
    if layer.groups > 1 or layer.operands > 1:
        return None
    try:
        plan = make_plan(replace(layer, resident=True), config)
    except PlanError:
        return None
    listed = masked and not layer.vector and (plan.pass_winners != EVERY_WINNER or plan.shape.blocks != layer.blocks)
    one_band = plan.band_count == 1 and (layer.vector or len(plan.chunks) == 1)
    return plan if one_band and not listed and plan.bands()[0].copy else None


def _convolution_plan(layer: LayerShape, config: EngineConfig, room: int) -> Plan:
    shape = layer
    if layer.groups > 1:
        winners = None if layer.winners is None else min(layer.winners, layer.channels // layer.groups)
        shape = replace(layer, channels=layer.channels // layer.groups, winners=winners, groups=1,
                        out_channels=layer.out_channels // layer.groups)
    rows, cols = shape.out_extent
    winners, slabs = shape.most_winners, shape.slabs
    columns = min(config.columns, shape.out_channels)
    block_bytes = shape.taps * columns
    if winners * block_bytes > config.weight_buffer_bytes:
        # The first pass ends when all tiles have their rows, and only then is there room for the next one's weights.
        shape = replace(shape, one_strip=True)
    half = room // 2

    # Weights: all of a group's at once, or passes; the sums of these have to fit the psum memory.
    one_pass = winners * block_bytes <= config.weight_buffer_bytes
    tiles = 1 if block_bytes > config.weight_buffer_bytes else None if one_pass else config.psum_tiles
    chunk = shape.channels if shape.channels <= config.max_channels else config.max_channels // CHUNK * CHUNK
    sizes, double = None, False
    if chunk == shape.channels:
        if layer.groups == 1 and _worst_fits(shape, config, (rows, cols), slabs, room, tiles):
            sizes = rows, cols
        for act_bytes in (half, room):
            if sizes is None:
                double = act_bytes == half
                sizes = _largest_band(shape, config, slabs, act_bytes, tiles)
    if sizes is None:
        *sizes, chunk = _chunked(shape, config, room, chunk, 1 if block_bytes > config.weight_buffer_bytes
                                 else config.psum_tiles)
        double = chunk * _slab_bytes(shape, config, sizes) <= room // 2
        one_pass = min(winners, chunk) * block_bytes <= config.weight_buffer_bytes
    else:
        # As many bands, but of equal size: what one loads hides behind what another computes.
        even = tuple(ceil_div(extent, ceil_div(extent, size)) for extent, size in zip((rows, cols), sizes, strict=True))
        if _worst_fits(shape, config, even, slabs, half if double else room, tiles):
            sizes = even
    pass_winners = EVERY_WINNER
    if not one_pass and tiles != 1:
        most = max(1, int(config.weight_buffer_bytes * PASS_SHARE) // block_bytes)
        pass_winners = ceil_div(min(winners, chunk), ceil_div(min(winners, chunk), most))
    bands = ceil_div(rows, sizes[0]) * ceil_div(cols, sizes[1])
    kept, groups_outside = False, False
    if bands > 1 and one_pass and chunk == shape.channels:
        act_bytes = winners * shape.height * shape.width
        all_bytes = winners * shape.taps * shape.out_channels
        groups = ceil_div(shape.out_channels, config.columns)
        if all_bytes <= config.weight_buffer_bytes:
            kept = True
        elif act_bytes * (groups - 1) < all_bytes * (bands - 1):
            kept = groups_outside = True
    return Plan(layer=layer, shape=shape, config=config, act_bytes=room, band_rows=sizes[0], band_cols=sizes[1],
                double=double, groups_outside=groups_outside, weights_kept=kept, pass_winners=pass_winners,
                chunk_channels=chunk)


def _largest_band(shape: LayerShape, config: EngineConfig, winners: int, act_bytes: int,
                  tiles: int | None) -> tuple[int, int] | None:
    """Rows and columns of the largest bands that fit, whole rows if they can be; None if none does."""
    rows, cols = shape.out_extent

    def largest(axis: int, other: int, limit: int) -> int:
        """Most results along an axis, at most ``limit``, whose band fits (0: none). Band sizes grow with it."""
        low, high = 0, limit
        while low < high:
            middle = (low + high + 1) // 2
            sizes = (middle, other) if axis == 0 else (other, middle)
            if _worst_fits(shape, config, sizes, winners, act_bytes, tiles):
                low = middle
            else:
                high = middle - 1
        return low

    band_cols = cols
    band_rows = largest(0, cols, rows)
    if band_rows == 0:
        band_cols = largest(1, 1, cols)
        band_rows = largest(0, band_cols, rows) if band_cols else 0
    return (band_rows, band_cols) if band_rows else None


def _vector_plan(shape: LayerShape, config: EngineConfig, room: int) -> Plan:
    """Whole planes of as many channels as load in a moment, in turn in each half of the activation buffer."""
    half = room if shape.resident else room // 2
    sizes = shape.out_extent
    if not _worst_fits(shape, config, sizes, 1, half, None):
        sizes = _largest_band(shape, config, 1, half, None)
    if sizes is None:
        raise PlanError(
            f"act_buffer_bytes: a channel of one result needs {_slab_bytes(shape, config, (1, 1))} bytes in half a "
            f"buffer of {room}, and its pooling window {shape.pool[:2]} its positions in "
            f"{config.output_ring_bytes} bytes of output ring")
    slab = _slab_bytes(shape, config, sizes)
    block = shape.taps * shape.depth_multiplier if shape.weighted else 1
    most = min(half // slab, config.weight_buffer_bytes // block, config.max_channels // shape.depth_multiplier)
    if most < 1:
        raise PlanError(f"weight_buffer_bytes: a channel's weights take {block} bytes of {config.weight_buffer_bytes}")
    chunk = min(shape.channels, most)
    if not shape.resident:
        band = Band(shape, config, Span(shape, 0, 0, sizes[0]), Span(shape, 1, 0, sizes[1]))
        beats = ceil_div(band.cols.ins, config.axi_bytes) * band.phases
        cycles = slab / config.axi_bytes if band.copy else shape.operands * band.rows.ins * beats
        chunk = min(chunk, max(1, int(VECTOR_LOAD_CYCLES / cycles)))
    chunk = ceil_div(shape.channels, ceil_div(shape.channels, chunk))
    return Plan(layer=shape, shape=shape, config=config, act_bytes=room, band_rows=sizes[0], band_cols=sizes[1],
                double=True, groups_outside=False, weights_kept=False, pass_winners=EVERY_WINNER, chunk_channels=chunk)


def _chunked(shape: LayerShape, config: EngineConfig, room: int, channels: int, tiles: int) -> tuple[int, int, int]:
    """Rows and columns of the largest bands of few tiles, and input channels that fit with them, 16 at least."""
    least = min(CHUNK, channels)
    for act_bytes in (room // 2, room):
        sizes = _largest_band(shape, config, least, act_bytes, tiles)
        if sizes:
            most = act_bytes // _slab_bytes(shape, config, sizes) // CHUNK * CHUNK or least
            return *sizes, min(channels, most)
    raise PlanError(
        f"act_buffer_bytes: {least} channels of one result need {least * _slab_bytes(shape, config, (1, 1))} bytes in "
        f"a buffer of {room}, and its pooling window {shape.pool[:2]} {tiles} tiles of "
        f"{config.rows} positions and {config.output_ring_bytes} bytes of output ring")


def _extremes(shape: LayerShape, sizes: tuple[int, int]):
    """Spans of these sizes along rows and columns, among them those with the most padding and with the most input.

    The input of a span grows as it leaves the padding before the image and shrinks where it enters the one behind.
    """
    for axis, size in enumerate(sizes):
        total = shape.out_extent[axis]
        pad = shape.padding[2 * axis] + shape.pool_padding[2 * axis] * shape.stride[axis]
        padded = pad / (shape.stride[axis] * shape.pool[2 + axis] * size)
        starts = {0, *(min(int(n) * size, max(0, total - size)) for n in (padded, padded + 1))}
        yield [Span(shape, axis, start, min(size, total - start)) for start in starts]


def _slab_bytes(shape: LayerShape, config: EngineConfig, sizes: tuple[int, int]) -> int:
    """Most bytes of a channel in a band of this size."""
    return max(Band(shape, config, row, col).slab_bytes for row, col in itertools.product(*_extremes(shape, sizes)))


def _worst_fits(shape, config, sizes, winners, act_bytes, tiles) -> bool:
    """A band of this size fits wherever it lies: interior ones have the most input, the first one the least."""
    bands = [Band(shape, config, row, col) for row, col in itertools.product(*_extremes(shape, sizes))]
    return all(band.fits(config, winners, act_bytes) and (tiles is None or band.tiles <= tiles) for band in bands)


def _check(shape: LayerShape, config: EngineConfig):
    if max(shape.channels, shape.out_channels) > MAX_EXTENT:
        raise PlanError(f"channels: expected at most {MAX_EXTENT}, got {shape.channels} and {shape.out_channels}")
    if max(shape.height, shape.width, *shape.conv_extent) > MAX_EXTENT:
        raise PlanError(f"input: expected maps of at most {MAX_EXTENT} rows and columns")
    if shape.vector and shape.depth_multiplier > MAX_WINDOW:
        raise PlanError(f"weight: expected at most {MAX_WINDOW} output channels for each input channel of a depthwise "
                        f"layer, got {shape.depth_multiplier}")
    if max(shape.pool) > MAX_WINDOW or max(shape.kernel) > MAX_WINDOW:
        raise PlanError(f"pool: expected windows and strides of at most {MAX_WINDOW}, "
                        f"got {max(*shape.pool, *shape.kernel)}")
