"""Plans of any layer on any engine: every result once, from inputs that are loaded, in buffers that they fit.

What the descriptors compute is in tests/test_hw_plan_results.py.
"""

from dataclasses import replace
from math import prod

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from hw.band import LayerShape
from hw.config import EngineConfig
from hw.descriptor import DESCRIPTOR_BYTES, PARAMETER_BYTES, MaskSource, unpack
from hw.lowering import Addresses, Arithmetic, Ranking, lower_layer
from hw.plan import EVERY_WINNER, Plan, PlanError, make_plan

from .hw_helpers import is_malformed

INPUT, SECOND, WEIGHTS, PARAMETERS, OUTPUT = (n << 28 for n in range(1, 6))
MASK, SCORES, WINNERS = 0x1000, 0x3000, 0x5000
MOST_DESCRIPTORS = 400


@st.composite
def configs(draw) -> EngineConfig:
    rows, columns = draw(st.sampled_from((1, 4, 7, 16))), draw(st.sampled_from((1, 4, 16)))
    return EngineConfig(
        rows=rows, columns=columns, act_buffer_bytes=draw(st.sampled_from((1024, 4096, 1 << 16))),
        weight_buffer_bytes=draw(st.sampled_from((256, 4096, 1 << 16))),
        output_ring_bytes=draw(st.sampled_from((64, 256, 1024))), axi_data_bits=draw(st.sampled_from((64, 128))),
        requantize_lanes=draw(st.integers(1, rows)), vector_lanes=draw(st.sampled_from((1, 3, 14, 62))),
        psum_tiles=draw(st.sampled_from((1, 4, 32))))


