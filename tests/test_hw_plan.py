"""Plans and their descriptors: every result once, from inputs that fit, whatever the layer and the engine."""

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from hw.config import EngineConfig
from hw.descriptor import DESCRIPTOR_BYTES, PARAMETER_BYTES, unpack
from hw.lowering import Addresses, Ranking, lower_layer
from hw.plan import LayerShape, Plan, PlanError, make_plan

INPUT, WEIGHTS, PARAMETERS, OUTPUT = (n << 28 for n in range(1, 5))
MASK, SCORES, WINNERS = 0x1000, 0x3000, 0x5000
MOST_DESCRIPTORS = 400


@st.composite
def configs(draw) -> EngineConfig:
    rows, columns = draw(st.sampled_from((1, 4, 7, 16))), draw(st.sampled_from((1, 4, 16)))
    return EngineConfig(
        rows=rows, columns=columns, act_buffer_bytes=draw(st.sampled_from((1024, 4096, 1 << 16))),
        weight_buffer_bytes=draw(st.sampled_from((256, 4096, 1 << 16))),
        output_ring_bytes=draw(st.sampled_from((64, 256, 1024))), axi_data_bits=draw(st.sampled_from((64, 128))),
        requantize_lanes=draw(st.integers(1, rows)))


@st.composite
def shapes(draw) -> LayerShape:
    kernel = draw(st.tuples(*[st.integers(1, 11)] * 2))
    padding = tuple(draw(st.integers(0, kernel[side // 2] - 1)) for side in range(4))
    least = [max(1, kernel[axis] - sum(padding[2 * axis:2 * axis + 2])) for axis in (0, 1)]
    height, width = (size + draw(st.one_of(st.integers(0, 12), st.integers(0, 150))) for size in least)
    channels = draw(st.one_of(st.integers(1, 20), st.integers(1, 2000)))
    shape = {"channels": channels, "height": height, "width": width, "kernel": kernel, "padding": padding,
             "out_channels": draw(st.integers(1, 40)), "stride": draw(st.tuples(*[st.integers(1, 4)] * 2)),
             "winners": draw(st.one_of(st.none(), st.integers(0, channels)))}
    rows, cols = LayerShape(**shape).conv_extent
    if draw(st.booleans()):
        shape["pool"] = (draw(st.integers(1, min(rows, 4))), draw(st.integers(1, min(cols, 4))),
                         draw(st.integers(1, 6)), draw(st.integers(1, 6)))
    return LayerShape(**shape)


def descriptors(plan: Plan, *, masked: bool) -> list[dict[str, int]]:
    addresses = Addresses(input=INPUT, mask=MASK if masked else None, weights=WEIGHTS, parameters=PARAMETERS,
                          output=OUTPUT, scores=SCORES, winners=WINNERS)
    packed = lower_layer(plan, addresses, Ranking(), input_zero_point=-128, output_zero_point=127, activation_min=-128,
                         activation_max=127)
    return [unpack(packed[n:n + DESCRIPTOR_BYTES]) for n in range(0, len(packed), DESCRIPTOR_BYTES)]


def needed(first: int, count: int, extent: int, kernel: int, stride: int, pad: int, window: int, step: int):
    """First and last input coordinate, inside the image, of ``count`` pooled results from ``first``."""
    convs = range(first * step, (first + count - 1) * step + window)
    return max(0, convs[0] * stride - pad), min(extent - 1, convs[-1] * stride - pad + kernel - 1)


def check_results(shape: LayerShape, bands: list[dict[str, int]]) -> None:
    """Every byte of the output is written once, by descriptors that complete their sums."""
    rows, cols = shape.out_extent
    writes = np.zeros(shape.out_channels * rows * cols, int)
    for band in bands:
        if not band["sum_end"]:
            continue
        assert band["out_strip_pitch"] == band["out_strip_rows"] * band["out_row_pitch"]
        channels = (band["out_groups"] - 1) * band["group_columns"] + band["last_columns"]
        assert band["first_channel"] * rows * cols <= band["out_base"] - OUTPUT
        for channel in range(channels):
            for row in range(band["out_rows"]):
                start = band["out_base"] - OUTPUT + channel * band["out_plane"] + row * band["out_row_pitch"]
                last = row == band["out_rows"] - 1
                writes[start:start + band["out_cols_last" if last else "out_cols"]] += 1
    assert (writes == 1).all()


def check_inputs(shape: LayerShape, plan: Plan, bands: list[dict[str, int]]) -> None:
    """Each band loads what its results need, and it fits."""
    (rows, cols), config = shape.out_extent, plan.config
    before = None
    for number, band in enumerate(bands):
        channel, inside = divmod(band["in_base"] - INPUT, shape.height * shape.width)
        y0, x0 = divmod(inside, shape.width)
        assert channel + band["in_channels"] <= shape.channels
        place = (band["out_base"] - OUTPUT) % (rows * cols)
        geometry = plan.bands()[number // (len(bands) // plan.band_count) % plan.band_count
                                if not plan.groups_outside else number % plan.band_count]
        outs = geometry.rows.outs, geometry.cols.outs
        for axis, (first, count, start, loaded) in enumerate((
                (place // cols, outs[0], y0, band["in_rows"]), (place % cols, outs[1], x0, band["in_cols"]))):
            low, high = needed(first, count, (shape.height, shape.width)[axis], shape.kernel[axis], shape.stride[axis],
                               shape.padding[2 * axis], shape.pool[axis], shape.pool[2 + axis])
            assert (start, start + loaded - 1) == (low, high)
        winners = min(shape.most_winners, band["in_channels"])
        region = (band["act_base"], band["act_base"] + winners * band["slab_bytes"])
        assert region[1] <= config.act_buffer_bytes
        if band["act_prefetch"]:
            assert before[1] <= region[0] or region[1] <= before[0]
        before = region
        assert band["stride_y"] * band["stride_x"] * band["plane_bytes"] == band["slab_bytes"]
        assert -(-band["in_rows"] // band["stride_y"]) * band["pitch"] == band["plane_bytes"]
        strips = [band["strip_rows"]] * (band["strips"] - 1) + [band["last_strip_rows"]]
        assert sum(strips) == band["in_rows"] and (len(strips) == 1 or band["strip_rows"] % band["stride_y"] == 0)
        assert band["out_strip_need"] + config.rows <= config.output_ring_bytes
        assert (band["tiles"] - 1) * config.rows + band["last_rows"] == band["positions"]
        assert 1 <= band["last_rows"] <= config.rows
        assert (band["sum_start"] and band["sum_end"]) or band["tiles"] == band["out_groups"] == 1
        if not band["weight_stream"]:
            assert winners * band["weight_block"] <= config.weight_buffer_bytes


def check_weights(shape: LayerShape, plan: Plan, bands: list[dict[str, int]]) -> None:
    """Each group's blocks are those of its channels; each descriptor has its channels' constants."""
    uses = np.zeros(shape.out_channels * shape.channels * shape.taps, int)
    for band in bands:
        for group in range(band["out_groups"]):
            last = group == band["out_groups"] - 1
            columns = band["last_columns" if last else "group_columns"]
            block = band["weight_block_last" if last else "weight_block"]
            assert block == columns * shape.taps
            start = band["weight_base"] - WEIGHTS + group * band["weight_group"]
            uses[start:start + band["in_channels"] * block] += 1
        assert band["parameter_base"] == PARAMETERS + band["first_channel"] * PARAMETER_BYTES
    assert (uses == plan.band_count).all()


@settings(max_examples=250)
@given(shape=shapes(), config=configs(), masked=st.booleans())
@example(shape=LayerShape(channels=1, height=1, width=1, out_channels=1, kernel=(1, 1)), config=EngineConfig(),
         masked=False)
@example(shape=LayerShape(channels=4096, height=1, width=1, out_channels=4096, kernel=(1, 1)), config=EngineConfig(),
         masked=True)
@example(shape=LayerShape(channels=43, height=4, width=6, out_channels=1, kernel=(2, 6), padding=(0, 0, 3, 3)),
         config=EngineConfig(rows=1, columns=1, act_buffer_bytes=1024), masked=False)
@example(shape=LayerShape(channels=2, height=4200, width=4000, out_channels=1, kernel=(1, 1), stride=(4, 4), winners=0),
         config=EngineConfig(), masked=True)
def test_plans(shape, config, masked):
    try:
        plan = make_plan(shape, config)
    except PlanError as error:
        assert str(error).startswith(("act_buffer_bytes: ", "max_channels: "))
        assert "\n" not in str(error)
        return
    assume(plan.descriptor_count <= MOST_DESCRIPTORS)
    bands = descriptors(plan, masked=masked)
    assert len(bands) == plan.descriptor_count
    assert [band["layer_end"] for band in bands] == [0] * (len(bands) - 1) + [1]
    assert [band["barrier"] for band in bands] == [1] + [0] * (len(bands) - 1)
    check_results(shape, bands)
    check_inputs(shape, plan, bands)
    check_weights(shape, plan, bands)
    if masked:
        assert all(band["mask_base"] == MASK + (band["in_base"] - INPUT) // (shape.height * shape.width) // 8
                   for band in bands)


@settings(max_examples=100)
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


@pytest.mark.parametrize(("change", "config", "message"), [
    ({"channels": 4097}, {},
     "max_channels: the layer has 4097 input and 1 output channels, the engine was built for 4096"),
    ({"out_channels": 70}, {"max_channels": 64},
     "max_channels: the layer has 1 input and 70 output channels, the engine was built for 64"),
    ({"width": 65536}, {}, "input: expected maps of at most 65535 rows and columns"),
    ({"pool": (1, 256, 1, 1), "width": 300}, {},
     r"pool: expected windows and strides of at most 255, got \(1, 256, 1, 1\)"),
    ({"pool": (1, 1, 300, 1)}, {}, r"pool: expected windows and strides of at most 255, got \(1, 1, 300, 1\)"),
    ({"channels": 16, "width": 11, "height": 11, "kernel": (11, 11)}, {"act_buffer_bytes": 1024},
     "act_buffer_bytes: 16 channels of one result need 1936 bytes in a buffer of 1024, .*"),
])
def test_layers_that_cannot_run(change, config, message):
    shape = {"channels": 1, "height": 1, "width": 1, "out_channels": 1, "kernel": (1, 1)} | change
    with pytest.raises(PlanError, match=f"^{message}$"):
        make_plan(LayerShape(**shape), EngineConfig(**config))
