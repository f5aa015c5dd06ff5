"""What a descriptor says besides geometry, which tests/test_hw_plan.py checks: order, overlap, masks, rules."""

from dataclasses import replace
from random import Random

import pytest

from hw.band import LayerShape
from hw.config import VECTOR_TAPS, EngineConfig
from hw.descriptor import DESCRIPTOR_BYTES, OP_CONVOLUTION, OP_VECTOR, MaskSource, Score, Select, unpack
from hw.lowering import Addresses, Arithmetic, Ranking, lower_layer
from hw.plan import PlanError, make_plan

from .hw_helpers import SMALL

ARITHMETIC = Arithmetic(input_zero_points=(-5,), output_zero_point=7, result_zero_point=9, activation_min=-100,
                        activation_max=101)
MASK, SECOND_MASK, BLOCK_MASKS = 0x1000, 0x2000, 0x3000


def lowered(shape: LayerShape, config: EngineConfig = SMALL, *, masked: bool = False, ranking: Ranking | None = None,
            arithmetic: Arithmetic = ARITHMETIC) -> list[dict[str, int]]:
    """The descriptors of a layer."""
    masks = (MASK, SECOND_MASK) if masked else (None, None)
    addresses = Addresses(inputs=(1 << 28, 2 << 28)[:shape.operands], masks=masks[:shape.operands], weights=3 << 28,
                          block_masks=BLOCK_MASKS, parameters=4 << 28, output=5 << 28, scores=0x5000, winners=0x6000)
    packed = lower_layer(make_plan(shape, config), addresses, ranking or Ranking(), arithmetic)
    return [unpack(packed[n:n + DESCRIPTOR_BYTES]) for n in range(0, len(packed), DESCRIPTOR_BYTES)]


def convolution(**changes) -> LayerShape:
    return LayerShape(**dict(channels=20, height=6, width=6, out_channels=10, kernel=(3, 3),
                             padding=(1, 1, 1, 1)) | changes)


LAYERS = {
    "whole": convolution(),
    "bands": convolution(channels=16, height=26, width=26),
    "passes": convolution(channels=100, kernel=(5, 5), padding=(2, 2, 2, 2), height=4, width=4),
    "chunks": convolution(channels=600, height=12, width=12),
    "parts": convolution(channels=40, out_channels=30, groups=5),
    "depthwise": convolution(channels=300, out_channels=600, vector=True),
    "average": convolution(channels=5, out_channels=5, vector=True, weighted=False, average=True),
    "addition": convolution(channels=40, out_channels=40, kernel=(1, 1), padding=(0, 0, 0, 0), vector=True,
                            weighted=False, operands=2),
}


@pytest.mark.parametrize("name", LAYERS)
def test_order_and_rules(name):
    """The first waits for all before it, the last ends the layer; all know the layer's rule and its arithmetic."""
    shape = LAYERS[name]
    rule = Ranking(score=Score.MEAN, select=Select.ENERGY, value=70, energy_square=True, multiplier=80, shift=-9)
    bands = lowered(shape, ranking=rule)
    assert (len(bands) > 1) == (name not in ("whole", "passes"))
    assert [band["barrier"] for band in bands] == [1] + [0] * (len(bands) - 1)
    assert [band["layer_end"] for band in bands] == [0] * (len(bands) - 1) + [1]
    expected = {
        "op": OP_VECTOR if shape.vector else OP_CONVOLUTION, "score_kind": Score.MEAN, "select": Select.ENERGY,
        "select_value": 70, "energy_square": 1, "score_multiplier": 80, "score_shift": -9, "score_base": 0x5000,
        "winner_base": 0x6000, "out_channels": shape.out_channels, "in_zero_point": -5, "in_zero_point_2": -5,
        "out_zero_point": 7, "result_zero_point": 9, "activation_min": -100, "activation_max": 101, "lists": 0,
        "add": shape.operands == 2, "act_dense": shape.vector, "parameter_shared": not shape.weighted}
    for band in bands:
        assert {field: band[field] for field in expected} == expected
    if make_plan(shape, SMALL).double:
        half = SMALL.act_buffer_bytes // 2
        places = [(n % 2 * half, int(n > 0)) for n in range(len(bands))]
    else:
        places = [(0, 0)] * len(bands)
    assert [(band["act_base"], band["act_prefetch"]) for band in bands] == places