def padding_of(draw, kernel: tuple[int, int]) -> tuple[int, ...]:
    return tuple(draw(st.integers(0, kernel[side // 2] - 1)) for side in range(4))


@st.composite
def shapes(draw) -> LayerShape:
    """Convolutions with and without parts and pools, and what runs on the vector unit."""
    kind = draw(st.sampled_from(("convolution", "convolution", "grouped", "depthwise", "max", "average", "addition")))
    kernel = draw(st.tuples(*[st.integers(1, 11)] * 2))
    padding, stride = padding_of(draw, kernel), draw(st.tuples(*[st.integers(1, 4)] * 2))
    if kind in ("max", "addition"):
        kernel, padding, stride = (1, 1), (0, 0, 0, 0), (1, 1)
    least = [max(1, kernel[axis] - sum(padding[2 * axis:2 * axis + 2])) for axis in (0, 1)]
    height, width = (size + draw(st.one_of(st.integers(0, 12), st.integers(0, 150))) for size in least)
    channels = draw(st.one_of(st.integers(1, 20), st.integers(1, 2000)))
    shape = {"channels": channels, "height": height, "width": width, "kernel": kernel, "padding": padding,
             "stride": stride, "out_channels": channels, "stays_on_chip": draw(st.booleans())}
    if kind in ("convolution", "grouped"):
        shape |= {"out_channels": draw(st.integers(1, 40)), "judged": draw(st.booleans())}
        if kind == "convolution":
            shape |= {"winners": draw(st.one_of(st.none(), st.integers(0, channels))), "blocks": draw(st.booleans())}
        else:
            groups = draw(st.integers(2, 20))
            shape |= {"channels": groups * draw(st.integers(1, 40)), "groups": groups,
                      "out_channels": groups * draw(st.integers(1, 20))}
    else:
        shape |= {"vector": True, "weighted": kind == "depthwise", "average": kind == "average",
                  "operands": 2 if kind == "addition" else 1}
    if kind == "depthwise":
        shape["out_channels"] = channels * draw(st.integers(1, 3))
    rows, cols = LayerShape(**shape).conv_extent
    if kind == "average":
        shape["pool"] = (1, 1, *draw(st.tuples(*[st.integers(1, 4)] * 2)))
    elif kind != "addition" and (kind == "max" or draw(st.booleans())):
        window = tuple(draw(st.integers(1, min(size, 4))) for size in (rows, cols))
        shape |= {"pool": (*window, draw(st.integers(1, 6)), draw(st.integers(1, 6))),
                  "pool_padding": padding_of(draw, window)}
    return LayerShape(**shape)


def descriptors(plan: Plan, *, masked: bool) -> list[dict[str, int]]:
    addresses = Addresses(inputs=(INPUT, SECOND)[:plan.shape.operands], masks=(MASK if masked else None,) * 2,
                          weights=WEIGHTS, block_masks=0x9000, parameters=PARAMETERS, output=OUTPUT, scores=SCORES,
                          winners=WINNERS)
    arithmetic = Arithmetic(input_zero_points=(-128,), output_zero_point=127, result_zero_point=127,
                            activation_min=-128, activation_max=127,
                            unit_weight=0 if plan.shape.weighted or plan.shape.operands == 2 else 64)
    packed = lower_layer(plan, addresses, Ranking(), arithmetic)
    return [unpack(packed[n:n + DESCRIPTOR_BYTES]) for n in range(0, len(packed), DESCRIPTOR_BYTES)]


def outputs_of(band: dict[str, int]) -> int:
    """Output channels of a descriptor."""
    return (band["out_groups"] - 1) * band["group_columns"] + band["last_columns"]


def check_results(shape: LayerShape, bands: list[dict[str, int]]) -> None:
    """Every byte of the output is written once, by descriptors that complete their sums."""
    rows, cols = shape.out_extent
    writes = np.zeros(shape.out_channels * rows * cols, int)
    for band in bands:
        if not band["sum_end"]:
            continue
        assert band["out_strip_pitch"] == band["out_strip_rows"] * band["out_row_pitch"]
        assert band["first_channel"] * rows * cols <= band["out_base"] - OUTPUT
        for channel in range(outputs_of(band)):
            for row in range(band["out_rows"]):
                start = band["out_base"] - OUTPUT + channel * band["out_plane"] + row * band["out_row_pitch"]
                last = row == band["out_rows"] - 1
                writes[start:start + band["out_cols_last" if last else "out_cols"]] += 1
    assert (writes == 1).all()


def needed(shape: LayerShape, axis: int, first: int, count: int) -> tuple[range, range]:
    """Results before pooling, and rows or columns of the input, that ``count`` results from ``first`` need."""
    window, step, before = shape.pool[axis], shape.pool[2 + axis], shape.pool_padding[2 * axis]
    start, end = first * step - before, (first + count - 1) * step - before + window
    convs = range(max(0, start), min(end, shape.conv_extent[axis]))
    stride, pad, kernel = shape.stride[axis], shape.padding[2 * axis], shape.kernel[axis]
    if axis == 0 and kernel == 1 and shape.width * stride < 1 << 16:
        return convs, range(convs[0] * stride, convs[-1] * stride + 1, stride)
    extent = (shape.height, shape.width)[axis]
    return convs, range(max(0, convs[0] * stride - pad), min(extent, convs[-1] * stride - pad + kernel))


def geometries(plan: Plan) -> list:
    """The plan's band of each descriptor, in the order of the descriptors."""
    bands = plan.bands()
    if plan.shape.vector:
        return bands * len(plan.chunks)
    if plan.groups_outside:
        order = bands * plan.groups
    elif len(plan.chunks) > 1:
        order = [band for band in bands for _ in range(plan.groups * len(plan.chunks))]
    else:
        order = bands
    return order * plan.layer.groups


def check_inputs(shape: LayerShape, plan: Plan, bands: list[dict[str, int]]) -> None:
    """Each band loads what its results need, no more rows and columns, and it fits."""
    config, (rows, cols) = plan.config, shape.out_extent
    before = None
    for band, geometry in zip(bands, geometries(plan), strict=True):
        place = (band["out_base"] - OUTPUT) % (rows * cols)
        assert (geometry.rows.out0, geometry.cols.out0) == divmod(place, cols)
        channel, inside = divmod(band["in_base"] - INPUT, shape.height * shape.width)
        assert channel + band["in_channels"] - band["mask_skip"] <= shape.channels
        y0, x0 = divmod(inside, shape.width)
        _, in_rows = needed(shape, 0, geometry.rows.out0, geometry.rows.outs)
        _, in_cols = needed(shape, 1, geometry.cols.out0, geometry.cols.outs)
        assert (y0, band["in_rows"] // shape.operands, band["in_row_pitch"]) == (
            in_rows[0], len(in_rows), shape.width * in_rows.step)
        assert (x0, band["in_cols"]) == (in_cols[0], len(in_cols))
        slabs = band["in_channels"] - band["mask_skip"]
        if not band["act_dense"]:
            slabs = min(slabs, plan.shape.most_winners)
        region = (band["act_base"], band["act_base"] + slabs * band["slab_bytes"])
        assert region[1] <= config.act_buffer_bytes
        if band["act_prefetch"]:
            assert before[1] <= region[0] or region[1] <= before[0]
        before = region
        planes = band["stride_y"] * band["stride_x"] * shape.operands
        assert planes * band["plane_bytes"] == band["slab_bytes"]
        height = band["in_rows"] // shape.operands
        assert -(-height // band["stride_y"]) * band["pitch"] == band["plane_bytes"]
        strips = [band["strip_rows"]] * (band["strips"] - 1) + [band["last_strip_rows"]]
        assert sum(strips) == band["in_rows"] and (len(strips) == 1 or band["strip_rows"] % band["stride_y"] == 0)


def check_tile(config: EngineConfig, shape: LayerShape, band: dict[str, int]) -> None:
    """As many positions as there are lanes that one read serves, or a row of them."""
    size, step = band["tile_positions"], band["lane_step"]
    assert step == (shape.stride[1] if shape.vector else 1)
    assert band["stride_x"] == (1 if shape.vector else shape.stride[1])
    lanes = config.rows
    if shape.vector:
        lanes = sum(lane * step + 2 < config.act_banks for lane in range(config.vector_lanes))
    if size == lanes and band["pitch"] == band["out_pitch"] * step:
        assert band["tile_bytes"] == size * step
    else:
        assert shape.vector and size == band["out_pitch"] <= lanes and band["stride_y"] == 1
        assert band["pitch"] == band["in_cols"] and band["tile_bytes"] == shape.stride[0] * band["pitch"]
    assert (band["tile_rows"], band["tile_cols"]) == divmod(band["tile_bytes"], band["pitch"])


def check_buffers(plan: Plan, bands: list[dict[str, int]]) -> None:
    """Tiles, sums, weights and results that wait fit what they wait in."""
    config, shape = plan.config, plan.shape
    for band in bands:
        lanes = band["tile_positions"]
        check_tile(config, shape, band)
        assert (band["tiles"] - 1) * lanes + band["last_rows"] == band["positions"]
        assert 1 <= band["last_rows"] <= lanes and band["span"] == band["tiles"] * lanes
        # A tile more than the strip may be on its way before the first of it is given back.
        assert min(band["out_strip_need"], band["positions"]) + lanes <= config.output_ring_bytes
        winners = min(shape.most_winners, band["in_channels"] - band["mask_skip"])
        assert not band["lists"] or band["pass_winners"] == EVERY_WINNER
        whole = band["sum_start"] and band["sum_end"] and winners <= band["pass_winners"]
        if not whole:
            assert not shape.vector and band["tiles"] <= config.psum_tiles
        assert (band["sum_start"] and band["sum_end"]) or band["out_groups"] == 1
        at_once = min(winners, band["pass_winners"]) * band["weight_block"]
        if shape.weighted and at_once > config.weight_buffer_bytes:
            # Weights that do not stay are read for one tile alone.
            assert band["tiles"] == 1 and not band["weight_keep"] and not shape.vector
        if band["weight_keep"] or band["weight_reuse"]:
            assert shape.most_winners * shape.taps * outputs_of(band) <= config.weight_buffer_bytes


def check_constants(shape: LayerShape, plan: Plan, bands: list[dict[str, int]]) -> None:
    """Each group's blocks are those of its channels, each used once a band; each descriptor has its constants."""
    depth = shape.channels // shape.groups if not shape.vector else 1
    size = shape.out_channels * depth * shape.taps if shape.weighted else 0
    uses = np.zeros(size, int)
    for band in bands:
        if shape.weighted:
            assert band["parameter_base"] == PARAMETERS + band["first_channel"] * PARAMETER_BYTES
        if shape.weighted and shape.vector:
            start = band["weight_base"] - WEIGHTS
            uses[start:start + (band["in_channels"] - band["mask_skip"]) * band["weight_block"]] += 1
            assert band["weight_block"] * shape.channels == size
            continue
        for group in range(band["out_groups"] if shape.weighted else 0):
            last = group == band["out_groups"] - 1
            columns = band["last_columns" if last else "group_columns"]
            block = band["weight_block_last" if last else "weight_block"]
            assert block == columns * shape.taps
            start = band["weight_base"] - WEIGHTS + group * band["weight_group"]
            uses[start:start + (band["in_channels"] - band["mask_skip"]) * block] += 1
    assert (uses == plan.band_count).all()


@settings(max_examples=400)
@given(shape=shapes(), config=configs(), masked=st.booleans())
@example(shape=LayerShape(channels=1, height=1, width=1, out_channels=1, kernel=(1, 1)), config=EngineConfig(),
         masked=False)
@example(shape=LayerShape(channels=4096, height=1, width=1, out_channels=4096, kernel=(1, 1)), config=EngineConfig(),
         masked=True)
@example(shape=LayerShape(channels=43, height=4, width=6, out_channels=1, kernel=(2, 6), padding=(0, 0, 3, 3)),
         config=EngineConfig(rows=1, columns=1, act_buffer_bytes=1024), masked=False)
@example(shape=LayerShape(channels=2, height=4200, width=4000, out_channels=1, kernel=(1, 1), stride=(4, 4), winners=0),
         config=EngineConfig(), masked=True)
@example(shape=LayerShape(channels=1, height=8, width=20000, out_channels=1, kernel=(1, 1), stride=(4, 4)),
         config=EngineConfig(), masked=True)
@example(shape=LayerShape(channels=9000, height=2, width=2, out_channels=3, kernel=(2, 2)), config=EngineConfig(),
         masked=True)
def test_plans(shape, config, masked):
    try:
        plan = make_plan(shape, config)
        assume(plan.descriptor_count <= MOST_DESCRIPTORS)
        bands = descriptors(plan, masked=masked)
    except PlanError as error:
        assert str(error).startswith(("act_buffer_bytes: ", "weight_buffer_bytes: ", "max_channels: "))
        assert "\n" not in str(error)
        return
    assert len(bands) == plan.descriptor_count
    # Nothing is judged in vain.
    assert {bool(band["skip_losers"]) for band in bands} == {plan.shape.judged} == {plan.layer.judged}
    assert not plan.shape.judged or (shape.judged and not shape.stays_on_chip)
    assert not any(is_malformed(band, config) for band in bands)
    check_results(shape, bands)
    check_inputs(shape, plan, bands)
    check_buffers(plan, bands)
    check_constants(shape, plan, bands)
    for band in bands:
        if masked and band["mask_source"] == MaskSource.MEMORY:
            channel = (band["in_base"] - INPUT) // (shape.height * shape.width)
            assert 8 * (band["mask_base"] - MASK) + band["mask_skip"] == channel


@settings(max_examples=150)
@given(shape=shapes(), config=configs())
def test_band_classes_are_the_bands(shape, config):
    """The classes that the analytical model counts by are all the bands, each in one of them."""
    try:
        plan = make_plan(shape, config)
    except PlanError:
        return
    assume(plan.band_count <= 2000)

    def geometry(band):
        return tuple(getattr(band, name) for name in band.__slots__ if name not in ("rows", "cols"))

    found = {}
    for band in plan.bands():
        found[geometry(band)] = found.get(geometry(band), 0) + 1
    counted = {}
    for row_of_bands, rows in plan.band_classes:
        for band, count in row_of_bands:
            counted[geometry(band)] = counted.get(geometry(band), 0) + count * rows
    assert counted == found
    assert len(plan.bands()) == plan.band_count


@settings(max_examples=100)
@given(shape=shapes(), config=configs(), share=st.sampled_from((2, 4)))
def test_a_part_of_the_activation_buffer(shape, config, share):
    """A layer that may use only its start uses only that."""
    room = config.act_buffer_bytes // share
    try:
        plan = make_plan(shape, config, act_bytes=room)
        assume(plan.descriptor_count <= MOST_DESCRIPTORS)
        bands = descriptors(plan, masked=False)
    except PlanError:
        return
    for band in bands:
        slabs = band["in_channels"] - band["mask_skip"]
        if not band["act_dense"]:
            slabs = min(slabs, plan.shape.most_winners)
        assert band["act_base"] + slabs * band["slab_bytes"] <= room


@pytest.mark.parametrize(("change", "config", "message"), [
    ({"channels": 65536}, {}, "channels: expected at most 65535, got 65536 and 1"),
    ({"out_channels": 65536}, {}, "channels: expected at most 65535, got 1 and 65536"),
    ({"width": 65536}, {}, "input: expected maps of at most 65535 rows and columns"),
    ({"height": 65530, "kernel": (3, 1), "padding": (10, 10, 0, 0)}, {},
     "input: expected maps of at most 65535 rows and columns"),
    ({"pool": (1, 256, 1, 1), "width": 300}, {}, r"pool: expected windows and strides of at most 255, got 256"),
    ({"pool": (1, 1, 300, 1)}, {}, r"pool: expected windows and strides of at most 255, got 300"),
    ({"channels": 16, "width": 11, "height": 11, "kernel": (11, 11)}, {"act_buffer_bytes": 1024},
     "act_buffer_bytes: 16 channels of one result need 1936 bytes in a buffer of 1024, .*"),
    ({"width": 40, "height": 40, "kernel": (40, 40), "vector": True}, {"act_buffer_bytes": 1024},
     "act_buffer_bytes: a channel of one result needs 1600 bytes in half a buffer of 1024, .*"),
    ({"width": 20, "height": 20, "kernel": (9, 9), "vector": True}, {"weight_buffer_bytes": 64},
     "weight_buffer_bytes: a channel's weights take 81 bytes of 64"),
    ({"channels": 2, "out_channels": 600, "vector": True}, {},
     "weight: expected at most 255 output channels for each input channel of a depthwise layer, got 300"),
])
def test_layers_that_cannot_run(change, config, message):
    shape = {"channels": 1, "height": 1, "width": 1, "out_channels": 1, "kernel": (1, 1)} | change
    with pytest.raises(PlanError, match=f"^{message}$"):
        make_plan(LayerShape(**shape), EngineConfig(**config))


def square(side: int, channels: int, kernel: int, **changes) -> LayerShape:
    """A judged "same" convolution of 64 output channels on the default engine, four groups of them."""
    return LayerShape(channels=channels, height=side, width=side, out_channels=64, kernel=(kernel, kernel),
                      padding=(kernel // 2,) * 4, judged=True, **changes)


@pytest.mark.parametrize(("shape", "pays"), [
    # 13 tiles of 16 positions, 13 reads of 16 results: a channel takes 2 * 13 + 17 = 43 cycles to judge and write, and
    # a 16th of its group's steps, so 13 / 16 for each tap of each winner, to compute.
    (square(14, 52, 1), False), (square(14, 53, 1), True), (square(14, 5, 3), False), (square(14, 6, 3), True),
    (square(14, 500, 1, winners=52), False), (square(14, 500, 1, winners=53), True),
    # Three columns: a third of the steps for each.
    (replace(square(14, 9, 1), out_channels=3), False), (replace(square(14, 10, 1), out_channels=3), True),
    # 2x2 windows, chunks of 8: 7 rows of one chunk are read four times each, so 2 * 28 + 17 = 73 cycles.
    (square(14, 89, 1, pool=(2, 2, 2, 2)), False), (square(14, 90, 1, pool=(2, 2, 2, 2)), True),
    # One tile, one read: 19 cycles.
    (square(4, 303, 1), False), (square(4, 304, 1), True),
    # One winner: the drain's two cycles a tile, 50 for 25 tiles, against 2 * 25 + 17; and without positions to read.
    (square(20, 1, 1), False), (square(1, 304, 1), True),
    # Of the vector unit a channel's tiles are its own: 9 of 24 positions and of 3 and 10 steps against 2 * 13 + 17.
    (replace(square(14, 64, 3), vector=True), False), (replace(square(14, 64, 5), vector=True), True),
    # A plane of 1024 results, and tiles beside it, have no room in a ring of 1024.
    (square(32, 500, 3), False),
])
def test_losers_are_judged_where_it_costs_no_time(shape, pays):
    """A plane that is written only if it can win is read twice; never one that stays on chip."""
    plan, plain = (make_plan(one, EngineConfig()) for one in (shape, replace(shape, judged=False)))
    assert (plan.shape.judged, plan.skips_losers) == (pays, pays)
    assert plan == plain or pays
    stays = make_plan(replace(shape, stays_on_chip=True), EngineConfig())
    assert not stays.shape.judged and not stays.skips_losers


def test_strips_of_results_that_stay_on_chip():
    """They are shorter, in whole tiles; whole channels on the vector unit as ever."""
    def strip(shape: LayerShape, config: EngineConfig) -> tuple[int, int]:
        (band,) = make_plan(replace(shape, judged=False), config).bands()
        return band.out_cols if band.flat else band.out_strip_rows, band.out_rows
    flat, rows = square(14, 40, 3), square(14, 40, 3, pool=(1, 1, 1, 2))
    for shape, config, memory, chip in (
            (flat, EngineConfig(), (64, 4), (32, 7)), (flat, EngineConfig(rows=12), (72, 3), (36, 6)),
            (flat, EngineConfig(rows=64), (64, 4), (64, 4)),
            # Rows of 7 results: as many as are 64 bytes, or 32.
            (rows, EngineConfig(), (10, 14), (5, 14)),
            (replace(square(14, 64, 3), vector=True), EngineConfig(), (196, 1), (196, 1))):
        assert strip(shape, config) == memory
        assert strip(replace(shape, stays_on_chip=True), config) == chip


def test_products():
    """Multiplications of a layer, those of masked channels and padding included."""
    sizes = dict(channels=6, height=5, width=7, kernel=(3, 2), stride=(1, 2), padding=(1, 1, 0, 1))
    results = prod(LayerShape(**sizes, out_channels=1).conv_extent)
    assert results == 5 * 4
    assert LayerShape(**sizes, out_channels=9).products == results * 6 * 9 * 6
    assert LayerShape(**sizes, out_channels=9, groups=3).products == results * 2 * 9 * 6
    assert LayerShape(**sizes, out_channels=12, vector=True).products == results * 12 * 6
    assert LayerShape(**sizes, out_channels=6, vector=True, weighted=False).products == 0
