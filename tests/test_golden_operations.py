"""Pools, means, additions and grouped convolutions against their definitions in plain Python, pixel by pixel."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from golden.job import AddJob, Job, LayerJob, PoolJob, Ranking
from golden.numerics import add_multipliers, mean_multiplier
from golden.operators import average_pool, convolve, max_pool
from golden.random_jobs import OPERATIONS, random_operation
from golden.reference import run


def scale(value: int, multiplier: int, shift: int) -> int:
    """Multiply, rounding half up; then divide by a power of two, rounding half away from zero."""
    wrapped = (value * 2 ** max(shift, 0) + 2**31) % 2**32 - 2**31
    high = math.floor(Fraction(wrapped * multiplier, 2**31) + Fraction(1, 2))
    magnitude = math.floor(Fraction(abs(high), 2 ** max(-shift, 0)) + Fraction(1, 2))
    return magnitude if high >= 0 else -magnitude


def wrap(value: int) -> int:
    return (value + 2**31) % 2**32 - 2**31


def clamp(job: Job, value: int) -> int:
    return min(max(value, job.activation_min), job.activation_max)


def plane(map: np.ndarray, mask: np.ndarray | None, zero_point: int, channel: int) -> list[list[int]]:
    """A channel's pixels; a loser's are real zeros."""
    loses = mask is not None and not mask[channel]
    return [[zero_point if loses else pixel for pixel in line] for line in map[channel].tolist()]


def pool_windows(pixels: list[list[int]], kernel, stride, padding) -> list[list[list[int]]]:
    """For each row and column of the result, the pixels inside the map."""
    height, width, (top, bottom, left, right) = len(pixels), len(pixels[0]), padding
    return [[[pixels[y][x] for y in range(row - top, row - top + kernel[0]) if 0 <= y < height
              for x in range(column - left, column - left + kernel[1]) if 0 <= x < width]
             for column in range(0, width + left + right - kernel[1] + 1, stride[1])]
            for row in range(0, height + top + bottom - kernel[0] + 1, stride[0])]


def rounded(total: int, count: int) -> int:
    """TFLite's division of a window's sum: C's, which truncates towards zero."""
    nudged = total + count // 2 if total > 0 else total - count // 2
    return abs(nudged) // count * (1 if nudged > 0 else -1)


def direct_pool(job: PoolJob) -> list:
    planes = [plane(job.input, job.channel_mask, job.input_zero_point, channel) for channel in range(len(job.input))]
    if job.kind == "mean":
        sums = [sum(pixel - job.input_zero_point for line in pixels for pixel in line) for pixels in planes]
        return [[[clamp(job, scale(wrap(total), job.multiplier, job.shift) + job.output_zero_point)]] for total in sums]
    pick = max if job.kind == "max" else lambda pixels: rounded(sum(pixels), len(pixels))
    return [[[clamp(job, pick(window)) for window in line]
             for line in pool_windows(pixels, job.kernel, job.stride, job.padding)] for pixels in planes]


def direct_add(job: AddJob) -> list:
    def term(pixel: int, zero_point: int, multiplier: int, shift: int) -> int:
        return scale((pixel - zero_point) * 2**20, multiplier, shift)

    def total(one: int, two: int) -> int:
        raw = (term(one, job.input_1_zero_point, job.input_1_multiplier, job.input_1_shift)
               + term(two, job.input_2_zero_point, job.input_2_multiplier, job.input_2_shift))
        return clamp(job, scale(raw, job.output_multiplier, job.output_shift) + job.output_zero_point)

    firsts, seconds = ([plane(map, mask, zero_point, channel) for channel in range(len(map))]
                       for map, mask, zero_point in
                       ((job.input_1, job.channel_mask_1, job.input_1_zero_point),
                        (job.input_2, job.channel_mask_2, job.input_2_zero_point)))
    return [[[total(one, two) for one, two in zip(*lines, strict=True)] for lines in zip(*pair, strict=True)]
            for pair in zip(firsts, seconds, strict=True)]


