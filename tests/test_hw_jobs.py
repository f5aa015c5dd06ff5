"""What the engine is told about a job, against the job itself: sizes, and arithmetic computed in Python's integers."""

import math
import struct
from itertools import pairwise

import numpy as np
import pytest

from golden.job import LayerJob, PoolJob
from golden.random_jobs import OPERATIONS, random_operation
from golden.reference import run as reference
from hw.band import LayerShape
from hw.config import EngineConfig
from hw.descriptor import PARAMETER_BYTES
from hw.jobs import AVERAGE_WEIGHT, average_scale, job_constants, job_shape, ranking_fields
from hw.lowering import SCORES, SELECTS
from hw.packing import pack_vector_weights, pack_weights
from hw.plan import PlanError, make_plan

from .tflite_arithmetic import requantized, scaled_operand

CONFIG = EngineConfig()
LARGEST_WINDOW = 255 * 255


def requantized_arrays(values: np.ndarray, multiplier: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """TFLite's double rounding of int64 arrays; shifts to the right, as negative numbers, multipliers positive."""
    high = (values * multiplier + 2**30) >> 31
    return np.sign(high) * ((np.abs(high) + (1 << -shift >> 1)) >> -shift)


@pytest.mark.parametrize("first", [1, 40_001])
def test_averages_round_once(first):
    """Every sum of every window divided, ties away from zero.

    The result grows with the sum, so it is right everywhere if it is right on both sides of every step: at the sums
    about ``(k + 1/2) * pixels``.
    """
    counts = np.arange(first, min(first + 40_000, LARGEST_WINDOW + 1))
    scales = np.array([average_scale(int(count)) for count in counts])
    assert (scales[:, 0] > 0).all() and (scales[:, 0] < 2**31).all()
    assert (scales[:, 1] <= -5).all() and (scales[:, 1] >= -31).all()
    for k in range(-129, 129):
        for distance in range(-1, 3):
            sums = np.clip(((2 * k + 1) * counts >> 1) + distance, -128 * counts, 127 * counts)
            expected = np.sign(sums) * ((2 * np.abs(sums) + counts) // (2 * counts))
            assert (requantized_arrays(AVERAGE_WEIGHT * sums, scales[:, 0], scales[:, 1]) == expected).all(), k


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9, 49, 64, 65, 127, 225])
def test_every_sum_of_an_average(count):
    multiplier, shift = average_scale(count)
    sums = np.arange(-128 * count, 127 * count + 1)
    expected = np.sign(sums) * ((2 * np.abs(sums) + count) // (2 * count))
    assert (requantized_arrays(AVERAGE_WEIGHT * sums, multiplier, shift) == expected).all()


def windows(size: int, kernel: int, stride: int, pad: int, outputs: int) -> list[tuple[int, int]]:
    """First and last pixel, inside the map, of each result along an axis."""
    return [(max(0, n * stride - pad), min(size, n * stride - pad + kernel) - 1) for n in range(outputs)]


def shape_windows(shape: LayerShape, axis: int) -> list[tuple[int, int]]:
    """The same of a shape: a window of the pool holds convolutions, each of which holds pixels."""
    size, side = (shape.height, shape.width)[axis], 2 * axis
    inside = windows(size, shape.kernel[axis], shape.stride[axis], shape.padding[side], shape.conv_extent[axis])
    pooled = windows(shape.conv_extent[axis], shape.pool[axis], shape.pool[2 + axis], shape.pool_padding[side],
                     shape.out_extent[axis])
    return [(inside[first][0], inside[last][1]) for first, last in pooled]


def is_one_row(job) -> bool:
    """A sum over the whole map, of as many pixels as a row of taps may have."""
    return (isinstance(job, PoolJob) and job.kind != "max" and job.kernel == job.input.shape[1:]
            and job.padding == (0, 0, 0, 0) and job.input[0].size <= 255)


@pytest.mark.parametrize("kind", OPERATIONS)
@pytest.mark.parametrize("seed", range(12))
def test_shapes(kind, seed):
    job = random_operation(seed, kind=kind, max_macs=200_000, max_channels=256)
    shape = job_shape(job, CONFIG, winners=3)
    assert (shape.out_channels, *shape.out_extent) == job.output_shape
    channels, height, width = (job.input_1 if kind == "add" else job.input).shape
    assert (shape.channels, shape.height, shape.width) == (
        (channels, 1, height * width) if is_one_row(job) else (channels, height, width))
    assert shape.operands == (2 if kind == "add" else 1)
    depthwise = isinstance(job, LayerJob) and job.groups > 1 and job.weight.shape[1] == 1
    assert shape.vector == (depthwise or not isinstance(job, LayerJob))
    assert shape.weighted == isinstance(job, LayerJob)
    assert shape.winners == (None if shape.vector else 3)
    if isinstance(job, LayerJob):
        _, depth, *kernel = job.weight.shape
        assert (shape.kernel, shape.stride, shape.padding) == (tuple(kernel), job.stride, job.padding)
        assert (shape.pool, shape.pool_padding) == (job.pool or (1, 1, 1, 1), job.pool_padding)
        assert shape.groups == (1 if depthwise else job.groups)
        assert shape.products == math.prod(job.conv_shape) * depth * math.prod(kernel)
        return
    assert shape.products == 0 and not shape.blocks
    if is_one_row(job):
        assert (shape.kernel, shape.stride, shape.padding) == ((1, height * width), (1, 1), (0, 0, 0, 0))
        assert (shape.pool, shape.average) == ((1, 1, 1, 1), job.kind == "average")
        return
    kernel, stride, padding = ((1, 1), (1, 1), (0,) * 4) if kind == "add" else (job.kernel, job.stride, job.padding)
    for axis in (0, 1):
        assert shape_windows(shape, axis) == windows(
            (shape.height, shape.width)[axis], kernel[axis], stride[axis], padding[2 * axis],
            job.output_shape[1 + axis])
    assert max(shape.stride) <= 4 and min(shape.stride) >= 1


@pytest.mark.parametrize("kind", ["mean", "average"])
@pytest.mark.parametrize(("height", "width", "one_row"), [
    (1, 1, True), (7, 7, True), (15, 17, True), (1, 255, True), (255, 1, True), (16, 16, False), (2, 128, False)])
def test_windows_of_whole_maps(kind, height, width, one_row):
    """Up to 255 pixels are one row of taps: three a step, wherever the map's rows end."""
    sizes = dict(kind=kind, input_zero_point=0, output_zero_point=0, input=np.zeros((5, height, width), np.int8))
    job = PoolJob(**sizes) if kind == "mean" else PoolJob(**sizes, kernel=(height, width), stride=(1, 1))
    shape = job_shape(job, CONFIG)
    assert (shape.height, shape.width) == shape.kernel == ((1, height * width) if one_row else (height, width))
    assert shape.tile_steps == (math.ceil(height * width / 3) if one_row else height * math.ceil(width / 3))
    assert (shape.channels, shape.out_channels, *shape.out_extent) == (5, 5, 1, 1)
    assert (shape.average, shape.vector, shape.weighted) == (kind == "average", True, False)


@pytest.mark.parametrize("changes", [
    {"padding": (1, 0, 0, 0)}, {"padding": (0, 0, 0, 2)}, {"kernel": (6, 5)}, {"kernel": (5, 6)}, {"kind": "max"}])
def test_windows_of_a_part_of_the_map(changes):
    """Or of the map and its padding, or of which the largest is taken: these keep their rows."""
    job = PoolJob(**{"kind": "average", "kernel": (6, 6), "stride": (1, 1), "input_zero_point": 0,
                     "output_zero_point": 0, "input": np.zeros((5, 6, 6), np.int8)} | changes)
    shape = job_shape(job, CONFIG)
    assert (shape.height, shape.width) == (6, 6)
    assert (shape.pool[:2] if job.kind == "max" else shape.kernel) == job.kernel


@pytest.mark.parametrize("winners", [None, 0, 5])
def test_winners_of_a_convolution(winners):
    job = random_operation(0, kind="conv", max_macs=20_000, max_channels=64)
    assert job_shape(job, CONFIG, winners).winners == winners


def test_windows_that_are_too_large():
    sizes = dict(input_zero_point=0, output_zero_point=0, input=np.zeros((1, 300, 300), np.int8))
    for kernel in ((256, 1), (1, 300)):
        for kind in ("max", "average"):
            job = PoolJob(kind=kind, kernel=kernel, stride=(1, 1), **sizes)
            with pytest.raises(PlanError, match=r"^kernel: expected a pooling window of at most 255 rows and columns"):
                job_shape(job, CONFIG)
    with pytest.raises(PlanError, match=r"^kernel: expected a pooling window of at most 255 .*, got \(300, 300\)$"):
        job_shape(PoolJob(kind="mean", **sizes), CONFIG)


def records(parameters: np.ndarray) -> list[tuple[int, int, int]]:
    """(bias, multiplier, shift) of each record."""
    return [struct.unpack("<iib7x", parameters[n:n + PARAMETER_BYTES].tobytes())
            for n in range(0, len(parameters), PARAMETER_BYTES)]


def above_zero_point(map: np.ndarray, zero_point: int, mask: np.ndarray | None) -> np.ndarray:
    """What the vector unit multiplies: losers are zero."""
    values = map.astype(int) - zero_point
    return values if mask is None else values * mask[:, None, None].astype(int)


@pytest.mark.parametrize("kind", ["max_pool", "average_pool", "mean"])
@pytest.mark.parametrize("seed", range(15))
def test_pools_as_the_engine_computes_them(kind, seed):
    """Sums by the unit weight, requantized by the record of their region, then the largest of each window."""
    job = random_operation(seed, kind=kind, max_macs=12_000, max_channels=3)
    plan = make_plan(job_shape(job, CONFIG), CONFIG)
    constants, shape = job_constants(job, plan, CONFIG), plan.shape
    arithmetic, table = constants.arithmetic, records(constants.parameters)
    limits = arithmetic.result_zero_point, arithmetic.activation_min, arithmetic.activation_max
    values = above_zero_point(job.input, *arithmetic.input_zero_points, job.channel_mask) * arithmetic.unit_weight
    values = values.reshape(shape.channels, shape.height, shape.width)
    regions = [[n for n, (_, count, _) in enumerate(axis) for _ in range(count)] for axis in plan.regions]
    assert len(table) == len(plan.regions[0]) * len(plan.regions[1]) and constants.weights is None
    conv = [windows(size, kernel, stride, pad, outs) for size, kernel, stride, pad, outs in zip(
        (shape.height, shape.width), shape.kernel, shape.stride, shape.padding[::2], shape.conv_extent, strict=True)]
    pool = [windows(size, kernel, stride, pad, outs) for size, kernel, stride, pad, outs in zip(
        shape.conv_extent, shape.pool[:2], shape.pool[2:], shape.pool_padding[::2], shape.out_extent, strict=True)]
    expected = reference(job).output
    for channel, row, col in np.ndindex(job.output_shape):
        record = table[regions[0][row] * len(plan.regions[1]) + regions[1][col]]
        (y0, y1), (x0, x1) = pool[0][row], pool[1][col]
        found = max(requantized(int(values[channel, top:bottom + 1, left:right + 1].sum()), *record, *limits)
                    for top, bottom in conv[0][y0:y1 + 1] for left, right in conv[1][x0:x1 + 1])
        assert found == expected[channel, row, col], (channel, row, col)


@pytest.mark.parametrize("seed", range(10))
def test_regions_of_an_average(seed):
    """All windows of a region hold equally many pixels, neighbouring ones another number; every result is in one."""
    job = random_operation(seed, kind="average_pool", max_macs=100_000, max_channels=3)
    plan = make_plan(job_shape(job, CONFIG), CONFIG)
    for axis, regions in enumerate(plan.regions):
        pixels = [last - first + 1 for first, last in windows(
            job.input.shape[1 + axis], job.kernel[axis], job.stride[axis], job.padding[2 * axis],
            job.output_shape[1 + axis])]
        if is_one_row(job):
            pixels = [job.input[0].size if axis else 1]
        assert [count for _, size, count in regions for _ in range(size)] == pixels
        assert [first for first, *_ in regions] == [sum(size for _, size, _ in regions[:n])
                                                    for n in range(len(regions))]
        assert all(a[2] != b[2] for a, b in pairwise(regions))


@pytest.mark.parametrize("seed", range(10))
def test_additions_as_the_engine_computes_them(seed):
    job = random_operation(seed, kind="add", max_macs=3000, max_channels=8)
    constants = job_constants(job, make_plan(job_shape(job, CONFIG), CONFIG), CONFIG)
    arithmetic, (record,) = constants.arithmetic, records(constants.parameters)
    limits = arithmetic.result_zero_point, arithmetic.activation_min, arithmetic.activation_max
    maps = [above_zero_point(*one) for one in zip(
        (job.input_1, job.input_2), arithmetic.input_zero_points, (job.channel_mask_1, job.channel_mask_2),
        strict=True)]
    assert all(0 <= shift <= 31 for _, shift in arithmetic.scales)
    expected = reference(job).output
    for place in np.ndindex(job.output_shape):
        total = sum(scaled_operand(int(map[place]), *scale) for map, scale in zip(maps, arithmetic.scales, strict=True))
        assert requantized(total, *record, *limits) == expected[place]


@pytest.mark.parametrize("kind", ["conv", "grouped", "depthwise", "block_sparse"])
@pytest.mark.parametrize("seed", range(4))
def test_constants_of_convolutions(kind, seed):
    job = random_operation(seed, kind=kind, max_macs=100_000, max_channels=128)
    plan = make_plan(job_shape(job, CONFIG), CONFIG)
    constants = job_constants(job, plan, CONFIG)
    arithmetic = constants.arithmetic
    assert arithmetic.input_zero_points == (job.input_zero_point,) and arithmetic.unit_weight == 0
    assert (arithmetic.result_zero_point, arithmetic.output_zero_point) == (job.output_zero_point,) * 2
    assert (arithmetic.activation_min, arithmetic.activation_max) == (job.activation_min, job.activation_max)
    assert records(constants.parameters) == list(zip(job.bias, job.multiplier, job.shift, strict=True))
    expected = (pack_vector_weights(job.weight) if plan.shape.vector
                else pack_weights(job.weight, CONFIG.columns, job.groups))
    assert np.array_equal(constants.weights, expected) and constants.weights.size == job.weight.size


@pytest.mark.parametrize("seed", range(12))
def test_rankings(seed):
    """Every rule; eps in 65536ths, ties to even."""
    job = random_operation(seed, max_macs=20_000, max_channels=64)
    rule, fields = job.ranking, ranking_fields(job.ranking)
    if rule is None:
        assert (fields.score, fields.select) == (SCORES["max"], SELECTS["all"])
        return
    assert (fields.score, fields.select) == (SCORES[rule.score], SELECTS[rule.select])
    value = round(65536 * rule.value) if rule.select == "energy" else 0 if rule.select == "all" else rule.value
    assert fields.value == value and fields.energy_square == (rule.energy_power == 2)
    assert (fields.multiplier, fields.shift) == (rule.score_multiplier, rule.score_shift)