def test_scores_over_bands_and_chunks():
    """They go on from band to band, and start anew with every group, part and chunk of channels."""
    bands = lowered(LAYERS["bands"])
    assert [(band["score_resume"], band["score_final"]) for band in bands] == [
        (n > 0, n == len(bands) - 1) for n in range(len(bands))]
    for name in ("parts", "depthwise", "addition"):
        assert {(band["score_resume"], band["score_final"]) for band in lowered(LAYERS[name])} == {(0, 1)}
    # Chunks of input channels: only the last of a band has results.
    shape = LAYERS["chunks"]
    plan, bands = make_plan(shape, SMALL), lowered(shape)
    chunks, groups = len(plan.chunks), plan.groups
    assert chunks > 1 and plan.band_count > 1 and groups > 1
    for n, band in enumerate(bands):
        chunk, number = n % chunks, n // chunks // groups
        assert (band["sum_start"], band["sum_end"]) == (chunk == 0, chunk == chunks - 1)
        assert (band["score_resume"], band["score_final"]) == (number > 0, number == plan.band_count - 1)


@pytest.mark.parametrize("masked", [False, True])
def test_masks(masked):
    """Read once where the channels stay the same; from a channel that divides by 16 on, the ones before left out."""
    source = MaskSource.MEMORY if masked else MaskSource.ALL
    bands = lowered(LAYERS["bands"], masked=masked)
    assert [band["mask_source"] for band in bands] == [source] + [MaskSource.KEEP] * (len(bands) - 1)
    assert {(band["mask_skip"], band["in_channels"]) for band in bands} == {(0, 16)}
    for part, band in enumerate(lowered(LAYERS["parts"], masked=masked)):
        first = 8 * part  # 40 channels in 5 parts
        assert band["mask_source"] == source
        assert band["in_channels"] - band["mask_skip"] == 8
        if masked:
            assert (band["mask_skip"], band["mask_base"]) == (first % 16, MASK + first // 16 * 2)
    for name in ("chunks", "depthwise"):
        channel = 0
        for band in lowered(LAYERS[name], masked=masked)[:len(make_plan(LAYERS[name], SMALL).chunks)]:
            assert band["mask_source"] == source
            if masked:
                assert (band["mask_skip"], band["mask_base"]) == (channel % 16, MASK + channel // 16 * 2)
            channel += band["in_channels"] - band["mask_skip"]
        assert channel == LAYERS[name].channels


@pytest.mark.parametrize("masks", [(None, None), (MASK, None), (None, SECOND_MASK), (MASK, SECOND_MASK)])
def test_masks_of_an_addition(masks):
    """One of each operand; channels are counted from the same one, whichever operand has a mask."""
    shape = LAYERS["addition"]
    addresses = Addresses(inputs=(9 << 20, 5 << 20), masks=masks, weights=None, block_masks=None, parameters=64,
                          output=0, scores=0, winners=0)
    arithmetic = Arithmetic(input_zero_points=(3, -4), output_zero_point=0, result_zero_point=0, activation_min=-128,
                            activation_max=127, scales=((11, 2), (13, 4)))
    plan = make_plan(shape, SMALL)
    packed, channel = lower_layer(plan, addresses, Ranking(), arithmetic), 0
    for n, (first, count) in enumerate(plan.chunks):
        band = unpack(packed[n * DESCRIPTOR_BYTES:(n + 1) * DESCRIPTOR_BYTES])
        assert (band["mask_skip"], band["in_channels"]) == (first % 16, first % 16 + count)
        for mask, source, base in zip(masks, ("mask_source", "mask_source_2"), ("mask_base", "mask_base_2"),
                                      strict=True):
            assert band[source] == (MaskSource.ALL if mask is None else MaskSource.MEMORY)
            assert mask is None or band[base] == mask + first // 16 * 2
        assert band["in_base"] == (9 << 20) + first * 36
        assert (band["in_base"] + band["strip_pitch"]) % 2**32 == (5 << 20) + first * 36
        assert (band["in_zero_point"], band["in_zero_point_2"]) == (3, -4)
        assert [band[f"add_{name}_{k}"] for k in (1, 2) for name in ("multiplier", "shift")] == [11, 2, 13, 4]
        channel += count
    assert channel == 40 and len(packed) == len(plan.chunks) * DESCRIPTOR_BYTES


@pytest.mark.parametrize("groups", [1, 3])
def test_lists_of_blocks(groups):
    """A mask for each group of output channels, behind one another; slabs of all channels lie on chip."""
    shape = convolution(channels=30 * groups, out_channels=10 * groups, groups=groups, blocks=True)
    bands = lowered(shape, masked=True)
    size = 2 * (2 + (groups > 1))  # bytes: 30 channels, and what lies before them in their first 16
    expected = [(part, part * 3 * size) for part in range(groups)]
    assert len(bands) == groups
    for band, (part, offset) in zip(bands, expected, strict=True):
        assert (band["lists"], band["act_dense"], band["strips"], band["out_groups"]) == (1, 1, 1, 3)
        assert (band["block_mask_base"], band["block_mask_group"]) == (BLOCK_MASKS + offset, size)
        assert band["mask_skip"] == 30 * part % 16


@pytest.mark.parametrize("kernel", range(1, 12))
@pytest.mark.parametrize("stride", range(1, 5))
def test_steps_of_the_vector_unit(kernel, stride):
    """Three neighbouring taps of a row at once, of positions as far from each other as the stride says."""
    random = Random(f"{kernel} {stride}")
    shape = convolution(channels=2, out_channels=2, vector=True, kernel=(random.randint(1, 5), kernel),
                        height=12, width=12, padding=(0, 0, 0, 0), stride=(random.randint(1, 4), stride))
    steps = 0
    for _ in range(shape.kernel[0]):
        taps = list(range(kernel))
        while taps:
            taps, steps = taps[VECTOR_TAPS:], steps + 1
    assert shape.tile_steps == steps
    (band,) = lowered(replace(shape, stride=(1, stride)))
    # As many positions as have all their three taps among the eight bytes of a read.
    size = sum(lane * stride + 2 < 8 for lane in range(6))
    results = (12 - kernel) // stride + 1
    columns = max(-(-((results - 1) * stride + kernel) // stride), results)
    assert (band["stride_x"], band["lane_step"], band["load_phases"]) == (1, stride, 1)
    assert (band["phase_x"], band["step_x"], band["step_x_wrap"]) == (0, band["plane_bytes"], 1)
    assert (band["pitch"], band["out_pitch"]) == (columns * stride, columns)
    assert (band["tile_positions"], band["tile_bytes"]) == (size, size * stride)
    assert (band["tile_rows"], band["tile_cols"]) == divmod(size * stride, columns * stride)


def test_tiles_of_rows():
    """Planes that are on chip before the layer lie as in memory; rows that a stride leaves out have no tiles."""
    shape = convolution(channels=2, out_channels=2, vector=True, height=5, stride=(2, 2), padding=(0, 0, 0, 1))
    expected = {
        "act_copy": 1, "pitch": 6, "plane_bytes": 30, "slab_bytes": 30, "in_rows": 5, "in_cols": 6, "stride_y": 1,
        "stride_x": 1, "lane_step": 2, "tile_positions": 3, "tile_bytes": 12, "tile_rows": 2, "tile_cols": 0,
        "tiles": 2, "last_rows": 3, "positions": 6, "span": 6, "out_pitch": 3, "tap_base": 0, "step_y_wrap": 6,
        "rows_ahead": 3, "phase_rows": 5, "phase_cols": 6}
    (band,) = lowered(replace(shape, resident=True))
    assert {name: band[name] for name in expected} == expected
    # With a row of padding above, the first tap of the first tile lies a row before the plane.
    (band,) = lowered(replace(shape, resident=True, padding=(1, 0, 0, 1)))
    assert (band["tap_base"], band["tap_y"], band["phase_y"], band["rows_ahead"]) == (-6, -1, 0, 2)


def test_steps_of_the_usual_layers():
    """What one read for three taps saves; the stride costs none."""
    def steps(kernel: int, stride: int = 1) -> int:
        return convolution(channels=1, out_channels=1, vector=True, kernel=(kernel, kernel), stride=(stride, stride),
                           height=12, width=12).tile_steps
    assert [steps(1), steps(3), steps(3, 2), steps(3, 4), steps(5), steps(5, 2), steps(7)] == [1, 3, 3, 3, 10, 10, 21]
    assert LAYERS["addition"].tile_steps == 2
    assert [convolution(winners=winners).tile_steps for winners in (None, 7, 0)] == [20 * 9, 7 * 9, 0]


def test_the_array_keeps_columns_by_phase():
    """Of a convolution every position's input is the next byte."""
    (band,) = lowered(convolution(channels=3, stride=(2, 3), height=7, width=11))
    assert (band["stride_y"], band["stride_x"], band["lane_step"]) == (2, 3, 1)
    assert (band["pitch"], band["out_pitch"]) == (4, 4)
    assert (band["tile_positions"], band["tile_bytes"], band["tile_rows"], band["tile_cols"]) == (4, 4, 1, 0)


@pytest.mark.parametrize(("shape", "ranking", "channels"), [
    (convolution(out_channels=3000), Ranking(select=Select.TOPK, value=5), 3000),
    (convolution(channels=16, height=26, width=26, out_channels=2049), Ranking(), 2049),
])
def test_scores_that_the_engine_cannot_keep(shape, ranking, channels):
    with pytest.raises(PlanError, match=r"^max_channels: the engine ranks, and gathers the scores of bands, of "
                                        rf"at most 2048 output channels, the layer has {channels}$"):
        lowered(shape, ranking=ranking)


def test_many_outputs_that_nothing_ranks():
    assert len(lowered(convolution(channels=3, out_channels=3000))) == 1