def direct_convolution(job: LayerJob) -> list:
    outputs, depth, kh, kw = job.weight.shape
    top, bottom, left, right = job.padding
    _, height, width = job.input.shape
    planes = [plane(job.input, job.channel_mask, job.input_zero_point, channel) for channel in range(len(job.input))]
    padded = [[[(pixels[y - top][x - left] - job.input_zero_point)
                if 0 <= y - top < height and 0 <= x - left < width else 0
                for x in range(width + left + right)] for y in range(height + top + bottom)] for pixels in planes]
    weights, maps = job.weight.tolist(), []
    for output in range(outputs):
        first = output // (outputs // job.groups) * depth

        def pixel(row: int, column: int, output: int = output, first: int = first) -> int:
            total = int(job.bias[output]) + sum(
                weights[output][channel][y][x] * padded[first + channel][row + y][column + x]
                for channel in range(depth) for y in range(kh) for x in range(kw))
            result = scale(wrap(total), int(job.multiplier[output]), int(job.shift[output]))
            return clamp(job, result + job.output_zero_point)

        pixels = [[pixel(row, column) for column in range(0, width + left + right - kw + 1, job.stride[1])]
                  for row in range(0, height + top + bottom - kh + 1, job.stride[0])]
        if job.pool is not None:
            pixels = [[max(window) for window in line]
                      for line in pool_windows(pixels, job.pool[:2], job.pool[2:], job.pool_padding)]
        maps.append(pixels)
    return maps


def direct_scores(job: Job, maps: list) -> list[int]:
    ranking, scores = job.ranking or Ranking(score="max", select="all"), []
    for lines in maps:
        above = [pixel - job.output_zero_point for line in lines for pixel in line]
        value = {"max": lambda above=above: max(above), "absmax": lambda above=above: max(map(abs, above)),
                 "mean": lambda above=above: scale(wrap(sum(above)), ranking.score_multiplier, ranking.score_shift)}
        scores.append(min(max(value[ranking.score](), 0), 255))
    return scores


@pytest.mark.parametrize("kind", OPERATIONS)
def test_every_operation_equals_its_definition(kind):
    for seed in range(8 if kind == "fully_connected" else 40):
        job = random_operation(seed, kind=kind, max_macs=12_000, max_channels=256)
        direct = {AddJob: direct_add, PoolJob: direct_pool, LayerJob: direct_convolution}[type(job)]
        expected, result = direct(job), run(job)
        assert result.output.shape == job.output_shape and result.output.dtype == np.int8
        assert result.output.tolist() == expected, seed
        assert result.scores.tolist() == direct_scores(job, expected), seed


@pytest.mark.parametrize(("groups", "channels", "outputs", "kernel"), [
    (1, 96, 40, (3, 5)), (2, 96, 40, (5, 3)), (8, 96, 40, (3, 3)), (96, 96, 96, (3, 3)), (24, 24, 72, (7, 1))])
