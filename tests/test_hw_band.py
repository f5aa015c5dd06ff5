"""Bands of padded pools against loops in Python: what they take, and that their strips fit the output ring."""

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from hw.band import Band, LayerShape
from hw.config import EngineConfig
from hw.plan import PlanError, make_plan

MOST_BANDS = 200


@st.composite
def shapes(draw) -> LayerShape:
    """Any kernel, window and padding of both, all smaller than what they pad; on the array or the vector unit."""
    kernel, window = (draw(st.tuples(*[st.integers(1, 5)] * 2)) for _ in range(2))
    padding, pool_padding = (tuple(draw(st.integers(0, size[side // 2] - 1)) for side in range(4))
                             for size in (kernel, window))
    height, width = (max(1, kernel[axis] - sum(padding[2 * axis:2 * axis + 2])) + draw(st.integers(0, 40))
                     for axis in (0, 1))
    vector, channels = draw(st.booleans()), draw(st.integers(1, 40))
    shape = LayerShape(channels=channels, height=height, width=width, out_channels=channels if vector else 4,
                       kernel=kernel, stride=draw(st.tuples(*[st.integers(1, 4)] * 2)), padding=padding, vector=vector,
                       pool=(*window, *draw(st.tuples(*[st.integers(1, 5)] * 2))), pool_padding=pool_padding,
                       stays_on_chip=draw(st.booleans()))
    assume(all(size + sum(pool_padding[2 * axis:2 * axis + 2]) >= window[axis]
               for axis, size in enumerate(shape.conv_extent)))
    return shape


def taps(first: int, count: int, step: int, size: int, pad: int, extent: int) -> list[list[int]]:
    """What each of ``count`` windows from ``first`` on has inside ``extent``."""
    starts = [n * step - pad for n in range(first, first + count)]
    return [[at for at in range(start, start + size) if 0 <= at < extent] for start in starts]


def check_axis(shape: LayerShape, axis: int, span) -> None:
    """The span's results before pooling, and its input, are exactly those that its windows have."""
    windows = taps(span.out0, span.outs, shape.pool[2 + axis], shape.pool[axis], shape.pool_padding[2 * axis],
                   shape.conv_extent[axis])
    assert all(windows)
    convs = sorted({at for window in windows for at in window})
    assert (span.conv0, span.conv0 + span.convs - 1) == (convs[0], convs[-1])
    assert span.conv0 + span.pool0 == span.out0 * shape.pool[2 + axis] - shape.pool_padding[2 * axis]
    inputs = taps(span.conv0, span.convs, shape.stride[axis], shape.kernel[axis], shape.padding[2 * axis],
                  (shape.height, shape.width)[axis])
    loaded = range(span.in0, span.in0 + span.ins * span.step, span.step)
    inside = {at for window in inputs for at in window}
    assert inside <= set(loaded) and (loaded[0], loaded[-1]) == (min(inside), max(inside))
    assert span.pad == max(0, shape.padding[2 * axis] - span.conv0 * shape.stride[axis])


def check_layout(shape: LayerShape, band: Band, config: EngineConfig) -> None:
    """What a tap reads of a tile's positions is its input of each, all in one read of the buffer.

    The byte (y, x) of the band lies in the sub-plane of its phases; position n of a tile is ``lane_step`` bytes behind
    the one before.
    """
    sy, sx, step = band.row_phases, band.column_phases, shape.lane_step
    places = {(y, x): (y % sy * sx + x % sx) * band.plane_bytes + y // sy * band.row_bytes + x // sx
              for y in range(band.rows.ins) for x in range(band.cols.ins)}
    assert len({*places.values()}) == len(places) and max(places.values()) < band.slab_bytes
    stride_y, stride_x = band.rows.stride, band.cols.stride
    for row, col in ((0, 0), (shape.kernel[0] - 1, shape.kernel[1] - 1)):
        starts = set()
        for n in range(band.tiles):
            count = band.last_rows if n == band.tiles - 1 else band.tile_positions
            for lane in range(count):
                y, x = divmod(n * band.tile_positions + lane, band.pitch)
                y, x = y * stride_y + row - band.rows.pad, x * stride_x + col - band.cols.pad
                if (y, x) in places:
                    starts.add(places[y, x] - n * band.tile_bytes - lane * step)
        assert len(starts) <= 1, (row, col, starts)
    assert (band.tile_positions - 1) * step + (3 if shape.vector else 1) <= config.act_banks


def check_strips(shape: LayerShape, band: Band, config: EngineConfig) -> None:
    """Each strip waits for what it reads, nothing is given back that a later one reads, and both fit the ring.

    As the write-back counts: strip n waits for ``out_strip_need + n * out_strip_step`` positions, the last one for all;
    those before the next strip's first row of windows are given back.
    """
    if band.flat:
        return
    row_taps, col_taps = (taps(span.out0, span.outs, shape.pool[2 + axis], shape.pool[axis],
                               shape.pool_padding[2 * axis], shape.conv_extent[axis])
                          for axis, span in enumerate((band.rows, band.cols)))
    across = [at - band.cols.conv0 for window in col_taps for at in window]
    for number, first in enumerate(range(0, band.out_rows, band.out_strip_rows)):
        rows = [at - band.rows.conv0 for window in row_taps[first:first + band.out_strip_rows] for at in window]
        last = first + band.out_strip_rows >= band.out_rows
        need = band.out_strip_need + number * band.out_strip_step
        need = band.positions if last else min(need, band.positions)
        freed = max(0, band.rows.pool0 * band.pitch + number * band.out_strip_step)
        assert freed <= min(rows) * band.pitch + min(across)
        assert max(rows) * band.pitch + max(across) < need <= band.positions
        assert need - freed + config.position_lanes <= config.output_ring_bytes


@settings(max_examples=150)
@given(shape=shapes(), ring=st.sampled_from((128, 256, 1024)), act_bytes=st.sampled_from((1024, 4096, 1 << 16)))
@example(shape=LayerShape(channels=3, height=224, width=224, out_channels=64, kernel=(7, 7), stride=(2, 2),
                          padding=(3, 3, 3, 3), pool=(3, 3, 2, 2), pool_padding=(1, 1, 1, 1)), ring=1024,
         act_bytes=1 << 16)
@example(shape=LayerShape(channels=1, height=1, width=1, out_channels=1, kernel=(1, 1), pool=(5, 5, 1, 1),
                          pool_padding=(4, 4, 4, 4)), ring=128, act_bytes=1024)
@example(shape=LayerShape(channels=1, height=20, width=40, out_channels=1, kernel=(1, 1), pool=(3, 3, 2, 2),
                          pool_padding=(1, 1, 1, 1)), ring=128, act_bytes=1 << 16)
def test_padded_pools(shape, ring, act_bytes):
    config = EngineConfig(rows=7, columns=4, output_ring_bytes=ring, act_buffer_bytes=act_bytes)
    try:
        plan = make_plan(shape, config)
    except PlanError:
        return
    assume(plan.band_count <= MOST_BANDS)
    written = set()
    for band in plan.bands():
        check_axis(shape, 0, band.rows)
        check_axis(shape, 1, band.cols)
        check_strips(shape, band, config)
        check_layout(shape, band, config)
        written |= {(y, x) for y in range(band.rows.out0, band.rows.out0 + band.rows.outs)
                    for x in range(band.cols.out0, band.cols.out0 + band.cols.outs)}
    rows, cols = shape.out_extent
    assert written == {(y, x) for y in range(rows) for x in range(cols)}


@pytest.mark.parametrize(("size", "pool", "padding", "extent"), [
    (112, (3, 3, 2, 2), (1, 1, 1, 1), 56), (112, (3, 3, 2, 2), (0, 1, 0, 1), 56), (7, (3, 3, 1, 1), (1, 1, 1, 1), 7),
    (5, (5, 5, 1, 1), (4, 4, 4, 4), 9)])
def test_extent_of_padded_pools(size, pool, padding, extent):
    shape = LayerShape(channels=1, height=size, width=size, out_channels=1, kernel=(1, 1), pool=pool,
                       pool_padding=padding)
    assert shape.out_extent == (extent, extent)


@pytest.mark.parametrize(("size", "stride", "padding", "by_rows"), [
    # 14 rows, 14 tiles of 15 positions either way, 3 cycles each; 49 beats, or 28 * 3/4 more where each row ends.
    (28, (2, 2), (0, 1, 0, 1), True),
    # 7 rows of 3 cycles, or 4 tiles; 12 beats, or 14 * 7/8 more: 24 cycles to load.
    (14, (2, 2), (0, 1, 0, 1), True),
    # Rows end with a beat: 8 rows of 3 cycles, or 5 tiles and 16 beats.
    (16, (2, 2), (0, 1, 0, 1), False),
    # 16 results of a row, 15 in a read; a column that no window needs; a stride that leaves no row out.
    (32, (2, 2), (0, 1, 0, 1), False), (15, (2, 3), (0, 0, 0, 0), True), (16, (2, 3), (0, 0, 0, 0), False),
    (14, (1, 2), (1, 1, 0, 1), False),
])
def test_tiles_of_rows(size, stride, padding, by_rows):
    """Where rows are left out, tiles are rows of results if it is faster, on chip always, as loading them is."""
    shape = LayerShape(channels=8, height=size, width=size, out_channels=8, kernel=(3, 3), stride=stride,
                       padding=padding, vector=True)
    (band,) = make_plan(shape, EngineConfig()).bands()
    rows, cols = shape.conv_extent
    assert (band.tile_positions == cols and band.tiles == rows) == by_rows
    assert (band.row_phases, band.row_bytes) == (
        (1, size) if by_rows else (stride[0], -(-band.cols.ins // stride[1]) * stride[1]))
    assert band.tile_bytes == (stride[0] * size if by_rows else band.tile_positions * stride[1])
    assert band.copy == (by_rows or (stride[0] == 1 and size % stride[1] == 0))


def test_tiles_of_rows_of_planes_on_chip():
    """They need not be faster: rows of 16 bytes lie there."""
    shape = LayerShape(channels=8, height=16, width=16, out_channels=8, kernel=(3, 3), stride=(2, 2),
                       padding=(0, 1, 0, 1), vector=True, resident=True)
    (band,) = make_plan(shape, EngineConfig()).bands()
    assert (band.copy, band.tile_positions, band.tiles, band.tile_bytes, band.row_bytes) == (True, 8, 8, 32, 16)