def test_convolution_equals_integer_matrix_products(groups, channels, outputs, kernel):
    """An independent formulation in int64, group by group and tap by tap."""
    rng = np.random.default_rng(groups)
    input = rng.integers(-128, 128, (2, channels, 19, 23), np.int8)
    weight = rng.integers(-128, 128, (outputs, channels // groups, *kernel), np.int8)
    mask = rng.integers(0, 2, (2, channels), np.uint8)
    stride, padding, zero_point = (2, 3), (kernel[0] - 1, 0, 0, kernel[1] - 1), -77
    sums = convolve(torch.from_numpy(input), torch.from_numpy(weight), zero_point=zero_point, stride=stride,
                    padding=padding, groups=groups, channel_mask=torch.from_numpy(mask))
    padded = np.zeros((2, channels, 19 + sum(padding[:2]), 23 + sum(padding[2:])), np.int64)
    padded[:, :, padding[0]:padding[0] + 19, padding[2]:padding[2] + 23] = \
        (input.astype(np.int64) - zero_point) * mask[:, :, None, None]
    rows = (padded.shape[2] - kernel[0]) // stride[0] + 1
    columns = (padded.shape[3] - kernel[1]) // stride[1] + 1
    expected = np.zeros((2, outputs, rows, columns), np.int64)
    depth, width = channels // groups, outputs // groups
    for group in range(groups):
        some, of = slice(group * width, (group + 1) * width), slice(group * depth, (group + 1) * depth)
        for y in range(kernel[0]):
            for x in range(kernel[1]):
                tap = padded[:, of, y:y + stride[0] * rows:stride[0], x:x + stride[1] * columns:stride[1]]
                tap = tap[:, :, :rows, :columns]
                expected[:, some] += np.einsum("oc,nchw->nohw", weight[some, :, y, x].astype(np.int64), tap)
    assert sums.dtype == torch.int64
    np.testing.assert_array_equal(sums.numpy(), expected)


def test_large_weights_are_taken_in_parts(monkeypatch):
    rng = np.random.default_rng(0)
    input = torch.from_numpy(rng.integers(-128, 128, (300, 1, 1), np.int8))
    weight = torch.from_numpy(rng.integers(-128, 128, (50, 300, 1, 1), np.int8))
    monkeypatch.setattr("golden.operators._WEIGHTS_AT_ONCE", 2000)
    sums = convolve(input, weight, zero_point=3, stride=(1, 1), padding=(0, 0, 0, 0))
    assert torch.equal(sums.flatten(), weight[:, :, 0, 0].long() @ (input.flatten().long() - 3))


def test_sums_that_float64_cannot_hold_are_refused():
    large = torch.full((1, 1, 1), 2**30)
    with pytest.raises(ValueError, match=r"^input, weight: expected sums below 2\*\*53, got values that may sum to"):
        convolve(large, large[None], zero_point=0, stride=(1, 1), padding=(0, 0, 0, 0))


def test_masked_groups_contribute_zeros():
    """A whole group of losers leaves its outputs at the bias; losers of other groups count as zeros."""
    rng = np.random.default_rng(4)
    fields = dict(
        weight=rng.integers(-128, 128, (6, 4, 3, 3), np.int8), bias=np.arange(6, dtype=np.int32) * 2**10,
        multiplier=np.full(6, 2**30, np.int32), shift=np.full(6, -8, np.int32), input_zero_point=7,
        output_zero_point=-5, activation_min=-128, activation_max=127, groups=3, stride=(1, 1), padding=(1, 1, 1, 1))
    map = rng.integers(-128, 128, (12, 5, 5), np.int8)
    mask = np.array([1, 0, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1], np.uint8)
    zeroed = np.where(mask[:, None, None] == 1, map, np.int8(7))
    result = run(LayerJob(input=map, channel_mask=mask, **fields))
    np.testing.assert_array_equal(result.output, run(LayerJob(input=zeroed, **fields)).output)
    assert np.unique(result.output[2]).tolist() == [-5 + 4] and np.unique(result.output[3]).tolist() == [-5 + 6]


# Pools

def test_pools_equal_torchs():
    rng = np.random.default_rng(1)
    map = torch.from_numpy(rng.integers(-128, 128, (5, 17, 20), np.int8))
    for kernel, stride, padding in (((3, 3), (2, 2), (1, 1)), ((4, 5), (3, 1), (2, 0)), ((1, 7), (1, 9), (0, 3))):
        edges = (padding[0], padding[0], padding[1], padding[1])
        largest = max_pool(map, kernel=kernel, stride=stride, padding=edges)
        assert largest.dtype == torch.int8
        assert torch.equal(largest.double(), torch.nn.functional.max_pool2d(map.double(), kernel, stride, padding))
        means = torch.nn.functional.avg_pool2d(map.double(), kernel, stride, padding, count_include_pad=False)
        away = means.sign() * (means.abs() + 0.5 + 1e-9).floor()
        assert torch.equal(average_pool(map, kernel=kernel, stride=stride, padding=edges).double(), away)


def test_average_rounds_away_from_zero_and_leaves_padding_out():
    job = PoolJob(kind="average", input=np.array([[[-1, -2, 100], [-1, -2, 5]]], np.int8), input_zero_point=9,
                  output_zero_point=9, kernel=(2, 2), stride=(1, 2), padding=(1, 0, 0, 1))
    # -3/2 -> -2, 100; -6/4 -> -2, 105/2 -> 53.
    assert run(job).output.tolist() == [[[-2, 100], [-2, 53]]]


def test_losers_of_pools_are_real_zeros():
    map = np.full((2, 2, 2), 50, np.int8)
    mask = np.array([0, 1], np.uint8)
    for kind in ("max", "average"):
        result = run(PoolJob(kind=kind, input=map, input_zero_point=-9, output_zero_point=-9, kernel=(2, 2),
                             channel_mask=mask))
        assert result.output.flatten().tolist() == [-9, 50] and result.scores.tolist() == [0, 59]
    result = run(PoolJob(kind="mean", input=map, input_zero_point=-9, output_zero_point=4, multiplier=2**30, shift=-1,
                         channel_mask=mask))
    assert result.output.flatten().tolist() == [4, 4 + 59]  # 4 * 59 / 2**2


@pytest.mark.parametrize("pixels", [1, 2, 3, 49, 64, 1599])
def test_mean_multiplier_is_tflites(pixels):
    for scales in ((0.02, 0.02), (0.1, 0.3), (1.7, 0.004)):
        multiplier, shift = mean_multiplier(*scales, pixels)
        ratio = float(np.float32(scales[0])) / float(np.float32(scales[1]))
        assert 2**29 <= multiplier < 2**31
        # TFLite truncates the divided multiplier, so it errs by less than two steps, downwards.
        assert -2 < multiplier - Fraction(ratio) / pixels * Fraction(2) ** (31 - shift) <= Fraction(1, 2)
    assert mean_multiplier(0.5, 0.5, 49) == (2**30 * 32 // 49, 1 - 5)  # floor(log2(49)) = 5
    assert mean_multiplier(2.0**-30, 1.0, 1024) == ((2**30 << 2) // 1024, -29 - 2)  # at most to a shift of -31


# Addition

def test_add_multipliers_are_tflites():
    # twice the larger scale is 1: 0.5 and 0.25 of it; 1 / (2**20 * 0.75).
    (one, shift_1), (two, shift_2), (out, shift) = add_multipliers(0.5, 0.25, 0.75)
    assert (one, shift_1, two, shift_2) == (2**30, 0, 2**30, -1)
    assert (out, shift) == (math.floor(2**31 / 1.5 + 0.5), -19)
    rounded = add_multipliers(0.1, 0.2, 0.3)  # float32: 0.1f / 0.4f is 1/4 to the last bit
    assert rounded[0] == (2**30, -1) and rounded[1] == (2**30, 0)
    ratio = float(np.float32(0.4)) / (2**20 * float(np.float32(0.3)))
    assert rounded[2][0] == math.floor(math.frexp(ratio)[0] * 2**31 + 0.5)


def test_add_multipliers_refuse_what_tflite_refuses():
    with pytest.raises(ValueError, match=r"^output_scale: expected a factor in 2\*\*-32\.\.1 from the scales, got 2"):
        add_multipliers(1.0, 1.0, 2.0**-20)
    with pytest.raises(ValueError, match=r"^scale_2: expected a factor"):
        add_multipliers(1.0, 2.0**-40, 1.0)


def test_addition_adds():
    rng = np.random.default_rng(3)
    one, two = rng.integers(-128, 128, (2, 4, 9, 9), np.int8)
    scales, points, out_point = (0.02, 0.05, 0.06), (-3, 11), -20
    factors = add_multipliers(*scales)
    fields = {name: value for prefix, (multiplier, shift) in zip(("input_1", "input_2", "output"), factors, strict=True)
              for name, value in ((f"{prefix}_multiplier", multiplier), (f"{prefix}_shift", shift))}
    job = AddJob(input_1=one, input_2=two, input_1_zero_point=points[0], input_2_zero_point=points[1],
                 output_zero_point=out_point, channel_mask_2=np.array([1, 0, 1, 1], np.uint8), **fields)
    real = scales[0] * (one.astype(float) - points[0]) \
        + scales[1] * (two.astype(float) - points[1]) * np.array([1, 0, 1, 1])[:, None, None]
    expected = np.clip(real / scales[2] + out_point, -128, 127)
    assert np.abs(run(job).output - expected).max() < 0.51


@pytest.mark.parametrize("channels", [517, 518, 519, 1500])
def test_sums_around_what_float32_holds(channels):
    """255 * 127 * 518 is just below 2**24; every sum is exact on both sides of it, odd ones too."""
    rng = np.random.default_rng(channels)
    input = np.where(rng.random((channels, 3, 3)) < 0.99, 127, 126).astype(np.int8)
    weight = np.where(rng.random((20, channels, 1, 1)) < 0.99, 127, 126).astype(np.int8)
    expected = np.einsum("chw,oc->ohw", input.astype(np.int64) + 128, weight[:, :, 0, 0].astype(np.int64))
    assert (expected % 2).any() and (expected > 0.97 * 255 * 127 * channels).all()
    found = convolve(torch.from_numpy(input), torch.from_numpy(weight), zero_point=-128, stride=(1, 1),
                     padding=(0, 0, 0, 0))
    np.testing.assert_array_equal(found.numpy(), expected)
